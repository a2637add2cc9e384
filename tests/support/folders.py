"""A run's folder whose start was accepted, without a server."""

from __future__ import annotations

from config.models import Config
from server.run.directory import RunDirectory


def begun(config: Config, *, resume: bool = False) -> RunDirectory:
    """The folder of `run.dir`, open; the caller closes it."""
    folder = RunDirectory.open(config, resume=resume)
    try:
        folder.accept(config)
    except BaseException:
        folder.refused()
        raise
    return folder

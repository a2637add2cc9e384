"""A server for a lab program: in this process, in a run's folder that is removed afterwards."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from config.load import config_from
from server.supervisor.processes import Processes, ProcessesOf
from server.supervisor.session import running
from server.supervisor.supervisor import Supervisor
from server.trainer.task import Task


@contextmanager
def supervised(
    values: Mapping[str, Any],
    *,
    preset: str | None = None,
    record: bool = False,
    make: ProcessesOf = Processes,
) -> Iterator[Supervisor]:
    """A server that has started, with these settings over those of the preset; the caller polls it.

    record: keep what was drawn of each batch, for a dump. make: as of running. Errors: ConfigError,
    ChildDied.
    """
    with tempfile.TemporaryDirectory() as folder:
        values = {"run.dir": str(Path(folder) / "run")} | dict(values)
        config = config_from(values, preset=preset)
        with running(config, Task(record=record), make=make) as supervisor:
            yield supervisor

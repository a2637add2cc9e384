"""A server for a lab program: in this process, in a run's folder that is removed afterwards; and
what it does meanwhile."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from config.load import config_from
from lab.serve_process import WAIT_S
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


def until(
    server: Supervisor,
    condition: Callable[[], bool],
    what: str,
    meanwhile: Callable[[], object] = lambda: None,
    wait_s: float = WAIT_S,
) -> None:
    """Look after the server until then. Errors: TimeoutError."""
    deadline = time.monotonic() + wait_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"expected within {wait_s:g} s that {what}")
        meanwhile()
        server.poll(0.01)


def updates_made(server: Supervisor) -> float:
    """By the newest report; 0 where there is none."""
    found = server.row.get("updates") or 0.0
    return 0.0 if math.isnan(found) else found

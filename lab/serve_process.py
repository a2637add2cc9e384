"""`understudy serve` in a process of its own, to be killed or looked at from outside."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lab.proc import is_running
from server.run.events import of_supervisor, process_ids, read_events

ROOT = Path(__file__).parents[1]
"""Where `python -m server` finds the code."""

WAIT_S = 120.0
"""For the server to start and for processes to end, on a machine that is busy."""


class ServeProcess:
    """A server that can be started again and again on the same run."""

    def __init__(
        self, run: Path, settings: Mapping[str, Any], *, output: Path, preset: str | None = None
    ) -> None:
        """run: the run's folder. output: the file that what the server prints is added to."""
        self.run = run
        self._output = output
        self._options = [] if preset is None else ["--preset", preset]
        for key, value in settings.items():
            self._options += [f"--{key}", _as_option(value)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, environment: Mapping[str, str] | None = None) -> None:
        """Start it; where the run's folder is there already, with --resume. `environment`:
        variables beside those of this process."""
        where = "--resume" if (self.run / "run.json").exists() else "--run"
        command = [sys.executable, "-m", "server", "serve", where, str(self.run), *self._options]
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdout=output,
                stderr=output,
                cwd=ROOT,
                env=os.environ | dict(environment or {}),
            )

    @property
    def pid(self) -> int:
        """The supervisor's process ID."""
        return self._started.pid

    @property
    def has_ended(self) -> bool:
        """Whether the supervisor has."""
        return self._started.poll() is not None

    @property
    def children(self) -> dict[str, int]:
        """The newest process ID of each of its children, by name."""
        return process_ids(self.events)

    @property
    def events(self) -> list[dict[str, Any]]:
        """Those of events.jsonl since it was started last."""
        return of_supervisor(read_events(self.run), self.pid)

    def output(self) -> str:
        """The end of what it has printed."""
        return self._output.read_text(errors="replace")[-2000:]

    def kill(self) -> None:
        """SIGKILL the supervisor alone, and wait for it."""
        self._started.kill()
        self._started.wait()

    def until_children_have_ended(self) -> None:
        """After `kill`: its children notice by themselves. Errors: TimeoutError."""
        pids = self.children.values()
        wait_until(lambda: not any(map(is_running, pids)), "the server's children have ended")

    def end(self) -> int:
        """SIGTERM; its exit code. Errors: subprocess.TimeoutExpired."""
        self._started.terminate()
        return self._started.wait(WAIT_S)

    @property
    def _started(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "it was not started"
        return self._process


def wait_until(condition: Callable[[], bool], what: str, wait_s: float = WAIT_S) -> None:
    """Errors: TimeoutError after `wait_s`, with what was waited for."""
    deadline = time.monotonic() + wait_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"expected within {wait_s:g} s: {what}")
        time.sleep(0.05)


def _as_option(value: Any) -> str:
    return json.dumps(value) if isinstance(value, list | dict) else str(value)


def free_port() -> int:
    """Of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port

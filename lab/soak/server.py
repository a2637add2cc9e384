"""The server of a soak, and what can be seen of it from outside: HTTP, processes, disk."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from lab.serve_process import WAIT_S, ServeProcess

ADDED_TO = (".jsonl", ".log", ".log.1")
"""Files of a run that only grow."""


class SoakFailed(Exception):
    """Something that ends a soak before its time."""


class SoakServer:
    """A server in a process of its own. Errors: SoakFailed, wherever it has ended."""

    def __init__(self, home: Path, settings: Mapping[str, Any]) -> None:
        """home: a folder for the run. settings: over the preset `bench`."""
        self.run = home / "run"
        self.checkpoints = self.run / "checkpoints"
        self._process = ServeProcess(self.run, settings, output=home / "output", preset="bench")
        self.port = 0
        self._url = ""
        self.pids: dict[str, int] = {}
        """The processes that are looked at, by name."""

    def __enter__(self) -> Self:
        self._process.start()
        try:
            self._until_it_listens()
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._kill()

    def _kill(self) -> None:
        """Its children end by themselves, and are given time to: they use its folder."""
        self._process.kill()
        with contextlib.suppress(TimeoutError):
            self._process.until_children_have_ended()

    def _until_it_listens(self) -> None:
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            for ready in (each for each in self._process.events if each["event"] == "ready"):
                self.port, self._url = ready["port"], ready["dashboard"].rstrip("/")
                self.pids = {"supervisor": self._process.pid} | self._process.children
                return
            self._check()
            time.sleep(0.1)
        raise SoakFailed(f"the server does not start; it printed: {self.output()}")

    def output(self) -> str:
        """The end of what it has printed."""
        return self._process.output()

    def _check(self) -> None:
        if self._process.has_ended:
            raise SoakFailed(f"the server has ended; it printed: {self.output()}")

    def ask(self, path: str) -> bytes:
        """What HTTP answers."""
        self._check()
        try:
            with urllib.request.urlopen(self._url + path, timeout=WAIT_S) as answer:
                return bytes(answer.read())
        except (OSError, urllib.error.URLError) as error:
            self._check()
            raise SoakFailed(f"HTTP does not answer to {path}: {error}") from None

    def state(self) -> Any:
        """Its newest numbers."""
        return json.loads(self.ask("/api/state"))

    def disk(self) -> tuple[int, int]:
        """Bytes of the run's folder: what is replaced and pruned, and what is only added to."""
        replaced = added = 0
        for folder, _, names in os.walk(self.run):
            for name in names:
                with contextlib.suppress(FileNotFoundError):  # it has just been pruned
                    size = Path(folder, name).stat().st_size
                    if name.endswith(ADDED_TO):
                        added += size
                    else:
                        replaced += size
        return replaced, added

    def end(self) -> list[str]:
        """SIGTERM, when the games have gone; what is wrong with how it ended."""
        self._check()
        try:
            code = self._process.end()
        except subprocess.TimeoutExpired:
            return [f"expected the server to end within {WAIT_S:g} s of SIGTERM, it did not"]
        if code:
            return [f"expected the server to end in order, got exit code {code}"]
        summary = json.loads((self.run / "summary.json").read_text())
        missing = summary["transitions_dropped"] + summary["steps_in_flight"]
        return [f"expected no step to be lost, {missing} were"] if missing else []

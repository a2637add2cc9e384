"""A child process of the supervisor that runs on another machine, as the supervisor sees it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection as Pipe
from typing import Any

from config.models import Config
from server.cluster.messages import Kill, Relay, Start
from server.ipc.heartbeat import Heartbeat, HeartbeatMonitor
from server.supervisor.child import Child
from server.trainer.task import Task

JOIN_S = 5.0
"""How long the end of a process is waited for that is to be killed. One that does not end is on a
machine that does not answer, or ends when another is started in its place."""


class RemoteProcess:
    """What the supervisor asks of a process, here and elsewhere."""

    def __init__(self, kill: Callable[[], None]) -> None:
        self.pid = 0
        """On its own machine; 0 before that is known."""
        self.exitcode: int | None = None
        self.sentinel, self._writes = os.pipe()
        self._over = threading.Event()
        self._kill = kill

    def is_alive(self) -> bool:
        return not self._over.is_set()

    def kill(self) -> None:
        if self.is_alive():
            self._kill()

    def join(self, timeout: float | None = None) -> None:
        self._over.wait(JOIN_S if timeout is None else timeout)

    def ended(self, code: int | None) -> None:
        """It is no more. Again has no effect."""
        if self.is_alive():
            self.exitcode = code
            self._over.set()
            os.close(self._writes)  # which wakes whoever waits for the sentinel

    def close(self) -> None:
        """Let go of it."""
        self.ended(None)
        os.close(self.sentinel)


class RemoteChild(Child):
    """A place for a process on another machine. What it says comes through a pipe of this one,
    which the link to that machine writes (server.cluster.link)."""

    def __init__(self, name: str, kind: str, order: Callable[[Any], None]) -> None:
        """`order`: to the actor that is to run it."""
        super().__init__(name, kind)
        self._order = order
        self.generation = 0
        """Of the newest process."""
        self._theirs: Pipe | None = None
        self._heartbeat = Heartbeat()
        self._lock = threading.Lock()

    # For the supervisor.

    def begin(self, config: Config, task: Task | None = None) -> None:
        """Have it started."""
        with self._lock:
            self.generation += 1
            generation = self.generation
            self.pipe, self._theirs = multiprocessing.Pipe()
            self.process = RemoteProcess(  # type: ignore[assignment]
                lambda: self._order(Kill(self.name, generation))
            )
        self._heartbeat = Heartbeat()
        self.monitor = HeartbeatMonitor(self._heartbeat, time.monotonic())
        self.lines.clear()
        self.reported = False
        self._order(Start(self.name, generation, config, task))

    def reap(self) -> int | None:
        assert self.process is not None
        self.process.kill()
        self.process.join()
        with self._lock:
            self.process.close()
            for end in (self.pipe, self._theirs):
                if end is not None:
                    end.close()
            self.pipe = self._theirs = None
        return self.process.exitcode

    # For the link, in its thread.

    def said(self) -> list[Relay]:
        """What the supervisor has sent and is not on its way yet."""
        with self._lock:
            found: list[Relay] = []
            while self._theirs is not None and self._theirs.poll():
                found.append(Relay(self.name, self.generation, self._theirs.recv()))
            return found

    def hear(self, generation: int, message: Any) -> None:
        """The process has said something."""
        with self._lock:
            theirs = self._theirs if generation == self.generation else None
        # Not with the lock: a pipe that is full waits for the supervisor, which may want it.
        if theirs is not None:
            with contextlib.suppress(OSError):
                theirs.send(message)

    def lives(self, generation: int, pid: int, beats: tuple[int, int]) -> None:
        """The process runs."""
        with self._lock:
            if generation == self.generation and self.process is not None:
                self.process.pid = pid  # type: ignore[misc]
                self._heartbeat.tell(beats)

    def ended(self, generation: int | None, code: int | None) -> None:
        """The process has ended; None for whichever there is."""
        with self._lock:
            if generation in (None, self.generation) and isinstance(self.process, RemoteProcess):
                self.process.ended(code)

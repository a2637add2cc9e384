"""One child process of the supervisor: started, sent messages, listened to, reaped."""

from __future__ import annotations

import contextlib
import multiprocessing.connection
import time
from collections import deque
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection as Pipe
from multiprocessing.process import BaseProcess
from typing import Any

from server.ipc.heartbeat import Heartbeat, HeartbeatMonitor
from server.ipc.messages import GatewayReport, LogLine, ProcessFailed, TrainerReport
from server.signals import signals_blocked
from server.supervisor.fork_server import CONTEXT, end_with_supervisor

LINES = 5
"""The newest log lines of a child that are kept, to be shown when it dies."""


class ChildDied(RuntimeError):
    """A process of the server ended although nobody asked it to, and is not restarted."""


class Child:
    """A place for a process, which may die and be started again; what is sent meanwhile is lost."""

    def __init__(self, name: str, kind: str) -> None:
        """`kind`: gateway or trainer."""
        self.name = name
        self.kind = kind
        self.pipe: Pipe | None = None
        """None while there is no process."""
        self.process: BaseProcess | None = None
        """The newest, which may have ended."""
        self.monitor: HeartbeatMonitor
        self.lines: deque[str] = deque(maxlen=LINES)
        self.reported = False
        """The newest process has, and so is no longer loading what it begins with."""
        self.retired = False
        """It was told to end, and none is started in its place."""

    @property
    def alive(self) -> bool:
        """There is a process that has not been reaped."""
        return self.pipe is not None

    @property
    def pid(self) -> int:
        """Of the newest process; 0 before the first."""
        return (self.process.pid or 0) if self.process is not None else 0

    def start(
        self, target: Callable[..., None], first: tuple[Any, ...], last: tuple[Any, ...]
    ) -> None:
        """Run `target(*first, pipe, heartbeat, *last)` in a new process."""
        pipe, theirs = CONTEXT.Pipe()
        heartbeat = Heartbeat(CONTEXT)
        args = (heartbeat, target, (*first, theirs, heartbeat, *last))
        process = CONTEXT.Process(target=_run, args=args, name=self.name)
        try:
            with signals_blocked():
                process.start()
        except BaseException:
            pipe.close()
            raise
        finally:
            theirs.close()
        self.pipe, self.process = pipe, process
        self.monitor = HeartbeatMonitor(heartbeat, time.monotonic())
        self.lines.clear()
        self.reported = False

    def send(self, message: Any) -> None:
        """Send a message, unless the process is gone."""
        if self.pipe is not None:
            with contextlib.suppress(OSError):
                self.pipe.send(message)

    def messages(self) -> Iterator[Any]:
        """What it has sent and nobody has read."""
        pipe = self.pipe
        try:
            while pipe is not None and pipe.poll():
                message = pipe.recv()
                if isinstance(message, LogLine | ProcessFailed):
                    self.lines.extend(message.text.splitlines())
                elif isinstance(message, GatewayReport | TrainerReport):
                    self.reported = True
                yield message
        except (EOFError, OSError):  # its end is seen elsewhere
            return

    def reap(self) -> int | None:
        """Kill the process if it still runs, and let go of it; its exit code."""
        assert self.process is not None
        self.process.kill()  # no effect on one that has ended
        self.process.join()
        if self.pipe is not None:
            self.pipe.close()
            self.pipe = None
        return self.process.exitcode

    def reap_by(self, deadline: float, listen: Callable[[Child], None]) -> bool:
        """Wait for the end of a process that was told to, and take in what it sends; False where it
        had to be killed."""
        pipe, process = self.pipe, self.process
        if pipe is None or process is None:
            return True
        while process.is_alive() and time.monotonic() < deadline:
            multiprocessing.connection.wait([pipe, process.sentinel], 0.1)
            listen(self)
        in_time = not process.is_alive()
        if not in_time:
            process.kill()
        process.join()
        listen(self)
        self.reap()
        return in_time


def _run(heartbeat: Heartbeat, target: Callable[..., None], args: tuple[Any, ...]) -> None:
    """In the new process."""
    end_with_supervisor()
    heartbeat.live_with_parent()
    target(*args)

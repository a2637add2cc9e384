"""The learners of a cluster as the supervisor sees them: one trainer, whose processes are many.

They start together and end together: where one is lost, the others cannot go on, and all begin anew
from the newest checkpoint, each with the rows that it has kept.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from config.models import Config
from server.cluster.remote_child import RemoteChild
from server.ipc.load_messages import RunLoaded
from server.ipc.messages import (
    TRAINER,
    DumpWritten,
    GameDecided,
    LogLine,
    ProcessFailed,
    Ranks,
    Ready,
    SaveBest,
    SaveCheckpoint,
    Settled,
    TrainerReport,
    WriteDump,
)
from server.monitor.merging import merged
from server.supervisor.child import Child
from server.trainer.task import Task

PORTS = range(20_000, 32_000)
"""Of the first learner, where the others find it: below those that systems give out."""

_OF_ALL = (RunLoaded, Ready, DumpWritten, Settled)
"""Heard once all have said it."""

_OF_FIRST = (SaveBest, SaveCheckpoint)
"""Told to the first one alone."""


class Learners(Child):
    """A place for all of them."""

    def __init__(self, ranks: Sequence[RemoteChild], host: Callable[[], str]) -> None:
        """`ranks`: each one's place. `host`: of the first, where the others reach it."""
        super().__init__("trainer", TRAINER)
        self.ranks = ranks
        self._host = host
        self._port = 0
        self._config: Config | None = None
        self._said: dict[type, dict[int, Any]] = {}
        self._reports: dict[int, TrainerReport] = {}

    def begin(self, config: Config, task: Task) -> None:
        """Have all started."""
        self._config = config
        self._port = random.choice(PORTS)
        self._said.clear()
        self._reports.clear()
        self.lines.clear()
        self.reported = False
        for rank in self.ranks:
            rank.begin(config, task)
        first = self.ranks[0]
        self.pipe, self.monitor = first.pipe, _Slowest(self.ranks)  # type: ignore[assignment]
        self.process = _All(self.ranks)  # type: ignore[assignment]

    def send(self, message: Any) -> None:
        for number, rank in enumerate(self.ranks):
            if isinstance(message, GameDecided):
                assert self._config is not None
                settings = self._config.cluster
                where = Ranks(
                    self._host(), self._port, number, len(self.ranks), settings.rank_timeout_s,
                    allreduce=settings.allreduce,
                )  # fmt: skip
                rank.send(replace(message, ranks=where))
            elif isinstance(message, WriteDump):
                rank.send(WriteDump(dump_of(message.path, number)))
            elif not number or not isinstance(message, _OF_FIRST):
                rank.send(message)

    def messages(self) -> Iterator[Any]:
        for number, rank in enumerate(self.ranks):
            for message in rank.messages():
                told = self._heard(number, message)
                if isinstance(told, LogLine | ProcessFailed):
                    self.lines.extend(told.text.splitlines())
                if told is not None:
                    yield told

    def _heard(self, number: int, message: Any) -> Any:
        """What the supervisor is to hear of it; None for nothing."""
        if isinstance(message, LogLine):
            return replace(message, source=f"{message.source} {number}")
        if isinstance(message, ProcessFailed):
            return message
        if isinstance(message, TrainerReport):
            self.reported = True
            self._reports[number] = message
            reports = [self._reports[n] for n in sorted(self._reports)]
            return None if number or 0 not in self._reports else merged(reports)
        if isinstance(message, _OF_ALL):
            said = self._said.setdefault(type(message), {})
            said[number] = message
            if len(said) < len(self.ranks):
                return None
            del self._said[type(message)]
            first = said[0]
            if isinstance(first, Settled):
                return replace(first, settled=all(each.settled for each in said.values()))
            return first
        return None if number else message

    def reap(self) -> int | None:
        codes = [rank.reap() for rank in self.ranks if rank.alive]
        self.pipe = None
        return next((code for code in codes if code), codes[0] if codes else None)


def dump_of(path: str, rank: int) -> str:
    """Where a learner writes what is asked of all: the first to the path itself."""
    return path if not rank else f"{path.removesuffix('.npz')}-{rank}.npz"


class _All:
    """The processes of all, as one."""

    def __init__(self, ranks: Sequence[RemoteChild]) -> None:
        self._processes = [rank.process for rank in ranks if rank.process is not None]
        self.exitcode: int | None = None

    @property
    def pid(self) -> int:
        return self._processes[0].pid or 0

    @property
    def sentinel(self) -> int:
        """Of one that lives, if one does."""
        living = [each for each in self._processes if each.is_alive()]
        return (living or self._processes)[0].sentinel

    def is_alive(self) -> bool:
        return any(each.is_alive() for each in self._processes)

    def kill(self) -> None:
        for each in self._processes:
            each.kill()

    def join(self, timeout: float | None = None) -> None:
        for each in self._processes:
            each.join(timeout)


class _Slowest:
    """The monitors of all, as one: silent for as long as the one that was longest."""

    def __init__(self, ranks: Sequence[RemoteChild]) -> None:
        self._monitors = [rank.monitor for rank in ranks]

    def silent_s(self, now: float) -> float:
        return max(each.silent_s(now) for each in self._monitors)

    @property
    def allowed_s(self) -> float:
        return max(each.allowed_s for each in self._monitors)

    def forget(self, now: float) -> None:
        for each in self._monitors:
            each.forget(now)

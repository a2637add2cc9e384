"""A trainer in a thread, with the gateways' and the supervisor's ends in a test's hands."""

from __future__ import annotations

import itertools
import multiprocessing
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from agent.probes import led_alone
from agent.source import Source
from agent.step import STEP, StepBlock
from config.load import config_from
from config.models import Config
from protocol.spaces import GameSpec
from server.ipc.heartbeat import Heartbeat
from server.ipc.load_messages import Loading
from server.ipc.messages import CheckpointSaved, GameDecided, Ready, Stop, TrainerReport
from server.ipc.step_ring import StepRing
from server.ipc.weight_slot import WeightSlot
from server.trainer.task import Task
from server.trainer.trainer import Trainer
from tests.support.dotted import dotted
from tests.support.worlds import DQN, EXPERT, SPEC

SETTINGS: dict[str, Any] = {
    "server.ring_steps": 256,
    "learner.hidden": [8],
    "learner.batch_size": 16,
    "replay.capacity_steps": 10_000,
    "trainer.device": "cpu",
    "trainer.min_steps": 50,
    "trainer.replay_ratio": 0.5,
    "trainer.publish_every_s": 0.01,
    "metrics.every_s": 0.02,
    "run.seed": 1,
}


def config_with(**changes: Any) -> Config:
    return config_from(SETTINGS | dotted(changes))


def played(first: int, n: int, stream: int = 1, actor: int | None = None) -> StepBlock:
    """Steps of one endless episode of a stream; every third one is the expert's."""
    block = StepBlock.empty(SPEC, n)
    seq = np.arange(first, first + n)
    block.obs[:] = np.sin(seq)[:, None]
    block.action[:, 0] = seq % 4
    block.action[:, 1:] = np.cos(seq)[:, None]
    block.reward[:] = np.where(seq % 3 == 0, 2.0, 1.0)
    block.stream[:] = stream
    block.seq[:] = seq
    block.actor[:] = np.where(seq % 3 == 0, EXPERT, DQN) if actor is None else actor
    block.kind[:] = STEP
    return block


def probes(leader: int, n: int, earned: float, length: int = 3) -> list[StepBlock]:
    """So many episodes that this actor plays alone, each the first of a stream of its own."""
    streams = np.arange(1, 64 * n) << 16 | leader
    led = streams[led_alone(streams, np.zeros(len(streams), np.uint32)) == leader]
    blocks = [played(0, length, stream, leader) for stream in led[:n].tolist()]
    for block in blocks:
        block.recommended[:] = block.action
        block.reward[:], block.status[-1] = earned / length, 1
    return blocks


def starts(n: int) -> StepBlock:
    """First steps of so many streams: none of them has a successor."""
    block = played(0, n, actor=DQN)
    block.stream[:] = np.arange(n)
    block.seq[:] = 0
    return block


_starts = itertools.count(1)
"""Each makes rings anew, as each start of a server does."""


class World:
    """A trainer in a thread, with the gateways' and the supervisor's ends in a test's hands."""

    def __init__(
        self,
        folder: Path,
        *,
        rings: int = 1,
        resume: bool = False,
        record: bool = False,
        best: bool = False,
        spec: GameSpec = SPEC,
        recording: Path | None = None,
        init_from: Path | None = None,
        pretrain_updates: int = 0,
        over: World | None = None,
        heartbeat: Heartbeat | None = None,
        **changes: Any,
    ) -> None:
        """`over`: the trainer whose rings this one takes over; that one has ended somehow."""
        config = config_with(**changes)
        self.pipe, theirs = multiprocessing.Pipe()
        self._theirs = theirs
        self._borrows = over is not None
        if over:
            self.rings = over.rings
        else:
            start = next(_starts)
            self.rings = [
                StepRing.create(spec, config.server.ring_steps, Source(index, start))
                for index in range(rings)
            ]
        self.messages: list[Any] = []
        self.error: BaseException | None = None
        self._thread: threading.Thread | None = None
        try:
            game = GameDecided(spec, tuple(ring.name for ring in self.rings))
            task = Task(
                resume=resume,
                record=record,
                best=best,
                recording=recording,
                init_from=init_from,
                pretrain_updates=pretrain_updates,
            )
            self.trainer = Trainer(config, game, theirs, folder, task, heartbeat=heartbeat)
            self.trainer.begin()
        except BaseException:
            self._close()
            raise
        while isinstance(ready := self.pipe.recv(), CheckpointSaved | Loading):
            pass
        assert isinstance(ready, Ready)
        self.slot = WeightSlot.attach(ready.weights, ready.size)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.trainer.run()
        except BaseException as error:
            self.error = error

    def hear(self) -> None:
        while self.pipe.poll():
            self.messages.append(self.pipe.recv())

    def heard(self, kind: type[Any]) -> list[Any]:
        self.hear()
        return [message for message in self.messages if isinstance(message, kind)]

    @property
    def metrics(self) -> dict[str, float]:
        """Those of the newest report."""
        reports = self.heard(TrainerReport)
        return reports[-1].metrics if reports else {}

    @property
    def lines(self) -> list[str]:
        return [line for report in self.heard(TrainerReport) for line in report.lines]

    def until(self, condition: Callable[[], Any], what: str, timeout_s: float = 60.0) -> Any:
        deadline = time.monotonic() + timeout_s
        while not (result := condition()):
            assert self.error is None, f"the trainer has failed: {self.error}"
            assert time.monotonic() < deadline, f"waited in vain until {what}; {self.metrics}"
            time.sleep(0.002)
        return result

    def reports(self, n: int = 2) -> dict[str, float]:
        """The metrics of the n-th report from now: the second one is all of a later time."""
        wanted = len(self.heard(TrainerReport)) + n
        self.until(lambda: len(self.heard(TrainerReport)) >= wanted, "it reports")
        return self.metrics

    def play(self, block: StepBlock, ring: int = 0) -> None:
        """Write rows as a gateway does for games in real time: whenever there is room."""
        start, target = 0, self.rings[ring]
        deadline = time.monotonic() + 60.0
        while start < len(block):
            n = min(target.free, len(block) - start)
            if n:
                target.write(block.rows(start, start + n))
                start += n
            else:
                assert time.monotonic() < deadline, "the ring stays full"
                assert self.error is None, f"the trainer has failed: {self.error}"
                self.hear()
                time.sleep(0.001)

    @property
    def answered(self) -> int:
        return sum(ring.answered for ring in self.rings)

    def _may_play_on(self) -> bool:
        self.hear()
        return self.answered < self.slot.allowed

    def play_in_lock_step(self, block: StepBlock, ring: int = 0) -> None:
        """Write rows as a gateway does for a game in lock step: one by one, and none while games
        are as far ahead of training as they may be."""
        for row in range(len(block)):
            self.until(self._may_play_on, "a game may play on")
            self.play(block.rows(row, row + 1), ring)

    def ask(self, message: Any, kind: type[Any]) -> Any:
        before = len(self.heard(kind))
        self.pipe.send(message)
        self.until(lambda: len(self.heard(kind)) > before, f"{message} is answered")
        return self.heard(kind)[before]

    def stop(self) -> dict[str, float]:
        """Stop in order; the last metrics."""
        self.pipe.send(Stop())
        self.join()
        return self.metrics

    def join(self) -> None:
        thread = self._thread
        assert thread is not None
        deadline = time.monotonic() + 60.0
        while thread.is_alive() and time.monotonic() < deadline:
            if not self.pipe.closed:
                self.hear()
            thread.join(0.01)
        assert not thread.is_alive(), "the trainer does not end"
        assert self.error is None, f"the trainer has failed: {self.error}"

    def until_dead(self) -> None:
        """Wait until it has failed, and have it forgotten what it did."""
        assert self._thread is not None
        self._thread.join(60.0)
        assert not self._thread.is_alive()
        self.trainer._ingest.close()
        self.trainer._slot.close()

    def close(self) -> None:
        try:
            if self._thread is not None and self._thread.is_alive():
                self.stop()
        finally:
            self.slot.close()
            self._close()

    def _close(self) -> None:
        for ring in () if self._borrows else self.rings:
            ring.close()
            ring.unlink()
        self.pipe.close()
        self._theirs.close()

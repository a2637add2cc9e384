"""A trainer's process is killed while games play, and another goes on with the same rings and the
same folder: nothing that was written to a ring is lost, and nothing is stored twice."""

from __future__ import annotations

import itertools
import multiprocessing
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent import checkpoint, journal
from agent.journal import Damage
from agent.source import Source
from agent.step import STEP, StepBlock
from config.models import Config
from server.ipc import shared_memory
from server.ipc.heartbeat import Heartbeat
from server.ipc.messages import (
    CheckpointSaved,
    DumpWritten,
    GameDecided,
    LogLine,
    ProcessFailed,
    Ready,
    SaveCheckpoint,
    Stop,
    TrainerReport,
    WriteDump,
)
from server.ipc.step_ring import StepRing
from server.ipc.weight_slot import WeightSlot
from server.play.attribution import compare, load_dump
from server.trainer import process as trainer_process
from server.trainer.task import Task
from tests.support import dying_trainer
from tests.support.replay_model import SPEC, Games, block_of
from tests.support.trainer import config_with
from tests.support.worlds import joined

pytestmark = [pytest.mark.usefixtures("no_leaks"), pytest.mark.timeout(300)]

PATIENCE_S = 60.0


class Table:
    """Two gateways' rings that are written to all the while, and who drains them."""

    def __init__(self, folder: Path, config: Config) -> None:
        self.folder = folder
        self.config = config
        self.rings = [
            StepRing.create(SPEC, config.server.ring_steps, Source(index, 1)) for index in range(2)
        ]
        self.written: list[list[StepBlock]] = [[], []]
        self.slot: WeightSlot | None = None
        self.messages: list[Any] = []
        self._process: Any = None
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._play, args=(number,)) for number in range(2)]

    def play(self) -> None:
        """Have the games begin."""
        for thread in self._threads:
            thread.start()

    def _play(self, number: int) -> None:
        """A gateway: it writes what fits, and waits where nothing does."""
        games = Games(seed=number)
        games.streams = {slot: (number + 1) << 40 | slot for slot in range(5)}
        rng = np.random.default_rng(number)
        while not self._end.is_set():
            block = block_of(games.play_at_random(int(rng.integers(1, 30))))
            while self.rings[number].free < len(block):
                if self._end.wait(0.001):
                    return
            # Noted first: a row that was written and not noted would look like one too many.
            self.written[number].append(block)
            self.rings[number].write(block)
            time.sleep(0.002)

    def stop_playing(self) -> None:
        self._end.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def start(self, moment: str | None = None, after: int = 0) -> None:
        """A trainer, the first one or another; always with the same arguments."""
        context = multiprocessing.get_context("forkserver")
        self.pipe, theirs = context.Pipe()
        args = (self.config, theirs, Heartbeat(context), self.folder, Task())
        target: Callable[..., None] = trainer_process.main
        if moment:
            target, args = dying_trainer.main, (moment, after, *args)  # type: ignore[assignment]
        self._process = context.Process(target=target, args=args, name="trainer")
        self._process.start()
        theirs.close()
        self.messages.clear()
        rings = tuple(ring.name for ring in self.rings)
        self.pipe.send(GameDecided(SPEC, rings, accepted=True))

    def hear(self, kind: type[Any]) -> Any:
        """The next message of a kind; None where the process ends before."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            try:
                while self.pipe.poll(0.02):
                    message = self.pipe.recv()
                    self.messages.append(message)
                    assert not isinstance(message, ProcessFailed), message.text
                    if isinstance(message, kind):
                        return message
            except (EOFError, OSError):
                return None
        raise AssertionError(f"waited in vain for {kind.__name__}")

    def ready(self) -> None:
        """It is, and where the one before it was."""
        message = self.hear(Ready)
        assert message is not None
        if self.slot is None:
            self.slot = WeightSlot.attach(message.weights, message.size)
        assert (message.weights, message.base_frames) == (self.slot.name, 0)

    def until_dead(self) -> None:
        while self.hear(object) is not None:
            pass
        self._process.join(PATIENCE_S)
        assert self._process.exitcode == -9
        self.pipe.close()

    def kill(self) -> None:
        self._process.kill()
        self.until_dead()

    def ask(self, message: Any, kind: type[Any]) -> Any:
        self.pipe.send(message)
        answer = self.hear(kind)
        assert answer is not None
        return answer

    def stop(self) -> dict[str, float]:
        """Stop in order; the last metrics."""
        self.pipe.send(Stop())
        self.hear(CheckpointSaved)
        self._process.join(PATIENCE_S)
        assert self._process.exitcode == 0
        self.pipe.close()
        reports = [each for each in self.messages if isinstance(each, TrainerReport)]
        return reports[-1].metrics

    def warnings(self) -> list[str]:
        return [m.text for m in self.messages if isinstance(m, LogLine) and m.level >= 30]

    def check(self, dump: Path) -> None:
        """Everything that was written is stored, once, in order and by whom it was played."""
        deadline = time.monotonic() + PATIENCE_S
        while any(ring.used for ring in self.rings):
            assert time.monotonic() < deadline, "the rings are not drained"
            time.sleep(0.01)
        self.ask(WriteDump(str(dump)), DumpWritten)
        stored = load_dump(dump)
        written = [joined(blocks, SPEC) for blocks in self.written]
        for number, rows in enumerate(written):
            step = rows.kind == STEP
            mine = stored["stream"] >> 40 == number + 1
            for name in ("stream", "seq", "actor", "action"):
                np.testing.assert_array_equal(stored[name][mine], getattr(rows, name)[step], name)
        rows = joined(written, SPEC)
        step = rows.kind == STEP
        assert len(stored["seq"]) == np.count_nonzero(step)
        truth = {name: getattr(rows, name)[step] for name in ("seq", "actor", "action")}
        truth["session"], truth["slot"] = rows.stream[step] >> 16, rows.stream[step] & 0xFFFF
        found = compare(truth, stored)
        assert found.ok, found

    def close(self) -> None:
        self.stop_playing()
        if self._process is not None and self._process.is_alive():
            self._process.kill()
            self._process.join()
        if self.slot is not None:
            self.slot.close()
        shared_memory.remove(f"{self.rings[0].name}_weights")
        for ring in self.rings:
            ring.close()
            ring.unlink()


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Table]:
    settings = {
        "learner__normalize_observations": True,
        "replay__prioritized": True,
        "replay__capacity_steps": 1_000_000,
        "checkpoint__every_s": 0.2,
        "metrics__every_s": 0.1,
        "trainer__threads": 1,
    }
    folder = tmp_path / "run"
    folder.mkdir()
    made = Table(folder, config_with(**settings))
    yield made
    made.close()


@pytest.mark.promise("trainer-takeover")
def test_trainer_killed_at_any_moment_loses_and_doubles_nothing(
    table: Table, tmp_path: Path
) -> None:
    table.play()
    for moment in dying_trainer.MOMENTS:
        table.start(moment, 2 if moment in ("saving", "ready") else 30)
        table.until_dead()
    table.start()
    table.ready()
    assert table.slot
    assert table.slot.version > len(dying_trainer.MOMENTS)
    table.stop_playing()
    table.check(tmp_path / "dump.npz")
    row = table.stop()
    assert row["steps_stored"] == row["frames"] == row["buffer_total"]
    assert row["steps_stored"] == sum(ring.steps for ring in table.rings)
    damages: list[Damage] = []
    found = list(journal.read(table.folder / journal.FOLDER, SPEC, damages))
    assert len(damages) == 1, "one block was being written"
    for before, after in itertools.pairwise(found):
        assert before.end == after.at
    (warning,) = {text for text in table.warnings() if "damaged" in text}
    assert str(damages[0]) == warning
    state = checkpoint.load(checkpoint.latest(table.folder / "checkpoints") or Path())
    observations = state["learner"]["observations"]
    assert observations["count"] == found[-1].end.rows, "each observation is counted once"


@pytest.mark.promise("trainer-takeover")
def test_trainer_killed_repeatedly_at_random_loses_and_doubles_nothing(
    table: Table, tmp_path: Path
) -> None:
    rng = random.Random(1)
    table.play()
    for _ in range(5):
        table.start()
        table.ready()
        time.sleep(rng.uniform(0.01, 0.6))
        table.kill()
    table.start()
    table.ready()
    before = table.ask(SaveCheckpoint(), CheckpointSaved)
    assert before.error is None
    table.stop_playing()
    table.check(tmp_path / "dump.npz")
    row = table.stop()
    assert row["steps_stored"] == sum(ring.steps for ring in table.rings)
    assert [ring.used for ring in table.rings] == [0, 0]

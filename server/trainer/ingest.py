"""What the gateways played, on its way from their rings into the replay."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from agent.evidence import Evidence
from agent.finding import Finding
from agent.learner import Learner
from agent.recorder import Recorder
from agent.recording import RecordingError
from agent.replay import Replay
from agent.source import NextRows, Origin
from agent.step import STEP, StepBlock
from agent.training_step import take_in
from protocol.actor import ACTORS, NAMES, TAG_COUNT
from server.run.disk import Writes
from server.trainer.replay_journal import JournalWriter
from server.trainer.step_source import StepSource

log = logging.getLogger("trainer")

DRAIN_STEPS = 4096
"""Rows appended at a time: large enough to be quick, small enough to stay in the cache."""


class Rewards:
    """The rewards of rows that came in: the largest of the run, and each actor's mean."""

    def __init__(self, largest: float = 0.0) -> None:
        """`largest`: before these."""
        self.largest = largest
        """By magnitude; NaN where it is not known."""
        self._sums, self._counts = np.zeros(TAG_COUNT), np.zeros(TAG_COUNT)

    def note(self, rewards: np.ndarray[Any, Any]) -> None:
        """Let them count for the largest alone."""
        if len(rewards):
            self.largest = max(self.largest, float(np.abs(rewards).max()))

    def add(self, rewards: np.ndarray[Any, Any], actors: np.ndarray[Any, Any]) -> None:
        """Let them count for the means too."""
        self.note(rewards)
        self._sums += np.bincount(actors, rewards, minlength=TAG_COUNT)
        self._counts += np.bincount(actors, minlength=TAG_COUNT)

    def means(self) -> dict[str, float]:
        """`reward_frame_mean_*` of what was added since the last call; NaN for none."""
        found = {}
        for actor in ACTORS:
            n = self._counts[actor]
            mean = self._sums[actor] / n if n else float("nan")
            found[f"reward_frame_mean_{NAMES[actor]}"] = float(mean)
        self._sums[:], self._counts[:] = 0, 0
        return found


class Ingest:
    """The trainer's end of the rings, or of other sources of rows: one for each gateway."""

    def __init__(
        self,
        sources: Sequence[StepSource],
        replay: Replay,
        learner: Learner,
        evidence: Evidence,
        rewards: Rewards,
        journal_writer: JournalWriter | None,
        recorder: Recorder | None,
        kept: NextRows | None = None,
    ) -> None:
        """Every row is added to `evidence` and `rewards`, and `journal_writer` and `recorder` get
        it. `kept`: rows that the journal has; they are cut where they come again."""
        self._sources = sources
        self._replay = replay
        self._learner = learner
        self._evidence = evidence
        self.rewards = rewards
        self._journal_writer = journal_writer
        self._recorder = recorder
        self._wanted = kept or NextRows()
        self._writes = Writes(log, "its episodes are kept in memory, and tried again")
        self.stored = 0
        """Steps appended since this start of the server."""
        self.seen = 0
        """Frames that had been answered when the rings were emptied last: what they completed is
        stored."""

    def take_over(self, kept: NextRows) -> None:
        """Go on in place of a trainer that died. `kept`: what it kept; rows of that which it had
        not given back to their source are given back now."""
        self._wanted = kept
        for source in self._sources:
            origin = source.origin
            kept.begin(origin)  # where nothing is kept
            had = min(kept.wanted(origin.source) - origin.first, source.used)
            source.take_over_reading(max(had, 0))
        self.stored = sum(source.steps_read for source in self._sources)

    @property
    def answered(self) -> int:
        """Frames answered for training since this start of the server, in all gateways: those
        stored, and those on their way."""
        return sum(source.answered for source in self._sources)

    def drain(self) -> int:
        """Move what the rings hold into the replay; how many rows that were."""
        moved, self.seen = 0, self.answered
        for source in self._sources:
            for _ in range(max(1, source.capacity // DRAIN_STEPS)):
                block = source.read(DRAIN_STEPS)
                if block is None:
                    break
                self._take(block, source.origin)
                moved += len(block)
                source.release(len(block))
        return moved

    def _take(self, block: StepBlock, origin: Origin) -> None:
        """Take in what of a block was not taken in before."""
        if hole := self._wanted.hole(origin):
            log.warning("%s", hole)
        had = self._wanted.take(origin, len(block))
        if had == len(block):
            return
        block, origin = block.rows(had, len(block)), origin.behind(had)
        take_in(block, self._replay, self._learner, self._evidence)
        if self._journal_writer:
            self._journal_writer.keep(block, origin)
        if self._recorder:
            with self._writes.tried("the recording", RecordingError):
                self._recorder.add(block)
        self.stored += int(np.count_nonzero(block.kind == STEP))
        self.rewards.add(block.reward, block.actor)

    @property
    def unkept(self) -> int:
        """Rows that could not be written, where they are kept."""
        return self._journal_writer.unkept if self._journal_writer else 0

    @property
    def findings(self) -> list[Finding]:
        """What is worth a warning."""
        return self._journal_writer.findings if self._journal_writer else []

    @property
    def ring_fill(self) -> float:
        """How full the fullest ring is, 0 to 1."""
        return max((source.used / source.capacity for source in self._sources), default=0.0)

    def close(self) -> None:
        """Let go of the rings."""
        for source in self._sources:
            source.close()

"""How the trainer keeps its replay in the run's folder (agent.journal), and goes on with it.

Rows go from a ring into the replay, then into the journal, and only then back to the gateway: the
ring's cursor moves last. So whenever the trainer is killed, a row is in the ring or in the journal.
It is in both where the trainer was killed between the two, and there is but one block that this can
be true of: the journal's last one. `already_kept` tells.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from agent import journal
from agent.finding import Finding
from agent.journal import Damage, Journal, Position, Stored
from agent.learner import Learner
from agent.priority import SavedPriorities
from agent.replay import Replay
from agent.step import StepBlock
from protocol.spaces import GameSpec
from server.ipc.step_ring import StepRing

log = logging.getLogger("trainer")

TOGETHER = 4096
"""Rows of small blocks that are put into the replay at a time."""

PROGRESS_S = 5.0
"""How often it is said how far the replay is read."""


@dataclass(frozen=True)
class TakenIn:
    """What a journal held."""

    at: Position = field(default_factory=Position)
    """Where the run was behind the last block."""
    steps: int = 0
    """Steps that are in the replay now."""
    last: Stored | None = None
    """The last block."""


def take_in(folder: Path, replay: Replay, learner: Learner, known: float) -> TakenIn:
    """Put what a journal holds into the replay. The learner knows the first `known` rows of the
    run, and sees the observations of the others: its statistics are of all rows.

    Damage is logged. Errors: journal.JournalError, OSError.
    """
    damages: list[Damage] = []
    last, before, begin = None, len(replay), time.monotonic()
    next_line = begin + PROGRESS_S
    for blocks in _together(journal.read(folder, replay.spec, damages), known):
        rows = StepBlock.joined([each.rows for each in blocks])
        replay.append(rows)
        last = blocks[-1]
        if last.at.rows >= known:
            learner.observe(rows.obs)
        if time.monotonic() >= next_line:
            next_line = time.monotonic() + PROGRESS_S
            log.info("reading the replay: at step %d of the run", last.end.steps)
    for damage in damages:
        log.warning("%s", damage)
    if last is None:
        return TakenIn()
    if replay.prioritized and (saved := journal.read_priorities(folder)):
        replay.restore_priorities(saved)
    steps = len(replay) - before
    log.info(
        "the replay has %d steps, read in %.2f s; the run was at step %d",
        steps, time.monotonic() - begin, last.end.steps,
    )  # fmt: skip
    return TakenIn(last.end, steps, last)


def _together(found: Iterator[Stored], known: float) -> Iterator[list[Stored]]:
    """Blocks that are put into the replay as one: neighbors, all of them known or none."""
    part: list[Stored] = []
    rows = 0
    for block in found:
        apart = part and (part[-1].at.rows >= known) != (block.at.rows >= known)
        if part and (apart or rows + len(block.rows) > TOGETHER):
            yield part
            part, rows = [], 0
        part.append(block)
        rows += len(block.rows)
    if part:
        yield part


def already_kept(ring: StepRing, last: Stored | None) -> int:
    """How many of the rows that wait in the ring are the journal's last block: all of it, or none.

    A row is known by its stream and its number in that, which no other row of a run has.
    """
    if last is None or (waiting := ring.read(len(last.rows))) is None:
        return 0
    same = len(waiting) == len(last.rows)
    same = same and np.array_equal(waiting.stream, last.rows.stream)
    same = same and np.array_equal(waiting.seq, last.rows.seq)
    return len(waiting) if same else 0


class JournalWriter:
    """Writes rows to the journal; a full disk costs their safety, never the game."""

    def __init__(
        self, folder: Path, spec: GameSpec, capacity: int, at: Position, resume: bool
    ) -> None:
        """Behind `at`. It begins a file, and changes none until `begin`. Errors: OSError."""
        self._left = [] if resume else journal.segments(folder)
        self._journal = Journal(folder, spec, capacity, at)
        self.unkept = 0
        """Rows that could not be written."""
        self.findings: list[Finding] = []
        """While rows cannot be written: that."""

    def begin(self) -> None:
        """The start is accepted: of a new run, remove what one that came to nothing has left."""
        for path in self._left:
            path.unlink(missing_ok=True)

    def at(self, steps: int) -> None:
        """So many steps the run has had."""
        self._journal.at = Position(self.rows, steps)

    @property
    def rows(self) -> int:
        """Rows that the run has had."""
        return self._journal.at.rows

    def keep(self, block: StepBlock) -> None:
        """Write rows, whole or not at all."""
        try:
            self._journal.append(block)
        except OSError as error:
            self.unkept += len(block)
            self.findings = [
                Finding(
                    "rows_unkept",
                    # As text: its traceback would keep a hold of the ring.
                    f"could not write rows of the replay: {error}; training continues, but "
                    f"{self.unkept} rows would be lost with this process",
                    "free space on the disk",
                )
            ]
        else:
            self.findings = []

    def keep_priorities(self, priorities: SavedPriorities) -> None:
        """Write how the rows are to be drawn. Errors: OSError."""
        journal.write_priorities(self._journal.folder, priorities)

    def close(self) -> None:
        """Again has no effect."""
        self._journal.close()

"""How the trainer keeps its replay in the run's folder (agent.journal), and goes on with it.

Rows go from a ring into the replay, then into the journal, and only then back to the gateway: the
ring's cursor moves last. So whenever the trainer is killed, a row is in the ring or in the journal.
It is in both where the trainer was killed between the two. The journal says of each block which
rows of which ring it has, so the next trainer knows (agent.source).
"""

from __future__ import annotations

import heapq
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agent import journal
from agent.evidence import Evidence
from agent.finding import Finding
from agent.journal import Damage, Journal, Position
from agent.journal_joined import JoinedRows, read_joined
from agent.learner import Learner
from agent.priority import SavedPriorities
from agent.replay import Replay
from agent.source import NextRows, Origin
from agent.step import StepBlock
from protocol.spaces import GameSpec

log = logging.getLogger("trainer")


@dataclass(frozen=True)
class TakenIn:
    """What a journal held."""

    at: Position = field(default_factory=Position)
    """Where the run was behind the last block."""
    steps: int = 0
    """Steps that are in the replay now."""
    of_others: int = 0
    """Steps that the run has had in the journals of learners that are no more."""
    sources: NextRows = field(default_factory=NextRows)
    """Which rows of each source it has."""
    overwritten: Sequence[tuple[Path, int, int]] = ()
    """Of learners that are no more: journal, the first row of it that is in the replay, its end."""

    def begin(self) -> None:
        """The start is accepted: delete files of learners that are no more whose rows have left the
        replay, as the one that wrote them would. Errors: OSError."""
        for folder, row, end in self.overwritten:
            journal.drop_before(folder, row, end)


def take_in(
    folder: Path,
    replay: Replay,
    learner: Learner,
    evidence: Evidence,
    known: float,
    progress: Callable[[int], None] = lambda _: None,
    others: Sequence[Path] = (),
) -> TakenIn:
    """Put what a journal holds into the replay, and count it as evidence. The learner knows the
    first `known` rows of the run, and sees the observations of the others: its statistics are of
    all rows.

    `progress`: called again and again, with how many rows have been read. `others`: journals of
    learners that are no more; all rows come by their age. Damage is logged. Errors:
    journal.JournalError, OSError.
    """
    damages: list[Damage] = []
    ends = [Position() for _ in (*others, folder)]
    newest: deque[tuple[int, int, int]] = deque()  # journal, first row, rows
    held = 0  # rows in it
    before, rows, begin = len(replay), 0, time.monotonic()
    sources = NextRows()
    for which, last in _by_age([*others, folder], replay, damages):
        sources.take_many(last.origins, last.lengths, all_kept=False)
        replay.append(last.rows)
        evidence.add(last.rows)
        own = which == len(others)
        new = len(last.rows) if known <= last.at.rows else max(0, last.end.rows - known)
        if own and new:
            learner.observe(last.rows.obs[len(last.rows) - int(new) :])
        rows += len(last.rows)
        ends[which] = last.end
        newest.append((which, last.at.rows, len(last.rows)))
        held += len(last.rows)
        while held - newest[0][2] >= replay.capacity_steps:
            held -= newest.popleft()[2]
        progress(rows)
    for damage in damages:
        log.warning("%s", damage)
    if not rows:
        return TakenIn()
    for each in (*others, folder):
        if replay.prioritized and (saved := journal.read_priorities(each)):
            replay.restore_priorities(saved)
    steps = len(replay) - before
    *of_others, end = (each.steps for each in ends)
    log.info(
        "the replay has %d steps, read in %.2f s; the run was at step %d",
        steps, time.monotonic() - begin, end + sum(of_others),
    )  # fmt: skip
    if sources.missing or sources.doubled:
        log.warning(
            "the replay's files lack %d rows of gateways, and have %d twice",
            sources.missing, sources.doubled,
        )  # fmt: skip
    first = {which: row for which, row, _ in reversed(newest)}
    overwritten = [
        (each, first.get(number, ends[number].rows), ends[number].rows)
        for number, each in enumerate(others)
    ]
    return TakenIn(ends[-1], steps, sum(of_others), sources, overwritten)


def _by_age(
    folders: Sequence[Path], replay: Replay, damages: list[Damage]
) -> Iterator[tuple[int, JoinedRows]]:
    """The rows of journals, each with the number of its folder: those of each in their order, and
    of several those first that older weights decided on."""

    def numbered(number: int, folder: Path) -> Iterator[tuple[int, int, JoinedRows]]:
        for rows in read_joined(folder, replay.spec, damages, replay.memory):
            yield int(rows.rows.policy_version[0]), number, rows

    journals = [numbered(number, folder) for number, folder in enumerate(folders)]
    for _, number, rows in heapq.merge(*journals, key=lambda each: each[:2]):
        yield number, rows


class JournalWriter:
    """Writes rows to the journal; a full disk costs their safety, never the game."""

    def __init__(
        self,
        folder: Path,
        spec: GameSpec,
        capacity: int,
        at: Position,
        resume: bool,
        memory: int = 0,
        *,
        synced: bool = False,
    ) -> None:
        """Behind `at`. It begins a file, and changes none until `begin`. `memory`: numbers of the
        network's recurrent state. `synced`: a row is kept once the disk has it, and not before.
        Errors: OSError."""
        self._synced = synced
        self._left = [] if resume else journal.segments(folder)
        self._journal = Journal(folder, spec, capacity, at, memory)
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

    def keep(self, block: StepBlock, origin: Origin) -> None:
        """Write rows, which come from there, whole or not at all."""
        try:
            self._journal.append(block, origin)
            if self._synced:
                self._journal.sync()
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

"""Counts what a chaos run lost: the run's folder compared with what the games were answered."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from agent import journal
from agent.journal import Damage
from agent.step import STEP
from protocol.actor import NOBODY
from protocol.streams import stream_number
from server.ipc.inflight import InFlight
from server.play.attribution import Attribution, compare, load_logs
from server.run.directory import game_of


@dataclass(frozen=True)
class ChaosResult:
    """What came of it."""

    seconds: float
    events: dict[str, int]
    attribution: Attribution
    wrong_decisions: int
    """Answers whose tag does not agree with whose action they carry."""
    holes: int
    """Steps that are missing, with later ones of their stream there; and rows, with later ones of
    their gateway there."""
    doubled: int
    """Rows of gateways that are stored twice."""
    said: InFlight
    """What the server said was in flight."""
    damages: int
    """Blocks of rows that were cut off where somebody was killed who wrote them."""
    restarts: int

    @property
    def ok(self) -> bool:
        found = self.attribution
        return (
            bool(self.events)
            and found.compared > 0
            and not (found.mismatches or self.wrong_decisions or self.holes or self.doubled)
            and found.missing <= self.said.steps
        )

    def report(self) -> dict[str, Any]:
        """As it is printed."""
        found = self.attribution
        return {
            "seconds": round(self.seconds, 1),
            "events": sum(self.events.values()),
            "restarts": self.restarts,
            "steps": found.compared,
            "mismatches": found.mismatches + self.wrong_decisions,
            "holes": self.holes,
            "doubled": self.doubled,
            "missing": found.missing,
            "said_in_flight": self.said.steps,
            "unfinished": self.said.frames,
            "damages": self.damages,
        }


def account(
    home: Path, run: Path, *, seconds: float, events: dict[str, int], said: InFlight, restarts: int
) -> ChaosResult:
    """Compare the games' logs in `home` with the steps in the run's folder. The others are the
    result's own."""
    truth, damages = load_logs(home), list[Damage]()
    stored = _stored(run, damages)
    spec = game_of(run)
    numbers = [journal.next_rows(folder, spec) for folder in journals(run)] if spec else []
    return ChaosResult(
        seconds=seconds,
        events=events,
        attribution=compare(truth, stored),
        wrong_decisions=int(truth["wrong"].sum()) if "wrong" in truth else 0,
        holes=holes(truth, stored) + sum(each.missing for each in numbers),
        doubled=sum(each.doubled for each in numbers),
        said=said,
        damages=len(damages),
        restarts=restarts,
    )


def journals(run: Path) -> list[Path]:
    """Where the rows of a run are: a folder for each learner."""
    return [each / journal.FOLDER for each in (run, *sorted(run.glob("learners/*")))]


def _stored(run: Path, damages: list[Damage]) -> dict[str, npt.NDArray[Any]]:
    """The steps that the run's folder holds, as a dump of the replay has them."""
    spec = game_of(run)
    assert spec is not None
    parts: dict[str, list[npt.NDArray[Any]]] = {"stream": [], "seq": [], "actor": [], "action": []}
    for folder in journals(run):
        for block in journal.read(folder, spec, damages):
            steps = block.rows.kind == STEP
            for name, columns in parts.items():
                columns.append(getattr(block.rows, name)[steps])
    return {name: np.concatenate(columns) for name, columns in parts.items()}


def holes(truth: dict[str, npt.NDArray[Any]], stored: dict[str, npt.NDArray[Any]]) -> int:
    """Steps that games were answered for and that are not stored, though a later one of their
    stream is."""
    newest: dict[int, int] = {}
    there = set()
    for stream, seq in zip(stored["stream"].tolist(), stored["seq"].tolist(), strict=True):
        newest[stream] = max(seq, newest.get(stream, -1))
        there.add((stream, seq))
    acted = truth["actor"] != NOBODY
    sessions, slots = truth["session"][acted].tolist(), truth["slot"][acted].tolist()
    streams = [stream_number(session, slot) for session, slot in zip(sessions, slots, strict=True)]
    return sum(
        seq < newest.get(stream, -1) and (stream, seq) not in there
        for stream, seq in zip(streams, truth["seq"][acted].tolist(), strict=True)
    )

"""Compares who chose each action, on whose recommendation and by which weights: the games' own logs
with the replay and the batches, row by row.

A *truth* is what a game says was done on a frame: the answer that it got, or what it took instead.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from protocol.actor import NOBODY
from protocol.streams import session_of, stream_number

Columns = Mapping[str, npt.NDArray[Any]]

COMPARED = ("actor", "action", "policy_version", "recommended")
"""Columns that are compared where both sides have them."""


@dataclass(frozen=True)
class Attribution:
    """What a comparison found. `ok` is the verdict."""

    compared: int
    """Rows of the replay that were compared with the truth."""
    mismatches: int
    """Rows of the replay or of a batch of which a column that both have is not the truth, or that
    no game knows of."""
    missing: int
    """Truths that are not in the replay. The last of a stream does not count where no frame
    followed, for then it never became a step."""
    batch_compared: int
    """Rows of batches that were compared."""

    @property
    def ok(self) -> bool:
        return self.compared > 0 and self.mismatches == 0 and self.missing == 0


def compare(truth: Columns, stored: Columns) -> Attribution:
    """Compare the games' logs with a dump of the replay.

    truth: `session`, `slot`, `seq`, `actor`, `action` of every answer, in any order (see
        `understudy_client.AnswerLog.arrays`); actor 0 for an answer to an episode's last frame.
        Where the game has them, `policy_version` and `recommended` (NaN: nothing was).
    stored: `stream` and `seq`, the same columns, and `batch_stream`, ... of the batches where they
        were recorded.
    """
    session, slot = truth["session"].astype(np.int64), truth["slot"].astype(np.int64)
    stream = stream_number(session, slot)
    keys = _keys(stream, truth["seq"])
    order = np.argsort(keys, order=("stream", "seq"))
    keys = keys[order]
    told = {name: truth[name][order] for name in COMPARED if name in truth}
    last = np.ones(len(keys), np.bool_)
    last[:-1] = keys["stream"][1:] != keys["stream"][:-1]

    found = np.zeros(len(keys), np.bool_)
    wrong, known = _wrong(keys, told, stored, "", found)
    duplicates = known - int(np.count_nonzero(found))
    batch_wrong, batch_compared = 0, 0
    if "batch_stream" in stored:
        batch_wrong, _ = _wrong(keys, told, stored, "batch_", None)
        batch_compared = len(stored["batch_stream"])
    return Attribution(
        compared=len(stored["stream"]),
        mismatches=wrong + batch_wrong + duplicates,
        missing=int(np.count_nonzero(~found & ~last & (told["actor"] != NOBODY))),
        batch_compared=batch_compared,
    )


def load_logs(folder: Path) -> dict[str, npt.NDArray[Any]]:
    """The logs of all games in a folder (client-*.npz), one after the other."""
    parts: list[dict[str, npt.NDArray[Any]]] = []
    for path in sorted(folder.glob("client-*.npz")):
        with np.load(path, allow_pickle=False) as file:
            if len(file["seq"]):
                parts.append({name: file[name] for name in file.files})
    if not parts:
        return {
            name: np.empty(0, np.int64) for name in ("session", "slot", "seq", "actor", "action")
        }
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def load_dump(*paths: Path) -> dict[str, npt.NDArray[Any]]:
    """What the trainer dumped: of several learners, all that each of them did."""
    parts: list[dict[str, npt.NDArray[Any]]] = []
    for path in paths:
        with np.load(path, allow_pickle=False) as file:
            parts.append({name: file[name] for name in file.files})
    if len(parts) == 1:
        return parts[0]
    # A learner that drew nothing has batches without columns.
    return {
        name: np.concatenate([part[name] for part in parts if len(part[name])] or [parts[0][name]])
        for name in parts[0]
    }


def without(stored: Columns, sessions: Collection[int]) -> dict[str, npt.NDArray[Any]]:
    """A dump without the rows of these sessions, of which no game has a log."""
    found = dict(stored)
    for prefix in ("", "batch_"):
        if f"{prefix}stream" in stored and sessions:
            others = ~np.isin(session_of(stored[f"{prefix}stream"]), list(sessions))
            for name in ("stream", "seq", *COMPARED):
                if prefix + name in stored:
                    found[prefix + name] = stored[prefix + name][others]
    return found


_KEY = np.dtype([("stream", np.int64), ("seq", np.int64)])


def _keys(stream: npt.NDArray[Any], seq: npt.NDArray[Any]) -> npt.NDArray[Any]:
    keys = np.empty(len(seq), _KEY)
    keys["stream"], keys["seq"] = stream, seq
    return keys


def _places(keys: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Where each wanted key stands among the sorted ones; -1 for none."""
    if not len(keys):
        return np.full(len(wanted), -1, np.int64)
    # Structured keys compare slowly: each stream's truths are a run of rising seqs.
    streams, starts, counts = np.unique(keys["stream"], return_index=True, return_counts=True)
    which = np.minimum(np.searchsorted(streams, wanted["stream"]), len(streams) - 1)
    known = streams[which] == wanted["stream"]
    offset = wanted["seq"] - keys["seq"][starts[which]]
    place = starts[which] + np.clip(offset, 0, counts[which] - 1)
    direct = known & (keys["seq"][place] == wanted["seq"])
    out = np.where(direct, place, -1)
    # A log may have gaps all the same: search those.
    for i in np.unique(which[known & ~direct]).tolist():
        rows = np.flatnonzero((which == i) & known & ~direct)
        run = keys["seq"][starts[i] : starts[i] + counts[i]]
        at = np.minimum(np.searchsorted(run, wanted["seq"][rows]), len(run) - 1)
        hit = run[at] == wanted["seq"][rows]
        out[rows[hit]] = starts[i] + at[hit]
    return out


def _wrong(
    keys: npt.NDArray[Any],
    told: Columns,
    stored: Columns,
    prefix: str,
    found: npt.NDArray[np.bool_] | None,
) -> tuple[int, int]:
    """How many rows no game knows of or differ from the truth `told`, in the order of `keys`, and
    how many a game knows of; marks in `found` what was seen."""
    at = _places(keys, _keys(stored[f"{prefix}stream"], stored[f"{prefix}seq"]))
    known = at >= 0
    if found is not None:
        found[at[known]] = True
    same = np.ones(len(at[known]), np.bool_)
    for name, column in told.items():
        if same.size and prefix + name in stored:
            same &= _equal(column[at[known]], stored[prefix + name][known])
    wrong = np.count_nonzero(~known) + np.count_nonzero(~same)
    return int(wrong), int(np.count_nonzero(known))


def _equal(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Which rows are equal, [n]; NaN is NaN."""
    same = np.equal(one, other) | (np.not_equal(one, one) & np.not_equal(other, other))
    rows: npt.NDArray[np.bool_] = np.all(same.reshape(len(one), -1), axis=1)
    return rows

"""What the audit compares with the games' logs: the replay's rows, and those of the batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from agent.files import written_whole
from agent.replay import Batch, Replay
from protocol.spaces import GameSpec


class BatchRecord:
    """What the learner was given, kept for the audit: the rows of every batch, as sampled."""

    def __init__(self, replay: Replay, spec: GameSpec) -> None:
        self._replay = replay
        self._spec = spec
        self._parts: list[tuple[np.ndarray[Any, Any], ...]] = []

    def add(self, batch: Batch) -> None:
        """Remember a batch: for each row which frame it is, and how it is tagged in the batch.
        Demonstrations are no frames of a game that plays, and are left out."""
        stream, seq = self._replay.identify(batch.indices)
        action = np.empty((len(stream), self._spec.action_width), np.float32)
        action[:, list(self._spec.discrete_columns)] = batch.discrete.cpu().numpy()
        action[:, list(self._spec.continuous_columns)] = batch.continuous.cpu().numpy()
        actors = batch.actors.cpu().numpy().astype(np.uint8)
        columns = stream, seq, actors, action, batch.recommended.cpu().numpy()
        self._parts.append(tuple(column[stream >= 0] for column in columns))

    def columns(self) -> tuple[np.ndarray[Any, Any], ...]:
        """stream, seq, actor, action, recommended of all rows."""
        if not self._parts:
            return tuple(np.empty(0) for _ in range(5))
        return tuple(np.concatenate(column) for column in zip(*self._parts, strict=True))


def write_dump(path: Path, replay: Replay, record: BatchRecord | None) -> None:
    """Write what the replay holds, and what the recorded batches held, for `attribution.load_dump`.
    The audit is about games that play: without the demonstrations. Errors: OSError."""
    rows = replay.rows()
    played = rows.stream >= 0
    stored = {
        "stream": rows.stream[played],
        "seq": rows.seq[played],
        "policy_version": rows.policy_version[played],
        "actor": rows.actor[played],
        "action": rows.action[played],
        "recommended": rows.recommended[played],
    }
    if record:
        names = "batch_stream", "batch_seq", "batch_actor", "batch_action", "batch_recommended"
        stored |= dict(zip(names, record.columns(), strict=True))
    with written_whole(path) as file:
        np.savez(file, **stored)  # type: ignore[arg-type]

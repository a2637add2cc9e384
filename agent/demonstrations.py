"""Demonstrations: recordings in a run's folder, and how they enter the replay."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from agent import recording
from agent.recording import Recording, RecordingError
from agent.step import StepBlock
from config.models import RewardConfig
from protocol.spaces import GameSpec

FOLDER = "demonstrations"

_DIGITS = 12
"""Of a recording's digest, in the name of its file."""


def files(run: Path) -> list[Path]:
    """The recordings in a run's folder, in the order of their names."""
    return sorted((run / FOLDER).glob("*" + recording.SUFFIX))


def add(run: Path, name: str, demonstrated: Recording) -> Path | None:
    """Put a recording of the expert's steps into a run's folder; its file, or None where the run
    has the same one already, under whatever name. Errors: OSError, RecordingError."""
    digest = demonstrated.digest[:_DIGITS]
    if any(path.stem.endswith(digest) for path in files(run)):
        return None
    # Of a name from elsewhere, what every file system can hold.
    plain = "".join(c if c.isalnum() or c in "._-" else "-" for c in name)[:100]
    path = run / FOLDER / f"{plain}-{digest}{recording.SUFFIX}"
    recording.write(path, demonstrated)
    return path


def blocks(run: Path, spec: GameSpec, reward: RewardConfig) -> Iterator[tuple[str, StepBlock]]:
    """The rows of each of a run's recordings, as its replay takes them, with the file's name.

    Rewards are weighted and clipped as the run's are. Streams count downwards from -1: sessions
    have no such numbers. Errors: RecordingError, naming the file.
    """
    used = 0
    for path in files(run):
        try:
            found = recording.read(path, spec=spec)
            rows = found.with_rewards(reward_weights(spec, reward), reward.clip).rows
        except RecordingError as error:
            text = str(error) if str(path) in str(error) else f"{path}: {error}"
            raise RecordingError(f"{text}; correct or remove it") from None
        streams, which = np.unique(rows.stream, return_inverse=True)
        columns = {name: getattr(rows, name) for name in StepBlock.__slots__}
        columns["stream"] = -1 - used - which.astype(np.int64)
        used += len(streams)
        yield path.name, StepBlock(**columns)


def reward_weights(spec: GameSpec, reward: RewardConfig) -> tuple[float, ...]:
    """What each reward component of a game is multiplied by."""
    return tuple(reward.weights.get(name, 1.0) for name in spec.rewards)

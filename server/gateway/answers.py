"""Answers to a batch of frames: actions to bytes, and bytes to who waits for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from protocol import codec
from protocol.messages import Actions
from protocol.spaces import GameSpec
from server.gateway.frame_batch import BatchEntry, FrameBatch


def encode_answers(
    batch: FrameBatch,
    spec: GameSpec,
    running: npt.NDArray[np.bool_],
    versions: Sequence[int],
    actions: npt.NDArray[np.float32],
    actors: npt.NDArray[np.uint8],
    explored: npt.NDArray[np.uint8],
) -> list[bytes]:
    """The answer to each entry of the batch: the `actions` [n, action_width], who chose them
    (`actors` [n]), and whether by chance (`explored` [n]). `running` [n]: frames that do not end an
    episode; `versions` [n]: of the policy that plays each."""
    # NaN has no integer: the rows without an action are zeroed for the conversion alone.
    parts: list[Any] = spec.actions_of_rows(np.where(running[:, None], actions, 0))
    tags, dice, alive = actors.tolist(), explored.tolist(), running.tolist()
    seqs = batch.seq[: batch.n].tolist()
    answers: list[bytes] = []
    i = 0
    for entry in batch.entries:
        if entry.slot is None:
            at = slice(i, i + entry.n)
            answers.append(
                codec.encode(
                    Actions(
                        seqs[i],
                        actions[at].tobytes(),
                        actors[at].tobytes(),
                        _of_all(versions[at]),
                        explored[at].tobytes(),
                    )
                )
            )
        else:
            action, version = parts[i] if alive[i] else None, versions[i]
            answers.append(
                codec.encode_action(entry.slot, seqs[i], action, tags[i], version, bool(dice[i]))
                if entry.context is None
                else entry.context.encode(action, tags[i], bool(dice[i]))
            )
        i += entry.n
    return answers


def _of_all(versions: Sequence[int]) -> int:
    """The version that plays all slots of a connection; 0 where they differ."""
    return versions[0] if versions.count(versions[0]) == len(versions) else 0


def send_answers(entries: list[BatchEntry], answers: list[bytes]) -> None:
    """Send each entry its answer.

    They are sent behind each other without work in between: a game on this machine that is woken by
    the first finds the others without falling asleep, and waking it is what costs. The answers to
    one client's frames that came together go together, too."""
    first, last = 0, len(entries)
    for i, entry in enumerate(entries, 1):
        client = entry.client
        client.answered(entry.slot)
        if i == last or entries[i].client is not client:
            client.send(answers[first] if i == first + 1 else b"".join(answers[first:i]))
            first = i

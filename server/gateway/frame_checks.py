"""Checks of a batch of frames: numbers that are not finite, or too large, end their connection.

What one message alone can show is checked where it is decoded (protocol.checks); this is the part
that is done for a whole batch at once. NaN is expected here: call it where numpy does not warn of
it (`np.errstate`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from protocol.errors import RemoteError
from protocol.observation_checks import MAX_VALUE, bad_element, bad_rows
from protocol.observations import Observation
from protocol.spaces import GameSpec
from server.gateway.frame_batch import FrameBatch


def refuse_bad_observations(batch: FrameBatch, spec: GameSpec) -> None:
    """End the connections whose observations have a NaN, an infinity, a number beyond MAX_VALUE or
    a choice that there is not; their frames are dropped."""
    for number, observation in enumerate(spec.observations):
        part = spec.parts(batch.obs[: batch.n])[number]
        bad = bad_rows(observation, part)
        if bad is not None:
            _refuse_bad(batch, observation, part, bad)


def refuse_bad_rewards(batch: FrameBatch, spec: GameSpec) -> None:
    """The same for frames whose weighted sum of rewards (`batch.earned`) is no such number."""
    fair = np.abs(batch.earned[: batch.n]) <= MAX_VALUE
    if not fair.all():
        batch.refuse(fair, lambda row: _bad_reward(batch, spec, row))


def _refuse_bad(
    batch: FrameBatch,
    observation: Observation,
    part: npt.NDArray[Any],
    bad: npt.NDArray[np.bool_],
) -> None:
    batch.refuse(~bad, lambda row: bad_element(observation, part[row]))


def _bad_reward(batch: FrameBatch, spec: GameSpec, row: int) -> RemoteError:
    parts = dict(zip(spec.rewards, batch.rewards[row].tolist(), strict=True))
    return RemoteError(
        "reward_not_finite",
        f"expected rewards whose weighted sum is from -{MAX_VALUE:g} to {MAX_VALUE:g}, got "
        f"{parts}; check what the game computes, or lower reward.weights",
    )

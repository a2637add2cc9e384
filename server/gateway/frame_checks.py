"""Checks of a batch of frames: numbers that are not finite, or too large, end their connection.

What one message alone can show is checked where it is decoded (protocol.checks); this is the part
that is done for a whole batch at once. NaN is expected here: call it where numpy does not warn of
it (`np.errstate`).
"""

from __future__ import annotations

import numpy as np

from protocol.checks import MAX_VALUE
from protocol.errors import RemoteError
from protocol.spaces import GameSpec
from server.gateway.frame_batch import FrameBatch


def refuse_bad_observations(batch: FrameBatch) -> None:
    """End the connections whose observation has a NaN, an infinity or a number beyond MAX_VALUE;
    their frames are dropped."""
    obs = batch.obs[: batch.n]
    if obs.dtype.kind != "f":
        return
    # Written so that NaN fails. Smallest and largest need no memory: look closer only then.
    if obs.min() >= -MAX_VALUE and obs.max() <= MAX_VALUE:
        return
    good = np.asarray((np.abs(obs) <= MAX_VALUE).all(axis=1))
    batch.refuse(good, lambda row: _bad_observation(batch, row))


def refuse_bad_rewards(batch: FrameBatch, spec: GameSpec) -> None:
    """The same for frames whose weighted sum of rewards (`batch.earned`) is no such number."""
    fair = np.abs(batch.earned[: batch.n]) <= MAX_VALUE
    if not fair.all():
        batch.refuse(fair, lambda row: _bad_reward(batch, spec, row))


def _bad_observation(batch: FrameBatch, row: int) -> RemoteError:
    obs = batch.obs[row]
    element = int(np.argmin(np.abs(obs) <= MAX_VALUE))
    return RemoteError(
        "observation_not_finite",
        f"expected numbers from -{MAX_VALUE:g} to {MAX_VALUE:g}, got {obs[element]} in element "
        f"{element}; check the game's state before sending it",
    )


def _bad_reward(batch: FrameBatch, spec: GameSpec, row: int) -> RemoteError:
    parts = dict(zip(spec.rewards, batch.rewards[row].tolist(), strict=True))
    return RemoteError(
        "reward_not_finite",
        f"expected rewards whose weighted sum is from -{MAX_VALUE:g} to {MAX_VALUE:g}, got "
        f"{parts}; check what the game computes, or lower reward.weights",
    )

"""Probes: the episodes of training that one actor plays alone, so that its return is its own.

Which episodes are probes follows from the stream and the number of their first frame alone. So the
gateway that plays one and the trainer that counts it need not tell each other, and rows that were
kept tell it again.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from protocol.actor import NOBODY, Actor

DQN_SHARE = 1 / 3
"""Of all episodes, those that the network plays alone, and without exploration."""

EXPERT_SHARE, LATER_EXPERT_SHARE, EARLY_FRAMES = 1 / 8, 1 / 32, 4096
"""Those that the expert plays alone, and those that it plays alone after so many frames of a
stream. It changes less than the network, and its frames are not the network's."""


def led_alone(
    streams: npt.NDArray[np.int64], first: npt.NDArray[np.uint32]
) -> npt.NDArray[np.uint8]:
    """Who is to play some episodes alone, [n]: a number of Actor, NOBODY where it is no probe.

    `streams` [n]: the stream of each; `first` [n]: the `seq` of its first frame. The draw is a hash
    (the finalizer of splitmix64; Steele et al. 2014, doi:10.1145/2660193.2660195).
    """
    hashed = streams.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + first
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        hashed = (hashed ^ (hashed >> np.uint64(shift))) * np.uint64(factor)
    drawn = (hashed ^ (hashed >> np.uint64(31))) / 2.0**64
    expert = np.where(first < EARLY_FRAMES, EXPERT_SHARE, LATER_EXPERT_SHARE)
    alone = np.where(drawn < DQN_SHARE + expert, Actor.EXPERT, NOBODY)
    return np.where(drawn < DQN_SHARE, Actor.DQN, alone).astype(np.uint8)

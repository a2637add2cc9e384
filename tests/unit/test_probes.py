"""agent/probes.py: which episodes one actor plays alone."""

from __future__ import annotations

import numpy as np
import pytest

from agent.probes import DQN_SHARE, EARLY_FRAMES, EXPERT_SHARE, LATER_EXPERT_SHARE, led_alone
from protocol.actor import NOBODY, Actor
from protocol.streams import stream_number

N = 20_000


@pytest.mark.parametrize(("at", "share"), [(0, EXPERT_SHARE), (EARLY_FRAMES, LATER_EXPERT_SHARE)])
def test_shares_of_probes_are_those_of_the_module(at: int, share: float) -> None:
    """Whether streams differ, or the frames at which episodes of one begin."""
    first = np.full(N, at, np.uint32)
    streams = stream_number(np.arange(N) // 8, np.arange(N) % 8)
    one = led_alone(np.full(N, 5), np.arange(at * 3, at * 3 + N, dtype=np.uint32))
    for leaders in (led_alone(streams, first), one):
        assert (leaders == Actor.DQN).mean() == pytest.approx(DQN_SHARE, abs=0.015)
    leaders = led_alone(streams, first)
    assert (leaders == Actor.EXPERT).mean() == pytest.approx(share, abs=0.01)
    assert set(leaders.tolist()) == {NOBODY, *Actor}


def test_probes_are_those_that_they_always_were() -> None:
    """Rows that were kept are read by this rule."""
    streams = stream_number(np.arange(1, 13), np.zeros(12, np.int64))
    leaders = led_alone(streams, np.arange(0, 1200, 100, dtype=np.uint32))
    assert leaders.tolist() == [1, 2, 0, 0, 2, 1, 0, 1, 0, 2, 1, 0]

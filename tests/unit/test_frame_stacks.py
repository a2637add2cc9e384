from __future__ import annotations

import numpy as np
import pytest

from protocol.spaces import GameSpec
from server.gateway.frame_stacks import FrameStacks
from tests.support.worlds import PIXELS, SPEC

MOST = 2048


@pytest.mark.parametrize("spec", [SPEC, PIXELS])
def test_stacks_hold_last_frames_of_each_slot(spec: GameSpec) -> None:
    size = spec.observation_size
    stacks = FrameStacks(spec, 3, MOST)
    out = np.empty((2, 3 * size), spec.observation_dtype)
    nothing = np.zeros(2, np.bool_)

    def add(rows: list[int], values: list[int], first: list[bool] | None = None) -> None:
        obs = np.repeat(np.array(values, spec.observation_dtype), size).reshape(len(rows), size)
        begins = nothing[: len(rows)] if first is None else np.array(first)
        stacks.add(np.array(rows), obs, begins)

    def taken(*rows: int) -> list[list[int]]:
        stacks.take(np.array(rows), out[: len(rows)])
        frames = out[: len(rows)].reshape(len(rows), 3, size)
        assert (frames == frames[:, :, :1]).all(), "frames are mixed up"
        return frames[:, :, 0].tolist()

    add([0, 1], [1, 2], [True, True])
    assert taken(0, 1) == [[1, 1, 1], [2, 2, 2]]
    add([1], [3])
    assert taken(1, 0) == [[2, 2, 3], [1, 1, 1]]
    add([0, 1], [4, 5])
    add([0, 1], [6, 7], [True, False])
    assert taken(0, 1) == [[6, 6, 6], [3, 5, 7]]
    add([0, 1], [8, 9])
    assert taken(0, 1) == [[6, 6, 8], [5, 7, 9]]

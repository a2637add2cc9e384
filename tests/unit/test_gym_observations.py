"""Observation spaces as what frames carry."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from understudy_client.observation_spaces import observation_space
from understudy_client.spec import Observation


@pytest.mark.parametrize(
    ("space", "dtype", "shape"),
    [
        (spaces.Box(-1, 1, (3,), np.float64), "float32", (3,)),
        (spaces.Box(-1, 1, (3,), np.float16), "float32", (3,)),
        (spaces.Box(0, 255, (8, 8), np.uint8), "uint8", (8, 8)),
        (spaces.Box(-1, 1, ()), "float32", (1,)),
        (spaces.Box(0, 1, (9, 2), np.bool_), "float32", (9, 2)),
        (spaces.Box(0, 8, (2,), np.int64), "float32", (2,)),
        (spaces.Box(0, 1, (2, 2, 2, 2, 3)), "float32", (48,)),
        (spaces.MultiBinary([2, 3]), "float32", (2, 3)),
        (spaces.Discrete(4, start=2), "float32", (4,)),
        (spaces.MultiDiscrete([2, 3]), "float32", (5,)),
        (spaces.Tuple([spaces.Discrete(2), spaces.Box(0, 1, (0,))]), "float32", (2,)),
    ],
)
def test_space_without_others_in_it_is_one_observation(
    space: spaces.Space[Any], dtype: str, shape: tuple[int, ...]
) -> None:
    seen = observation_space(space)
    assert seen.observation == Observation(dtype, shape)
    space.seed(1)
    obs = space.sample()
    wire = seen.to_wire(obs)
    assert (wire.dtype.name, wire.shape) == (dtype, shape)
    np.testing.assert_array_equal(
        wire.ravel(), np.asarray(spaces.flatten(space, obs), np.float32).ravel()
    )


def test_choice_is_one_in_its_place() -> None:
    seen = observation_space(spaces.MultiDiscrete([2, 3], start=[5, -1]))
    assert seen.to_wire(np.array([6, -1])).tolist() == [0, 1, 1, 0, 0]
    assert seen.to_wire(np.array([5, 1])).tolist() == [1, 0, 0, 0, 1]


def test_nested_observation_is_its_parts_behind_each_other() -> None:
    space = spaces.Dict(
        OrderedDict(
            speed=spaces.Box(-9, 9, (2,), np.float64),
            inner=spaces.Tuple([spaces.Discrete(2), spaces.Box(0, 255, (2, 1), np.uint8)]),
            flags=spaces.MultiBinary(2),
        )
    )
    seen = observation_space(space)
    assert seen.observation == Observation("float32", (8,))
    obs = {
        "speed": np.array([0.5, -1.0]),
        "inner": (1, np.array([[7], [255]], np.uint8)),
        "flags": np.array([0, 1], np.int8),
    }
    wire = seen.to_wire(obs)
    assert wire.dtype == np.float32
    assert wire.tolist() == [0.5, -1.0, 0, 1, 7, 255, 0, 1]


@pytest.mark.parametrize(
    ("space", "obs"),
    [
        (spaces.Discrete(3), 3),
        (spaces.Discrete(3, start=1), 0),
        (spaces.Box(0, 1, (2,)), np.zeros(3)),
        (spaces.Dict(a=spaces.Discrete(2)), {"b": 1}),
        (spaces.Tuple([spaces.Discrete(2)]), None),
    ],
)
def test_observation_that_is_not_of_its_space_is_refused(
    space: spaces.Space[Any], obs: Any
) -> None:
    with pytest.raises(ValueError, match="expected the environment to return an observation of "):
        observation_space(space).to_wire(obs)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (spaces.Text(3), "observation space: expected Box, .* got Text.*TransformObservation"),
        (
            spaces.Dict(a=spaces.Tuple([spaces.Sequence(spaces.Discrete(2))])),
            "observation space 'a.0': .*--wrap understudy_client.wrappers:only_numbers",
        ),
        (spaces.Dict(), "expected at least one number"),
        (spaces.Box(0, 1, (0,)), "expected at least one number"),
    ],
)
def test_space_without_numbers_is_refused_with_what_to_do(
    space: spaces.Space[Any], message: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        observation_space(space)

"""Observation spaces as what frames carry."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import FlattenObservation

from tests.support.spaced import Spaced
from understudy_client.observation_spaces import observation_space
from understudy_client.observations import Observation, Packer


def box(low: Any, high: Any, shape: tuple[int, ...], dtype: Any = np.float32) -> spaces.Box:
    return spaces.Box(low, high, shape, dtype)


@pytest.mark.parametrize(
    ("space", "observation"),
    [
        (box(-1, 1, (3,), np.float64), Observation("float32", (3,))),
        (box(-1, 1, (3,), np.float16), Observation("float16", (3,))),
        (box(-1, 1, ()), Observation("float32", (1,))),
        (box(0, 8, (2,), np.int64), Observation("int64", (2,))),
        (box(0, 8, (2,), np.uint16), Observation("int32", (2,))),
        (box(0, 8, (2,), np.uint32), Observation("int64", (2,))),
        (box(0, 1, (2, 2, 2, 2, 3)), Observation("float32", (48,))),
        # The bounds of pictures say what black and white are. What the server takes for one
        # without them is declared as ever, so that runs of before go on.
        (box(0, 255, (8, 8), np.uint8), Observation("uint8", (8, 8))),
        (box(0, 255, (84, 84, 3), np.uint8), Observation("uint8", (84, 84, 3))),
        (
            box(0, 255, (84, 84, 12), np.uint8),
            Observation("uint8", (84, 84, 12), low=0.0, high=255.0),
        ),
        (box(0, 1, (8, 8, 12), np.uint8), Observation("uint8", (8, 8, 12), low=0.0, high=1.0)),
        (box(-1, 1, (9, 9, 3)), Observation("float32", (9, 9, 3), low=-1.0, high=1.0)),
        (box(-np.inf, np.inf, (9, 9, 3)), Observation("float32", (9, 9, 3))),
        (box(0, 1, (9, 2), np.bool_), Observation("bool", (9, 2), low=0.0, high=1.0)),
        (box(0, 10, (5,), np.uint8), Observation("uint8", (5,), low=0.0, high=10.0)),
        (box(0, 255, (128,), np.uint8), Observation("uint8", (128,))),
        (spaces.MultiBinary(18), Observation("bool", (18,))),
        (spaces.MultiBinary([6, 7]), Observation("bool", (6, 7), low=0.0, high=1.0)),
        (spaces.Discrete(4, start=2), Observation("uint8", (1,), kind="choice", n=4)),
        (spaces.Discrete(500), Observation("int32", (1,), kind="choice", n=500)),
        (
            spaces.MultiDiscrete([[3, 3], [3, 3]]),
            Observation("uint8", (2, 2), kind="choice", n=3),
        ),
        (spaces.MultiDiscrete([2, 300]), Observation("int32", (2,), kind="choices", n=(2, 300))),
        # What shows nothing is left out.
        (
            spaces.Tuple([spaces.Discrete(2), box(0, 1, (0,))]),
            Observation("uint8", (1,), "0", kind="choice", n=2),
        ),
    ],
)
def test_space_without_others_in_it_is_one_observation(
    space: spaces.Space[Any], observation: Observation
) -> None:
    seen = observation_space(space)
    assert seen.observations == (observation,)
    space.seed(1)
    for _ in range(3):
        obs = space.sample()
        wire: Any = seen.to_wire(obs)
        assert wire.shape == observation.shape
        flat = spaces.flatten(space, obs)
        if observation.choices:  # theirs are one-hot
            ends = np.cumsum(observation.choices)
            flat = np.flatnonzero(flat) - (ends - np.array(observation.choices))
        np.testing.assert_array_equal(wire.ravel(), np.asarray(flat, wire.dtype).ravel())
        Packer(seen.observations).pack(seen.to_wire(obs))


def test_choice_counts_from_its_start() -> None:
    seen: Any = observation_space(spaces.MultiDiscrete([2, 3], start=[5, -1]))
    assert seen.to_wire(np.array([6, -1])).tolist() == [1, 0]
    assert seen.to_wire(np.array([5, 1])).tolist() == [0, 2]


def test_nested_observation_is_several_named_after_their_places() -> None:
    space = spaces.Dict(
        OrderedDict(
            speed=spaces.Box(-9, 9, (2,), np.float64),
            inner=spaces.Tuple([spaces.Discrete(2), spaces.Box(0, 255, (2, 1), np.uint8)]),
            flags=spaces.MultiBinary(2),
        )
    )
    seen = observation_space(space)
    assert seen.observations == (
        Observation("float32", (2,), "speed"),
        Observation("uint8", (1,), "inner.0", kind="choice", n=2),
        Observation("uint8", (2, 1), "inner.1"),
        Observation("bool", (2,), "flags"),
    )
    wire: Any = seen.to_wire(
        {
            "speed": np.array([0.5, -1.0]),
            "inner": (1, np.array([[7], [255]], np.uint8)),
            "flags": np.array([0, 1], np.int8),
        }
    )
    assert {name: each.tolist() for name, each in wire.items()} == {
        "speed": [0.5, -1.0],
        "inner.0": [1],
        "inner.1": [[7], [255]],
        "flags": [False, True],
    }
    packed = bytes(Packer(seen.observations).pack(wire))
    assert packed == np.array([0.5, -1.0], "<f4").tobytes() + bytes([1, 7, 255, 0, 1])


def test_more_parts_than_there_may_be_are_flattened_by_the_cure() -> None:
    space = spaces.Dict({f"k{i}": spaces.Discrete(2) for i in range(33)})
    with pytest.raises(ValueError, match=r"at most 32 parts, .*wrappers:FlattenObservation"):
        observation_space(space)
    flat = FlattenObservation(Spaced(space))
    (found,) = observation_space(flat.observation_space).observations
    assert found.shape == (66,)


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

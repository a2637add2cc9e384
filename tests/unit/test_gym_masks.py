"""Masks of Gymnasium's spaces as flags of heads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from understudy_client.action_masks import legal_choices
from understudy_client.spaces import action_space
from understudy_client.spec import Discrete


def flags(*values: int) -> Any:
    return np.array(values, np.int8)


@pytest.mark.parametrize(
    ("space", "mask", "legal"),
    [
        (spaces.Discrete(3, start=5), flags(1, 0, 1), "101"),
        (spaces.Discrete(3), None, "111"),
        (spaces.MultiDiscrete([2, 3]), (flags(0, 1), flags(1, 1, 0)), "01 110"),
        (spaces.MultiDiscrete([2, 3]), flags(0, 1, 1, 1, 0), "01 110"),
        (spaces.MultiDiscrete([[2], [2]]), ((flags(0, 1),), (flags(1, 0),)), "01 10"),
        (spaces.MultiDiscrete([1, 2]), (flags(1), flags(0, 1)), "01"),
        (spaces.MultiBinary(3), flags(0, 1, 2), "10 01 11"),
        (
            spaces.Tuple([spaces.Box(-1, 1, (2,)), spaces.Discrete(2), spaces.MultiBinary(1)]),
            (None, flags(1, 0), None),
            "10 11",
        ),
        (
            spaces.Dict(a=spaces.Discrete(2), b=spaces.Box(0, 2, (1,), np.int8)),
            {"a": flags(0, 1)},
            "01 111",
        ),
        (spaces.Tuple([spaces.Box(1, 1, (1,)), spaces.Discrete(2)]), None, "11"),
    ],
)
def test_mask_of_a_space_is_a_flag_for_each_choice_of_its_heads(
    space: spaces.Space[Any], mask: Any, legal: str
) -> None:
    found = legal_choices(space, mask)
    assert found.dtype == np.bool_
    assert "".join("01"[flag] for flag in found.tolist()) == legal.replace(" ", "")
    heads = [head for head in action_space(space).heads if isinstance(head, Discrete)]
    assert len(found) == sum(head.n for head in heads)


def test_what_gymnasium_samples_with_a_mask_is_legal() -> None:
    space = spaces.Dict(a=spaces.MultiDiscrete([3, 4]), b=spaces.MultiBinary(2))
    space.seed(3)
    mask: Any = {"a": (flags(1, 0, 1), flags(0, 0, 1, 1)), "b": flags(2, 1)}
    legal, actions = legal_choices(space, mask), action_space(space)
    seen = set()
    for _ in range(50):
        parts: Any = actions.to_wire(space.sample(mask=mask))
        offsets = np.cumsum([0, 3, 4, 2])
        assert legal[offsets + parts].all()
        seen.add(tuple(parts))
    assert len(seen) == 2 * 2 * 2


@pytest.mark.parametrize(
    ("space", "mask"),
    [
        (spaces.Discrete(3), flags(1, 0)),
        (spaces.Discrete(3), np.ones(3)),
        (spaces.MultiDiscrete([2, 3]), (flags(0, 1),)),
        (spaces.MultiBinary(2), flags(1)),
        (spaces.Tuple([spaces.Discrete(2)]), ()),
        (spaces.Tuple([spaces.Box(0, 1, (1,)), spaces.Discrete(2)]), (flags(1), None)),
        (spaces.Dict(a=spaces.Discrete(2)), flags(1, 1)),
    ],
)
def test_mask_that_does_not_fit_is_refused_in_words(space: spaces.Space[Any], mask: Any) -> None:
    with pytest.raises(ValueError, match=r"action_mask: expected a mask as "):
        legal_choices(space, mask)

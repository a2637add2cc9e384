"""agent/dueling.py, and networks that use it beside those with too many choices for it."""

from __future__ import annotations

import pytest
import torch

from agent import dueling
from agent.networks import QNetwork
from config.models import LearnerConfig
from protocol.spaces import Discrete, GameSpec, Observation
from tests.support.learner import SEVERAL, SIZE
from tests.support.tensors import assert_close


def test_product_equals_hand_computed_values() -> None:
    outputs = torch.tensor([[10.0, 1.0, 3.0, 5.0, 7.0, 9.0, 99.0]])
    found = outputs @ dueling.one_product((2, 3), 1)
    assert_close(found, torch.tensor([[9.0, 11.0, 8.0, 10.0, 12.0]]))


def test_no_choices_or_too_many_have_none() -> None:
    assert len(dueling.one_product((), 3)) == 0
    assert len(dueling.one_product((dueling.MOST, 1), 0)) == 0
    assert dueling.one_product((dueling.MOST,), 0).shape == (1 + dueling.MOST, dueling.MOST)


@pytest.mark.parametrize("heads", [SEVERAL, (Discrete("a", 7),)])
def test_q_is_the_same_in_one_product_and_in_two(
    heads: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = GameSpec("g", Observation("float32", (SIZE,)), heads)
    one = QNetwork(spec, LearnerConfig(hidden=(8,)))
    monkeypatch.setattr(dueling, "MOST", 0)
    two = QNetwork(spec, LearnerConfig(hidden=(8,)))
    two.load_state_dict(one.state_dict())
    assert len(one._dueling) > len(two._dueling) == 0
    x = torch.randn(5, SIZE, generator=torch.Generator().manual_seed(1))
    for found, right in zip(one(x), two(x), strict=True):
        assert_close(found, right)

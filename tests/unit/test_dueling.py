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
    found = dueling.Dueling((2, 3), 1, 1)(outputs)
    assert_close(found, torch.tensor([[9.0, 11.0, 8.0, 10.0, 12.0]]))


def test_no_choices_or_too_many_have_none() -> None:
    assert len(dueling.Dueling((), 1, 3).one_product) == 0
    assert len(dueling.Dueling((dueling.MOST, 1), 1, 0).one_product) == 0
    shape = dueling.Dueling((dueling.MOST,), 1, 0).one_product.shape
    assert shape == (1 + dueling.MOST, dueling.MOST)


@pytest.mark.parametrize("sizes", [(), (4,), (2, 3), (dueling.MOST, 3)])
@pytest.mark.parametrize("atoms", [1, 3])
@pytest.mark.parametrize("others", [0, 2])
def test_gradient_written_out_equals_that_of_autograd(
    sizes: tuple[int, ...], atoms: int, others: int
) -> None:
    g = torch.Generator().manual_seed(1)
    head = dueling.Dueling(sizes, atoms, others)
    outputs = torch.randn(6, atoms * (1 + sum(sizes)) + others, generator=g, requires_grad=True)
    params = head(outputs)
    factors, rest = torch.randn(params.shape, generator=g), torch.randn(6, others, generator=g)
    tail = outputs[:, outputs.shape[1] - others :]
    of_values = (params * factors).sum()
    for objective, of_others in ((of_values, None), (of_values + (tail * rest).sum(), rest)):
        (expected,) = torch.autograd.grad(objective, outputs, retain_graph=True)
        assert_close(head.backward(factors, of_others if others else None), expected, atol=1e-4)


@pytest.mark.parametrize("heads", [SEVERAL, (Discrete("a", 7),)])
def test_q_is_the_same_in_one_product_and_in_two(
    heads: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = GameSpec("g", Observation("float32", (SIZE,)), heads)
    one = QNetwork(spec, LearnerConfig(hidden=(8,)))
    monkeypatch.setattr(dueling, "MOST", 0)
    two = QNetwork(spec, LearnerConfig(hidden=(8,)))
    two.load_state_dict(one.state_dict())
    assert len(one.value_params.one_product) > len(two.value_params.one_product) == 0
    x = torch.randn(5, SIZE, generator=torch.Generator().manual_seed(1))
    for found, right in zip(one(x), two(x), strict=True):
        assert_close(found, right)

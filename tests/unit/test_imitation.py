"""Imitation against cases computed by hand."""

from __future__ import annotations

import math

import pytest
import torch

from agent.imitation import cross_entropy, large_margin

Q = torch.tensor([[1.0, 3.0, 0.0, 2.0, 2.0], [0.0, 0.0, 5.0, 1.0, 0.0]])
SIZES = (2, 3)
TAKEN = torch.tensor([[0, 3], [1, 2]])
"""Columns: the first choice of the first head and the second of the second, and so on."""


def softmax_of(values: list[float], at: int, temperature: float = 1.0) -> float:
    powers = [math.exp(v / temperature) for v in values]
    return powers[at] / sum(powers)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_cross_entropy_by_hand(temperature: float) -> None:
    first = (softmax_of([1, 3], 0, temperature), softmax_of([0, 2, 2], 1, temperature))
    second = (softmax_of([0, 0], 1, temperature), softmax_of([5, 1, 0], 0, temperature))
    expected = [-sum(math.log(p) for p in row) / 2 for row in (first, second)]
    found = cross_entropy(Q, TAKEN, SIZES, temperature)
    assert found.tolist() == pytest.approx(expected, rel=1e-5)


def test_a_large_margin_by_hand() -> None:
    # Row 0: max(1, 3 + 1) - 1 = 3, and max(0 + 1, 2, 2 + 1) - 2 = 1. Row 1: max(0 + 1, 0) - 0 = 1,
    # and max(5, 1 + 1, 0 + 1) - 5 = 0: far enough above.
    assert large_margin(Q, TAKEN, SIZES, 1.0).tolist() == [2.0, 0.5]


@pytest.mark.parametrize("sizes", [(5,), (3, 3), (2, 3)])
def test_both_pull_towards_what_was_chosen(sizes: tuple[int, ...]) -> None:
    offsets = torch.tensor(sizes).cumsum(0) - torch.tensor(sizes)
    q = torch.zeros(1, sum(sizes), requires_grad=True)
    chosen = offsets[None] + 1
    for loss in (cross_entropy(q, chosen, sizes, 1.0), large_margin(q, chosen, sizes, 0.8)):
        (gradient,) = torch.autograd.grad(loss.sum(), q)
        assert (gradient[0, chosen[0]] < 0).all()
        assert gradient.sum().item() == pytest.approx(0, abs=1e-6)

"""Losses against cases computed by hand."""

from __future__ import annotations

import math

import pytest
import torch

from agent.losses import (
    POLICY_SCALE,
    categorical_td_loss,
    cross_entropy_loss,
    dpg_loss,
    huber_td_loss,
    large_margin_loss,
    quantile_td_loss,
    regression_loss,
)

Q = torch.tensor([[1.0, 3.0, 0.0, 2.0, 2.0], [0.0, 0.0, 5.0, 1.0, 0.0]])
SIZES = (2, 3)
TAKEN = torch.tensor([[0, 3], [1, 2]])
"""Columns: the first choice of the first head and the second of the second, and so on."""


def softmax_of(values: list[float], at: int, temperature: float = 1.0) -> float:
    powers = [math.exp(v / temperature) for v in values]
    return powers[at] / sum(powers)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_cross_entropy_loss_equals_hand_computed_values(temperature: float) -> None:
    first = (softmax_of([1, 3], 0, temperature), softmax_of([0, 2, 2], 1, temperature))
    second = (softmax_of([0, 0], 1, temperature), softmax_of([5, 1, 0], 0, temperature))
    expected = [-sum(math.log(p) for p in row) / 2 for row in (first, second)]
    found = cross_entropy_loss(Q, TAKEN, SIZES, temperature)
    assert found.tolist() == pytest.approx(expected, rel=1e-5)


def test_large_margin_loss_equals_hand_computed_values() -> None:
    # Row 0: max(1, 3 + 1) - 1 = 3, and max(0 + 1, 2, 2 + 1) - 2 = 1. Row 1: max(0 + 1, 0) - 0 = 1,
    # and max(5, 1 + 1, 0 + 1) - 5 = 0: far enough above.
    assert large_margin_loss(Q, TAKEN, SIZES, 1.0).tolist() == [2.0, 0.5]


@pytest.mark.parametrize("sizes", [(5,), (3, 3), (2, 3)])
def test_imitation_losses_raise_q_of_chosen_action(sizes: tuple[int, ...]) -> None:
    offsets = torch.tensor(sizes).cumsum(0) - torch.tensor(sizes)
    q = torch.zeros(1, sum(sizes), requires_grad=True)
    chosen = offsets[None] + 1
    for loss in (
        cross_entropy_loss(q, chosen, sizes, 1.0),
        large_margin_loss(q, chosen, sizes, 0.8),
    ):
        (gradient,) = torch.autograd.grad(loss.sum(), q)
        assert (gradient[0, chosen[0]] < 0).all()
        assert gradient.sum().item() == pytest.approx(0, abs=1e-6)


def test_huber_td_loss_equals_hand_computed_values() -> None:
    q = torch.tensor([[1.0, 4.5], [-100.0, -99.0]])
    found = huber_td_loss(q, torch.tensor([[1.5], [-100.0]]), 1.0)
    # e^2 / 2 within delta, delta * (|e| - delta / 2) beyond.
    assert found.tolist() == [[0.125, 2.5], [0.0, 0.5]]
    assert huber_td_loss(q, torch.tensor([[1.5], [-100.0]]), 2.0).tolist()[0] == [0.125, 4.0]


def test_categorical_td_loss_equals_hand_computed_values() -> None:
    logits = torch.tensor([[[0.5, 0.25, 0.25], [1.0, 1.0, 1.0]]]).log()
    found = categorical_td_loss(logits, torch.tensor([[0.5, 0.0, 0.5]]))
    assert found[0].tolist() == pytest.approx(
        [-0.5 * math.log(0.5) - 0.5 * math.log(0.25), math.log(3)]
    )


def test_quantile_td_loss_equals_hand_computed_values() -> None:
    # u = target - quantile. Of the quantile 1 (level 1/4): 0.5 and 2, above, weight 1/4; of 3.5
    # (level 3/4): -2 and -0.5, below, weight |3/4 - 1|. Huber: 0.125 and 1.5.
    levels = torch.tensor([0.25, 0.75])
    found = quantile_td_loss(torch.tensor([[[1.0, 3.5]]]), torch.tensor([[1.5, 3.0]]), levels, 1.0)
    assert found.tolist() == [[0.25 * 1.625 / 2 + 0.25 * 1.625 / 2]]


def test_regression_loss_is_mean_square_over_columns() -> None:
    found = regression_loss(torch.tensor([[0.5, -1.0]]), torch.tensor([[1.0, 0.0]]))
    assert found.tolist() == [(0.25 + 1.0) / 2]


def test_dpg_loss_is_independent_of_scale_of_q() -> None:
    q = torch.tensor([1.0, -3.0, 2.0], requires_grad=True)
    found = dpg_loss(q)
    assert found.tolist() == pytest.approx([-v / (2 + POLICY_SCALE) for v in (1, -3, 2)])
    (gradient,) = torch.autograd.grad(found.sum(), q)
    # The scale itself has no gradient.
    assert gradient.tolist() == pytest.approx([-1 / (2 + POLICY_SCALE)] * 3)
    assert dpg_loss(1000 * q).tolist() == pytest.approx(found.tolist(), rel=1e-3)

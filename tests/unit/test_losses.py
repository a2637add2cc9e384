"""Losses against cases computed by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import accumulate

import pytest
import torch
from torch import Tensor

from agent.losses import (
    POLICY_SCALE,
    Loss,
    categorical_td_loss,
    cross_entropy_loss,
    dpg_loss,
    huber_td_loss,
    large_margin_loss,
    margins_of,
    quantile_td_loss,
    regression_loss,
)
from tests.support.tensors import assert_close

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
    found, _ = cross_entropy_loss(Q, TAKEN, SIZES, temperature)
    assert found.tolist() == pytest.approx(expected, rel=1e-5)


def test_large_margin_loss_equals_hand_computed_values() -> None:
    # Row 0: max(1, 3 + 1) - 1 = 3, and max(0 + 1, 2, 2 + 1) - 2 = 1. Row 1: max(0 + 1, 0) - 0 = 1,
    # and max(5, 1 + 1, 0 + 1) - 5 = 0: far enough above.
    found, _ = large_margin_loss(Q, TAKEN, SIZES, margins_of(TAKEN, SIZES, 1.0))
    assert found.tolist() == [2.0, 0.5]


@pytest.mark.parametrize("sizes", [(5,), (3, 3), (2, 3)])
def test_imitation_losses_raise_q_of_chosen_action(sizes: tuple[int, ...]) -> None:
    offsets = torch.tensor(sizes).cumsum(0) - torch.tensor(sizes)
    q = torch.zeros(1, sum(sizes))
    chosen = offsets[None] + 1
    for _, gradient in (
        cross_entropy_loss(q, chosen, sizes, 1.0),
        large_margin_loss(q, chosen, sizes, margins_of(chosen, sizes, 0.8)),
    ):
        assert (gradient[0, chosen[0]] < 0).all()
        assert gradient.sum().item() == pytest.approx(0, abs=1e-6)


def test_huber_td_loss_equals_hand_computed_values() -> None:
    q = torch.tensor([[1.0, 4.5], [-100.0, -99.0]])
    found, _ = huber_td_loss(q, torch.tensor([[1.5], [-100.0]]), 1.0)
    # e^2 / 2 within delta, delta * (|e| - delta / 2) beyond.
    assert found.tolist() == [[0.125, 2.5], [0.0, 0.5]]
    assert huber_td_loss(q, torch.tensor([[1.5], [-100.0]]), 2.0)[0].tolist()[0] == [0.125, 4.0]


def test_categorical_td_loss_equals_hand_computed_values() -> None:
    logits = torch.tensor([[[0.5, 0.25, 0.25], [1.0, 1.0, 1.0]]]).log()
    found, _ = categorical_td_loss(logits, torch.tensor([[0.5, 0.0, 0.5]]))
    assert found[0].tolist() == pytest.approx(
        [-0.5 * math.log(0.5) - 0.5 * math.log(0.25), math.log(3)]
    )


def test_quantile_td_loss_equals_hand_computed_values() -> None:
    # u = target - quantile. Of the quantile 1 (level 1/4): 0.5 and 2, above, weight 1/4; of 3.5
    # (level 3/4): -2 and -0.5, below, weight |3/4 - 1|. Huber: 0.125 and 1.5.
    levels = torch.tensor([0.25, 0.75])
    z, target = torch.tensor([[[1.0, 3.5]]]), torch.tensor([[1.5, 3.0]])
    found, _ = quantile_td_loss(z, target, levels, 1.0)
    assert found.tolist() == [[0.25 * 1.625 / 2 + 0.25 * 1.625 / 2]]


def test_regression_loss_is_mean_square_over_columns() -> None:
    found, _ = regression_loss(torch.tensor([[0.5, -1.0]]), torch.tensor([[1.0, 0.0]]))
    assert found.tolist() == [(0.25 + 1.0) / 2]


def test_dpg_loss_is_independent_of_scale_of_q() -> None:
    q = torch.tensor([1.0, -3.0, 2.0], requires_grad=True)
    found = dpg_loss(q)
    assert found.tolist() == pytest.approx([-v / (2 + POLICY_SCALE) for v in (1, -3, 2)])
    (gradient,) = torch.autograd.grad(found.sum(), q)
    # The scale itself has no gradient.
    assert gradient.tolist() == pytest.approx([-1 / (2 + POLICY_SCALE)] * 3)
    assert dpg_loss(1000 * q).tolist() == pytest.approx(found.tolist(), rel=1e-3)


def numbers(*shape: int, seed: int = 5) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(shape, generator=g, dtype=torch.float64)


def distributions(*shape: int) -> Tensor:
    return numbers(*shape, seed=6).softmax(-1)


def columns(*sizes: int) -> Tensor:
    """A choice of each branch in 7 rows."""
    g, starts = torch.Generator().manual_seed(7), accumulate(sizes, initial=0)
    picked = [
        start + torch.randint(0, n, (7,), generator=g)
        for start, n in zip(starts, sizes, strict=False)
    ]
    return torch.stack(picked, 1)


LEVELS = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9], dtype=torch.float64)

GRADIENTS: dict[str, tuple[Tensor, Callable[[Tensor], Loss]]] = {
    f"huber {delta}": (
        numbers(7, 2), partial(huber_td_loss, target_tm1=numbers(7, 1, seed=6), delta=delta)
    )
    for delta in (0.5, 1.0, 3.0)
}  # fmt: skip
GRADIENTS |= {
    f"quantile {delta}": (
        numbers(7, 2, 5),
        partial(
            quantile_td_loss, dist_target_tm1=numbers(7, 5, seed=6), levels=LEVELS, delta=delta
        ),
    )
    for delta in (0.5, 1.0, 3.0)
}
GRADIENTS |= {
    "categorical": (
        numbers(7, 2, 5), partial(categorical_td_loss, p_target_tm1=distributions(7, 5))
    ),
    "regression": (numbers(7, 3), partial(regression_loss, squashed_a_tm1=numbers(7, 3, seed=6))),
}  # fmt: skip
for several in ((5,), (3, 3), (2, 3, 4)):
    GRADIENTS |= {
        f"cross entropy {several} {temperature}": (
            numbers(7, sum(several)),
            partial(
                cross_entropy_loss,
                columns_tm1=columns(*several), sizes=several, temperature=temperature,
            ),
        )
        for temperature in (0.5, 1.0, 2.0)
    }  # fmt: skip
    GRADIENTS[f"margin {several}"] = (
        numbers(7, sum(several)),
        partial(
            large_margin_loss,
            columns_tm1=columns(*several), sizes=several,
            margins=margins_of(columns(*several), several, 0.8),
        ),
    )  # fmt: skip


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradient_in_closed_form_equals_that_of_autograd(name: str) -> None:
    given, loss_of = GRADIENTS[name]
    given = given.clone().requires_grad_()
    loss, gradient = loss_of(given)
    (expected,) = torch.autograd.grad(loss.sum(), given)
    assert expected.abs().max() > 0.1
    assert_close(gradient.detach(), expected, rtol=1e-9, atol=1e-12)

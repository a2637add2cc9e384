"""Value heads against cases computed by hand."""

from __future__ import annotations

import math

import pytest
import torch

from agent.adam import Adam
from agent.values import CategoricalValues, QuantileValues, ScalarValues, ValueHead, value_head
from config.models import LearnerConfig
from tests.support.tensors import assert_close


def test_value_head_class_follows_settings() -> None:
    assert isinstance(value_head(LearnerConfig()), ScalarValues)
    c51 = value_head(LearnerConfig(value="c51", atoms=3, value_min=-1.0, value_max=1.0))
    assert isinstance(c51, CategoricalValues)
    assert c51.support.tolist() == [-1, 0, 1]
    quantiles = value_head(LearnerConfig(value="quantile", atoms=4))
    assert isinstance(quantiles, QuantileValues)
    assert quantiles.levels.tolist() == [0.125, 0.375, 0.625, 0.875]


def test_scalar_values_equal_hand_computed_targets_and_loss() -> None:
    head = ScalarValues(delta=1.0)
    z_t = torch.tensor([[4.0, 6.0], [50.0, 70.0]])
    target = head.targets(torch.tensor([1.0, -100.0]), torch.tensor([0.1, 0.0]), z_t)
    # The mean over two heads, discounted; a terminal row has no future.
    assert target.tolist() == [[1.5], [-100.0]]
    assert head.mean(target).tolist() == [1.5, -100.0]
    z = torch.tensor([[1.0, 4.5], [-100.0, -99.0]])
    # Huber: e^2 / 2 within 1, |e| - 1/2 beyond.
    assert head.loss(z, target)[0].tolist() == [[0.125, 2.5], [0.0, 0.5]]
    assert head.q(z).tolist() == [[1.0, 4.5], [-100.0, -99.0]]


def logits(*probabilities: float) -> list[float]:
    return [math.log(max(p, 1e-30)) for p in probabilities]


def test_c51_targets_equal_hand_computed_projection() -> None:
    head = CategoricalValues(5, -2.0, 2.0)  # -2, -1, 0, 1, 2
    z_t = torch.tensor([[logits(0, 0, 0.25, 0, 0.75)]] * 3)
    r_t, discount_t = torch.tensor([0.5, 1.0, -1.25]), torch.tensor([0.5, 1.0, 0.0])
    target = head.targets(r_t, discount_t, z_t)
    # Row 0: 0 -> 0.5 (half to 0, half to 1) and 2 -> 1.5 (half to 1, half to 2).
    # Row 1: 0 -> 1, and 2 -> 3, which counts for 2. Row 2: all of it at -1.25.
    expected = [
        [0, 0, 0.125, 0.125 + 0.375, 0.375],
        [0, 0, 0, 0.25, 0.75],
        [0.25, 0.75, 0, 0, 0],
    ]
    for row, right in zip(target.tolist(), expected, strict=True):
        assert row == pytest.approx(right, abs=1e-6)
    assert head.mean(target).tolist() == pytest.approx([1.25, 1.75, -1.25])


def test_c51_targets_average_heads_and_loss_is_cross_entropy() -> None:
    head = CategoricalValues(3, -1.0, 1.0)
    z_t = torch.tensor([[logits(1, 0, 0), logits(0, 0, 1)]])
    target = head.targets(torch.zeros(1), torch.ones(1), z_t)
    assert target[0].tolist() == pytest.approx([0.5, 0, 0.5], abs=1e-6)
    z = torch.tensor([[logits(0.5, 0.25, 0.25)]])
    expected = -0.5 * math.log(0.5) - 0.5 * math.log(0.25)
    assert head.loss(z, target)[0].item() == pytest.approx(expected, rel=1e-5)
    assert head.q(z).item() == pytest.approx(-0.25)


def test_quantile_values_equal_hand_computed_targets_and_loss() -> None:
    head = QuantileValues(2, delta=1.0)  # levels 1/4 and 3/4
    z_t = torch.tensor([[[0.0, 2.0], [2.0, 6.0]]])
    target = head.targets(torch.tensor([1.0]), torch.tensor([0.5]), z_t)
    assert target.tolist() == [[1.5, 3.0]]
    z = torch.tensor([[[1.0, 3.5]]])
    # Pairs target - z: of z = 1: 0.5 and 2 (above: weight 1/4), of z = 3.5: -2 and -0.5 (below:
    # weight |3/4 - 1| = 1/4). Huber: 0.125 and 1.5. The mean over targets, the sum over quantiles.
    expected = 0.25 * (0.125 + 1.5) / 2 + 0.25 * (1.5 + 0.125) / 2
    assert head.loss(z, target)[0].item() == pytest.approx(expected)
    assert head.q(z).item() == 2.25


def test_quantile_loss_weight_depends_on_sign_of_error() -> None:
    """A wrong sign would learn the mirrored distribution."""
    head = QuantileValues(2, delta=1.0)
    high, _ = head.loss(torch.tensor([[[5.0, 0.0]]]), torch.tensor([[0.0, 0.0]]))
    # z = 5 at level 1/4 is above its target: weight |1/4 - 1| = 3/4.
    assert high.item() == pytest.approx(0.75 * 4.5)


@pytest.mark.parametrize(
    "head",
    [
        ScalarValues(1.0),
        CategoricalValues(21, -1.0, 5.0),
        QuantileValues(21, 1.0),
    ],
)
def test_value_head_trained_on_random_returns_learns_mean(head: ValueHead) -> None:
    """Returns of 0 and 1, one as likely as the other: Q is 1/2. And the distribution has both."""
    torch.manual_seed(1)
    numbers = () if head.atoms == 1 else (head.atoms,)
    z = torch.zeros(1, 1, *numbers)
    adam = Adam(z.view(-1), lr=0.1, eps=1e-8)
    nothing = torch.zeros(64)
    for _ in range(300):
        returns = (torch.rand(64) < 0.5).float()
        target = head.targets(returns, nothing, torch.zeros(64, 1, *numbers))
        _, gradient = head.loss(z.expand(64, 1, *numbers), target)
        adam.step(gradient.mean(0).view(-1), torch.ones(()), torch.zeros(()))
    assert head.q(z).item() == pytest.approx(0.5, abs=0.1)
    if isinstance(head, QuantileValues):
        assert z[0, 0, 2].item() == pytest.approx(0, abs=0.2)
        assert z[0, 0, -3].item() == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize(
    "head", [ScalarValues(1.0), CategoricalValues(5, -2.0, 3.0), QuantileValues(5, 1.0)]
)
def test_gradient_by_q_is_carried_to_what_q_is_made_of_as_autograd_does(head: ValueHead) -> None:
    g, numbers = torch.Generator().manual_seed(3), () if head.atoms == 1 else (head.atoms,)
    z = torch.randn(6, 4, *numbers, generator=g, requires_grad=True)
    of_q = torch.randn(6, 4, generator=g)
    (expected,) = torch.autograd.grad((head.q(z) * of_q).sum(), z)
    assert_close(head.q_backward(z.detach(), of_q), expected)

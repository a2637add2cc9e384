"""agent/gradients.py against autograd's own gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from agent.gradients import ActorGradients, not_finite, shortening
from agent.parameters import flatten_parameters
from protocol.actor import ACTORS
from tests.support.tensors import assert_close


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(1)
    made = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    made[0].bias.requires_grad_(False)
    return made


def losses(network: nn.Module, rows: int = 12) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return network(torch.randn(rows, 3, generator=generator)).square().squeeze(1)


def trainable_parameters(network: nn.Module) -> list[Tensor]:
    return [p for p in network.parameters() if p.requires_grad]


def expected(network: nn.Module, loss: Tensor) -> Tensor:
    """Zeros where a parameter does not learn."""
    parts = iter(torch.autograd.grad(loss, trainable_parameters(network), retain_graph=True))
    return parameters_to_vector(
        [next(parts) if p.requires_grad else torch.zeros_like(p) for p in network.parameters()]
    )


def put_of(
    loss: Tensor, network: nn.Module
) -> Callable[[Tensor | None, Sequence[Tensor], bool], None]:
    """What puts the gradient of a loss [b] into views, by autograd."""

    def put(mask: Tensor | None, views: Sequence[Tensor], add: bool) -> None:
        objective = (loss if mask is None else loss * mask).sum()
        found = torch.autograd.grad(objective, trainable_parameters(network), retain_graph=True)
        for view, one in zip(views, found, strict=True):
            view.copy_(view + one if add else one)

    return put


def masks_of(rows: int) -> Tensor:
    """The rows of the actors in turn."""
    return torch.eye(len(ACTORS)).repeat(rows // len(ACTORS), 1)


def test_backward_over_batch_parts_sums_to_full_gradient(network: nn.Module) -> None:
    gradients = ActorGradients(network, flatten_parameters(network))
    loss = losses(network)
    right = expected(network, loss.sum())
    for first, part in ((True, slice(0, 5)), (False, slice(5, 12))):
        gradients.backward(put_of(losses(network)[part], network), None, first=first)
    assert_close(gradients.total, right)
    gradients.backward(put_of(losses(network), network), None, first=True)
    assert_close(gradients.total, right)


def test_per_actor_gradients_norms_exact_and_sum_to_full_gradient(network: nn.Module) -> None:
    gradients = ActorGradients(network, flatten_parameters(network))
    loss, masks = losses(network), masks_of(12)
    parts = [expected(network, (loss * mask).sum()) for mask in masks.T]
    whole = expected(network, loss.sum())
    gradients.backward(put_of(loss, network), masks, first=True)
    norms = gradients.add_up()
    assert norms.tolist() == pytest.approx([part.norm().item() for part in parts])
    assert norms[0] != norms[1]
    assert_close(gradients.total, whole)


def test_by_name_returns_gradients_of_trainable_parameters(network: nn.Module) -> None:
    gradients = ActorGradients(network, flatten_parameters(network))
    loss = losses(network)
    right = torch.autograd.grad(loss.sum(), trainable_parameters(network), retain_graph=True)
    gradients.backward(put_of(loss, network), None, first=True)
    found = gradients.by_name()
    assert list(found) == ["0.weight", "2.weight", "2.bias"]
    for one, other in zip(found.values(), right, strict=True):
        assert_close(one, other)


@pytest.mark.parametrize(("max_norm", "divisor"), [(2.5, 2.0), (10.0, 1.0), (5.0, 1.0)])
def test_gradient_longer_than_max_norm_is_to_be_shortened_to_it(
    network: nn.Module, max_norm: float, divisor: float
) -> None:
    gradients = ActorGradients(network, flatten_parameters(network))
    gradients.total[:2] = torch.tensor([3.0, -4.0])
    assert gradients.norm().item() == 5
    assert shortening(gradients.norm(), max_norm).item() == divisor


def test_not_finite_finds_nan_and_both_infinities_only() -> None:
    numbers = (0.0, -3.0, 3e38, math.nan, math.inf, -math.inf)
    found = [not_finite(torch.tensor(number)).item() for number in numbers]
    assert found == [0, 0, 0, 1, 1, 1]

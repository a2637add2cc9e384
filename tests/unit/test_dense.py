"""agent/dense.py: the gradient that is written out, against autograd's."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from agent.dense import dense
from tests.support.tensors import assert_close

Layers = list[tuple[Tensor, Tensor]]


def layers_of(*widths: int) -> Layers:
    g = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(out, into, generator=g).requires_grad_(),
            torch.randn(out, generator=g).requires_grad_(),
        )
        for into, out in pairwise(widths)
    ]


def by_autograd(x: Tensor, layers: Layers) -> Tensor:
    for weight, bias in layers[:-1]:
        x = F.linear(x, weight, bias).relu()
    return F.linear(x, *layers[-1])


@pytest.mark.parametrize("widths", [(3, 5, 2), (4, 6, 7, 3), (2, 9, 8, 7, 1)])
@pytest.mark.parametrize("seen", [0, 5])
def test_outputs_and_gradients_equal_those_of_autograd(widths: tuple[int, ...], seen: int) -> None:
    g = torch.Generator().manual_seed(2)
    layers = layers_of(*widths)
    x = torch.randn(8, widths[0], generator=g).requires_grad_()
    other = torch.randn(seen, widths[0], generator=g)
    outputs, looked_at = dense(x, other, layers)
    expected = by_autograd(x, layers)
    assert_close(outputs, expected)
    assert_close(looked_at, by_autograd(other, layers))
    assert not looked_at.requires_grad
    factors = torch.randn(expected.shape, generator=g)
    learnt = [x, *(parameter for layer in layers for parameter in layer)]
    found = torch.autograd.grad((outputs * factors).sum(), learnt, retain_graph=True)
    for one, right in zip(
        found, torch.autograd.grad((expected * factors).sum(), learnt), strict=True
    ):
        assert_close(one, right, rtol=1e-4, atol=1e-4)


def test_graph_that_is_kept_gives_each_part_of_the_rows_its_gradient() -> None:
    layers = layers_of(3, 5, 2)
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(3))
    outputs, _ = dense(x, x, layers)
    weight = layers[0][0]
    parts = [
        torch.autograd.grad(part.sum(), [weight], retain_graph=True)[0]
        for part in (outputs[:3], outputs[3:], outputs)
    ]
    assert_close(parts[0] + parts[1], parts[2])

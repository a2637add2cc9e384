"""agent/dense.py: the gradient that is written out, against autograd's."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from agent.dense import Dense
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
@pytest.mark.parametrize("parts", [(8,), (8, 5), (8, 0)])
def test_outputs_and_gradients_equal_those_of_autograd(
    widths: tuple[int, ...], parts: tuple[int, ...]
) -> None:
    g = torch.Generator().manual_seed(2)
    layers = layers_of(*widths)
    each = [torch.randn(n, widths[0], generator=g) for n in parts]
    *inner, outputs = Dense(layers).forward(*each)
    x = each[0].requires_grad_()
    expected = by_autograd(x, layers)
    assert_close(outputs, by_autograd(torch.cat(each), layers).detach())
    factors = torch.randn(expected.shape, generator=g)
    learnt = [x, *(parameter for layer in layers for parameter in layer)]
    right = torch.autograd.grad((expected * factors).sum(), learnt)
    into = [torch.full_like(parameter, torch.nan) for parameter in right[1:]]
    inputs = [x.detach(), *(each[:8] for each in inner)]
    dense = Dense(layers)
    for times, add in ((1, False), (2, True)):
        of_input = dense.backward(inputs, factors, into, add=add, of_input=True)
        assert of_input is not None
        assert_close(of_input, right[0], rtol=1e-4, atol=1e-4)
        for one, whole in zip(into, right[1:], strict=True):
            assert_close(one, times * whole, rtol=1e-4, atol=1e-4)
    assert dense.backward(inputs, factors, into, add=False, of_input=False) is None

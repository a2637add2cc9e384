"""Linear layers with ReLU between them, over rows that are learnt from and rows that are looked at
only, in the same products.

A batch passes through the online network twice: its states, which it learns from, and its next
states, whose best choices double DQN asks for. Here both go through together, and the gradient is
written out: autograd would carry it through the rows that have none, too, and keep a record of
every small operation, which for small batches takes longer than the products.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor

_relu_backward = torch.ops.aten.threshold_backward.default


def dense(
    learnt: Tensor, seen: Tensor, layers: Sequence[tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """The outputs of at least two layers (weight [out, in], bias [out]) for two parts of rows,
    [n, in] and [m, in]: [n, out] with a gradient, and [m, out] without."""
    found: tuple[Tensor, Tensor] = _Dense.apply(learnt, seen, *chain(*layers))  # type: ignore[no-untyped-call]
    return found


class _Dense(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, learnt: Tensor, seen: Tensor, *parameters: Tensor
    ) -> tuple[Tensor, Tensor]:
        weights, biases = parameters[::2], parameters[1::2]
        n, inputs = len(learnt), [learnt]
        x = learnt.new_empty(n + len(seen), len(biases[0]))
        first = weights[0].t()
        torch.addmm(biases[0], learnt, first, out=x[:n])
        torch.addmm(biases[0], seen, first, out=x[n:])
        for weight, bias in zip(weights[1:], biases[1:], strict=True):
            inputs.append(x.relu_()[:n])
            x = torch.addmm(bias, x, weight.t())
        ctx.save_for_backward(*inputs, *weights)
        outputs = x[:n], x[n:]
        ctx.mark_non_differentiable(outputs[1])
        ctx.set_materialize_grads(False)
        return outputs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Any) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        inputs, weights = saved[: len(saved) // 2], saved[len(saved) // 2 :]
        found: list[Tensor | None] = []
        for i in reversed(range(len(inputs))):
            found += [gradient.sum(0), gradient.t() @ inputs[i]]
            if i:
                gradient = _relu_backward(gradient @ weights[i], inputs[i], 0)
        of_learnt = gradient @ weights[0] if ctx.needs_input_grad[0] else None
        return of_learnt, None, *reversed(found)

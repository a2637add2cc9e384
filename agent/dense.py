"""Linear layers with ReLU between them, with the gradient written out.

Autograd would keep a record of every small operation and make memory for every gradient, which for
small batches takes longer than the products. Here a gradient is put where the optimizer reads it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_relu_backward = torch.ops.aten.threshold_backward.grad_input


class Dense:
    """At least two layers, which are views of memory that stays."""

    def __init__(self, layers: Sequence[tuple[Tensor, Tensor]]) -> None:
        """`layers`: weight [out, in] and bias [out] of each."""
        self._weights = [weight.detach() for weight, _ in layers]
        self._biases = [bias.detach() for _, bias in layers]
        # Looked up once: a view takes as long as a small operation.
        self._transposed = [weight.t() for weight in self._weights]
        self.dtype = self._weights[0].dtype

    def forward(self, *parts: Tensor) -> list[Tensor]:
        """What goes into the layers behind the first, and, last, what comes out: [n, width] each,
        of parts of n rows together, [.., in], which pass in the same products. No gradient."""
        bias, weight = self._biases[0], self._transposed[0]
        if len(parts) == 1:
            x = torch.addmm(bias, parts[0], weight)
        else:
            n = [part.shape[0] for part in parts]
            x = parts[0].new_empty(sum(n), bias.shape[0])
            for part, rows in zip(parts, x.split_with_sizes(n), strict=True):
                torch.addmm(bias, part, weight, out=rows)
        passed = []
        for bias, weight in zip(self._biases[1:], self._transposed[1:], strict=True):
            passed.append(x.relu_())
            x = torch.addmm(bias, x, weight)
        return [*passed, x]

    def backward(
        self,
        inputs: Sequence[Tensor],
        gradient: Tensor,
        into: list[Tensor],
        *,
        add: bool,
        of_input: bool,
    ) -> Tensor | None:
        """From the gradient of what came out, [n, out], those of weight, bias, weight and so on,
        into tensors of their shapes, or added to them. `inputs`: what went into each layer, [n, in]
        and so on. The gradient of the first of them where it is asked for."""
        for i in reversed(range(len(inputs))):
            weight, bias = into[2 * i : 2 * i + 2]
            if add:
                weight.addmm_(gradient.t(), inputs[i])
                bias.add_(gradient.sum(0))
            else:
                torch.mm(gradient.t(), inputs[i], out=weight)
                torch.sum(gradient, 0, out=bias)
            if i:
                behind = torch.mm(gradient, self._weights[i])
                gradient = _relu_backward(behind, inputs[i], 0, grad_input=behind)
        return torch.mm(gradient, self._weights[0]) if of_input else None

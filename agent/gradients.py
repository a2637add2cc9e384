"""The gradient of a network's parameters in one vector, each actor's part of it apart."""

from __future__ import annotations

from collections.abc import Callable
from itertools import compress

import torch
from torch import Tensor, nn

from agent.parameters import parameter_views
from agent.union import Union
from protocol.actor import ACTORS


class ActorGradients:
    """Gradients of one parameter vector, float32 [n]: the whole, or one for each actor.

    The parts of the actors add up to the whole gradient, so measuring each takes one backward pass
    more for each further actor, and no second update.
    """

    def __init__(self, network: nn.Module, vector: Tensor) -> None:
        """`vector`: the parameters of the network (agent.parameters)."""
        self._of_actors = vector.detach().new_zeros(len(ACTORS), len(vector))
        learns = [parameter.requires_grad for parameter in network.parameters()]
        self.total = self._of_actors[0]
        """The whole gradient, [n], once the actors' parts have been added up."""
        self._views = [
            list(compress(parameter_views(row, network), learns)) for row in self._of_actors
        ]
        """Those of the parameters that learn, for each actor."""
        self._names = list(compress((name for name, _ in network.named_parameters()), learns))

    def by_name(self) -> dict[str, Tensor]:
        """The whole gradient of each parameter that learns."""
        return dict(zip(self._names, self._views[0], strict=True))

    def backward(
        self,
        put: Callable[[Tensor | None, list[Tensor], bool], None],
        masks: Tensor | None,
        *,
        first: bool,
    ) -> None:
        """Add the gradient of a loss of b rows to the whole, or, with masks [b, actors], each
        actor's part to its own. `first`: there is nothing to add to yet.

        `put(mask, views, add)` puts the gradient of the rows' losses times a mask [b] (None: ones)
        into views like the parameters that learn, or adds it to them."""
        for views, mask in zip(self._views, [None] if masks is None else masks.T, strict=False):
            put(mask, views, not first)

    def of_union(self, union: Union, *, by_actor: bool) -> None:
        """Add what the other ranks have: to the whole, or, by actor, to each actor's part."""
        union.add(self._of_actors if by_actor else self.total)

    def add_up(self) -> Tensor:
        """Add the actors' parts up to the whole; the norm of each part before that, [actors]."""
        norms: Tensor = torch.linalg.vector_norm(self._of_actors, dim=1)
        self.total.add_(self._of_actors[1:].sum(0))
        return norms

    def norm(self) -> Tensor:
        """Of the whole, []."""
        norm: Tensor = torch.linalg.vector_norm(self.total)
        return norm


def shortening(norm: Tensor, max_norm: float) -> Tensor:
    """What a gradient of this norm [] is to be divided by, so that it is no longer than `max_norm`:
    1 where it is not, []."""
    return (norm / max_norm).clamp_(min=1.0)


def not_finite(number: Tensor) -> Tensor:
    """1 where a number is NaN or infinite, else 0: float32 []."""
    return (number * 0).nan_to_num_(nan=1.0)  # 0, or NaN

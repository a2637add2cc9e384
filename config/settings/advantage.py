"""Settings `advantage.*`: weights of what went better than usual."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from config.settings.base import ActorName, Live, NotNegative, Positive, Section


class AdvantageConfig(Section):
    """Weights that favor better-than-usual steps, each actor compared with itself."""

    signal: Annotated[Literal["reward", "return", "critic"], Live()] = "critic"
    """What is compared: the reward of the step, its n-step return, or the critic's advantage of the
    action over the state."""
    mode: Annotated[Literal["per_actor", "global", "off"], Live()] = "per_actor"
    """Reference of the comparison: the same actor (per_actor), the whole batch (global, in which
    the better actor drowns out the other), or none (off)."""
    beta: Annotated[NotNegative, Live()] = 1.5
    """How steeply the weight grows: exp(beta x standard score)."""
    clip: Annotated[Positive, Live()] = 3.0
    """Standard scores are clipped to [-clip, clip]."""
    weight_min: Annotated[Positive, Live()] = 0.001
    """Smallest weight."""
    weight_max: Annotated[Positive, Live()] = 100.0
    """Largest weight."""
    normalize: Annotated[bool, Live()] = False
    """Divide the weights by their mean over the actor's steps in the batch."""
    applies_to: Annotated[
        tuple[Literal["continuous", "imitation", "td"], ...],
        Field(min_length=1, strict=False),
        Live(),
    ] = ("continuous", "imitation")
    """Losses that are weighted: the regression of the continuous heads, the imitation of taken
    actions on discrete heads, the TD loss."""
    actor_factor: Annotated[dict[ActorName, NotNegative], Live()] = {}
    """Constant factor on the loss of an actor's steps; 1 for one that is not listed."""

    @model_validator(mode="after")
    def _limits(self) -> Self:
        if self.weight_min > self.weight_max:
            raise ValueError(
                f"advantage.weight_min is {self.weight_min:g} and advantage.weight_max "
                f"{self.weight_max:g}; the smallest weight must not exceed the largest"
            )
        return self

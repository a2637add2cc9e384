"""Settings `advantage.*`: weights of what went better than usual."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from config.settings.base import ActorName, Live, NotNegative, Positive, Section


class AdvantageConfig(Section):
    """Weights that favour what went better than usual, each actor compared with itself."""

    signal: Annotated[Literal["reward", "return", "critic"], Live()] = "critic"
    """What is compared: the reward of the step, its n-step return, or what the critic thinks that
    the action is worth beyond the state."""
    mode: Annotated[Literal["per_actor", "global", "off"], Live()] = "per_actor"
    """Compared with whom: the same actor, the whole batch (the old, wrong way), or not at all."""
    beta: Annotated[NotNegative, Live()] = 1.5
    """How steeply the weight grows: exp(beta x standard score)."""
    clip: Annotated[Positive, Live()] = 3.0
    """Standard scores are clipped to [-clip, clip]."""
    weight_min: Annotated[Positive, Live()] = 0.001
    """The smallest weight."""
    weight_max: Annotated[Positive, Live()] = 100.0
    """The largest weight."""
    normalize: Annotated[bool, Live()] = False
    """Divide the weights by their mean over the actor's rows of the batch."""
    applies_to: Annotated[
        tuple[Literal["continuous", "imitation", "td"], ...],
        Field(min_length=1, strict=False),
        Live(),
    ] = ("continuous", "imitation")
    """The losses that are weighted: the regression of the continuous heads, the imitation of
    taken actions on discrete heads, the TD loss."""
    actor_factor: Annotated[dict[ActorName, NotNegative], Live()] = {}
    """A constant factor on the loss of an actor's rows; 1 for one that is not named."""

    @model_validator(mode="after")
    def _limits(self) -> Self:
        if self.weight_min > self.weight_max:
            raise ValueError(
                f"advantage.weight_min is {self.weight_min:g} and advantage.weight_max "
                f"{self.weight_max:g}; the smallest weight must not exceed the largest"
            )
        return self

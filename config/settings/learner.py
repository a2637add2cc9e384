"""Settings `learner.*`: the network and its optimizer."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from config.settings.base import (
    Count,
    Finite,
    Fraction,
    Live,
    NotNegative,
    OrNone,
    Positive,
    Section,
    Steps,
    Unit,
    Updates,
)


class LearnerConfig(Section):
    """The network and its optimiser."""

    hidden: Annotated[tuple[Count, ...], Field(min_length=1, strict=False), Unit("units")] = (
        512,
        512,
        256,
    )
    """Width of each hidden layer of the trunk."""
    n_step: Annotated[Steps, Live()] = 3
    """Rewards in a return, at most."""
    gamma: Annotated[Fraction, Live()] = 0.99
    """Discount of a reward one step later."""
    batch_size: Steps = 256
    """Steps in a batch."""
    learning_rate: Annotated[Positive, Live()] = 5e-4
    """Step size of Adam."""
    warmup_updates: Annotated[int, Field(ge=0), Unit("updates")] = 0
    """How long the learning rate rises in a straight line from 0, at first."""
    cosine_updates: Annotated[Updates | None, OrNone, Unit("updates")] = None
    """How long it then falls along half a cosine to learning_rate_end. none: it stays."""
    cosine_restarts: bool = False
    """With cosine_updates: begin again at learning_rate each time that the cosine has ended."""
    learning_rate_end: Positive = 1e-5
    """With cosine_updates: the learning rate in the end."""
    adam_eps: Positive = 1e-8
    """Epsilon of Adam: what keeps its division finite."""
    value: Literal["scalar", "c51", "quantile"] = "scalar"
    """What is learnt of the return: its mean, or its distribution as probabilities of fixed values
    (c51) or as quantiles."""
    atoms: Annotated[int, Field(ge=2, le=512), Unit("numbers")] = 51
    """With value c51 or quantile: numbers that describe a distribution."""
    value_min: Finite = -100.0
    """With value c51: the smallest return that it can tell."""
    value_max: Finite = 100.0
    """With value c51: the largest return that it can tell."""
    continuous: Literal["regression", "gradient", "bins"] = "regression"
    """How continuous heads learn: by regression towards the actions taken, weighted by advantage;
    by the gradient of Q by the action; or cut into bins, each column a discrete branch."""
    bins: Annotated[int, Field(ge=2, le=1024), Unit("choices")] = 11
    """With continuous bins: choices of each continuous column, ends included."""
    trunk: Literal["auto", "linear"] = "auto"
    """What looks at observations. auto: convolutions where they are pictures (uint8, at least 8 x
    8), linear layers else. linear: always those."""
    normalize_observations: bool = False
    """Show the network float32 observations less their running mean, over their deviation."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the products in the trainer's passes through the network; weights stay float32."""
    huber_delta: Positive = 1.0
    """The error from which the Huber loss grows in a straight line."""
    grad_clip_norm: Positive = 10.0
    """The norm that gradients are clipped to."""
    target: Literal["soft", "hard"] = "soft"
    """How the target network follows: a little each update, or a copy now and then."""
    target_tau: Annotated[Annotated[float, Field(gt=0, le=1)], Live()] = 0.005
    """With target soft: the fraction of the way that it goes at each update."""
    target_every: Updates = 1000
    """With target hard: how often it is copied."""
    continuous_weight: NotNegative = 1.0
    """Weight of the continuous heads' loss beside the TD loss of the discrete heads."""
    grad_norm_every: Updates = 20
    """How often the gradient norm of each actor is measured."""

    @model_validator(mode="after")
    def _support(self) -> Self:
        if self.value_min >= self.value_max:
            raise ValueError(
                f"learner.value_min is {self.value_min:g} and learner.value_max "
                f"{self.value_max:g}; the smallest value must be below the largest"
            )
        return self

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
    """The network and its optimizer."""

    hidden: Annotated[
        Annotated[tuple[Count, ...], Field(min_length=1, strict=False)] | None,
        OrNone,
        Unit("units"),
    ] = None
    """Width of each hidden layer of the trunk. none: by what the game shows: 128, 128 for up to 512
    numbers; 512 for more, and behind the convolutions of pictures."""
    n_step: Annotated[Steps, Live()] = 3
    """Rewards in an n-step return, at most."""
    gamma: Annotated[Fraction, Live()] = 0.99
    """Discount factor for each step."""
    batch_size: Annotated[Steps, Live()] = 128
    """Steps in a batch."""
    learning_rate: Annotated[Positive, Live()] = 5e-4
    """Learning rate of Adam."""
    warmup_updates: Annotated[int, Field(ge=0), Unit("updates")] = 0
    """Updates in which the learning rate rises linearly from 0."""
    cosine_updates: Annotated[Updates | None, OrNone, Unit("updates")] = None
    """Updates in which the learning rate then falls to learning_rate_end along half a cosine. none:
    it stays constant."""
    cosine_restarts: bool = False
    """With cosine_updates: restart at learning_rate each time the cosine has ended."""
    learning_rate_end: Positive = 1e-5
    """With cosine_updates: the final learning rate."""
    adam_eps: Positive = 1e-8
    """Epsilon of Adam, which keeps its division finite."""
    value: Literal["scalar", "c51", "quantile"] = "scalar"
    """What is learned of the return: its mean (scalar), or its distribution as probabilities of
    fixed values (c51) or as quantiles."""
    atoms: Annotated[int, Field(ge=2, le=512), Unit("numbers")] = 51
    """With value c51 or quantile: numbers that describe a distribution."""
    value_min: Finite = -100.0
    """With value c51: the smallest return that can be represented."""
    value_max: Finite = 100.0
    """With value c51: the largest return that can be represented."""
    continuous: Literal["regression", "gradient", "bins"] = "regression"
    """How continuous heads learn: by regression to the actions taken, weighted by advantage; by the
    gradient of Q with respect to the action; or as bins, one discrete branch per column."""
    bins: Annotated[int, Field(ge=2, le=1024), Unit("choices")] = 11
    """With continuous bins: choices of each continuous column, both ends included."""
    trunk: Literal["auto", "linear"] = "auto"
    """Layers that read observations. auto: convolutions for pictures, linear layers otherwise.
    linear: always linear layers."""
    memory: Literal["none", "gru"] = "none"
    """What the network remembers of an episode. none: nothing; it sees the newest frame (or
    replay.frame_stack of them). gru: a recurrent state, which each frame changes."""
    memory_units: Annotated[int, Field(ge=1, le=4096), Unit("units")] = 64
    """With memory gru: numbers in the state."""
    memory_burn_in: Annotated[int, Field(ge=0, le=1024), Unit("steps")] = 8
    """With memory gru: steps before those of memory_unroll that bring the stored state up to date;
    no gradient flows through them."""
    memory_unroll: Annotated[int, Field(ge=1, le=1024), Unit("steps")] = 16
    """With memory gru: steps before the one learned from that a gradient flows back through: how
    long it can learn to remember."""
    normalize_observations: bool = False
    """Normalize numbers in observations (not uint8, not bool) by their running mean and standard
    deviation."""
    normalize_values: bool = True
    """With value scalar or quantile: divide rewards by a running number, so that values spread
    alike in every game. Metrics and exported values stay in units of the game's rewards."""
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"
    """Precision of the matrix products in training; weights stay float32."""
    huber_delta: Positive = 1.0
    """Error beyond which the Huber loss is linear."""
    grad_clip_norm: Positive = 10.0
    """Largest norm of the gradient; a longer one is scaled down to it."""
    target: Literal["soft", "hard"] = "soft"
    """How the target network follows: a small step each update (soft), or a copy every target_every
    updates (hard)."""
    target_tau: Annotated[float, Field(gt=0, le=1), Live()] = 0.005
    """With target soft: the fraction of the distance that it moves at each update."""
    target_every: Updates = 1000
    """With target hard: updates between copies."""
    continuous_weight: NotNegative = 1.0
    """Weight of the continuous heads' loss relative to the TD loss."""
    grad_norm_every: Updates = 20
    """Updates between measurements of each actor's gradient norm."""

    @property
    def state_size(self) -> int:
        """Numbers of the recurrent state; 0 for a network without a memory."""
        return self.memory_units if self.memory == "gru" else 0

    @model_validator(mode="after")
    def _support(self) -> Self:
        if self.value_min >= self.value_max:
            raise ValueError(
                f"learner.value_min is {self.value_min:g} and learner.value_max "
                f"{self.value_max:g}; the smallest value must be below the largest"
            )
        return self

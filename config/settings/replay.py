"""Settings `replay.*`: the memory that batches are drawn from."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field, field_validator

from config.settings.base import (
    ActorName,
    Count,
    Device,
    Fraction,
    FractionSchedule,
    Section,
    Unit,
)


class ReplayConfig(Section):
    """The replay memory that batches are sampled from."""

    # Rows are numbered in int32.
    capacity_steps: Annotated[int, Field(ge=2, lt=2**31), Unit("steps")] = 1_000_000
    """Steps kept at most; new ones overwrite the oldest. Fewer are kept where so many do not fit:
    see memory_share."""
    memory_share: Annotated[Fraction, Field(gt=0)] = 0.5
    """Fraction of the memory that is free when training starts, of the device that stores the
    steps, which the replay may take."""
    device: Device = "auto"
    """Device that stores the steps: cpu, cuda, cuda:N, or auto (the trainer's device)."""
    stop_at_actor_change: bool = True
    """Cut n-step returns where the actor changes, so that no action is credited with another
    actor's play."""
    actor_share: dict[ActorName, Fraction] = {}
    """Fraction of each batch sampled from an actor's steps; the rest is sampled from all steps."""
    prioritized: bool = False
    """Sample steps by their last TD error instead of uniformly, within each actor's share."""
    priority_alpha: Fraction = 0.6
    """With prioritized: exponent of the TD error; priority = |TD error|^alpha."""
    priority_beta: FractionSchedule = FractionSchedule(start=0.4, end=1.0, frames=100_000)
    """With prioritized: exponent of the importance weights of the losses, probability^-beta."""
    frame_stack: Annotated[Count, Unit("frames")] = 1
    """Newest frames of the episode that the network sees at once, of pictures; in a game without
    any, of all observations. Each is stored once."""

    @field_validator("actor_share")
    @classmethod
    def _sum(cls, share: dict[ActorName, float]) -> dict[ActorName, float]:
        total = math.fsum(share.values())
        if total > 1 + 1e-9:
            raise ValueError(f"the shares sum to {total:g}, more than 1; lower one of them")
        return share

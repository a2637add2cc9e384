"""Settings `replay.*`: the memory that batches are drawn from."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import field_validator

from config.settings.base import (
    ActorName,
    Count,
    Device,
    Fraction,
    FractionSchedule,
    Section,
    Steps,
    Unit,
)


class ReplayConfig(Section):
    """The memory that batches are drawn from."""

    capacity_steps: Steps = 1_000_000
    """Steps kept; the oldest are overwritten."""
    device: Device = "auto"
    """Where they are kept: cpu, cuda, cuda:N, or auto (the trainer's device)."""
    stop_at_actor_change: bool = True
    """An n-step return ends where the actor changes: nobody is credited with another's play."""
    actor_share: dict[ActorName, Fraction] = {}
    """Fraction of each batch drawn from an actor's steps; what is left comes as it is stored."""
    prioritized: bool = False
    """Draw steps by their last TD error instead of uniformly, within each actor's share."""
    priority_alpha: Fraction = 0.6
    """With prioritized: how much the TD error counts; priority = |TD error|^alpha."""
    priority_beta: FractionSchedule = FractionSchedule(start=0.4, end=1.0, frames=100_000)
    """With prioritized: how far the losses make up for it, with factors that go as
    probability^-beta."""
    frame_stack: Annotated[Count, Unit("frames")] = 1
    """Frames that the network looks at together: the newest of the episode. Each is stored once."""

    @field_validator("actor_share")
    @classmethod
    def _sum(cls, share: dict[ActorName, float]) -> dict[ActorName, float]:
        total = math.fsum(share.values())
        if total > 1 + 1e-9:
            raise ValueError(f"the shares sum to {total:g}, more than 1; lower one of them")
        return share

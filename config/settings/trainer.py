"""Settings `trainer.*`: the training process."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from config.settings.base import Device, OrNone, Positive, Seconds, Section, Steps, Unit, Updates


class TrainerConfig(Section):
    """The training process."""

    enabled: bool = True
    """Train. Without it, the server plays with the weights it has."""
    device: Device = "auto"
    """Where training runs: cpu, cuda, cuda:N, or auto (cuda where there is one)."""
    threads: Annotated[int, Field(ge=0), Unit("threads")] = 0
    """Threads of the trainer's computations. 0: torch's choice."""
    replay_ratio: Annotated[Positive, Unit("updates per stored step")] = 0.25
    """How much is learnt from each step."""
    min_steps: Steps = 1000
    """Stored steps with which training begins."""
    max_lag_updates: Annotated[Updates | None, OrNone, Unit("updates")] = None
    """When the trainer is further behind than this, the games wait. none: they never do."""
    publish_every_s: Seconds = 0.1
    """How often the gateways get new weights."""
    nice: Annotated[int, Field(ge=0, le=19)] = 5
    """How far the process gives way to others where cores are short: serving goes first."""

"""Settings `exploration.*`: what the network tries beyond what it thinks best."""

from __future__ import annotations

from typing import Annotated

from config.settings.base import FractionSchedule, Live, Schedule, Section


class ExplorationConfig(Section):
    """Random actions and noise on top of the network's choice."""

    epsilon: Annotated[FractionSchedule, Live()] = FractionSchedule(
        start=0.2, end=0.02, frames=100_000
    )
    """The fraction of the network's frames whose discrete actions are random."""
    noise: Annotated[Schedule, Live()] = Schedule(start=0.2, end=0.05, frames=100_000)
    """Standard deviation of the noise on continuous actions, as a fraction of half their range."""

"""Settings `health.*`: what happens when losses or gradients are not finite."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from config.settings.base import Count, Section, Unit, Updates


class HealthConfig(Section):
    """When a loss or a gradient is NaN or infinite. Such an update is skipped and counted."""

    max_consecutive_skips: Updates = 10
    """Skipped updates in a row that count as divergence: it is more than one bad batch."""
    on_divergence: Literal["rollback", "stop"] = "rollback"
    """What the trainer does then: it returns to the last good checkpoint and continues from there
    with a lower learning rate (rollback), or it stops with a message."""
    lr_factor: Annotated[float, Field(gt=0, le=1)] = 0.5
    """With rollback: the factor on the learning rate, applied once more at each rollback."""
    max_rollbacks: Annotated[Count, Unit("times")] = 3
    """With rollback: how many are allowed since the server was started; one more divergence stops
    training."""

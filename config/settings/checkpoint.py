"""Settings `checkpoint.*`: saving the run."""

from __future__ import annotations

from typing import Annotated

from config.settings.base import Count, OrNone, Seconds, Section, Unit, Updates


class CheckpointConfig(Section):
    """Saving, to go on later."""

    every_s: Seconds = 300.0
    """How often the run is saved."""
    keep: Annotated[Count, Unit("checkpoints")] = 3
    """How many of the newest are kept; older ones are deleted."""
    keep_every_updates: Annotated[Updates | None, OrNone, Unit("updates")] = None
    """Of the older ones, the first after each so many updates is kept for good. none: none is."""
    replay: bool = True
    """Whether the rows of the replay are written to the run's folder as they come, so that a
    restart goes on with them, whatever ended the run. Takes as much of the disk as of memory."""

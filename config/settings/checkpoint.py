"""Settings `checkpoint.*`: saving the run."""

from __future__ import annotations

from typing import Annotated

from config.settings.base import Count, Live, OrNone, Seconds, Section, Unit, Updates


class CheckpointConfig(Section):
    """Checkpoints and the saved replay, for resuming a run."""

    every_s: Annotated[Seconds, Live()] = 300.0
    """Time between checkpoints."""
    keep: Annotated[Count, Unit("checkpoints"), Live()] = 3
    """Newest checkpoints that are kept; older ones are deleted."""
    keep_every_updates: Annotated[Updates | None, OrNone, Unit("updates"), Live()] = None
    """Also keep the first older checkpoint after each so many updates, for good. none: keep no
    older ones."""
    replay: bool = True
    """Write the steps of the replay to the run's folder as they arrive, so that a restart continues
    with them, whatever ended the run. They need as much disk as memory."""

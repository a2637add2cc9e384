"""Settings `supervision.*`: when a process of the server dies or hangs."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from config.settings.base import Seconds, Section, Unit


class SupervisionConfig(Section):
    """What happens when a process of the server dies or hangs."""

    max_restarts: Annotated[int, Field(ge=0), Unit("restarts")] = 5
    """Restarts of one process within window_s; the next death after those ends the server with
    exit code 1. 0: the first death ends it."""
    window_s: Seconds = 600.0
    """The time in which restarts are counted."""
    backoff_s: Seconds = 0.5
    """Wait before the first restart. It doubles with each further restart within window_s, up to
    30 s."""
    hang_timeout_s: Seconds = 60.0
    """A process that shows no progress for this long is killed and restarted."""

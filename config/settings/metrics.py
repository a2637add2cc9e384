"""Settings `metrics.*`: numbers about the run."""

from __future__ import annotations

from config.settings.base import Seconds, Section


class MetricsConfig(Section):
    """Numbers about the run."""

    every_s: Seconds = 1.0
    """How often they are collected."""
    tensorboard: bool = False
    """Write them as TensorBoard's event files too, into the run's folder tensorboard. Needs the
    package tensorboard."""

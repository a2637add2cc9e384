"""Settings `metrics.*`: numbers about the run."""

from __future__ import annotations

from config.settings.base import Seconds, Section


class MetricsConfig(Section):
    """Metrics of the run."""

    every_s: Seconds = 1.0
    """Time between rows of metrics."""
    tensorboard: bool = False
    """Also write TensorBoard event files, to the folder tensorboard of the run. Needs the package
    tensorboard."""

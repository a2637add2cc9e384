"""Lessons: the next one begins when its metric has passed its value."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

from config.fields import nearest
from config.load import ConfigError
from config.models import Config
from server.control.controller import Controller
from server.monitor.game_metrics import is_game_metric
from server.monitor.metrics import SERIES

log = logging.getLogger("supervisor")


def check(config: Config) -> None:
    """Whether there are such metrics; those that a game names are not known before it plays.
    Errors: ConfigError."""
    for number, lesson in enumerate(config.lessons.plan, 1):
        name = lesson["metric"]
        if name not in SERIES and not is_game_metric(name):
            meant = nearest(name, SERIES)
            hint = f" (did you mean {meant}?)" if meant else ""
            raise ConfigError(
                f"lessons.plan: lesson {number}: there is no metric {name!r}{hint}; "
                "docs/metrics.md lists them"
            )


class Lessons:
    """Which lesson is next, and whether it is time for it."""

    def __init__(self, controller: Controller) -> None:
        """`controller`: carries out what a lesson changes, and records it."""
        self._controller = controller
        self._since = 0
        """Training episodes that had ended when the lesson of now began."""

    def look(self, config: Config, row: Mapping[str, float], episodes: int) -> None:
        """At a new row of metrics. `episodes`: of training since the start of the server."""
        plan, begun = config.lessons.plan, config.lessons.begun
        if begun >= len(plan) or episodes - self._since < config.lessons.min_episodes:
            return
        lesson = plan[begun]
        value = row.get(lesson["metric"], math.nan)
        if not _reached(lesson, value):
            return
        try:
            self._controller.begin_lesson(begun + 1, lesson["settings"])
        except ConfigError as error:
            log.error("lesson %d cannot begin: %s", begun + 1, error)
            return
        self._since = episodes
        log.info("lesson %d of %d begins: %s is %g", begun + 1, len(plan), lesson["metric"], value)


def _reached(lesson: Mapping[str, Any], value: float) -> bool:
    """Never of what is not a number."""
    return bool(value >= lesson["above"] if "above" in lesson else value <= lesson["below"])

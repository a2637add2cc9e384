"""Settings `lessons.*`: when the game becomes harder."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import Field, field_validator

from config.settings.base import Count, Expected, Section, Unit
from config.settings.server import checked_settings

MOST_LESSONS = 100

_KEYS = {"metric", "above", "below", "settings"}


class LessonsConfig(Section):
    """Lessons: settings for the games that change when a metric passes a value."""

    plan: Annotated[
        tuple[dict[str, Any], ...],
        Field(strict=False, max_length=MOST_LESSONS),
        Expected("a list of tables, each with metric, above or below, and settings"),
    ] = ()
    """What comes next, one lesson after the other: each begins when its metric is at least `above`,
    or at most `below`, and then its `settings` join server.settings, and the games are told."""
    begun: Annotated[int, Field(ge=0), Unit("lessons")] = 0
    """Lessons of the plan that have begun. The server counts them; to go back, resume with fewer,
    and with the server.settings of then."""
    min_episodes: Annotated[Count, Unit("episodes")] = 100
    """Training episodes that a lesson lasts at least: metrics are means over 100 of them."""

    @field_validator("plan")
    @classmethod
    def _lessons(cls, plan: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
        for number, lesson in enumerate(plan, 1):
            _check(number, lesson)
        return plan


def _check(number: int, lesson: dict[str, Any]) -> None:
    """Errors: ValueError."""
    where = f"lesson {number}"
    if unknown := sorted(lesson.keys() - _KEYS):
        raise ValueError(f"{where}: expected {', '.join(sorted(_KEYS))}, got {', '.join(unknown)}")
    if not isinstance(lesson.get("metric"), str):
        raise ValueError(f"{where}: expected metric, the name of one in docs/metrics.md")
    limits = [lesson[key] for key in ("above", "below") if key in lesson]
    if len(limits) != 1 or type(limits[0]) not in (int, float) or not math.isfinite(limits[0]):
        raise ValueError(f"{where}: expected one of above and below, a number")
    settings = lesson.get("settings")
    if not isinstance(settings, dict) or not settings:
        raise ValueError(f"{where}: expected settings, a table of what the games are told")
    checked_settings(settings)

"""What all groups of settings are made of: types of fields with their units, and schedules."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

NONE = "none"
"""How "no value" is written for an optional field: TOML has no null, and neither has a shell."""


def _none(value: object) -> object:
    return None if value == NONE else value


class Unit(str):
    """What the number of a field counts: metadata of an annotated type, shown in the help."""

    __slots__ = ()


class Expected(str):
    """What a value must look like, where the type and its limits do not say it."""

    __slots__ = ()


class Live:
    """Metadata of a field that can be changed while the run runs; on a schedule, of all its fields.

    Whoever marks one sees to it that the process that uses it takes the new value from
    `server.ipc.messages.Changed`: tests/integration/test_live_settings.py changes each of them.
    """

    __slots__ = ()


class Unsaved:
    """Metadata of a field that a run does not save: a consent to let others in is meant for one
    start, and each start is told anew, as it is secrets."""

    __slots__ = ()


OrNone = BeforeValidator(_none)
"""Metadata of an optional field: accept the word."""

Count = Annotated[int, Field(ge=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Seconds = Annotated[Positive, Unit("seconds")]
Frames = Annotated[Count, Unit("frames")]
Steps = Annotated[Count, Unit("steps")]
Updates = Annotated[Count, Unit("updates")]
Device = Annotated[
    str, Field(pattern=r"^(auto|cpu|cuda(:[0-9]+)?)$"), Expected("auto, cpu, cuda or cuda:N")
]
File = Annotated[Annotated[Path, Field(strict=False), Expected("a path")] | None, OrNone]
CountOrNone = Annotated[Annotated[int, Field(ge=1)] | None, OrNone]
ActorName = Literal["dqn", "expert"]


class Section(BaseModel):
    """A frozen set of fields. Strict: text is not a number, and a number is not a switch."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Schedule(Section):
    """A value that changes linearly from `start` to `end`, and stays there."""

    start: NotNegative
    """Value at frame 0."""
    end: NotNegative
    """Value from frame `hold` + `frames` on."""
    frames: Frames
    """Stored frames, of all gateways, from start to end."""
    hold: Annotated[int, Field(ge=0), Unit("frames")] = 0
    """Stored frames for which it stays at start, before that."""


class FractionSchedule(Schedule):
    """A schedule of a fraction: both ends lie within 0 and 1."""

    start: Fraction
    """Value at frame 0."""
    end: Fraction
    """Value from frame `hold` + `frames` on."""

"""Settings `expert.*`: how often the expert plays."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from config.settings.base import Expected, FractionSchedule, Frames, Live, OrNone, Section


class ExpertConfig(Section):
    """How often the expert plays, where a frame recommends an action."""

    ratio: Annotated[FractionSchedule, Live()] = FractionSchedule(
        start=0.5, end=0.05, frames=100_000
    )
    """The fraction of frames (segments or episodes, see unit) that the expert plays."""
    decay: Annotated[Literal["schedule", "evaluation", "play"], Live()] = "play"
    """What moves the ratio from start to end: stored frames (schedule); evaluations of the student
    against the expert, without which it stays at start; or stored frames, and the student's
    getting as good as the expert in episodes of training that each plays alone (play)."""
    unit: Annotated[Literal["frame", "segment", "episode"], Live()] = "frame"
    """How often it is decided who plays: each frame, each segment of a game, or each episode."""
    segment_frames: Annotated[Frames, Live()] = 50
    """With unit segment: its length. Each episode begins a new segment."""
    plugin: Annotated[
        Annotated[
            str,
            Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$"),
            Expected("module:function"),
        ]
        | None,
        OrNone,
        Live(),
    ] = None
    """An expert that runs in the server, as `module:function`, for frames that come without a
    recommendation (docs/experts.md). The gateways import it. none: no such expert."""

"""Schedules: numbers that change with stored frames or with updates."""

from __future__ import annotations

import math

from config.models import Schedule


def linear(start: float, end: float, frames: int, at: int) -> float:
    """From `start` at frame 0 in a straight line to `end` at `frames`, then `end`."""
    if at >= frames:
        return end
    return start + (end - start) * (at / frames)


def scheduled(schedule: Schedule, at: int) -> float:
    """The value of a schedule at this frame."""
    return linear(schedule.start, schedule.end, schedule.frames, max(at - schedule.hold, 0))


def learning_rate(
    peak: float,
    end: float,
    warmup_updates: int,
    cosine_updates: int | None,
    update: int,
    *,
    restarts: bool = False,
) -> float:
    """Of the update with this number, from 0 on: a straight line up to `peak` (Goyal et al. 2017,
    arXiv:1706.02677), then, unless `cosine_updates` is None, half a cosine down to `end`, where it
    stays, or with `restarts` begins at `peak` again (SGDR, Loshchilov and Hutter 2017,
    arXiv:1608.03983, equation 5, with periods of one length)."""
    if update < warmup_updates:
        return peak * (update + 1) / warmup_updates
    if cosine_updates is None:
        return peak
    done = (update - warmup_updates) / cosine_updates
    done = done % 1.0 if restarts else min(done, 1.0)
    return end + (peak - end) * (1 + math.cos(math.pi * done)) / 2

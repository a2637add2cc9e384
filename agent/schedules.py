"""Numbers that change as frames are stored."""

from __future__ import annotations


def linear(start: float, end: float, frames: int, at: int) -> float:
    """From `start` at frame 0 in a straight line to `end` at `frames`, then `end`."""
    if at >= frames:
        return end
    return start + (end - start) * (at / frames)

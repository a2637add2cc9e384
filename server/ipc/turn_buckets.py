"""The buckets of the histogram of a turn's time."""

from __future__ import annotations

TURN_BUCKETS_S = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0,
)  # fmt: skip
"""Upper bounds of the histogram of a turn's time, seconds, each included; +Inf is implied. A frame
at 60 Hz is 0.0167 s: turns are far below, and what is above was noticed by a game."""

"""What the trainer says to the supervisor while it loads what the run goes on from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Loading:
    """The trainer, again and again while it loads for longer than a moment: how far it is."""

    rows: int
    """Of the replay, that are read."""


@dataclass(frozen=True)
class RunLoaded:
    """The trainer: all that it is to go on from is loaded, and fits. It waits for Begin, and has
    changed nothing in the run's folder."""

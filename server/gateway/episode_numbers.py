"""The numbers that a connection's frames carry: their means and peaks over each slot's episode."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from protocol.messages import RUNNING, Frame, Frames
from protocol.numbers import frame_numbers, frames_numbers

Episode = dict[str, tuple[float, float]]
"""Mean and peak by name."""

MOST = 10_000
"""Finished episodes that are kept until a report takes them: the newest ones."""


def finished() -> deque[Episode]:
    """Where the connections of a gateway put their training episodes."""
    return deque(maxlen=MOST)


class EpisodeNumbers:
    """Of one connection."""

    def __init__(self, names: tuple[str, ...], slots: int, to: deque[Episode] | None) -> None:
        """`to`: gets the episodes that end; None where they do not count."""
        self._names = names
        self._to = to
        nothing = [(0.0, 0, float("-inf"))] * len(names)
        self._nothing = nothing
        self._slots = [list(nothing) for _ in range(slots)]
        """For each name: sum, count and peak so far."""

    def frame(self, frame: Frame) -> None:
        """A checked FRAME."""
        values = frame_numbers(frame.metrics, self._names)
        self._add(frame.slot, values or (), frame.status)

    def frames(self, frames: Frames) -> None:
        """A checked FRAMES."""
        values = frames_numbers(frames.metrics, self._names, len(self._slots))
        for slot, status in enumerate(bytes(frames.statuses)):
            self._add(slot, () if values is None else values[slot].tolist(), status)

    def _add(self, slot: int, values: Iterable[float | None], status: int) -> None:
        sums = self._slots[slot]
        for at, value in enumerate(values):
            if value is not None and value == value:  # not NaN
                total, count, peak = sums[at]
                sums[at] = (total + value, count + 1, max(peak, value))
        if status != RUNNING:
            told = zip(self._names, sums, strict=True)
            episode = {name: (total / n, peak) for name, (total, n, peak) in told if n}
            if episode and self._to is not None:
                self._to.append(episode)
            self._slots[slot] = list(self._nothing)

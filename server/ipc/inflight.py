"""What the gateways have answered for, in a file of the run's folder that outlives them all.

Two numbers for each gateway, written before the answers go out that they count. A process that is
killed leaves them as they were: memory that is mapped from a file is the system's. So the next
start can say exactly how many steps were in flight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from agent.files import written_whole

FILE = "in-flight"

_MAGIC = int.from_bytes(b"USTUDYIF", "little")
_HEADER = 3  # magic, stored frames before this start, gateways

Cells = npt.NDArray[np.int64]
"""Of a gateway: steps that it has completed since the server's start, and frames that it has
answered and that no other frame has completed yet."""


@dataclass(frozen=True)
class StepCounts:
    """Steps since the server's start, at one moment."""

    completed: int = 0
    """By the gateways, less those that were lost with one."""
    stored: int = 0
    """Taken into the replay."""

    @property
    def in_flight(self) -> int:
        """Complete and on their way to the replay."""
        return self.completed - self.stored


@dataclass(frozen=True)
class InFlight:
    """What was on its way when somebody was killed."""

    steps: int = 0
    """Complete, and not stored."""
    frames: int = 0
    """Answered, and not complete: no frame came that says what they earned."""

    def __add__(self, other: InFlight) -> InFlight:
        return InFlight(self.steps + other.steps, self.frames + other.frames)

    def __str__(self) -> str:
        return (
            f"{self.steps + self.frames} steps were in flight: {self.steps} complete ones that are "
            f"not in the replay, and {self.frames} answered frames that no other frame completed"
        )


class InFlightCounters:
    """The file as the supervisor has it."""

    def __init__(self, path: Path, base: int, gateways: int) -> None:
        """Begin anew. `base`: stored frames of the run before this start. Errors: OSError."""
        self.path = path
        content = np.zeros(_HEADER + 2 * gateways, np.int64)
        content[:_HEADER] = _MAGIC, base, gateways
        with written_whole(path) as file:
            file.write(content.tobytes())
        self._cells = [cells(path, index) for index in range(gateways)]

    def numbers(self, index: int) -> tuple[int, int]:
        """Of a gateway, as Cells."""
        completed, open_frames = self._cells[index]
        return int(completed), int(open_frames)

    def tell(self, index: int, numbers: tuple[int, int]) -> None:
        """Of a gateway whose own counters are elsewhere."""
        self._cells[index][:] = numbers

    def gateway_gone(self, index: int, stored: int) -> InFlight:
        """A gateway has died, with `stored` steps in its ring: what is lost with it. The one in its
        place goes on from there."""
        found = self._cells[index]
        lost = InFlight(max(0, int(found[0]) - stored), int(found[1]))
        found[:] = stored, 0
        return lost

    def completed(self, in_rings: list[int]) -> int:
        """Steps that gateways have completed. `in_rings`: those that came into each ring, which one
        may have written and not counted here yet."""
        cells = zip(self._cells, in_rings, strict=True)
        return sum(max(int(found[0]), in_ring) for found, in_ring in cells)

    def not_in(self, stored: list[int]) -> InFlight:
        """What gateways have answered for beyond the steps in their rings."""
        cells = list(zip(self._cells, stored, strict=False))
        steps = sum(max(0, int(found[0]) - in_ring) for found, in_ring in cells)
        return InFlight(steps, sum(int(found[1]) for found, _ in cells))

    def remove(self) -> None:
        """The server has ended in order: nothing is in flight."""
        self.path.unlink(missing_ok=True)


def cells(path: Path, index: int) -> Cells:
    """A gateway's numbers, to be changed in place. Errors: OSError."""
    return np.memmap(path, np.int64, "r+", 8 * (_HEADER + 2 * index), (2,))


def left(path: Path, found: Mapping[int, tuple[int, int]] | None = None) -> tuple[int, int] | None:
    """What a start that did not end in order has left: steps of the whole run that were complete,
    and frames that were answered beyond them. None where there is nothing, or nothing to read.
    `found`: of gateways, what is known better."""
    try:
        content = np.frombuffer(path.read_bytes(), np.int64)
    except (OSError, ValueError):
        return None
    if len(content) < _HEADER or content[0] != _MAGIC:
        return None
    each = content[_HEADER:].reshape(-1, 2) if len(content) % 2 else np.zeros((0, 2), np.int64)
    each = each.copy()
    for index, numbers in (found or {}).items():
        if index < len(each):
            each[index] = numbers
    return int(content[1] + each[:, 0].sum()), int(each[:, 1].sum())

"""One evaluation: a line of `evaluations.jsonl`."""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

log = logging.getLogger("supervisor")

LONGEST_LINE = 4 * 2**20
"""Bytes of a line of the file are fewer."""

COMPLAINTS = 5
"""Lines that cannot be read are named up to so many, and then counted."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One evaluation. What has a default came later: older runs have lines without it."""

    time: float
    """When it ended, seconds since 1970."""
    frames: int
    """Stored frames of the run when it began."""
    versions: tuple[int, int]
    """The weights that the gateways played with, at its beginning and at its end."""
    returns: tuple[float, ...]
    """Of the network's episodes that ended by themselves, as the gateways reported them; none where
    it did not play."""
    mean: float | None
    """Of those."""
    expert_returns: tuple[float, ...]
    """The same of the expert."""
    expert_mean: float | None
    """The expert's newest mean, of this evaluation or of an earlier one."""
    partial: bool
    """The network's part is not complete: nothing goes by it."""
    why: str = ""
    """What it lacks, in words; empty if it is complete."""
    cut: tuple[float, ...] = ()
    """Returns so far of the network's episodes that did not end by themselves: a limit cut them, or
    their game left."""
    expert_partial: bool = False
    expert_why: str = ""
    expert_cut: tuple[float, ...] = ()
    """The same of the expert's part."""
    left_out: int = 0
    """Complete episodes of both beyond those that their games had announced: in neither mean."""
    expert_filled: float | None = None
    """The share of the expert's frames for which it recommended nothing (protocol/SPEC.md, Roles);
    None where it did not play."""
    episodes: int = 0
    """Of the network's, how many ended by themselves, where `returns` has but the first; else 0."""
    expert_episodes: int = 0
    """The same of the expert's."""

    @property
    def counts(self) -> bool:
        """The network played, and its part is complete."""
        return self.mean is not None and not self.partial

    @property
    def played(self) -> int:
        """Episodes of the network that ended by themselves."""
        return self.episodes or len(self.returns)

    @property
    def expert_played(self) -> int:
        """The same of the expert."""
        return self.expert_episodes or len(self.expert_returns)

    @property
    def expert_counts(self) -> bool:
        """The expert played, and its part is complete. In lines of older runs that shows in its
        mean: that of a partial one is the mean of an earlier one."""
        if not self.expert_returns or self.expert_partial or self.expert_mean is None:
            return False
        if self.expert_episodes:
            return True
        return math.isclose(statistics.fmean(self.expert_returns), self.expert_mean)

    def line(self) -> dict[str, Any]:
        """It as plain data."""
        return asdict(self)

    def text(self) -> str:
        """It for the log."""
        parts = []
        if self.returns or self.cut:
            mean = self.mean if self.returns else None
            parts.append(_told("network", mean, self.played, self.cut, self.why))
        if self.expert_returns or self.expert_cut:
            mean = statistics.fmean(self.expert_returns) if self.expert_returns else None
            mean = self.expert_mean if self.expert_counts else mean
            told = _told("expert", mean, self.expert_played, self.expert_cut, self.expert_why)
            parts.append(told)
            if self.expert_filled:
                parts[-1] += f", {self.expert_filled:.1%} of its frames filled"
        if not self.expert_returns and self.expert_mean is not None:
            parts.append(f"expert {self.expert_mean:.1f}" + (" before" if self.expert_cut else ""))
        if self.left_out:
            parts.append(f"{self.left_out} episodes more than announced left out")
        return f"evaluation at frame {self.frames}: " + (", ".join(parts) or "no episode")


def read_evaluations(file: Path) -> Iterator[Evaluation]:
    """The evaluations in a file, the oldest first, read as they are asked for, whatever its size. A
    line that cannot be read is passed over: of the last one there may be but a part. Without a file
    there are none. Errors: OSError."""
    for _, evaluation in read_lines(file):
        yield evaluation


def read_lines(file: Path) -> Iterator[tuple[bytes, Evaluation]]:
    """The same, each with its line."""
    if not file.exists():
        return
    passed_over = 0
    with file.open("rb") as lines:
        number = 0
        while line := lines.readline(LONGEST_LINE):
            number += 1
            try:
                yield line, _DECODER.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                passed_over += 1
                if passed_over <= COMPLAINTS:
                    log.warning("%s, line %d: %s; passed over", file, number, error)
                while not line.endswith(b"\n") and (line := lines.readline(LONGEST_LINE)):
                    pass
    if passed_over > COMPLAINTS:
        log.warning("%s: %d lines cannot be read; passed over", file, passed_over)


_DECODER = msgspec.json.Decoder(Evaluation)


def _told(who: str, mean: float | None, n: int, cut: Sequence[float], why: str) -> str:
    """What one of the two has played."""
    text = f"{who} without a mean" if mean is None else f"{who} {mean:.1f}"
    text += f" over {n} episodes"
    if why:
        text += f" (not complete, so nothing goes by it: {why}"
        text += f"; cut at {', '.join(f'{each:.1f}' for each in cut[:5])}" if cut else ""
        text += ", …)" if len(cut) > 5 else ")"
    return text

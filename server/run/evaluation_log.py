"""The evaluations in a run's folder: new ones whole, old ones thinned out, so that whoever plays
evaluations all the time fills no disk.

`evaluations.jsonl` always has the first complete evaluation of the network and its best one, the
newest complete one of either, and the newest ones; of those before, some at even distances.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from pathlib import Path

from agent.files import written_whole
from server.run.directory import append_lines
from server.run.evaluation import Evaluation, read_lines

FULL = 16 * 2**20
"""Bytes of the file at which it is thinned out: 8,000 evaluations of a hundred episodes."""

Numbered = tuple[int, bytes]
"""A line, and its number in the file."""


class EvaluationLog:
    """Adds evaluations to the file. One process alone adds."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, evaluations: Iterable[Evaluation]) -> None:
        """Add these, each on a line of its own whatever the file ends with. Errors: OSError, with
        the file as it was, or as it was with these."""
        append_lines(self._path, [one.line() for one in evaluations])
        if self._path.stat().st_size >= FULL:
            self._thin_out()

    def _thin_out(self) -> None:
        """Read line by line, in memory for what stays: a file of an earlier version may be of any
        size."""
        found = _Looked(read_lines(self._path), FULL // 4)
        kept = {*found.by.values(), *found.newest, *found.spread(read_lines(self._path))}
        with written_whole(self._path) as file:
            file.writelines(line for _, line in sorted(kept))


class _Looked:
    """What the first look at all lines finds."""

    def __init__(self, lines: Iterable[tuple[bytes, Evaluation]], nbytes: int) -> None:
        """`nbytes`: that the newest lines may have, and those before as many."""
        self.newest: deque[Numbered] = deque()
        self.by: dict[str, Numbered] = {}
        """Those by which the run goes on, by what they are."""
        self._nbytes = nbytes
        self._begin = self._end = 0.0
        """Of the time before the newest ones."""
        best, newest_bytes = -math.inf, 0
        times: deque[float] = deque()
        for number, (line, one) in enumerate(lines):
            numbered = (number, line if line.endswith(b"\n") else line + b"\n")
            self._begin = self._begin if number else one.time
            self.newest.append(numbered)
            times.append(one.time)
            newest_bytes += len(line)
            while newest_bytes > nbytes and len(self.newest) > 1:
                newest_bytes -= len(self.newest.popleft()[1])
                self._end = times.popleft()
            if one.mean is not None and one.counts:
                self.by.setdefault("first", numbered)
                self.by["student"] = numbered
                if one.mean > best:
                    best, self.by["best"] = one.mean, numbered
            if one.expert_counts:
                self.by["teacher"] = numbered

    def spread(self, lines: Iterable[tuple[bytes, Evaluation]]) -> list[Numbered]:
        """Of the lines before the newest ones, one for each of as many equal times as there is room
        for: also where some of them were left out before."""
        found: list[Numbered] = []
        taken: set[int] = set()
        left, span = self._nbytes, max(self._end - self._begin, 1e-9)
        for number, (line, one) in enumerate(lines):
            if number >= self.newest[0][0] or len(line) > left:
                break
            parts = max(self._nbytes // (2 * len(line)), 1)
            part = int((one.time - self._begin) / span * parts)
            if part not in taken:
                taken.add(part)
                found.append((number, line))
                left -= len(line)
        return found

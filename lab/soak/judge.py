"""The verdict of a soak: its last quarter compared with its first. What was sampled each second is
summed up by quarters: speed, latency, memory, files, disk. Pure: nothing is read here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

RATE_FACTOR = 0.9
"""Frames a second of the last quarter, of those of the first: at least."""

P99_FACTOR = 1.25
"""The slowest percent of the answers, of that of the first: at most."""

MEMORY_FACTOR, MEMORY_BYTES = 1.02, 8 * 2**20
"""Memory of a process may become this many times as much and so many bytes more: the supervisor
keeps the numbers of the run's first 68 minutes before it drops every second of them."""

FILES_MORE = 2
"""File descriptors that a process may have more. One for each thousand visitors would be more."""

DISK_FACTOR, DISK_BYTES = 1.05, 16 * 2**20
"""The same for what is replaced and pruned on the disk: replay, checkpoints."""

_FINEST_S, _STEP = 1e-5, 1.01
BINS = 1500
"""Of a histogram of answer times: from 10 µs on, each a hundredth longer than the one before, up to
half a minute. So a percentile of any stretch of time is exact to a hundredth."""


def bins(latencies_s: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """A histogram of answer times [n], in seconds: [BINS]."""
    places = np.log(np.maximum(latencies_s, _FINEST_S) / _FINEST_S) / math.log(_STEP)
    return np.bincount(np.minimum(places.astype(np.int64), BINS - 1), minlength=BINS)


def percentile_ms(histogram: npt.NDArray[np.int64], percent: float) -> float:
    """Of a histogram; NaN of an empty one."""
    total = int(histogram.sum())
    if not total:
        return math.nan
    place = int(np.searchsorted(np.cumsum(histogram), total * percent / 100))
    return float(_FINEST_S * _STEP ** (place + 0.5) * 1e3)


@dataclass(frozen=True)
class ServerSample:
    """A second of a server under load."""

    at_s: float
    """Since the first one."""
    seconds: float
    """How long it was."""
    histogram: npt.NDArray[np.int64]
    """Of its answer times, [BINS]."""
    visits: int
    """Connections of those that come and go which ended in it."""
    memory: dict[str, int]
    """Bytes, of each process by its name."""
    files: dict[str, int]
    """Open file descriptors, in the same way."""
    disk: int
    """Bytes of the run's folder that are replaced and pruned."""
    written: int
    """Bytes of what is only added to: log, metrics."""


@dataclass(frozen=True)
class Quarter:
    """A quarter of the time, or any stretch."""

    seconds: float
    frames_per_s: float
    """Median of its seconds: a minute in which the machine did something else is no decline."""
    p50_ms: float
    p99_ms: float
    """Median of the seconds' own, for the same reason."""
    p99_ms_all: float
    """Of all answers of the quarter together."""
    visits: int
    memory: dict[str, int]
    """Medians, too."""
    files: dict[str, int]
    disk: int
    written_per_day: int
    """Bytes, at the rate of the quarter."""

    def row(self) -> dict[str, Any]:
        """As it is printed."""
        return {
            "seconds": round(self.seconds, 1),
            "frames_per_s": round(self.frames_per_s),
            "p50_ms": round(self.p50_ms, 3),
            "p99_ms": round(self.p99_ms, 3),
            "p99_ms_all": round(self.p99_ms_all, 3),
            "visits": self.visits,
            "memory": self.memory,
            "files": self.files,
            "disk": self.disk,
            "written_per_day": self.written_per_day,
        }


def together(samples: Sequence[ServerSample]) -> Quarter:
    """A stretch of seconds, at least two. A process that is not in all of them is in those where it
    is."""
    histogram = np.sum([each.histogram for each in samples], axis=0)
    seconds = sum(each.seconds for each in samples)
    p99s = [percentile_ms(each.histogram, 99) for each in samples if each.histogram.any()]
    first, last = samples[0], samples[-1]
    grown = (last.written - first.written) / max(last.at_s - first.at_s, 1e-9)
    return Quarter(
        seconds=seconds,
        frames_per_s=median(int(each.histogram.sum()) / each.seconds for each in samples),
        p50_ms=percentile_ms(histogram, 50),
        p99_ms=median(p99s) if p99s else math.nan,
        p99_ms_all=percentile_ms(histogram, 99),
        visits=sum(each.visits for each in samples),
        memory=_medians([each.memory for each in samples]),
        files=_medians([each.files for each in samples]),
        disk=round(median(each.disk for each in samples)),
        written_per_day=round(grown * 86_400),
    )


def _medians(found: Sequence[dict[str, int]]) -> dict[str, int]:
    names = dict.fromkeys(name for each in found for name in each)
    return {name: round(median(each[name] for each in found if name in each)) for name in names}


def judge(first: Quarter, last: Quarter, *, pace: bool) -> list[str]:
    """What is not as flat as it should be, in words. `pace`: hold frame rate and answer times
    against each other, too; on a machine that does other things they say nothing."""
    broken = []
    if pace and not last.frames_per_s >= RATE_FACTOR * first.frames_per_s:
        broken.append(
            f"frame rate: expected at least {RATE_FACTOR:g} of the {first.frames_per_s:.0f} "
            f"frames/s of the first quarter, got {last.frames_per_s:.0f} in the last"
        )
    if pace and not last.p99_ms <= P99_FACTOR * first.p99_ms:
        broken.append(
            f"p99: expected at most {P99_FACTOR:g} times the {first.p99_ms:.2f} ms of the first "
            f"quarter, got {last.p99_ms:.2f} ms in the last"
        )
    if first.memory.keys() != last.memory.keys():
        broken.append(
            f"processes: expected {', '.join(first.memory)} to the end, got "
            f"{', '.join(last.memory)}"
        )
    for name, before in first.memory.items():
        limit = before * MEMORY_FACTOR + MEMORY_BYTES
        if (after := last.memory.get(name, 0)) > limit:
            broken.append(
                f"memory of the {name}: expected at most {limit:,.0f} bytes after {before:,} in "
                f"the first quarter, got {after:,} in the last"
            )
    for name, count in first.files.items():
        if (now := last.files.get(name, 0)) > count + FILES_MORE:
            broken.append(
                f"file descriptors of the {name}: expected at most {count + FILES_MORE} after "
                f"{count} in the first quarter, got {now} in the last"
            )
    if last.disk > first.disk * DISK_FACTOR + DISK_BYTES:
        broken.append(
            f"disk: expected about the {first.disk:,} bytes of the first quarter, got "
            f"{last.disk:,} in the last, log and metrics not counted"
        )
    return broken

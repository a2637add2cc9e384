"""A run at a glance, from its folder alone: what a list of runs and a comparison of them show.

Nothing is changed in the folder, and little is read, so a run may be looked at while it runs.
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from config.load import ConfigError
from server.ipc.inflight import FILE as IN_FLIGHT
from server.run.directory import LOCK, RunDirectory, game_of, init_from_of
from server.run.evaluation import read_evaluations
from server.run.history import newest_lines

State = Literal["running", "stopped", "killed", "empty"]
"""A server has it; one has stopped it; its last server was killed, or the machine lost power; no
game has come yet."""

_LOOKED_AT = 20
"""Newest rows of metrics in which numbers are looked for: what a trainer counts is not in the first
row of a start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """What a run's folder says of the run. None: nothing is known yet."""

    folder: Path
    game: str | None
    state: State
    starts: int
    time: float | None
    """When its newest numbers were written, seconds since 1970."""
    frames: int | None
    updates: int | None
    best: float | None
    """Mean return of the network's best complete evaluation."""
    best_frames: int | None
    """Stored frames of the run when that began."""
    expert: float | None
    """Mean return of the expert's newest complete evaluation."""
    evaluations: int
    """Complete ones of the network."""
    disk_bytes: int
    init_from: str | None = None
    """The checkpoint of another run whose weights it began with."""
    problem: str = ""
    """What could not be read; else empty."""

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    def plain(self) -> dict[str, Any]:
        """It as JSON can hold it."""
        return {"name": self.name} | asdict(self) | {"folder": str(self.folder)}


def overview(folder: Path) -> Overview:
    """Look at a run's folder. Errors: ConfigError where there is no run, OSError."""
    if not RunDirectory.exists(folder):
        raise ConfigError(
            f"expected the folder of a run, got {folder}; `understudy runs` lists those of a folder"
        )
    problems: list[str] = []
    game = None
    try:
        game = game_of(folder)
    except ConfigError as error:
        problems.append(str(error))
    rows = newest_lines(folder / "metrics.jsonl", _LOOKED_AT)
    best = expert = None
    complete = 0
    for one in read_evaluations(folder / "evaluations.jsonl"):
        if one.mean is not None and not one.partial:
            complete += 1
            if best is None or best.mean is None or one.mean > best.mean:
                best = one
        if one.expert_counts:
            expert = one.expert_mean
    return Overview(
        folder=folder,
        game=game.game if game else None,
        state=_state(folder),
        starts=_starts(folder, problems),
        time=_newest(rows, "time"),
        frames=_whole(_newest(rows, "frames")),
        updates=_whole(_newest(rows, "updates")),
        best=best.mean if best else None,
        best_frames=best.frames if best else None,
        expert=expert,
        evaluations=complete,
        disk_bytes=sum(size_of(path) for path in folder.rglob("*") if path.is_file()),
        init_from=init_from_of(folder),
        problem="; ".join(problems),
    )


def runs_in(folder: Path) -> list[Path]:
    """The folders of runs in a folder, by name, and the folder itself if it is one. Those that this
    user may not look into are left out. Errors: OSError."""
    return [path for path in (folder, *sorted(folder.iterdir())) if _is_run(path)]


def size_of(path: Path) -> int:
    """Bytes of a file; 0 where a trainer that runs has deleted it meanwhile."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def size_text(nbytes: int) -> str:
    """A size for a person."""
    value, units = float(nbytes), ["B", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value /= 1000
        del units[0]
    return f"{value:.3g} {units[0]}"


def _is_run(path: Path) -> bool:
    try:
        return path.is_dir() and RunDirectory.exists(path) and os.access(path, os.R_OK | os.X_OK)
    except OSError:
        return False


def _state(folder: Path) -> State:
    if _in_use(folder / LOCK):
        return "running"
    if (folder / IN_FLIGHT).exists():
        return "killed"
    return "stopped" if (folder / "game.json").exists() else "empty"


def _in_use(lock: Path) -> bool:
    """Whether a server has the folder. The lock is taken for a moment, shared with others who look;
    a server that starts just then waits for it."""
    try:
        file = os.open(lock, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(file)
    return False


def _starts(folder: Path, problems: list[str]) -> int:
    mark = folder / "run.json"
    try:
        return int(json.loads(mark.read_text())["launches"])
    except (OSError, ValueError, KeyError, TypeError):
        problems.append(f"{mark} is damaged; expected {{'launches': N}}")
        return 0


def _newest(rows: list[dict[str, Any]], name: str) -> float | None:
    """The newest number of this name."""
    found = (row.get(name) for row in reversed(rows))
    return next((float(value) for value in found if isinstance(value, int | float)), None)


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)

"""`understudy inspect`: what a run's folder holds, and whether all of it can be read.

Of the rows in the run's replay folder: how many, by whom, from how many streams; what complete
episodes returned, by who played them; and every checksum, those of the checkpoints too. Nothing is
changed, so a run may be looked at while it runs.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from agent import checkpoint, journal
from agent.checkpoint import CheckpointError
from agent.journal import Damage, JournalError, Position
from agent.source import NextRows
from agent.step import FINAL, STEP
from config.load import ConfigError
from protocol.actor import ACTORS, NAMES
from protocol.messages import RUNNING
from protocol.spaces import GameSpec
from server.run.directory import RunDirectory, game_of
from server.run.overview import size_of, size_text
from server.terminal import terminal

MIXED = "mixed"
"""Episodes that both actors played."""

_COLUMNS = ("stream", "seq", "actor", "kind", "status", "reward")


@dataclass(frozen=True)
class Contents:
    """What the rows in a run's folder are."""

    rows: int
    at: Position
    """Where the run was when the last of them was written."""
    steps: dict[str, int]
    """By actor."""
    streams: int
    """Slots' unbroken runs of frames."""
    mean_reward: dict[str, float]
    """Of a step, by actor; NaN where there is none."""
    returns: dict[str, list[float]]
    """Of complete episodes, undiscounted, by who played them: an actor alone, or MIXED."""
    damages: list[Damage] = field(default_factory=list)
    numbers: NextRows = field(default_factory=NextRows)
    """What the numbers of the rows say of them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder of a run")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def main(args: argparse.Namespace) -> int:
    if not RunDirectory.exists(args.run):
        raise ConfigError(
            f"expected the folder of a run, got {args.run}; `understudy runs` lists those in runs/"
        )
    spec = game_of(args.run)
    try:
        contents = look(args.run / journal.FOLDER, spec) if spec else None
    except JournalError as error:
        raise ConfigError(str(error)) from None
    found = as_data(args.run, spec, contents)
    if args.json:
        print(json.dumps(found))
    else:
        _print(terminal(), args.run, found)
    return 1 if found["damages"] else 0


def look(folder: Path, spec: GameSpec) -> Contents:
    """Read everything. Errors: JournalError, OSError."""
    damages: list[Damage] = []
    parts: list[list[npt.NDArray[Any]]] = []
    at = Position()
    numbers = NextRows()
    for stored in journal.read(folder, spec, damages):
        numbers.begin(stored.origin)  # older ones may have left the replay
        numbers.take(stored.origin, len(stored.rows))
        parts.append([getattr(stored.rows, name).copy() for name in _COLUMNS])
        at = stored.end
    # What a trainer that runs was writing just then is longer by now.
    damages = [each for each in damages if not each.at_end or size_of(each.path) <= each.stop]
    if not parts:
        none = {NAMES[who]: 0 for who in ACTORS}
        return Contents(0, at, none, 0, dict.fromkeys(none, math.nan), {}, damages)
    stream, seq, actor, kind, status, reward = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    steps, means = {}, {}
    for who in ACTORS:
        theirs = reward[actor == who]
        steps[NAMES[who]] = len(theirs)
        means[NAMES[who]] = float(theirs.mean(dtype=np.float64)) if len(theirs) else math.nan
    returns = episode_returns(stream, seq, actor, kind, status, reward)
    return Contents(
        len(stream), at, steps, len(np.unique(stream)), means, returns, damages, numbers
    )


def episode_returns(
    stream: npt.NDArray[Any],
    seq: npt.NDArray[Any],
    actor: npt.NDArray[Any],
    kind: npt.NDArray[Any],
    status: npt.NDArray[Any],
    reward: npt.NDArray[Any],
) -> dict[str, list[float]]:
    """Returns of the episodes of which every step is there, by who played them; all [n]."""
    order = np.lexsort((seq, stream))
    stream, seq, actor = stream[order], seq[order].astype(np.int64), actor[order]
    kind, status = kind[order], status[order]
    step = kind == STEP
    # A row ends what came before it where its step says so, and where the next one does not follow.
    follows = np.append((stream[1:] == stream[:-1]) & (seq[1:] - seq[:-1] == 1), False)
    ended = step & (status != RUNNING)
    final = kind == FINAL
    last = ended | final | ~follows
    starts = np.flatnonzero(np.append(True, last[:-1]))
    sums = np.add.reduceat(np.where(step, reward[order], 0).astype(np.float64), starts)
    by = [np.add.reduceat((actor == who).astype(np.int64), starts) for who in ACTORS]
    # The beginning is known where the row before was an end, or it is the stream's first frame.
    whole = (seq[starts] == 0) | np.append(
        False, (ended | final)[starts[1:] - 1] & follows[starts[1:] - 1]
    )
    complete = ended[np.append(starts[1:], len(stream)) - 1] & whole
    found: dict[str, list[float]] = {}
    for number in np.flatnonzero(complete):
        who = [NAMES[actor] for actor, n in zip(ACTORS, by, strict=True) if n[number]]
        found.setdefault(who[0] if len(who) == 1 else MIXED, []).append(float(sums[number]))
    return found


def as_data(run: Path, spec: GameSpec | None, contents: Contents | None) -> dict[str, Any]:
    """What was found, as plain data."""
    files = [path for path in run.rglob("*") if path.is_file()]
    newest = checkpoint.latest(run / "checkpoints")
    best = checkpoint.best(run / "checkpoints")
    damages = damaged_checkpoints(run / "checkpoints")
    damages += [str(damage) for damage in contents.damages] if contents else []
    data: dict[str, Any] = {
        "run": str(run),
        "game": spec.game if spec else None,
        "checkpoint": newest.name if newest else None,
        "best": _evaluated(best) if best else None,
        "left": [path.name for path in checkpoint.left(run / "checkpoints")],
        "disk_bytes": sum(map(size_of, files)),
        "replay_bytes": sum(map(size_of, journal.segments(run / journal.FOLDER))),
        "rows": 0,
        "damages": damages,
    }
    if contents is None:
        return data
    returns = {
        who: {"episodes": len(values), "mean": statistics.fmean(values)}
        for who, values in sorted(contents.returns.items())
    }
    rewards = {
        who: None if math.isnan(mean) else mean for who, mean in contents.mean_reward.items()
    }
    return data | {
        "rows": contents.rows,
        "run_steps": contents.at.steps,
        "steps": contents.steps,
        "streams": contents.streams,
        "mean_reward": rewards,
        "returns": returns,
        "rows_missing": contents.numbers.missing,
        "rows_doubled": contents.numbers.doubled,
    }


def _evaluated(best: Path) -> dict[str, Any]:
    """What is known of the best checkpoint: its evaluation's mean, and the run's frames then. None
    where it cannot be read."""
    try:
        state = checkpoint.load(best)
    except CheckpointError:  # that it is damaged is found with the others
        state = {}
    evaluation = state.get("evaluation")
    mean = evaluation.get("mean") if isinstance(evaluation, dict) else None
    found = {"mean": mean, "frames": state.get("frames")}
    numbers = {name: one if isinstance(one, int | float) else None for name, one in found.items()}
    return {"name": best.name} | numbers


def damaged_checkpoints(folder: Path) -> list[str]:
    """What is wrong with those that are."""
    found = []
    best = checkpoint.best(folder)
    every = [*checkpoint.checkpoints(folder), *([best] if best else []), *checkpoint.left(folder)]
    for path in every:
        try:
            checkpoint.check(path)
        except CheckpointError as error:
            if path.exists():  # a trainer that runs deletes old ones
                found.append(str(error))
    return found


def _print(console: Console, run: Path, found: dict[str, Any]) -> None:
    table = Table(box=None, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()

    def row(name: str, text: str) -> None:
        table.add_row(name, text)

    row("run", str(run))
    row("game", found["game"] or "none has come yet")
    row("checkpoint", found["checkpoint"] or "none yet")
    if best := found["best"]:
        known = best["mean"] is not None and best["frames"] is not None
        of = f", evaluated at {best['mean']:.4g}, frame {best['frames']:,}" if known else ""
        row("best", f"{best['name']}{of}")
    if found["left"]:
        row("set aside", ", ".join(found["left"]))
    row(
        "disk",
        f"{size_text(found['disk_bytes'])}, of it the replay {size_text(found['replay_bytes'])}",
    )
    if found["rows"]:
        total = sum(found["steps"].values())
        row("replay", f"{total:,} steps of {found['streams']:,} streams, "
            f"up to step {found['run_steps']:,} of the run")  # fmt: skip
        for who, steps in found["steps"].items():
            mean = found["mean_reward"][who]
            reward = "" if mean is None else f", mean reward {mean:.4g}"
            row(f"  {who}", f"{steps:,} ({steps / max(total, 1):.1%}){reward}")
        for who, of in found["returns"].items():
            row(f"  episodes of {who}", f"{of['episodes']:,}, mean return {of['mean']:.4g}")
        if found["rows_missing"] or found["rows_doubled"]:
            row("  by number", f"{found['rows_missing']:,} rows are missing, "
                f"{found['rows_doubled']:,} are there twice")  # fmt: skip
    else:
        row("replay", "no rows")
    row("checksums", f"{len(found['damages'])} damaged places" if found["damages"] else "all right")
    console.print(table, highlight=False)
    for damage in found["damages"]:
        console.print(damage, highlight=False, soft_wrap=True)

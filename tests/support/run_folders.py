"""Folders of runs as servers leave them, without a server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from config.load import config_from
from server.run.directory import write_effective
from server.run.evaluation import Evaluation
from tests.support.worlds import SPEC


def evaluation(frames: int, mean: float | None, *, partial: bool = False) -> dict[str, Any]:
    returns = () if mean is None else (mean,)
    expert = (200.0,) if frames == 0 else ()
    return Evaluation(1000.0 + frames, frames, (1, 1), returns, mean, expert, 200.0, partial).line()


def make_run(
    folder: Path, evaluations: list[dict[str, Any]], *, game: str | None = "test", **settings: Any
) -> Path:
    """A folder as a server leaves it: a row for every 100 frames up to the last evaluation."""
    folder.mkdir(parents=True)
    (folder / "run.json").write_text('{"launches": 2}\n')
    if game is not None:
        spec = msgspec.structs.replace(SPEC, game=game)
        (folder / "game.json").write_bytes(msgspec.json.encode(spec))
    values = {key.replace("__", "."): value for key, value in settings.items()}
    write_effective(config_from(values), folder)
    rows = [{"time": 1.0, "frames": None}] + [
        {"time": 1000.0 + at, "frames": at, "updates": at // 2, "episode_return_mean": at / 10}
        for at in range(0, evaluations[-1]["frames"] + 1 if evaluations else 0, 100)
    ]
    for name, lines in (("metrics", rows), ("evaluations", evaluations)):
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"{name}.jsonl").write_text(text)
    return folder

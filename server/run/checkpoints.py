"""The checkpoint that somebody names: of a run, by a word, by its file's name, or by its path."""

from __future__ import annotations

from pathlib import Path

from agent import checkpoint
from agent.checkpoint import CheckpointError

WORDS = ("best", "newest")


def of_run(run: Path, which: str | None = None) -> Path:
    """A checkpoint of a run: best (in its evaluations) or newest; without a word the best one, else
    the newest. Errors: CheckpointError."""
    folder = run / "checkpoints"
    newest, best = checkpoint.latest(folder), checkpoint.best(folder)
    if which in (None, "best") and best is not None:
        return best
    if which == "best":
        raise CheckpointError(
            f"{run} has no best checkpoint: it was not evaluated while it ran (`understudy play "
            "--eval-every`); name the newest one"
        )
    if newest is None:
        raise CheckpointError(f"expected a checkpoint in {folder}, found none; train first")
    return newest


def named(path: Path) -> Path:
    """The checkpoint that `RUN`, `RUN/best`, `RUN/newest`, `RUN/FILE` or the path of a file names.
    Errors: CheckpointError."""
    if path.is_file():
        return path
    if (path / "checkpoints").is_dir():
        return of_run(path)
    run, word = path.parent, path.name
    folder = run / "checkpoints"
    if not folder.is_dir():
        raise CheckpointError(
            f"expected the folder of a run, or a checkpoint, got {path}; `understudy runs` lists "
            "runs"
        )
    if word in WORDS:
        return of_run(run, word)
    if (folder / word).is_file():
        return folder / word
    there = ", ".join(each.name for each in checkpoint.checkpoints(folder))
    raise CheckpointError(
        f"expected best, newest or a checkpoint of {run}, got {word!r}; it has {there or 'none'}"
    )

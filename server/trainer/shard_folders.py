"""Where each of several learners keeps its rows, and which rows a learner takes over where there
were more of them before.

Nothing is copied: games that play after a start have new streams, so a stream lies whole in the
journal of one learner, and whoever reads that journal has all of it.
"""

from __future__ import annotations

from pathlib import Path

LEARNERS = "learners"


def folder_of(run: Path, rank: int) -> Path:
    """The first one's is the run's folder, each other one's is in there, with the run's
    checkpoints. Errors: OSError."""
    if not rank:
        return run
    own = run / LEARNERS / str(rank)
    own.mkdir(mode=0o700, parents=True, exist_ok=True)
    checkpoints = own / "checkpoints"
    if not checkpoints.is_symlink():
        checkpoints.symlink_to(Path("../../checkpoints"))
    return own


def taken_over(own: Path, rank: int, learners: int) -> list[Path]:
    """The folders of learners that are no more, whose rows this one takes in: those with the
    numbers rank + learners, rank + 2 learners and so on. `own`: its folder."""
    run = own.parents[1] if rank else own
    numbers = [int(each.name) for each in run.glob(f"{LEARNERS}/*") if each.name.isdigit()]
    gone = [n for n in sorted(numbers) if n >= learners and n % learners == rank]
    return [run / LEARNERS / str(number) for number in gone]

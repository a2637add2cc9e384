"""A shelf of checkpoints whose files say what they play, looked into at once or when told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from agent.checkpoint import BEST, CheckpointError, file_name
from server.gateway.checkpoint_shelf import CheckpointShelf
from tests.support.worlds import FixedPolicy


class Files:
    """A folder of checkpoints that hold nothing but the first part of an action, and a shelf."""

    def __init__(self, folder: Path, *, at_once: bool = True) -> None:
        self.folder = folder
        self.loads: list[str] = []
        self.at_once = at_once
        self.due: list[Callable[[], None]] = []
        """Looks that wait, unless they are made `at_once`."""
        self.shelf = CheckpointShelf(folder, self._load, self._background)
        self.time = 0.0

    def write(self, updates: int | None, plays: float | str) -> None:
        """A checkpoint of so many updates, or the best one."""
        name = BEST if updates is None else file_name(updates)
        temporary = self.folder / "new"
        temporary.write_text(str(plays))
        temporary.replace(self.folder / name)

    def remove(self, updates: int) -> None:
        (self.folder / file_name(updates)).unlink()

    def look(self) -> None:
        """The time for another look has come."""
        self.time += 100
        self.shelf.poll(self.time)

    def _load(self, path: Path) -> Any:
        self.loads.append(path.name)
        try:
            choice = float(path.read_text())
        except ValueError:
            raise CheckpointError(f"{path.name}: expected a checkpoint") from None
        policy = FixedPolicy((choice, 0.25, -0.5))
        policy.version = 100 + int(choice)
        return policy

    def _background(self, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        if self.at_once:
            then(work())
        else:
            self.due.append(lambda: then(work()))


def draws(files: Files, name: Any, n: int = 200) -> set[float | None]:
    """What is played in so many episodes."""
    rng, found = np.random.default_rng(0), set[float | None]()
    for _ in range(n):
        entry = files.shelf.choose(name, rng)
        if entry is None:
            found.add(None)
            continue
        policy: Any = entry.policy
        found.add(float(policy.action[0]))
        files.shelf.give_back(entry)
    return found

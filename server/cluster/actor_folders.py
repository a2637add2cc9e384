"""Folders of this machine where an actor finds what one of the same run has left that was killed.

Each actor has one, by its kind, the start of the run, and its number. One that ends in order
removes its own; what others have left goes with the next start of the run on this machine.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from server.cluster.messages import Setup
from server.ipc import shared_memory


def own_folder(kind: str, number: int, setup: Setup) -> Path:
    """An actor's. Errors: OSError."""
    path = Path(tempfile.gettempdir()) / f"{_prefix(kind, setup.folder)}{setup.launch}-{number}"
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def folders(kind: str, setup: Setup) -> list[Path]:
    """Those of all actors of a kind on this machine, of any start of the run."""
    return sorted(Path(tempfile.gettempdir()).glob(f"{_prefix(kind, setup.folder)}*"))


def remove_earlier(kind: str, setup: Setup) -> None:
    """Remove those of earlier starts, and the shared memory that they name."""
    for folder in folders(kind, setup):
        launch = folder.name.removeprefix(_prefix(kind, setup.folder)).partition("-")[0]
        if launch != str(setup.launch):
            remove_folder(folder)


def remove_folder(folder: Path) -> None:
    """Remove a folder, and the shared memory that it names."""
    shared_memory.remove_left(folder)
    with contextlib.suppress(OSError):
        shutil.rmtree(folder)


def _prefix(kind: str, run: str) -> str:
    """Of no other run's folders: what an actor finds there it ends."""
    return f"understudy-{kind}-{hashlib.sha256(os.path.realpath(run).encode()).hexdigest()[:20]}-"

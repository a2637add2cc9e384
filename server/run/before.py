"""`FolderBefore`: a run's folder as it was before a start, put back where the start is refused.

A start writes almost nothing before it is accepted (`RunDirectory.accept`), and what it does not
write needs no putting back. This is for the rest: lock files, the names of shared memory, a file
that was begun to see whether it can be; and a new run's files, whose game may turn out to be one
that cannot be learnt.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator
from pathlib import Path

_REPLACED = ("config.toml", "game.json", "run.json", "shared-memory", "summary.json")
"""Files that are written whole: small ones, whose bytes are kept."""

_ADDED_TO = (".jsonl", ".log")
"""Files that only grow: their lengths are kept."""

_FOLDERS = ("checkpoints", "demonstrations", "replay", "tensorboard")

_OTHERS = ("control.sock", "in-flight", "lock", "trainer-lock")


class FolderBefore:
    """What a start may change in a run's folder. Files that no start writes are left alone, whoever
    put them there, and whenever."""

    def __init__(self, path: Path, *, but: Collection[str] = ()) -> None:
        """`path`: of the folder. `but`: names in it that were not there before."""
        self._path = path
        self._names = {each for each in _ours(path) if each.name not in but}
        self._bytes: dict[Path, tuple[bytes, int]] = {}
        self._lengths: dict[Path, int] = {}
        for file in self._names:
            with contextlib.suppress(OSError):
                if file.parent == path and file.name in _REPLACED:
                    self._bytes[file] = file.read_bytes(), file.stat().st_mode & 0o777
                elif file.suffix in _ADDED_TO:
                    self._lengths[file] = file.stat().st_size

    def restore(self) -> None:
        """Put the folder back. Nobody may write to it any more. What cannot be put back stays."""
        for path in reversed(list(_ours(self._path))):  # what is in a folder before the folder
            if path not in self._names:
                with contextlib.suppress(OSError):
                    path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        for path, (data, mode) in self._bytes.items():
            with contextlib.suppress(OSError):
                if not path.exists() or path.read_bytes() != data:
                    # In place: on a full disk there is room for no other file.
                    path.write_bytes(data)
                path.chmod(mode)
        for path, length in self._lengths.items():
            with contextlib.suppress(OSError):
                if path.stat().st_size > length:
                    os.truncate(path, length)


def _ours(folder: Path) -> Iterator[Path]:
    """What is in a run's folder by a name that a start gives; a folder before what is in it."""
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        name = path.name.removesuffix(".tmp")
        if name in _FOLDERS and path.is_dir():
            yield path
            yield from sorted(path.rglob("*"))
        elif name in (*_REPLACED, *_OTHERS) or path.suffix in _ADDED_TO:
            yield path

"""A photograph of a folder, to see that something left it as it was, byte for byte."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Seen:
    """What is to be seen of one name."""

    kind: str
    mode: str
    content: bytes = b""

    def __str__(self) -> str:
        return f"{self.kind} {self.mode}, {len(self.content)} bytes"


Photograph = dict[str, Seen]


def photograph(folder: Path) -> Photograph:
    """Everything in a folder by its path there: names, modes, bytes, links. The folder itself is
    "."; without it there is nothing in the picture."""
    if not folder.exists():
        return {}
    return {str(path.relative_to(folder)): _seen(path) for path in (folder, *folder.rglob("*"))}


def _seen(path: Path) -> Seen:
    status = path.lstat()
    mode = stat.filemode(status.st_mode)
    if stat.S_ISLNK(status.st_mode):
        return Seen("link", mode, str(path.readlink()).encode())
    if stat.S_ISREG(status.st_mode):
        return Seen("file", mode, path.read_bytes())
    return Seen("folder" if stat.S_ISDIR(status.st_mode) else "other", mode)


def differences(before: Photograph, after: Photograph) -> list[str]:
    """What changed, a line for each name."""
    found = []
    for name in sorted(before.keys() | after.keys()):
        was, now = before.get(name), after.get(name)
        if was is None:
            found.append(f"{name} is new: {now}")
        elif now is None:
            found.append(f"{name} is gone: {was}")
        elif was != now:
            same = f", from byte {_first_change(was.content, now.content)} on"
            found.append(f"{name} changed: {was} -> {now}{same * (was.content != now.content)}")
    return found


def _first_change(was: bytes, now: bytes) -> int:
    pairs = enumerate(zip(was, now, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(was), len(now)))

"""Atomic writes: files written whole or not at all, and whole lines appended to files."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

TEMPORARY = ".tmp"
"""Suffix of a file that is still being written."""


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """A temporary file beside `path` to write to, which is renamed once it is on the disk.

    Whenever the process or the machine stops, `path` is the old file or the new one, complete.
    Makes the folder if there is none. Errors: OSError and what the writer raises, with the
    temporary file removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + TEMPORARY)
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    # The new name is on the disk only when the folder is.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def append_whole(path: Path, data: bytes) -> None:
    """Add lines to a file, all of `data` or nothing, on a line of their own whatever the file ends
    with. Errors: OSError, with the file as long as it was: a full disk leaves no half line for the
    next one to be glued to."""
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        size = os.lseek(file, 0, os.SEEK_END)
        if size and os.pread(file, 1, size - 1) != b"\n":
            data = b"\n" + data
        try:
            written = os.write(file, data)
            while written < len(data):  # says what is wrong, where there was room for a part alone
                written += os.write(file, data[written:])
        except OSError:
            os.ftruncate(file, size)
            raise
    finally:
        os.close(file)

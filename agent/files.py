"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

TEMPORARY = ".tmp"
"""Behind the name of a file that is still being written."""


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

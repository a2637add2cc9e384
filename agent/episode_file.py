"""Episodes in one file, each added whole when it ends: what a recording is while it is made.

Each is a record of its own: a header of 24 bytes (magic, u64 length, u32 checksum of the episode,
u32 checksum of the header before it, little-endian), and then the episode. It is added with one
write. So a process that is killed loses nothing of what was added; where it was killed in the
middle of a write, or the machine stopped, the checksums tell, and the records before are whole.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

MAGIC = b"USTUDYEP"

_HEAD = struct.Struct("<8sQI")  # magic, length and checksum of the episode
_CHECKSUM = struct.Struct("<I")  # of the header before it

HEAD_BYTES = _HEAD.size + _CHECKSUM.size


def append(path: Path, episode: bytes) -> None:
    """Add an episode, all of it or nothing; makes the file if there is none. Errors: OSError, with
    the file as it was."""
    head = _HEAD.pack(MAGIC, len(episode), zlib.crc32(episode))
    data = memoryview(head + _CHECKSUM.pack(zlib.crc32(head)) + episode)
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        size = os.lseek(file, 0, os.SEEK_END)
        try:
            while data:  # what is wrong is said where there was room for a part alone
                data = data[os.write(file, data) :]
        except OSError:
            os.ftruncate(file, size)
            raise
    finally:
        os.close(file)


def is_one(path: Path) -> bool:
    """Whether a file begins as these do. Errors: OSError."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read(path: Path) -> Iterator[bytes | int]:
    """The episodes in a file in their order; and where what follows is damaged or incomplete, last,
    how many bytes that is. Errors: OSError."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        while (at := file.tell()) < size:
            head = file.read(HEAD_BYTES)
            episode = _of(head, file.read(_length(head, size - at)))
            if episode is None:
                yield size - at
                return
            yield episode


def _length(head: bytes, left: int) -> int:
    """How long the episode behind a header is; 0 where that is no header of one that is there."""
    if len(head) < HEAD_BYTES or zlib.crc32(head[: _HEAD.size]) != _CHECKSUM.unpack(head[-4:])[0]:
        return 0
    length: int = _HEAD.unpack_from(head)[1]
    return length if length <= left - HEAD_BYTES else 0


def _of(head: bytes, episode: bytes) -> bytes | None:
    """The episode, if it is whole."""
    if not episode or _HEAD.unpack_from(head)[2] != zlib.crc32(episode):
        return None
    return episode

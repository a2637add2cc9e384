"""Opening zip files that anybody may have made: what the directory says fits the file's length, and
nothing is unpacked."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Collection
from typing import IO

AT_ONCE = 2**20
"""Bytes that are read at a time at most, and so the longest directory."""

_RATIO = 1040
"""How much longer what is unpacked can be: what deflate reaches at most is 1,032."""


class ZipError(Exception):
    """A zip that cannot be right; the message says what was expected and what came."""


def open_zip(file: IO[bytes], methods: Collection[int]) -> zipfile.ZipFile:
    """A zip whose entries are packed by these methods, each there once. Errors: ZipError; those of
    zipfile, which have no class in common."""
    size = file.seek(0, io.SEEK_END)
    archive = zipfile.ZipFile(_Bounded(file, size))
    names = set()
    packed = 0
    for entry in archive.infolist():
        name = short(entry.filename)
        if name in names:
            raise ZipError(f"expected each entry once, got {name} twice")
        names.add(name)
        if entry.compress_type not in methods or entry.flag_bits & 1:
            raise ZipError(f"entry {name}: packed in a way that understudy does not use")
        packed += entry.compress_size
        stored = entry.compress_type == zipfile.ZIP_STORED
        most = entry.compress_size * (1 if stored else _RATIO) + (0 if stored else _RATIO)
        if entry.file_size > most:
            raise ZipError(
                f"entry {name}: expected at most {most:,} bytes of {entry.compress_size:,} packed "
                f"ones, got {entry.file_size:,}"
            )
    if packed > size:
        raise ZipError(f"expected entries within its {size:,} bytes, got {packed:,} of them")
    return archive


def short(text: str) -> str:
    """A text from a file, in a line."""
    return repr(text if len(text) <= 80 else text[:80] + "…")


class _Bounded:
    """A file of which nobody reads much at a time: it is the zip that says how much."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._size = size
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, count: int = -1) -> bytes:
        if count < 0:
            count = self._size - self._file.tell()
        if count > AT_ONCE:
            raise ZipError(f"expected at most {AT_ONCE:,} bytes of directory, got {count:,}")
        return self._file.read(count)

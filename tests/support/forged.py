"""Files that lie: zips whose directory and arrays say what is not so, with checksums that are right
where that is possible."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np


def npy(header: str, data: bytes = b"", version: int = 1) -> bytes:
    """An array whose header is this text."""
    size = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + size + header.encode("latin1") + data


def array(value: Any) -> bytes:
    """An array as .npy."""
    memory = io.BytesIO()
    np.save(memory, np.asarray(value))
    return memory.getvalue()


def entries(path: Path) -> dict[str, bytes]:
    """What a zip holds, unpacked."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(path: Path, content: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> None:
    """A zip of these entries."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in content.items():
            archive.writestr(name, data)


def zeros_behind(path: Path, name: str, head: bytes, length: int) -> None:
    """Add an entry of a head and so many zeros, packed a thousand times smaller."""
    with (
        zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(name, "w", force_zip64=True) as entry,
    ):
        entry.write(head)
        for _ in range(length >> 20):
            entry.write(bytes(2**20))


def directory(data: bytearray) -> Iterator[int]:
    """Where the entries of a zip's directory begin."""
    at = data.find(b"PK\x01\x02")
    while at >= 0:
        yield at
        at = data.find(b"PK\x01\x02", at + 4)


def set_in_directory(data: bytearray, offset: int, form: str, value: int, which: str = "") -> None:
    """Change a field of the directory's entries whose name begins with `which`."""
    for at in list(directory(data)):
        if data[at + 46 :].startswith(which.encode()):
            struct.pack_into(form, data, at + offset, value)


METHOD, PACKED, UNPACKED, OFFSET, FLAGS = 10, 20, 24, 42, 8
"""Offsets in an entry of the directory."""


def episode(content: bytes) -> bytes:
    """A record of a recording that is under way (agent.episode_file), with right checksums."""
    head = struct.pack("<8sQI", b"USTUDYEP", len(content), zlib.crc32(content))
    return head + struct.pack("<I", zlib.crc32(head)) + content

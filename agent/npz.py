"""Reading .npz files that anybody may have made: known entries only, and no byte is unpacked before
sizes fit.

What a file says of itself is compared with what there is, from the outside inwards: the directory
of the zip with the length of the file, an array's header with the length of its entry, and at last
the bytes with their checksum. So a file takes no more memory than its arrays, and those no more
than a third of what this process may have.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from agent.memory_limits import memory_bytes
from agent.zips import AT_ONCE, ZipError, open_zip, short

_HEADER = 4096
"""The longest header of an array."""

_MAGIC = b"\x93NUMPY\x01\x00"
"""Of the first version of .npy. Others are for headers that are longer than any of ours."""


class NpzError(Exception):
    """A file that is no such .npz; the message says what was expected and what came."""


@dataclass(frozen=True, slots=True)
class Head:
    """What an array's header says."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool
    length: int
    """Of the header, in bytes."""

    @property
    def nbytes(self) -> int:
        """Of the array."""
        return self.dtype.itemsize * math.prod(self.shape)

    def __str__(self) -> str:
        return f"{self.dtype} {list(self.shape)}"


class Npz:
    """An .npz that is open. Errors of everything: NpzError, OSError."""

    def __init__(self, file: IO[bytes], budget: int | None = None) -> None:
        """`budget`: how many bytes may be unpacked in all; `memory_budget` if none is given."""
        self._left = memory_budget() if budget is None else budget
        with _named("the directory"):
            self._zip = open_zip(file, (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
        entries = self._zip.infolist()
        self._entries = {each.filename.removesuffix(".npy"): each for each in entries}
        self._heads: dict[str, Head] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def check_names(self, known: Collection[str]) -> None:
        """Refuse a file with other entries than these."""
        for name, each in self._entries.items():
            if name not in known or not each.filename.endswith(".npy"):
                raise NpzError(
                    f"expected the entries {', '.join(sorted(known))} and no others, got "
                    f"{short(each.filename)}"
                )

    def head(self, name: str) -> Head:
        """What an entry's header says; what it says fits. KeyError where there is no such entry."""
        if name not in self._heads:
            with self._opened(name) as (_, head):
                self._heads[name] = head
        return self._heads[name]

    def text(self, name: str, most: int = 1024) -> str:
        """A single value, as text, of at most so many bytes."""
        head = self.head(name)
        if head.shape or head.dtype.kind not in "US" + "iu" or head.nbytes > most:
            raise NpzError(f"entry {name!r}: expected one text or whole number, got {head}")
        return str(self.read(name))

    def read(self, name: str) -> npt.NDArray[Any]:
        """The array of an entry. KeyError where there is none."""
        with self._opened(name) as (stream, head):
            self._take(head.nbytes)
            array = np.empty(head.shape, head.dtype, order="F" if head.fortran else "C")
            flat = array.reshape(-1, order="A").view(np.uint8) if head.nbytes else b""
            view, at = memoryview(flat), 0  # type: ignore[arg-type]
            while at < len(view):
                got = stream.readinto(view[at : at + AT_ONCE])  # type: ignore[attr-defined]
                if not got:
                    raise NpzError(f"expected {head.nbytes:,} bytes, got {at:,}")
                at += got
            if stream.read(1):  # behind the last byte the checksum is compared
                raise NpzError(f"expected {head.nbytes:,} bytes, got more")
        return array

    def _take(self, nbytes: int) -> None:
        if nbytes > self._left:
            raise NpzError(f"expected at most {self._left:,} bytes more here, got {nbytes:,}")
        self._left -= nbytes

    @contextmanager
    def _opened(self, name: str) -> Iterator[tuple[IO[bytes], Head]]:
        entry = self._entries[name]
        with _named(f"entry {name!r}"), self._zip.open(entry) as stream:
            head = self._heads.get(name)
            if head is not None:  # looked at before
                stream.read(head.length)
            else:
                head = _head(stream)
            if head.length + head.nbytes != entry.file_size:
                raise NpzError(
                    f"expected an array of {entry.file_size - head.length:,} bytes, got a "
                    f"header for {head.nbytes:,}: {head}"
                )
            yield stream, head


def memory_budget() -> int:
    """Bytes that what is read may take: there are copies of it before it is where it is used."""
    return memory_bytes() // 3


def _head(stream: IO[bytes]) -> Head:
    start = stream.read(len(_MAGIC) + 2)
    if start[: len(_MAGIC)] != _MAGIC:
        raise NpzError("expected an array (.npy, version 1.0), got something else")
    length = int.from_bytes(start[-2:], "little")
    if length > _HEADER:
        raise NpzError(f"expected a header of at most {_HEADER:,} bytes, got {length:,}")
    text = io.BytesIO(start[-2:] + stream.read(length))
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(text, max_header_size=_HEADER)
    # A record's fields are numbers themselves.
    kinds = [dtype[name].base.kind for name in dtype.names] if dtype.names else [dtype.kind]
    plain = all(kind in "biufSU" for kind in kinds)
    if not plain or dtype.itemsize == 0 or min(shape, default=0) < 0:
        raise NpzError(f"expected numbers or text, got {short(str(dtype))} {list(shape)}")
    return Head(dtype, shape, fortran, len(start) + length)


@contextmanager
def opened(path: Path) -> Iterator[Npz]:
    """The .npz of this name. Errors: NpzError, OSError."""
    with path.open("rb") as file:
        yield Npz(file)


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Errors of damaged content as NpzError, which says where."""
    try:
        yield
    except OSError:
        raise
    except (NpzError, ZipError) as error:
        raise NpzError(f"{what}: {error}") from None
    # Readers of zip and .npy raise what they come upon: they have no class in common.
    except Exception as error:
        raise NpzError(f"{what}: {short(str(error)) or type(error).__name__}") from error

"""Memory of intermediate results: kept when it is freed, and in huge pages."""

from __future__ import annotations

import contextlib
import ctypes
import mmap

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3  # of malloc.h
_TOP_PAD = 128 * 2**10
"""What glibc begins with."""

KEPT_BYTES = 256 * 2**20
"""Of memory that was freed, at most, at the end of the heap."""

OWN_BYTES = 32 * 2**20
"""What is as large gets pages of its own, which go when it is freed: the replay, not a batch. glibc
allows no more."""

HUGE_BYTES = 128 * 2**20
"""Of the heap, in huge pages: the parameters, their optimizer's state and what an update makes of a
batch, of usual networks. It takes real memory only as it is used."""

_HUGE_PAGE = 2 * 2**20


def keep_freed_memory() -> None:
    """Let this process keep what it frees, in huge pages where the system has them for who asks:
    where its C library is glibc, and once.

    By itself glibc gives memory back to the system whenever some megabytes at the end of the heap
    are free. An update of 768 rows then touched 8 MB of new pages, in some processes and not in
    others, as it happened. And an update goes through more pages of 4 KiB than a processor can
    remember the places of."""
    with contextlib.suppress(AttributeError, OSError):  # other C libraries
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, OWN_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
        libc.mallopt(_M_TOP_PAD, HUGE_BYTES)
        _take_heap(libc)
        libc.mallopt(_M_TOP_PAD, _TOP_PAD)


def _take_heap(libc: ctypes.CDLL) -> None:
    """Let the heap grow by HUGE_BYTES and more, and ask for huge pages there."""
    libc.sbrk.restype = libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes, libc.free.argtypes = [ctypes.c_size_t], [ctypes.c_void_p]
    libc.sbrk.argtypes = [ctypes.c_ssize_t]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    before = libc.sbrk(0)
    libc.free(libc.malloc(OWN_BYTES - 2**20))
    begin, end = -(-before // _HUGE_PAGE) * _HUGE_PAGE, libc.sbrk(0) // _HUGE_PAGE * _HUGE_PAGE
    if begin < end:  # else it got memory elsewhere
        libc.madvise(begin, end - begin, mmap.MADV_HUGEPAGE)

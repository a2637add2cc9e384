"""Arrays of rows on one device, used as rings: how they are made, written and gathered."""

from __future__ import annotations

import math
import sys

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from agent.device import uploaded

_ONE_ELEMENT = {4: torch.float32, 8: torch.int64, 16: torch.complex128}


def zeros(shape: tuple[int, ...], dtype: npt.DTypeLike, device: torch.device) -> Tensor:
    """Zeroed storage. On the host it takes real memory only as it is written."""
    if device.type == "cpu":
        # Through numpy, which asks the kernel for huge pages: gathering random rows from them
        # takes a fifth less time.
        return torch.from_numpy(np.zeros(shape, dtype))
    return torch.zeros(shape, dtype=torch.from_numpy(np.empty(0, dtype)).dtype, device=device)


def put(store: Tensor, at: int, rows: npt.NDArray[np.generic]) -> None:
    """Write rows to the places from `at` on, going round at the end. At most len(store) rows."""
    fits = min(len(rows), len(store) - at)
    for place, part in ((at, rows[:fits]), (0, rows[fits:])):
        if not len(part):
            continue
        if store.device.type == "cpu":
            store.numpy()[place : place + len(part)] = part
        else:
            store[place : place + len(part)].copy_(uploaded(part, store.device))


def gather(store: Tensor, places: Tensor, buffers: Buffers | None = None) -> Tensor:
    """The rows at these places: store [N, k], places [B] -> [B, k], in memory of `buffers`.

    A row of 4, 8 or 16 bytes is gathered as one element: on the cpu that is two to five times as
    fast as a row of several.
    """
    one = _ONE_ELEMENT.get(store.shape[1] * store.element_size())
    if one is None:
        if buffers is None or not len(places):
            return store.index_select(0, places)
        out = buffers.take((len(places), store.shape[1]), store.dtype)
        return torch.index_select(store, 0, places, out=out)
    elements = store.view(one).view(-1).index_select(0, places)
    return elements.view(-1, 1).view(store.dtype)


class Buffers:
    """Memory of batches on the host, used again once nobody holds a tensor over it.

    Fresh megabytes for every batch cost more in page faults than the gather that fills them.
    Whether a buffer is free is read from its reference count, which counts the tensors over it
    with all their views, so a batch stays valid for as long as anybody holds it.
    """

    def __init__(self, keep: int = 4) -> None:
        self._keep = keep
        self._pool: list[npt.NDArray[np.uint8]] = []

    def take(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """An uninitialized tensor of this shape on the cpu."""
        nbytes = math.prod(shape) * dtype.itemsize
        self._pool = [buffer for buffer in self._pool if len(buffer) == nbytes]
        for i in range(len(self._pool)):
            if sys.getrefcount(self._pool[i]) == _UNUSED:
                buffer = self._pool[i]
                break
        else:
            buffer = np.empty(nbytes, np.uint8)
            if len(self._pool) < self._keep:
                self._pool.append(buffer)
        return torch.from_numpy(buffer).view(dtype).view(shape)


_UNUSED = 2
"""References to a buffer nobody uses: the pool's, and the one passed to getrefcount."""

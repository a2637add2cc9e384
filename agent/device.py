"""The device that trains, and all that is done otherwise on cuda: copies that nobody waits for.

On the cpu each is done at once. Nothing else in the product speaks to cuda, but for
agent.cuda_graph and agent.device_name.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from agent.device_name import device_name


def resolve_device(name: str, field: str) -> torch.device:
    """`auto` is cuda where there is one, else cpu. Errors: RuntimeError that names the
    configuration's `field` where there is no such device."""
    return torch.device(device_name(name, field))


def use_threads(asked: int, gateways: int) -> None:
    """Compute with so many threads in this process; with 0, with one for each core but those of the
    gateways. Each operation waits for all of its threads: where one has no core, an update of a
    small network takes five times as long (docs/benchmarks.md)."""
    torch.set_num_threads(asked or max(1, torch.get_num_threads() - gateways))


def free_memory(name: str) -> tuple[int, int]:
    """Free and all bytes of the cuda device of this name."""
    return torch.cuda.mem_get_info(name)


def round_products(device: torch.device, *, to_tf32: bool) -> None:
    """Whether a GPU rounds what products of float32 are made of to 10 bits, in this process."""
    if device.type == "cuda":
        torch.backends.cuda.matmul.fp32_precision = "tf32" if to_tf32 else "ieee"
        torch.backends.cudnn.fp32_precision = "tf32" if to_tf32 else "ieee"


def synchronize(device: torch.device | str) -> None:
    """Wait until the device has done all that was asked of it."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def uploaded(rows: npt.NDArray[np.generic], device: torch.device) -> Tensor:
    """An array on the device, for what is asked of it from now on; on the cpu, over the same
    memory. Nobody waits: the copy is made from pinned memory, on a stream of its own, while what
    was asked for before still runs. The array may be changed as soon as this returns."""
    if device.type != "cuda":
        # torch warns of arrays that it could write to but must not: views of shared memory.
        return torch.from_numpy(rows if rows.flags.writeable else rows.copy())
    dtype = torch.from_numpy(np.empty(0, rows.dtype)).dtype
    # torch keeps pinned memory, and gives it out again once copies from it are made.
    pinned = torch.empty(rows.shape, dtype=dtype, pin_memory=True)
    pinned.numpy()[...] = rows
    stream, using = _stream(device, "up"), torch.cuda.current_stream(device)
    with torch.cuda.stream(stream):
        there = pinned.to(device, non_blocking=True)
    using.wait_stream(stream)
    there.record_stream(using)
    return there


class Download:
    """A tensor as it is now, on its way to the host. What follows on the device does not wait."""

    def __init__(self, tensor: Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        if tensor.device.type != "cuda":
            self._host = tensor.detach().clone()
            return
        now, device = tensor.detach().clone(), tensor.device
        self._host = torch.empty(now.shape, dtype=now.dtype, pin_memory=True)
        stream = _stream(device, "down")
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            self._host.copy_(now, non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record(stream)
        now.record_stream(stream)

    @property
    def arrived(self) -> bool:
        """Whether `wait` would not."""
        return self._event is None or bool(self._event.query())  # type: ignore[no-untyped-call]

    def wait(self) -> Tensor:
        """The copy, on the cpu, once it has arrived."""
        if self._event is not None:
            self._event.synchronize()
        return self._host


class LaunchesAhead:
    """How far the host may be ahead of the device: nothing waits for it, so something must."""

    def __init__(self, device: torch.device, most: int) -> None:
        """`most`: marks that the device has not come to, at most."""
        self._device, self._most = device, most
        self._marks: deque[torch.cuda.Event] = deque()

    def mark(self) -> None:
        """Behind all that was asked of the device; waits while there are too many marks."""
        if self._device.type != "cuda":
            return
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        self._marks.append(event)
        while len(self._marks) > self._most:
            self._marks.popleft().synchronize()


class DeviceNumbers:
    """Numbers that lie on the device, so that what is asked of it stays the same when they change;
    each is written only then."""

    def __init__(self, device: torch.device, start: Sequence[float], dtype: torch.dtype) -> None:
        """The first ones, which say how many there are."""
        self.there = torch.tensor(start, dtype=dtype, device=device)
        """All of them, [n]."""
        self._each = list(self.there.unbind())
        self._known = list(start)

    def __getitem__(self, number: int) -> Tensor:
        """One of them, []."""
        return self._each[number]

    def set(self, number: int, value: float) -> None:
        """Change one. Nobody waits."""
        if self._known[number] != value:
            self._known[number] = value
            self._each[number].fill_(value)


@cache
def _stream(device: torch.device, use: str) -> torch.cuda.Stream:  # noqa: ARG001
    """A stream of its own for each use."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

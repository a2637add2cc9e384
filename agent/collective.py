"""Collective operations: what the learners of several processes, the ranks, do together.

A learner that is alone has `ALONE`, whose operations do nothing. All ranks must call the same
operations in the same order; each waits for the others.
"""

from __future__ import annotations

import zlib
from datetime import timedelta
from typing import Any, Protocol

import torch
from torch import Tensor


class Collective(Protocol):
    """Some ranks."""

    @property
    def rank(self) -> int:
        """This one's number, from 0."""

    @property
    def size(self) -> int:
        """How many there are."""

    @property
    def gradients(self) -> torch.dtype:
        """What gradients are added up in: that of the parameters, or a smaller one."""

    def gather(self, numbers: Tensor) -> Tensor:
        """Numbers of each rank, float64 [n] on the cpu: [ranks, n], the same at all."""

    def add(self, tensor: Tensor) -> None:
        """The sum over all ranks takes the tensor's place, of any shape. All have the same bits."""


class Alone:
    """One rank."""

    rank, size, gradients = 0, 1, torch.float32

    def gather(self, numbers: Tensor) -> Tensor:
        return numbers[None]

    def add(self, tensor: Tensor) -> None:
        pass


ALONE = Alone()


class RanksDiffer(RuntimeError):
    """Learners that should be the same are not."""


class Gloo:
    """Ranks that are connected by gloo, in as many processes or on as many machines.

    Errors of both operations: RuntimeError where a rank has died, or did not come in time.
    """

    def __init__(
        self,
        store: Any,
        rank: int,
        size: int,
        *,
        timeout_s: float,
        interface: str | None = None,
        gradients: torch.dtype = torch.float32,
    ) -> None:
        """Wait for all ranks, which find each other through `store` (of
        torch.distributed). `interface`: of the network,
        "lo" for ranks of one machine; None: that of the host's name. `gradients`: torch.bfloat16
        halves what an update sends."""
        from torch import distributed

        self.rank, self.size, self.gradients = rank, size, gradients
        group: Any = distributed.ProcessGroupGloo
        options = group._Options()
        options._timeout = timedelta(seconds=timeout_s)
        device = {} if interface is None else {"interface": interface}
        options._devices = [group.create_device(**device)]
        self._group = group(store, rank, size, options)

    def gather(self, numbers: Tensor) -> Tensor:
        found = [torch.empty_like(numbers) for _ in range(self.size)]
        self._group.allgather([found], [numbers]).wait()
        return torch.stack(found)

    def add(self, tensor: Tensor) -> None:
        self._group.allreduce([tensor]).wait()


def check_same(collective: Collective, parameters: Tensor) -> None:
    """Errors: RanksDiffer unless all ranks have the same parameters, float32 [n], to the bit. Waits
    for the device."""
    if collective.size == 1:
        return
    digest = zlib.crc32(parameters.detach().cpu().numpy().data)
    digests = collective.gather(torch.tensor([digest], dtype=torch.float64))[:, 0].tolist()
    if len(set(digests)) > 1:
        told = ", ".join(f"{int(each):08x}" for each in digests)
        raise RanksDiffer(
            f"expected the same parameters at all {collective.size} learners, got the checksums "
            f"{told}; give all of them the same settings and the same kind of device, and start "
            "them from one checkpoint"
        )

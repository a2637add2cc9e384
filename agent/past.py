"""What led to the rows of a batch: the frames that a network with a memory goes through before it
sees what a row shows, and before it sees what the row bootstraps from.

    steps back:   burn-in, without a gradient │ unrolled, with one │ the row │ up to what follows
                  0 ..                        │          .. before │         │           .. T

States are those of a network of then. So each network begins with the one that was stored before
the oldest frame and goes through the frames again (R2D2, Kapturowski et al. 2019): the burn-in
makes the state its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from agent.networks import QNetwork


@dataclass(frozen=True, slots=True)
class Past:
    """The frames of B windows, oldest first, as long as the longest can be."""

    frames: tuple[Tensor, ...]
    """What the game showed: for each of its observations a tensor [T, B, *shape], as Batch has
    them: the frames before each row, the row's own, and those before what it bootstraps from."""
    real: Tensor
    """Which frames are there, bool [T, B]: not those before the beginning of an episode, before a
    gap or an overwritten row, nor those behind a shorter window."""
    state: Tensor
    """The recurrent state before the oldest frame that is there, float32 [B, size]."""
    before: int
    """Frames before the row's own."""

    def to(self, device: torch.device | str, *, non_blocking: bool) -> Past:
        """The same on another device."""

        def moved(column: Tensor) -> Tensor:
            return column.to(device, non_blocking=non_blocking)

        return Past(
            tuple(map(moved, self.frames)), moved(self.real), moved(self.state), self.before
        )

    def split(self, size: int) -> list[Past]:
        """Those of `size` windows each, as views."""
        frames = zip(*(torch.split(part, size, dim=1) for part in self.frames), strict=True)
        real, state = torch.split(self.real, size, dim=1), torch.split(self.state, size)
        return [Past(*of_one, self.before) for of_one in zip(frames, real, state, strict=True)]


class Recalled(NamedTuple):
    """The recurrent states of b rows, [b, size]; None of networks without a memory."""

    state: Tensor | None
    """Before what the row shows, of the online network, with a gradient."""
    next_online: Tensor | None
    """Before what it bootstraps from, without a gradient."""
    next_target: Tensor | None
    """The same of the target network."""


NOTHING = Recalled(None, None, None)


def recall(online: QNetwork, target: QNetwork, past: Past | None, burn_in: int) -> Recalled:
    """Go through what led to the rows of a batch. `burn_in`: frames without a gradient."""
    if past is None:
        return NOTHING
    rows, stored, every = slice(None), past.state, len(past.real)
    with torch.no_grad():
        begun = _through(online, past, rows, range(burn_in), stored)
    state = _through(online, past, rows, range(burn_in, past.before), begun)
    with torch.no_grad():
        behind = range(past.before, every)
        next_online = _through(online, past, rows, behind, state.detach())
        next_target = _through(target, past, rows, range(every), stored)
    return Recalled(state, next_online, next_target)


@torch.no_grad()
def state_before(network: QNetwork, past: Past | None, rows: slice) -> Tensor | None:
    """The recurrent states before what some rows show, [b, size]; None without a memory."""
    if past is None:
        return None
    return _through(network, past, rows, range(past.before), past.state[rows])


def _through(network: QNetwork, past: Past, rows: slice, steps: range, state: Tensor) -> Tensor:
    """The states behind these frames, [b, size]."""
    if not len(steps):
        return state
    assert network.memory is not None
    part = slice(steps.start, steps.stop)
    frames = [each[part, rows].flatten(0, 1) for each in past.frames]
    x = network.see(*frames).view(len(steps), len(state), -1)
    return network.memory.unroll(x, past.real[part, rows], state)

"""A learner of a cluster: the trainer's process of today, and what feeds it from other machines."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from server.cluster.actor_folders import own_folder, remove_earlier, remove_folder
from server.cluster.host import ProcessHost
from server.cluster.inbox import NOT_YET, Inbox
from server.cluster.messages import (
    Decide,
    Delivery,
    Forget,
    Receipt,
    Reply,
    RingNumbers,
    Setup,
    Start,
)
from server.ipc import shared_memory
from server.ipc.messages import GameDecided, Ready
from server.ipc.weight_slot import WeightSlot, weights_name
from server.supervisor import entry_points
from server.trainer.task import Task

LOOK_S = 0.005
"""How often the slot is looked at for new weights."""

Weights = tuple[int, npt.NDArray[np.float32] | None]
"""A version, and the network's parameters; None where there are none above the one asked for."""


class LearnerShard(ProcessHost):
    """Journal, replay and learner of some gateways. `deliver` and `weights` are called by other
    machines, in threads of their own."""

    def __init__(self, rank: int, gateways: tuple[int, ...]) -> None:
        """`rank`: among the learners, from 0. `gateways`: those whose rows come here, by number."""
        super().__init__()
        self._rank = rank
        self._gateways = gateways
        self._inbox: Inbox | None = None
        self._slot: WeightSlot | None = None
        self._size = 0
        """Of the network, once the trainer has said it."""

    # Called by the driver.

    def carry_out(self, order: Any) -> None:
        if isinstance(order, Setup):
            shared_memory.remove_left(self._own(order))
            remove_earlier("learner", order)
        elif isinstance(order, Decide):
            setup = self.setup
            assert setup is not None
            if self._inbox is None:
                config = setup.config
                self._inbox = Inbox(
                    order.spec, self._gateways, config.server.ring_steps,
                    config.learner.state_size, setup.launch,
                )  # fmt: skip
                names = self._inbox.names
                slots = [weights_name(names[0])] if names else []
                shared_memory.note(self._own(setup), [*names, *slots])
        elif isinstance(order, Forget):
            self.forget()
        else:
            super().carry_out(order)

    def started(self, order: Start) -> tuple[Callable[..., None], tuple[Any, ...], tuple[Any, ...]]:
        assert self.setup is not None
        task = order.task or Task()
        return entry_points.trainer, (order.config,), (Path(self.setup.folder), task)

    def down(self, name: str, message: Any) -> Any:  # noqa: ARG002
        if isinstance(message, GameDecided):
            return replace(message, rings=self._inbox.names if self._inbox else ())
        return message

    def up(self, name: str, message: Any) -> Any:  # noqa: ARG002
        if isinstance(message, Ready):
            self._size = message.size
        return message

    def complete(self, reply: Reply) -> None:
        for gateway, steps in (self._inbox.kept if self._inbox else {}).items():
            reply.rings[gateway] = RingNumbers(steps, 0, 0, 0, 0, 0)

    def numbers(self) -> dict[str, Any]:
        inbox, slot = self._inbox, self._slot
        waiting = inbox.used if inbox is not None else 0
        return {"rows_waiting": waiting, "version": slot.version if slot is not None else 0}

    # Called by nodes.

    def deliver(self, delivery: Delivery) -> Receipt:
        """Take in rows of a gateway. Errors: ValueError."""
        inbox, slot = self._inbox, self._slot_now()
        return NOT_YET if inbox is None or slot is None else inbox.take(delivery, slot.allowed)

    def weights(self, have: int, wait_s: float) -> Weights:
        """The newest weights above version `have`, after at most `wait_s`."""
        until = time.monotonic() + wait_s
        while True:
            slot = self._slot_now()
            if slot is not None and slot.version > have:
                vector = np.empty(self._size, np.float32)
                if version := slot.fetch(vector):
                    return version, vector
            if time.monotonic() >= until:
                return have, None
            time.sleep(LOOK_S)

    def _slot_now(self) -> WeightSlot | None:
        """The trainer's slot; None before it has said that the first weights are in it. It stays
        when a trainer ends: the next one knows by it that the run goes on."""
        inbox = self._inbox
        if self._slot is None and self._size and inbox is not None and inbox.names:
            with contextlib.suppress(FileNotFoundError):
                self._slot = WeightSlot.attach(weights_name(inbox.names[0]), self._size)
        return self._slot

    # The end.

    def forget(self) -> None:
        """Remove what was made for a game."""
        if self._inbox is not None:
            self._inbox.close()
        if self._slot is not None:
            self._slot.close()
        self._inbox, self._slot, self._size = None, None, 0
        if self.setup is not None:
            shared_memory.remove_left(self._own(self.setup))

    def close(self) -> None:
        super().close()
        self.forget()
        if self.setup is not None:
            remove_folder(self._own(self.setup))

    def _own(self, setup: Setup) -> Path:
        return own_folder("learner", self._rank, setup)

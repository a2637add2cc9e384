"""Updates that are captured once and then run again, with one launch for one or for several.

An update is a pure function of tensors: drawing, weights, targets, losses, clipping, optimizer,
target network and priorities, with all that changes from one to the next (learning rate, weight of
cloning, beta, what is stored) in numbers on the device. What an update asks of the device depends
beside that on a few facts: who can be drawn from, whether the scale of values is looked at, and the
like. So there is a captured call for each set of facts, made when it comes up for the second time.
What cannot be captured is made as everywhere (agent.training_step): the first update, and all while
drawing has to look at the host.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import partial
from typing import Protocol, TypeVar

import torch

from agent.batch import Batch
from agent.captured import CapturedCall
from agent.cuda_graph import GraphMemory
from agent.device import DeviceNumbers, LaunchesAhead
from agent.learner import Learner, UpdateKind
from agent.replay import Replay
from agent.value_scale import EVERY
from config.models import Config

log = logging.getLogger("trainer")

T = TypeVar("T")

MOST = 16
"""Captured calls that are kept, the newest: each has memory of its own for its batches."""

AHEAD = 4
"""Launches that the device may be behind, so that games are not told of updates that are not made,
and weights are not old when they are published."""

TOGETHER_BYTES = 2**28
"""States of the batches of one launch, at most."""


class CallCapturer(Protocol):
    """Makes captured calls of functions: agent.cuda_graph.GraphMemory, agent.captured.Tapes."""

    def begin(self, function: Callable[[], T]) -> T:
        """Call one that is to be captured the next time."""

    def capture(self, function: Callable[[], T]) -> CapturedCall[T]:
        """Call and capture it. Errors: RuntimeError; nothing was done then."""


class CapturedUpdates:
    """The captured calls of one learner's updates on one replay."""

    def __init__(self, replay: Replay, learner: Learner, capturer: CallCapturer) -> None:
        self._replay, self._learner, self._capturer = replay, learner, capturer
        self._cloning = DeviceNumbers(replay.device, [0.0], torch.float32)
        self._begun: OrderedDict[Hashable, CapturedCall[list[Batch]] | None] = OrderedDict()
        """By what they depend on. None: was called once."""
        self._configured = learner.configured
        self._ahead = LaunchesAhead(replay.device, AHEAD)
        self._batch_bytes: int | None = None
        self.problem: str | None = None
        """Why no more updates are captured."""

    def make(self, batch_size: int, cloning: float, due: int) -> list[Batch]:
        """Make some of the updates that are due, at least one; the batches that each was made from,
        which hold until the next are made. Empty where none can be captured now."""
        if self.problem is not None:
            return []
        learner = self._learner
        if self._configured != learner.configured:
            self._configured, self._batch_bytes = learner.configured, None
            self._begun.clear()
        updates = self._together(due)
        kinds = tuple(learner.kind(ahead) for ahead in range(updates))
        several = 1 if self._replay.prioritized else updates
        draws = self._replay.draws(batch_size, several)
        if draws is None or kinds[0].initializes_scale:
            return []
        learner.set_rates(updates)
        learner.add_up()
        self._cloning.set(0, cloning)
        batches = self._called(
            (draws, kinds, batch_size, cloning > 0),
            partial(self._updates, batch_size, kinds, clones=cloning > 0),
        )
        learner.made(batches)
        self._batch_bytes = 2 * sum(part.nbytes for part in batches[0].states)
        self._ahead.mark()
        return batches

    def _together(self, due: int) -> int:
        """How many updates are made with one launch: a whole round of looks at the scale of values,
        which always begins with the look, or one."""
        whole = due >= EVERY and not self._learner.updates % EVERY
        known = self._batch_bytes is not None and self._batch_bytes * EVERY <= TOGETHER_BYTES
        return EVERY if whole and known else 1

    def _updates(self, size: int, kinds: tuple[UpdateKind, ...], *, clones: bool) -> list[Batch]:
        """As many updates as kinds: the function that is captured."""
        replay, learner = self._replay, self._learner
        cloning = self._cloning[0] if clones else 0.0
        batches = []
        if not replay.prioritized:
            batches = replay.sample_several(size, len(kinds)).split(size)
        for ahead, kind in enumerate(kinds):
            if replay.prioritized:  # each batch goes by what the one before has taught
                batches.append(replay.sample(size))
            batch = batches[ahead]
            wanted = learner.wanted(batch, size, cloning)
            td_errors = learner.learn(batch, wanted, kind, ahead)
            if replay.prioritized:
                replay.update_priorities(batch.indices, td_errors)
        learner.add_up()
        return batches

    def _called(self, key: Hashable, function: Callable[[], list[Batch]]) -> list[Batch]:
        """Run the captured call of this key. Where there is none, call the function, and capture it
        the second time."""
        if key not in self._begun:
            self._begun[key] = None
            while len(self._begun) > MOST:
                self._begun.popitem(last=False)
            return self._capturer.begin(function)
        self._begun.move_to_end(key)
        captured = self._begun[key]
        if captured is not None:
            captured.run()
            return captured.result
        try:
            captured = self._begun[key] = self._capturer.capture(function)
        except RuntimeError as error:
            self._begun.clear()
            self._learner.forget_kept()
            self.problem = (str(error).splitlines() or [type(error).__name__])[0]
            log.warning(
                "updates are not captured as CUDA graphs, and take longer: %s", self.problem
            )
            return function()
        return captured.result


def captured_updates(
    config: Config, replay: Replay, learner: Learner, device: torch.device
) -> CapturedUpdates | None:
    """For a trainer on a cuda device; None where its updates are not to be captured."""
    if device.type != "cuda" or not config.trainer.cuda_graphs:
        return None
    problem = None
    if replay.device != device:
        problem = f"the replay is on {replay.device}; set replay.device to auto"
    elif replay.shared:
        problem = "several learners make each update together"
    if problem is not None:
        log.warning("updates are not captured as CUDA graphs, and take longer: %s", problem)
        return None
    return CapturedUpdates(replay, learner, GraphMemory(device, [replay.generator]))

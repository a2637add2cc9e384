"""A trainer that is one of several: each has rows of its own, and all make each update together.

Once in each round of their loops they gather what each has. The first learner decides, from what
was gathered in the round before, how many updates are made in this one, how far games may play and
when health is looked at, and the others do the same. So all make the same updates, in the same
order, and leave in the same round.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import torch

from agent.training_step import learn
from config.models import Config
from server.ipc.messages import Ranks
from server.trainer.ranks import Meeting
from server.trainer.trainer import BURST_S, HEALTH_S, IDLE_S, Trainer


@dataclass(frozen=True)
class _Round:
    """What all know of a round."""

    stored: int = 0
    """Steps taken in by all since this start."""
    answered: int = 0
    """Frames answered by the gateways of all."""
    seen: int = 0
    updates: int = 0
    """To be made now."""
    check: bool = False
    """Health is looked at now."""
    done: bool = False
    """All have taken in what there was, and were told to stop."""


class RankedTrainer(Trainer):
    """The trainer of one learner of several."""

    def __init__(
        self, ranks: Ranks, config: Config, *args: Any, meeting: Meeting, **options: Any
    ) -> None:
        """`meeting`: of all of them. The others as of Trainer."""
        self._round = _Round()
        self._all_base, self._of_others = 0, 0
        self._each_s = BURST_S
        """What an update took of late."""
        self._changes: list[Config] = []
        self._rank = ranks.rank
        # Files that all read would have to be renamed by one, with the others waiting.
        health = config.health.model_copy(update={"on_divergence": "stop"})
        config = config.model_copy(update={"health": health})
        super().__init__(config, *args, collective=meeting.collective, **options)
        self._meeting = meeting
        self._collective = meeting.collective
        if self._rank:
            self._past = replace(self._past, warm=False)
        if self._journal_writer:  # which counts this learner's own steps
            self._journal_writer.at(self._past.kept.at.steps)

    def begin(self) -> None:
        """Once all have loaded. Errors: OSError, RuntimeError."""
        self._meeting.wait("loaded")
        kept = self._past.kept
        of_run = kept.at.steps + kept.of_others
        told = self._gather(
            self._past.frames, of_run, self._ingest.stored, kept.steps, self._base_frames
        )
        self._all_base = base_of(told)
        stored, least = int(told[:, 2].sum()), self._config.trainer.min_steps
        self._budget.begin_behind(stored - min(int(told[:, 3].sum()), least))
        self._base_frames = self._slot.base_frames = self._all_base
        super().begin()

    def run(self) -> None:
        while True:
            self._heartbeat.beat()
            self._hear()
            moved = self._drain()
            now = time.monotonic()
            self._agree(self._stopping and not moved and now >= self._linger_until)
            if self._round.done:
                break
            learned = self._learn()
            now = time.monotonic()
            self._check_health(now)
            self._weights.publish_if_due(self._config.trainer.publish_every_s)
            if now >= self._next_report:
                self._report(now)
            if now >= self._next_checkpoint:
                self._save()
            if not moved and not learned:
                time.sleep(IDLE_S)
        self._weights.publish(0.0)
        self._report(time.monotonic())
        self._save()
        self.close()

    # What they agree on.

    def _agree(self, done: bool) -> None:
        """Gather what each has, and take over what the first one decides."""
        first = not self._rank
        due = 0 if self._ending or not first else self._budget.due(
            self._round.stored, self._round.answered
        )  # fmt: skip
        updates = max(0, min(due, int(BURST_S / self._each_s) + 1))
        cloning = self._evidence.own_weight(self._config.imitation, self._frames)
        now = time.monotonic()
        told = self._gather(
            self._ingest.stored, self._ingest.answered, self._ingest.seen,
            self._replay.can_sample, done, len(self._changes),
            # Of these, the first one's count.
            updates, self._budget.allowed(self._round.seen), now >= self._next_health, cloning,
        )  # fmt: skip
        said = told[0].tolist()
        stored, answered, seen, can_sample = (int(each) for each in told[:, :4].sum(0))
        self._round = _Round(
            stored, answered, seen, int(said[6]), bool(said[8]), bool(told[:, 4].all())
        )
        self._evidence.agreed = said[9]
        self._budget.others_can_sample = can_sample > int(self._replay.can_sample)
        self._of_others = answered - self._ingest.answered
        self._slot.allowed = int(said[7]) - self._of_others
        if said[8]:
            self._next_health = now + HEALTH_S
        for _ in range(int(told[:, 5].min())):
            super()._change(self._changes.pop(0))

    def _gather(self, *numbers: float) -> torch.Tensor:
        """Of each rank, float64 [ranks, n]."""
        return self._collective.gather(torch.tensor(numbers, dtype=torch.float64))

    def _learn(self) -> int:
        updates = self._round.updates
        begin = time.monotonic()
        batches = learn(
            self._config, self._replay, self._learner, self._device, self._frames, self._evidence,
            updates,
        )  # fmt: skip
        for number, batch in enumerate(batches, self._learner.updates + 1):
            self._note(batch, number)
        if updates:
            self._each_s = max((time.monotonic() - begin) / updates, 1e-5)
        return updates

    # Where one alone would go by its own numbers.

    @property
    def _frames(self) -> int:
        return self._all_base + self._round.stored

    @property
    def _due(self) -> int:
        return self._round.updates

    @property
    def _answered(self) -> int:
        return self._round.answered

    def _pace_games(self) -> None:
        """`_agree` does."""

    def _change(self, config: Config) -> None:
        """Once all have heard of it."""
        self._changes.append(config)

    def _check_health(self, now: float) -> None:
        if self._round.check:
            super()._check_health(now)

    def _save(self) -> None:
        if not self._rank:
            super()._save()
            return
        self._heartbeat.busy()
        self._next_checkpoint = time.monotonic() + self._config.checkpoint.every_s
        self._checkpointer.save_priorities()


def base_of(told: torch.Tensor) -> int:
    """Frames of the run before what all learners have stored since they were made: the same at all,
    also where some go on and others were made anew. `told`: of each, float64 [ranks, 5]: frames of
    the run as it loaded them, steps in its journal, steps that it has stored since it was made, how
    many steps it loaded (which counts nothing here), and the base that it had."""
    frames, journals, stored = told[:, 0].max(), told[:, 1].sum(), told[:, 2].sum()
    if stored and not journals:  # rows are not kept: then the checkpoint is older than the run
        return int(told[:, 4].max())
    return int(max(frames, journals) - stored)

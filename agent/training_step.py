"""What training does with rows and batches: store rows, make updates.

The trainer (`server.trainer`) and `lab.sync_trainer` do the same.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from agent.batch import Batch
from agent.captured_updates import CapturedUpdates
from agent.evidence import Evidence
from agent.learner import Learner
from agent.replay import Replay
from agent.schedules import scheduled
from agent.step import StepBlock
from config.models import Config


def take_in(block: StepBlock, replay: Replay, learner: Learner, evidence: Evidence) -> None:
    """Store rows, let the learner see what was observed, and count who earned what."""
    replay.append(block)
    learner.observe(block.obs)
    evidence.add(block)


TOGETHER = 1024
"""Rows of batches that are drawn together where several updates are due. Drawing takes some hundred
small operations, as many for one batch as for several."""


def learn(
    config: Config,
    replay: Replay,
    learner: Learner,
    device: torch.device,
    frames: int,
    evidence: Evidence,
    due: int,
    captured: CapturedUpdates | None = None,
) -> Iterator[Batch]:
    """Make the updates that are due at `frames` stored steps of the run, one whenever it is asked
    for the next (with `captured` some at a time); the batch that each was made from, which holds
    until the next one is asked for. Nothing may be appended meanwhile."""
    replay.beta = scheduled(config.replay.priority_beta, frames)
    cloning, size = evidence.weight(config.imitation, frames), config.learner.batch_size
    # By priority each batch goes by what the one before has taught; of several replays each has
    # another number of rows.
    several = 1 if replay.prioritized or replay.shared else max(TOGETHER // size, 1)
    made = 0
    while made < due:
        if captured is not None and (batches := captured.make(size, cloning, due - made)):
            made += len(batches)
            yield from batches
            continue
        now = 1 if captured is not None else min(several, due - made)
        together = replay.sample_several(size, now).to(device)
        made += now
        wanted = learner.wanted(together, size, cloning)
        for batch, of_batch in zip(together.split(size), wanted.split(size), strict=True):
            td_errors = learner.step(batch, wanted=of_batch)
            if replay.prioritized:
                replay.update_priorities(batch.indices, td_errors)
            yield batch

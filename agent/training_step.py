"""What training does with rows and batches: store rows, make one update.

The trainer (`server.trainer`) and `lab.sync_trainer` do the same.
"""

from __future__ import annotations

import torch

from agent.batch import Batch
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


def learn_once(
    config: Config,
    replay: Replay,
    learner: Learner,
    device: torch.device,
    frames: int,
    evidence: Evidence,
) -> Batch:
    """One update at `frames` stored steps of the run; the batch that it was made from."""
    replay.beta = scheduled(config.replay.priority_beta, frames)
    batch = replay.sample(config.learner.batch_size)
    td_errors = learner.step(batch.to(device), evidence.weight(config.imitation, frames))
    if replay.prioritized:
        replay.update_priorities(batch.indices, td_errors)
    return batch

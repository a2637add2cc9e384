"""Replay and learner as configured, and one update: shared by the trainer and lab.sync_trainer."""

from __future__ import annotations

import torch

from agent.device import resolve_device
from agent.learner import Learner
from agent.replay import Batch, Replay
from agent.schedules import scheduled
from agent.step import StepBlock
from config.models import Config
from protocol.actor import Actor
from protocol.spaces import GameSpec


def make_replay(config: Config, spec: GameSpec, device: torch.device) -> Replay:
    """An empty replay as configured; on `device`, the trainer's, unless told otherwise."""
    store = config.replay.device
    return Replay(
        spec,
        config.replay.capacity_steps,
        n_step=config.learner.n_step,
        gamma=config.learner.gamma,
        device=device if store == "auto" else resolve_device(store, "replay.device"),
        stop_at_actor_change=config.replay.stop_at_actor_change,
        actor_share={Actor[k.upper()]: v for k, v in config.replay.actor_share.items()},
        priority_alpha=config.replay.priority_alpha if config.replay.prioritized else None,
        frame_stack=config.replay.frame_stack,
        seed=config.run.seed,
    )


def make_learner(config: Config, spec: GameSpec, device: torch.device) -> Learner:
    """A learner at its first weights, as configured."""
    return Learner(
        spec,
        config.learner,
        config.advantage,
        config.imitation,
        device=device,
        seed=config.run.seed,
        frame_stack=config.replay.frame_stack,
    )


def take_in(block: StepBlock, replay: Replay, learner: Learner) -> None:
    """Store rows, and let the learner see what was observed."""
    replay.append(block)
    learner.observe(block.obs)


def learn_once(
    config: Config, replay: Replay, learner: Learner, device: torch.device, frames: int
) -> Batch:
    """One update at `frames` stored steps of the run; the batch that it was made from."""
    replay.beta = scheduled(config.replay.priority_beta, frames)
    batch = replay.sample(config.learner.batch_size)
    td_errors = learner.step(batch.to(device), frames)
    if replay.prioritized:
        replay.update_priorities(batch.indices, td_errors)
    return batch

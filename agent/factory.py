"""Replay and learner as configured."""

from __future__ import annotations

import torch

from agent.collective import ALONE, Collective
from agent.device import resolve_device
from agent.learner import Learner
from agent.looks import looks
from agent.replay import Replay
from config.models import Config
from protocol.actor import Actor
from protocol.spaces import GameSpec


def make_replay(
    config: Config, spec: GameSpec, device: torch.device, collective: Collective = ALONE
) -> Replay:
    """An empty replay as configured; on `device`, the trainer's, unless told otherwise.
    `collective`: of learners that make each step together."""
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
        stacks=[look.stack for look in looks(spec, config.learner, config.replay.frame_stack)],
        memory=config.learner.state_size,
        past=config.learner.memory_burn_in + config.learner.memory_unroll,
        seed=seed_of(config, collective),
        collective=collective,
    )


def make_learner(
    config: Config, spec: GameSpec, device: torch.device, collective: Collective = ALONE
) -> Learner:
    """A learner at its first weights, as configured. `collective`: as of make_replay."""
    return Learner(
        spec,
        config.learner,
        config.advantage,
        config.imitation,
        device=device,
        seed=config.run.seed,
        frame_stack=config.replay.frame_stack,
        collective=collective,
    )


def seed_of(config: Config, collective: Collective) -> int | None:
    """Of a replay's draws: each learner throws other dice for its own rows."""
    return None if config.run.seed is None else config.run.seed + collective.rank

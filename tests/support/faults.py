"""Breaks one place on purpose, to see whether the audit notices: in the audit's process, before it
begins. The product itself has no hooks for this."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

DQN, EXPERT = 1, 2
RARELY = 0.01
"""The share of rows that a fault strikes: the audit must see single ones."""


def decision_tags(module: Any) -> None:
    """The tags of some frames are swapped: game and replay are told the same wrong one."""

    def decide(arguments: dict[str, Any], rng: Any) -> None:
        actors = arguments["actors"]
        struck = rng.random(len(actors)) < RARELY
        actors[struck] = DQN + EXPERT - actors[struck]

    _behind(module.ActionSelector, "decide", decide)


def decision_ignored(module: Any) -> None:
    """The network acts where the tag says that the expert did; game and replay are told alike."""

    def decide(arguments: dict[str, Any], rng: Any) -> None:
        actors, actions = arguments["actors"], arguments["actions"]
        struck = (rng.random(len(actors)) < RARELY) & (actors == EXPERT)
        actions[struck] = 0.5

    _behind(module.ActionSelector, "decide", decide)


def ring(module: Any) -> None:
    """The ring writes another actor than it was given."""

    def copy(arguments: dict[str, Any], rng: Any) -> None:
        _swap(arguments["target"].actor, rng)

    _behind(module, "_copy", copy)


def replay(module: Any) -> None:
    """The replay stores another actor than it was given."""

    def changed(block: Any, rng: Any) -> Any:
        actor = block.actor.copy()
        _swap(actor, rng)
        return replace(block, actor=actor)

    _instead(module.Replay, changed)


def replay_shifted(module: Any) -> None:
    """The replay stores tags a row further down, among the steps of a block."""

    def changed(block: Any, _rng: Any) -> Any:
        actor = block.actor.copy()
        steps = actor != 0
        actor[steps] = _rolled(actor[steps])
        return replace(block, actor=actor)

    _instead(module.Replay, changed)


def sample(module: Any) -> None:
    """The actors of a batch are those of other rows of it."""
    plain = module.Replay.sample_several

    @functools.wraps(plain)
    def sampled(*args: Any, **kwargs: Any) -> Any:
        batch = plain(*args, **kwargs)
        return replace(batch, actors=batch.actors.roll(1))

    module.Replay.sample_several = sampled


def ring_recommendation(module: Any) -> None:
    """The ring writes the recommendation of the row before."""

    def copy(arguments: dict[str, Any], _rng: Any) -> None:
        recommended = arguments["target"].recommended
        recommended[:] = _rolled(recommended)

    _behind(module, "_copy", copy)


def replay_version(module: Any) -> None:
    """The replay stores other versions of the weights than it was given."""

    def changed(block: Any, rng: Any) -> Any:
        struck = (block.actor != 0) & (rng.random(len(block)) < RARELY)
        return replace(
            block, policy_version=block.policy_version + struck.astype(block.policy_version.dtype)
        )

    _instead(module.Replay, changed)


def sample_recommendation(module: Any) -> None:
    """The recommendations of a batch are those of other rows of it."""
    plain = module.Replay.sample_several

    @functools.wraps(plain)
    def sampled(*args: Any, **kwargs: Any) -> Any:
        batch = plain(*args, **kwargs)
        return replace(batch, recommended=batch.recommended.roll(1, 0))

    module.Replay.sample_several = sampled


FAULTS: dict[str, tuple[str, Callable[[Any], None]]] = {
    "decision_tags": ("agent.decision", decision_tags),
    "decision_ignored": ("agent.decision", decision_ignored),
    "ring": ("server.ipc.step_ring", ring),
    "replay": ("agent.replay", replay),
    "replay_shifted": ("agent.replay", replay_shifted),
    "sample": ("agent.replay", sample),
    "ring_recommendation": ("server.ipc.step_ring", ring_recommendation),
    "replay_version": ("agent.replay", replay_version),
    "sample_recommendation": ("agent.replay", sample_recommendation),
}


def put(fault: str) -> None:
    """Put this fault into its place, in this process and those that are forked from it."""
    name, patch = FAULTS[fault]
    patch(importlib.import_module(name))


def _swap(actor: Any, rng: Any) -> None:
    """Swap the tags of some steps."""
    struck = (actor != 0) & (rng.random(len(actor)) < RARELY)
    actor[struck] = DQN + EXPERT - actor[struck]


def _rolled(rows: Any) -> Any:
    import numpy as np

    return np.roll(rows, 1, axis=0)


def _rng() -> Any:
    import numpy as np

    return np.random.default_rng(0)


def _behind(owner: Any, name: str, then: Callable[[dict[str, Any], Any], None]) -> None:
    """Have `then` change what a function has written into its arguments."""
    plain = getattr(owner, name)
    names = inspect.signature(plain)
    rng = _rng()

    @functools.wraps(plain)
    def patched(*args: Any, **kwargs: Any) -> Any:
        result = plain(*args, **kwargs)
        then(names.bind(*args, **kwargs).arguments, rng)
        return result

    setattr(owner, name, patched)


def _instead(owner: Any, changed: Callable[[Any, Any], Any]) -> None:
    """Have the replay append another block than it is given."""
    plain, rng = owner.append, _rng()

    @functools.wraps(plain)
    def patched(self: Any, block: Any) -> None:
        plain(self, changed(block, rng))

    owner.append = patched

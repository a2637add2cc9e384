"""Whether there is memory for a game here, before any of it is taken: whoever connects first says
what the game is, and must not be able to bring the server down with it.

This is arithmetic: what it lets through the trainer may still have no memory for
(server.supervisor.game_choice)."""

from __future__ import annotations

from agent.game_memory import fitted, game_bytes, most_game_bytes, shown, to_lower
from config.models import Config
from protocol.spaces import GameSpec
from server.gateway.slot_memory import slot_bytes


def refusal(spec: GameSpec, config: Config) -> str | None:
    """Why the server cannot take on this game, if it cannot: a text for whoever proposed it."""
    limit = most_game_bytes(config)
    config = fitted(spec, config)
    parts = game_bytes(spec, config)
    total = sum(parts.values())
    if total > limit:
        return (
            f"expected a game that takes at most {shown(limit)} here, got one that takes "
            f"{shown(total)}: {_the_most(spec, config, parts)}, or raise server.max_game_bytes"
        )
    each, most = (
        slot_bytes(spec, config.replay.frame_stack, config.learner.state_size),
        config.server.max_slot_bytes,
    )
    if each > most:
        return (
            f"expected a game that takes at most {shown(most)} for each slot here, got one that "
            f"takes {shown(each)}; the server's operator may raise server.max_slot_bytes"
        )
    return None


def shortage(spec: GameSpec, config: Config, reason: str) -> str:
    """That there was no memory for this game after all, for this reason: a text for whoever
    proposed it, and for the operator."""
    config = fitted(spec, config)
    parts = game_bytes(spec, config)
    return (
        f"expected a game that the server has memory for, and there is not enough for "
        f"{spec.game!r} ({reason}). It takes up to {shown(sum(parts.values()))}: "
        f"{_the_most(spec, config, parts)}, or give the server more memory"
    )


def _the_most(spec: GameSpec, config: Config, parts: dict[str, int]) -> str:
    largest = max(parts, key=lambda name: parts[name])
    return (
        f"an observation of {spec.observation_bytes:,} bytes, {spec.action_width:,} columns of "
        f"actions; the most of it, {shown(parts[largest])}, is that of "
        f"{to_lower(largest, config)}, which the server's operator may lower"
    )

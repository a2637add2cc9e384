"""Experts for games of Gymnasium and MiniGrid: they look into the environment."""

from __future__ import annotations

from collections import deque
from typing import Any

import gymnasium

WAYS = 4
"""Directions of MiniGrid: right, down, left, up."""


def taxi(env: gymnasium.Env[Any, Any], _obs: Any) -> int:
    """The first action of a shortest way to where the passenger wants to go."""
    table, state = env.unwrapped.P, int(env.unwrapped.s)  # type: ignore[attr-defined]
    first: dict[int, int | None] = {state: None}
    waiting = deque([state])
    while waiting:
        at = waiting.popleft()
        for action, outcomes in table[at].items():
            _, there, _, over = outcomes[0]
            by = first[at] if at != state else action
            if over:
                return int(by)  # type: ignore[arg-type]
            if there not in first:
                first[there] = by
                waiting.append(there)
    raise ValueError(f"expected a way from state {state} to the end of the episode")


def empty_room(env: gymnasium.Env[Any, Any], _obs: Any) -> int:
    """To the goal in the lower right corner of an empty room: first right, then down."""
    room: Any = env.unwrapped
    turn = ((0 if room.agent_pos[0] < room.width - 2 else 1) - room.agent_dir) % WAYS
    actions = room.actions
    return int(actions.forward if turn == 0 else actions.left if turn == 3 else actions.right)

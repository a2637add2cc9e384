"""The tag: who chose an action.

Every action carries one, on the wire, in the step ring, in the replay, in each batch and in each
metric. Nothing in this project has a default actor: a tag that is missing or unknown is an error
where it enters, because a tag that was once filled in silently is how attribution was lost.
"""

from __future__ import annotations

from enum import IntEnum

from protocol.errors import RemoteError


class Actor(IntEnum):
    """Who chose an action. The numbers are those of the wire and are never reused."""

    DQN = 1
    EXPERT = 2


NOBODY = 0
"""The tag of a frame that gets no action (its episode has ended). Valid nowhere else."""

ACTORS = tuple(Actor)
"""All actors, in the order of their numbers: the order of every per-actor table."""

TAG_COUNT = 1 + max(ACTORS)
"""Columns of a table that is indexed by tag: NOBODY's and one for each actor."""

NAMES = {actor: actor.name.lower() for actor in ACTORS}
"""The word for an actor in metric names and messages: `dqn`, `expert`."""


def parse_actor(value: int) -> Actor:
    """The actor with this number; RemoteError `unknown_actor` for any other number."""
    try:
        return Actor(value)
    except ValueError:
        raise RemoteError(
            "unknown_actor",
            f"expected an actor, 1 (dqn) or 2 (expert), got {value!r}; "
            "tag every action with who chose it",
        ) from None

"""What a game shows and what it can be told, as HELLO says it.

An action has one part for each *head*, in the order in which the game declares them. The same
action as a flat row of float32 is an *action row*: one column for a discrete head (the index of
the choice), `size` columns for a continuous one. FRAMES, ACTIONS and answer logs carry rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from understudy_client.observations import Observation, observations_of, wire_form

Part = int | float | list[float]
"""One head's part of an action: int for discrete, float or list of floats for continuous."""


class Discrete(msgspec.Struct, frozen=True, array_like=True, tag="discrete"):
    """A head that is one choice of `n`: 0 to n-1."""

    name: str
    n: int


class Continuous(msgspec.Struct, frozen=True, array_like=True, tag="continuous"):
    """A head of `size` numbers, each within [low, high]."""

    name: str
    low: float
    high: float
    size: int = 1


Head = Discrete | Continuous


class GameSpec(msgspec.Struct, frozen=True):
    """All that a server must know of a game; `Client.connect(..., **spec.fields())`."""

    game: str
    observation: Any
    """As HELLO says it (understudy_client.observations); an Observation, or several, will do."""
    actions: tuple[Head, ...]
    rewards: tuple[str, ...] = ("reward",)
    masks: bool = False
    """Frames say which choices are legal (understudy_client.masks)."""

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(
            self, "observation", wire_form(observations_of(wire_form(self.observation)))
        )

    @property
    def observations(self) -> tuple[Observation, ...]:
        """What the game shows, in the order in which frames carry it."""
        return observations_of(self.observation)

    def fields(self) -> dict[str, Any]:
        return msgspec.structs.asdict(self)


def action_width(heads: Iterable[Head]) -> int:
    """Columns of an action row: one for a discrete head, `size` for a continuous one."""
    return sum(1 if isinstance(head, Discrete) else head.size for head in heads)


def action_row(action: Sequence[Part]) -> list[float]:
    """An action, one part for each head, as the numbers of an action row."""
    row: list[float] = []
    for part in action:
        if isinstance(part, list):
            row.extend(part)
        else:
            row.append(part)
    return row

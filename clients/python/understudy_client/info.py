"""What a game of Gymnasium tells in `info` beside its observation, by names: numbers to look at
(`metrics`), and the parts of its reward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from understudy_client.checks import shown

REST = "rest"
"""The last part of a reward: what its other parts do not explain."""


def reward_names(parts: Sequence[str]) -> tuple[str, ...]:
    """The components of a reward with these parts in `info`. Errors: ValueError."""
    if REST in parts:
        raise ValueError(
            f"rewards: expected names other than {REST!r}, which is what the others do not explain"
        )
    return (*parts, REST) if parts else ("reward",)


def reward_parts(info: Mapping[str, Any], reward: float, names: Sequence[str]) -> Any:
    """A reward as it is sent: a number where it has one component, else one for each. A part that
    `info` does not have is 0. Their sum is the reward. Errors: ValueError."""
    if len(names) == 1:
        return reward
    parts = [number(info, name) or 0.0 for name in names[:-1]]
    return [*parts, reward - sum(parts)]


def metrics_of(info: Mapping[str, Any], names: Sequence[str]) -> dict[str, float] | None:
    """The numbers of these names that are there; None where none was declared. Errors:
    ValueError."""
    if not names:
        return None
    found = {name: number(info, name) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def number(info: Mapping[str, Any], name: str) -> float | None:
    """A number in `info`; None where there is none of this name. Errors: ValueError."""
    value = info.get(name)
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"info[{name!r}]: expected a number, got {shown(value)}") from error

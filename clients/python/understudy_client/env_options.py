"""What may be asked for beside the name of an environment (understudy_client.environments).

Without Gymnasium: who passes it on need not have that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class EnvOptions:
    """What is asked for beside the name, in the order in which it is done."""

    args: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the environment: those of `gymnasium.make`."""
    atari: bool = False
    """The usual preprocessing of a game of ALE (understudy_client.atari)."""
    wraps: tuple[str, ...] = ()
    """Functions or classes, `module:function`, that are given the environment and return what is
    played instead; the first one first."""
    resize: tuple[int, int] | None = None
    """Width and height for all pictures among the observations."""
    grayscale: bool = False
    """Pictures in colour become gray."""
    action_bounds: tuple[float, float] | None = None
    """The bounds of continuous actions that have none."""
    metrics: tuple[str, ...] = ()
    """Names of numbers in `info` that are told with each frame."""
    rewards: tuple[str, ...] = ()
    """Names of parts of the reward in `info`."""


PLAIN = EnvOptions()
"""Nothing beside the name."""

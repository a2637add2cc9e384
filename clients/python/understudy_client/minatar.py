"""The five games of MinAtar, as its package has them for Gymnasium (`MinAtar/Breakout-v1`).

Young and Tian 2019 (arXiv:1903.03176): games of Atari on a field of 10 x 10, each kind of thing in
a channel of its own; with a probability of 0.1 the last action is done again. An episode here is at
most 1,000 steps: some of the games never end for who plays well. The experts that play them are in
`understudy_client.minatar_experts`.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

import gymnasium
from gymnasium.error import DependencyNotInstalled

NAMESPACE = "MinAtar/"

MOST_STEPS = 1000
"""Of an episode, which is then truncated."""

_DRAWING = ("matplotlib", "seaborn")
"""What MinAtar imports to draw with. That takes seconds and 100 MB in each game's process, and
playing needs none of it."""


def made(env_id: str, **kwargs: Any) -> gymnasium.Env[Any, Any]:
    """One of the games, which cannot be rendered. Errors: DependencyNotInstalled; those of
    Gymnasium."""
    if "MinAtar/Breakout-v1" not in gymnasium.registry:
        _register()
    return gymnasium.make(env_id, **{"max_episode_steps": MOST_STEPS} | kwargs)


def _register() -> None:
    """Make Gymnasium know the games, without what MinAtar draws with."""
    stubs = {name: ModuleType(name) for name in _DRAWING if name not in sys.modules}
    for stub in stubs.values():
        stub.__dict__.update(pyplot=None, colors=None)
    sys.modules.update(stubs)
    try:
        package = importlib.import_module("minatar.gym")
    except ImportError as error:
        raise DependencyNotInstalled(
            f"the games of MinAtar are in the package MinAtar, which cannot be imported ({error}); "
            "install it: python -m pip install MinAtar"
        ) from error
    finally:
        for name in stubs:
            del sys.modules[name]
    package.register_envs()

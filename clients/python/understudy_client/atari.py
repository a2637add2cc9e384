"""The games of ALE, as Gymnasium has them (`ALE/Pong-v5`), their usual preprocessing, two experts.

The experts look at the games' memory (AtariARI, Anand et al. 2019, arXiv:1906.08226).
"""

from __future__ import annotations

from typing import Any

import gymnasium
from gymnasium.error import DependencyNotInstalled

from understudy_client.pictures import opencv

NAMESPACE = "ALE/"

FRAME_SKIP = 4
SIDE = 84

_NOOP, _FIRE, _RIGHT, _LEFT = range(4)
"""The first actions of Pong, where right is up, and of Breakout."""

_DEAD_BAND = {"pong": 10, "breakout": 4}
"""How far off the middle of the paddle the followers let the ball be, in pixels."""


def register() -> None:
    """Make Gymnasium know the games. Errors: DependencyNotInstalled."""
    try:
        import ale_py
    except ImportError as error:
        raise DependencyNotInstalled(
            f"ALE's games are in the package ale-py, which cannot be imported ({error}); install "
            "it: python -m pip install ale-py"
        ) from error
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)  # no banner from each game
    gymnasium.register_envs(ale_py)


def preprocessed(env_id: str, **kwargs: Any) -> gymnasium.Env[Any, Any]:
    """A game of ALE as DQN saw it (Mnih et al. 2015, doi:10.1038/nature14236): an action for 4
    frames, of the last two the brighter pixels, gray, 84 x 84, uint8; up to 30 idle frames at the
    start. The server stacks (`replay.frame_stack`). Errors: ValueError for another game,
    DependencyNotInstalled. kwargs: those of the game itself."""
    if not env_id.rpartition(":")[2].startswith(NAMESPACE):
        raise ValueError(
            f"the preprocessing atari is for the games of ALE, such as ALE/Pong-v5; got {env_id}"
        )
    if "frameskip" in kwargs:
        raise ValueError(
            f"the preprocessing atari does an action for {FRAME_SKIP} frames by itself: expected "
            f"no frameskip, got {kwargs['frameskip']!r}; leave one of them out"
        )
    register()
    opencv("the preprocessing atari")
    env = gymnasium.make(env_id, frameskip=1, **kwargs)  # the wrapper skips
    return gymnasium.wrappers.AtariPreprocessing(env, frame_skip=FRAME_SKIP, screen_size=SIDE)


def follow_pong(env: Any, _obs: Any) -> int:
    """Of ALE/Pong-v5: moves the paddle's middle to the height of the ball."""
    ram = env.unwrapped.ale.getRAM()
    ball, paddle = int(ram[54]), int(ram[51])
    if not ball:
        return _FIRE
    return _towards(paddle + 8 - ball, _DEAD_BAND["pong"])


def follow_breakout(env: Any, _obs: Any) -> int:
    """Of ALE/Breakout-v5: moves the paddle's middle below the ball; fires where there is none."""
    ram = env.unwrapped.ale.getRAM()
    if not ram[101]:
        return _FIRE
    return _towards(int(ram[99]) - int(ram[72]) - 8, _DEAD_BAND["breakout"])


def _towards(off: int, band: int) -> int:
    return _RIGHT if off > band else _LEFT if off < -band else _NOOP

"""The games of ALE, as Gymnasium has them (`ALE/Pong-v5`), and their usual preprocessing."""

from __future__ import annotations

from typing import Any

import gymnasium
from gymnasium.error import DependencyNotInstalled

NAMESPACE = "ALE/"

FRAME_SKIP = 4
SIDE = 84


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


def preprocessed(env_id: str) -> gymnasium.Env[Any, Any]:
    """A game of ALE as DQN saw it (Mnih et al. 2015, doi:10.1038/nature14236): an action for 4
    frames, of the last two the brighter pixels, gray, 84 x 84, uint8; up to 30 idle frames at the
    start. The server stacks (`replay.frame_stack`). Errors: ValueError for another game,
    DependencyNotInstalled."""
    if not env_id.rpartition(":")[2].startswith(NAMESPACE):
        raise ValueError(
            f"the preprocessing atari is for the games of ALE, such as ALE/Pong-v5; got {env_id}"
        )
    register()
    try:
        import cv2  # noqa: F401
    except ImportError as error:
        raise DependencyNotInstalled(
            "the preprocessing atari needs the package opencv-python-headless, which cannot be "
            f"imported ({error}); install it: python -m pip install opencv-python-headless"
        ) from error
    env = gymnasium.make(env_id, frameskip=1)  # the wrapper skips
    return gymnasium.wrappers.AtariPreprocessing(env, frame_skip=FRAME_SKIP, screen_size=SIDE)

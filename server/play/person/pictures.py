"""What a game looks like: its own drawing, or else the picture that it is played by."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from server.play.game_errors import GameNotMade
from understudy_client.env_options import EnvOptions
from understudy_client.environments import make

Picture = npt.NDArray[np.uint8]
"""[height, width, 3], red, green and blue."""

RGB = "rgb_array"

FPS = 15.0
"""Of an environment that does not say."""

_COLOURS = np.array(
    [
        [230, 159, 0], [86, 180, 233], [0, 158, 115], [240, 228, 66], [0, 114, 178],
        [213, 94, 0], [204, 121, 167], [220, 220, 220], [140, 86, 75], [148, 103, 189],
    ],
    np.uint8,
)  # fmt: skip
"""Of the planes of an observation, over again where there are more (Okabe and Ito 2008)."""


def drawn(env_id: str, options: EnvOptions) -> gymnasium.Env[Any, Any]:
    """The environment, so that it can draw itself if it knows how. Errors: those of `make`."""
    # How fast it is shown is decided here.
    warnings.filterwarnings("ignore", message=".*No render fps was declared")
    env = make(env_id, options)
    if RGB not in (env.metadata.get("render_modes") or ()) or "render_mode" in options.args:
        return env
    env.close()
    return make(env_id, replace(options, args={**options.args, "render_mode": RGB}))


def fps_of(env: gymnasium.Env[Any, Any]) -> float:
    """Frames a second, at which the environment is meant to be seen."""
    fps = env.metadata.get("render_fps")
    return float(fps) if fps and fps > 0 else FPS


def picture_of(env: gymnasium.Env[Any, Any], obs: Any) -> Picture:
    """What the environment draws; else its observation, where that is a picture. Errors:
    GameNotMade."""
    why = f"its render modes are {list(env.metadata.get('render_modes') or ())}"
    if env.render_mode == RGB:
        try:
            found: Any = env.render()
        except Exception as error:  # of a package that the environment draws with, and lacks
            found, why = None, f"drawing it fails: {type(error).__name__}: {error}"
        if isinstance(found, np.ndarray) and found.ndim == 3 and found.shape[2] == 3:
            return np.ascontiguousarray(found, np.uint8)
    seen = of_observation(obs)
    if seen is None:
        raise GameNotMade(
            f"expected an environment with the render mode {RGB}, or one whose observation is a "
            f"picture; {why}. Add {RGB} to its render_modes and have render() return an array "
            "[height, width, 3] of uint8"
        )
    return seen


def of_observation(obs: Any) -> Picture | None:
    """An observation as a picture: gray, red-green-blue in either order of the sides, or planes of
    which each has a colour. None where it is none of these."""
    seen = np.asarray(obs)
    if seen.ndim == 3 and seen.shape[0] in (1, 3) and seen.shape[2] > 4:
        seen = np.moveaxis(seen, 0, 2)
    if seen.ndim not in (2, 3) or seen.dtype.kind not in "ub" or min(seen.shape[:2]) < 2:
        return None
    if seen.dtype != np.bool_ and seen.ndim == 3 and seen.shape[2] == 3:
        return np.ascontiguousarray(seen, np.uint8)
    if seen.ndim == 2 or seen.shape[2] == 1:
        gray = seen.reshape(seen.shape[:2])
        gray = gray * np.uint8(255) if gray.dtype == np.bool_ else gray.astype(np.uint8)
        return np.repeat(gray[:, :, None], 3, axis=2)
    picture = np.zeros((*seen.shape[:2], 3), np.uint8)
    for plane in range(seen.shape[2]):
        picture[seen[:, :, plane] > 0] = _COLOURS[plane % len(_COLOURS)]
    return picture

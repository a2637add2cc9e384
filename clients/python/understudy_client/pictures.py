"""All pictures among an environment's observations resized, or made gray, wherever they nest.

Gymnasium's own wrappers (ResizeObservation, GrayscaleObservation) do that for an observation that
is one picture of uint8 in RGB; these do it in Dicts and Tuples too, for any dtype, order and number
of channels, and for stacks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.error import DependencyNotInstalled
from gymnasium.wrappers import TransformObservation

from understudy_client.spaces import told

Array = npt.NDArray[Any]
Change = Callable[[Any], Any]

SHORTEST = 8
"""Sides of a picture are at least so long: a smaller table of numbers is none."""

LUMA = np.array([0.2125, 0.7154, 0.0721], np.float32)
"""How bright red, green and blue are: what Gymnasium's GrayscaleObservation takes."""


def resized(
    env: gymnasium.Env[Any, Any], size: tuple[int, int] | None, *, grayscale: bool
) -> gymnasium.Env[Any, Any]:
    """The environment with pictures of width and height `size`, or as large as they are; in gray
    where asked: one channel for each picture in RGB, none where it is a single one. Errors:
    ValueError where there is no picture, DependencyNotInstalled."""
    if size is not None:
        opencv("--resize")
    space, change = _changed(env.observation_space, size, grayscale)
    if change is None:
        raise ValueError(
            f"expected a picture among the observations (a Box of which two sides are at least "
            f"{SHORTEST}), got {told(env.observation_space)}; leave --resize and --grayscale out"
        )
    return TransformObservation(env, change, space)


def opencv(what: str) -> Any:
    """The module cv2, for `what`. Errors: DependencyNotInstalled."""
    try:
        import cv2
    except ImportError as error:
        raise DependencyNotInstalled(
            f"{what} needs the package opencv-python-headless, which cannot be imported ({error}); "
            "install it: python -m pip install opencv-python-headless"
        ) from error
    return cv2


def _changed(
    space: spaces.Space[Any], size: tuple[int, int] | None, gray: bool
) -> tuple[spaces.Space[Any], Change | None]:
    """The space with its pictures changed, and how; None where there are none."""
    match space:
        case spaces.Dict():
            found = {key: _changed(each, size, gray) for key, each in space.spaces.items()}
            changes = {key: change for key, (_, change) in found.items() if change is not None}
            inner = {key: each for key, (each, _) in found.items()}
            return spaces.Dict(inner, sort_keys=False), _in_dict(changes) if changes else None
        case spaces.Tuple():
            items = [_changed(each, size, gray) for each in space.spaces]
            if all(change is None for _, change in items):
                return space, None
            return spaces.Tuple([each for each, _ in items]), _in_tuple([c for _, c in items])
        case spaces.Box() if _is_picture(space.shape):
            change = _in_picture(space.shape, size, gray)
            after = change(np.zeros(space.shape, space.dtype))
            low, high = float(space.low.min()), float(space.high.max())
            return spaces.Box(low, high, after.shape, space.dtype), change
        case _:
            return space, None


def _in_dict(changes: dict[Any, Change]) -> Change:
    return lambda obs: dict(obs) | {key: change(obs[key]) for key, change in changes.items()}


def _in_tuple(changes: list[Change | None]) -> Change:
    return lambda obs: tuple(
        each if change is None else change(each) for each, change in zip(obs, changes, strict=True)
    )


def _is_picture(shape: tuple[int, ...]) -> bool:
    if len(shape) == 4:  # a stack of them
        return _is_picture(shape[1:])
    return len(shape) in (2, 3) and sorted(shape)[-2] >= SHORTEST


def _in_picture(shape: tuple[int, ...], size: tuple[int, int] | None, gray: bool) -> Change:
    """What is done to a picture of this shape; the first of four sides counts pictures."""
    if len(shape) == 4:
        each = _in_picture(shape[1:], size, gray)
        return lambda obs: np.stack([each(picture) for picture in obs])
    # The channels are the shorter one of the outer sides.
    first = len(shape) == 3 and shape[0] < shape[-1]

    def change(obs: Any) -> Array:
        picture = np.asarray(obs)
        dtype = picture.dtype
        if picture.ndim == 3 and first:
            picture = np.moveaxis(picture, 0, -1)
        if gray and picture.ndim == 3:
            picture = _gray(picture)
        if size is not None:
            picture = _resized(picture, size)
        if picture.ndim == 3 and first:
            picture = np.moveaxis(picture, -1, 0)
        if picture.dtype != dtype:
            picture = (np.rint(picture) if dtype.kind in "biu" else picture).astype(dtype)
        return np.ascontiguousarray(picture)

    return change


def _gray(picture: Array) -> Array:
    """[height, width, channels] with one channel for each three, and without the side where it is
    one; as it was where the channels are no colours."""
    channels = picture.shape[-1]
    if channels == 4:  # the last one says how opaque it is
        picture, channels = picture[..., :3], 3
    if channels % 3:
        return picture
    several = picture.reshape(*picture.shape[:2], channels // 3, 3).astype(np.float32) @ LUMA
    return several[..., 0] if channels == 3 else several


def _resized(picture: Array, size: tuple[int, int]) -> Array:
    cv2 = opencv("--resize")
    if picture.dtype not in (np.uint8, np.float32):
        picture = picture.astype(np.float32)
    if picture.ndim == 2:
        channels = [picture]
    else:  # one by one: OpenCV takes no more than 4 together
        channels = [picture[..., i] for i in range(picture.shape[-1])]
    small = [
        cv2.resize(np.ascontiguousarray(each), size, interpolation=cv2.INTER_AREA)
        for each in channels
    ]
    return np.asarray(small[0]) if picture.ndim == 2 else np.stack(small, axis=-1)

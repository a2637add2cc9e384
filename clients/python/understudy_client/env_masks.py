"""Masks of Gymnasium environments: those that have a method `action_masks`, as sb3-contrib wants
it, say with it which choices are legal now."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

Masks = Callable[[], npt.NDArray[np.bool_]]
"""Which choices are legal now: a bool for each choice of each discrete head."""

METHOD = "action_masks"


def masks_of(env: gymnasium.Env[Any, Any]) -> Masks | None:
    """The masks of an environment, whichever of its wrappers has them; None for one without."""
    if not env.has_wrapper_attr(METHOD):
        return None
    method = env.get_wrapper_attr(METHOD)

    def masks() -> npt.NDArray[np.bool_]:
        found = method()
        parts = found if isinstance(found, list | tuple) else [found]
        return np.concatenate([np.ravel(part) for part in parts]).astype(np.bool_)

    return masks

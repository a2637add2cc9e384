"""How the network looks at each observation: as a picture, as choices, or as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from agent.pictures import SMALLEST_UNSAID, is_picture
from config.models import LearnerConfig
from protocol.observations import (
    Observation,
    channel_sides,
    height_and_width,
    in_one_piece,
)
from protocol.spaces import GameSpec

if TYPE_CHECKING:  # the supervisor asks here what a game takes, and does without torch
    from torch import Tensor

UINT8_MAX = 255

ONE_HOT = 1024
"""Choices of all elements together up to which they are one-hot: then the first layer has a row of
weights for each choice, which is an embedding as wide as that layer."""

FEW = 512
"""Inputs of the trunk up to which its layers are NARROW where nobody says what they are to be, and
else WIDE: as behind the convolutions of Mnih et al. 2015 (doi:10.1038/nature14236)."""
NARROW, WIDE = (128, 128), (512,)

WIDTH = 32
"""Of the embedding of an element, where they are more."""


@dataclass(frozen=True, slots=True)
class Look:
    """How one observation is looked at."""

    observation: Observation
    through: Literal["convolutions", "choices", "layers"]
    """What it passes through before it meets the others."""
    stack: int
    """Frames of it that are seen together."""
    low: float
    factor: float
    """Elements are shown less `low`, times `factor`."""
    normalized: bool
    """They are shown less their running mean, over their deviation."""

    @property
    def elements(self) -> int:
        """Of all its frames that are seen together."""
        return self.stack * self.observation.size

    def scaled(self, x: Tensor) -> Tensor:
        """Elements, of any dtype, as float32 in the range that layers expect."""
        x = x.float()
        if self.low:
            x = x - self.low
        return x if self.factor == 1 else x * self.factor

    def shaped(self, part: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Frames [n, k, *shape] as the network takes them: [n, stack, *shape], or the newest alone,
        [n, *shape], in one piece and aligned."""
        return in_one_piece(part if self.stack > 1 else part[:, -1])

    def __str__(self) -> str:
        observation = self.observation
        text = f"{observation.name} {observation.dtype} {list(observation.shape)}: "
        if self.through == "choices":
            each = ", ".join(map(str, sorted(set(observation.choices))))
            text += f"{observation.size} of {each} choices"
        elif self.through == "convolutions":
            channels = [observation.shape[side] for side in channel_sides(observation)]
            height, width = height_and_width(observation)
            text += f"picture, {height} high, {width} wide"
            text += f", channels {' x '.join(map(str, channels))}" if channels else ", gray"
        else:
            text += f"{observation.size} numbers"
        if self.stack > 1:
            text += f", {self.stack} frames"
        if self.normalized:
            return text + ", normalized"
        if self.low or self.factor != 1:
            high = self.low + 1 / self.factor
            text += f", {self.low:g} to {high:g} shown as 0 to 1"
        return text

    @property
    def is_flattened(self) -> bool:
        """It has three or four sides, as pictures have, and goes to plain layers though it is
        large: on a small board that is as it should be (agent.pictures)."""
        observation = self.observation
        if self.through != "layers" or len(observation.shape) not in (3, 4):
            return False
        return min(height_and_width(observation)) >= SMALLEST_UNSAID


def looks(spec: GameSpec, learner: LearnerConfig, frame_stack: int) -> tuple[Look, ...]:
    """How a network of these settings looks at each of a game's observations.

    `frame_stack` is for pictures; in a game without any it is for all observations.
    """
    pictures = [is_picture(observation) for observation in spec.observations]
    return tuple(
        _look(observation, learner, picture, frame_stack if picture or not any(pictures) else 1)
        for observation, picture in zip(spec.observations, pictures, strict=True)
    )


def hidden_layers(learner: LearnerConfig, inputs: int) -> tuple[int, ...]:
    """Widths of the trunk's layers, before which there are so many inputs."""
    if learner.hidden is not None:
        return learner.hidden
    return NARROW if inputs <= FEW else WIDE


def normalized_rows(shown: Sequence[Look], parts: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """What is normalized of rows of observations, side by side, [n, columns]. `parts`: of
    GameSpec.parts, one frame each."""
    found = [
        part.reshape(len(part), -1)
        for look, part in zip(shown, parts, strict=True)
        if look.normalized
    ]
    return found[0] if len(found) == 1 else np.concatenate(found, axis=1, dtype=np.float64)


def _look(observation: Observation, learner: LearnerConfig, picture: bool, stack: int) -> Look:
    if observation.choices:
        return Look(observation, "choices", stack, 0.0, 1.0, normalized=False)
    low, high = observation.low, observation.high
    # Numbers keep their unit, whatever their bounds are: they may be normalized instead.
    if not picture and observation.dtype != "uint8":
        low = high = None
    elif low is None and observation.dtype == "uint8":
        low, high = 0, UINT8_MAX
    normalized = learner.normalize_observations and not picture
    normalized = normalized and observation.dtype not in ("uint8", "bool")
    return Look(
        observation,
        "convolutions" if picture and learner.trunk == "auto" else "layers",
        stack,
        0.0 if low is None else low,
        1.0 if low is None or high is None else 1 / (high - low),
        normalized,
    )

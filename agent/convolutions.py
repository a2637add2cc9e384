"""What looks at pictures: uint8 frames, stacked, through convolutions to a row of numbers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from protocol.spaces import Observation

SMALLEST = 8
"""Sides of less are no picture: too few places for a filter to slide over."""

LARGE = 36
"""From these sides on, the three layers of Mnih et al. fit."""

COLOURS = 4
"""A side of at most this is that of the colours."""


class Convolutions(nn.Module):
    """The layers of DQN for pictures of at least 36 x 36 (Mnih et al. 2015,
    doi:10.1038/nature14236); two small layers for smaller ones."""

    def __init__(self, observation: Observation, frames: int) -> None:
        """`frames`: how many of them are seen together."""
        super().__init__()
        colours, height, width = _sides(observation.shape)
        self._colours_last = len(observation.shape) == 3 and not _colours_first(observation.shape)
        inputs = frames * colours
        layers = (
            [(32, 8, 4), (64, 4, 2), (64, 3, 1)]
            if min(height, width) >= LARGE
            else [(16, 3, 1), (32, 3, 2)]
        )
        modules: list[nn.Module] = []
        for outputs, kernel, stride in layers:
            modules += [nn.Conv2d(inputs, outputs, kernel, stride), nn.ReLU(inplace=True)]
            inputs = outputs
            height, width = ((side - kernel) // stride + 1 for side in (height, width))
        self.layers = nn.Sequential(*modules)
        self.size = inputs * height * width
        """Numbers that come out for each observation."""

    @staticmethod
    def suit(observation: Observation) -> bool:
        """Whether these observations are pictures: uint8, two sides and perhaps colours."""
        shape = observation.shape
        if observation.dtype != "uint8" or len(shape) not in (2, 3):
            return False
        if len(shape) == 3 and min(shape[0], shape[2]) > COLOURS:
            return False
        return min(_sides(shape)[1:]) >= SMALLEST

    def forward(self, frames: Tensor) -> Tensor:
        """uint8 [B, k, *shape] -> float32 [B, size]. Two-sided frames are grey; of three sides the
        first or the last is that of the colours, whichever is at most 4."""
        if self._colours_last:
            frames = frames.movedim(-1, 2)
        planes = frames.reshape(frames.shape[0], -1, *frames.shape[-2:])
        scaled = planes.to(torch.float32) * (1 / 255)
        features: Tensor = self.layers(scaled.to(next(self.parameters()).dtype))
        return features.flatten(1).float()


def _colours_first(shape: tuple[int, ...]) -> bool:
    return shape[0] <= COLOURS


def _sides(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Colours, height and width of a picture's shape."""
    if len(shape) == 2:
        return 1, shape[0], shape[1]
    return shape if _colours_first(shape) else (shape[2], shape[0], shape[1])  # type: ignore[return-value]

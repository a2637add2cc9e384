"""Convolutions: stacked uint8 pictures to a row of numbers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from agent.pictures import colors_first, sides
from protocol.spaces import Observation

LARGE = 36
"""From these sides on, the three layers of Mnih et al. fit."""


class Convolutions(nn.Module):
    """The layers of DQN for pictures of at least 36 x 36 (Mnih et al. 2015,
    doi:10.1038/nature14236); two small layers for smaller ones."""

    def __init__(self, observation: Observation, frames: int) -> None:
        """`frames`: how many of them are seen together."""
        super().__init__()
        colors, height, width = sides(observation.shape)
        self._colors_last = len(observation.shape) == 3 and not colors_first(observation.shape)
        inputs = frames * colors
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

    def forward(self, frames: Tensor) -> Tensor:
        """uint8 [B, k, *shape] -> float32 [B, size]. Two-sided frames are gray; of three sides the
        first or the last is that of the colors, whichever is at most 4."""
        if self._colors_last:
            frames = frames.movedim(4, 2)  # an exporter takes no -1
        planes = frames.reshape(frames.shape[0], -1, *frames.shape[-2:])
        scaled = planes.to(torch.float32) * (1 / 255)
        features: Tensor = self.layers(scaled.to(next(self.parameters()).dtype))
        return features.flatten(1).float()

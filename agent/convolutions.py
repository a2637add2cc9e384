"""Convolutions: stacked pictures to a row of numbers."""

from __future__ import annotations

import math

from torch import Tensor, nn

from agent.looks import Look
from protocol.observations import channel_sides, height_and_width

LAYERS = (
    (36, ((32, 8, 4), (64, 4, 2), (64, 3, 1))),
    (8, ((16, 3, 1), (32, 3, 2))),
    (0, ((64, 4, 1),)),
)
"""Filters, kernel and stride of each layer, for pictures from so high and wide on: those of DQN
(Mnih et al. 2015, doi:10.1038/nature14236), two small ones, and, for boards, whose lines a stride
would cut, one."""


class Convolutions(nn.Module):
    """LAYERS of one observation."""

    def __init__(self, look: Look) -> None:
        super().__init__()
        self._look = look
        shape, channels = look.observation.shape, channel_sides(look.observation)
        # Of frames [B, k, *shape]: all that is no height and no width comes first.
        sides = [side for side in range(len(shape)) if side not in channels]
        self._order = [0, 1, *(2 + side for side in (*channels, *sides))]
        self._frames = (-1, look.stack, *shape)
        inputs = look.stack * math.prod(shape[side] for side in channels)
        height, width = height_and_width(look.observation)
        layers = next(each for least, each in LAYERS if min(height, width) >= least)
        modules: list[nn.Module] = []
        for outputs, kernel, stride in layers:
            modules += [nn.Conv2d(inputs, outputs, kernel, stride), nn.ReLU(inplace=True)]
            inputs = outputs
            height, width = ((side - kernel) // stride + 1 for side in (height, width))
        self.layers = nn.Sequential(*modules)
        self.size = inputs * height * width
        """Numbers that come out for each observation."""

    def forward(self, frames: Tensor) -> Tensor:
        """[B, (k,) *shape] of any dtype -> float32 [B, size]."""
        frames = frames.reshape(self._frames).permute(self._order)
        planes = frames.reshape(frames.shape[0], -1, *frames.shape[-2:])
        scaled = self._look.scaled(planes)
        features: Tensor = self.layers(scaled.to(next(self.parameters()).dtype))
        return features.flatten(1).float()

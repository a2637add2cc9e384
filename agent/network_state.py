"""A network's first weights, and copies of its tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from agent.networks import QNetwork
from config.models import LearnerConfig
from protocol.spaces import GameSpec


def first_network(
    spec: GameSpec, learner: LearnerConfig, seed: int | None, frame_stack: int
) -> QNetwork:
    """A network with first weights from the seed, made on the cpu and so the same everywhere."""
    if seed is None:
        return QNetwork(spec, learner, frame_stack=frame_stack)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return QNetwork(spec, learner, frame_stack=frame_stack)


def copies_of(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Each copied to the cpu."""
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}


def shapes_of(tensors: dict[str, Tensor]) -> dict[str, list[int]]:
    """Of each."""
    return {name: list(tensor.shape) for name, tensor in tensors.items()}

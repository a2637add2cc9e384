"""Inference: the network as the gateway runs it, on weights that come from elsewhere."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from agent.networks import QNetwork
from agent.parameters import flatten_parameters
from config.models import LearnerConfig
from protocol.spaces import GameSpec


class WeightSource(Protocol):
    """Where weights come from: shared memory here, another machine elsewhere."""

    @property
    def version(self) -> int:
        """The newest version; 0 before the first."""

    def fetch(self, out: npt.NDArray[np.float32]) -> int:
        """Copy the newest complete set; its version, or 0 if that did not succeed this time."""


class Policy:
    """The greedy policy of the newest complete set of weights.

    All parameters lie in one flat tensor, so that a new set is one copy.
    """

    def __init__(
        self,
        spec: GameSpec,
        learner: LearnerConfig,
        source: WeightSource,
        *,
        device: torch.device | str = "cpu",
        frame_stack: int = 1,
    ) -> None:
        self.version = 0
        self._source = source
        self._device = torch.device(device)
        self._spec = spec
        network = QNetwork(spec, learner, frame_stack=frame_stack)
        self._network = network.to(self._device).requires_grad_(False).eval()
        self.hidden = network.hidden
        """Widths of the trunk's layers."""
        self._flat = flatten_parameters(self._network)
        self._staging = np.empty(self._flat.numel(), np.float32)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the parameters, by the names that checkpoints have, in the order of the weights."""
        named = self._network.named_parameters()
        return {name: tuple(parameter.shape) for name, parameter in named}

    def refresh(self) -> bool:
        """Take the newest weights if there are newer ones; whether it did."""
        if self._source.version == self.version:
            return False
        version = self._source.fetch(self._staging)
        if not version:
            return False
        self._flat.copy_(torch.from_numpy(self._staging))
        self.version = version
        return True

    def greedy(
        self,
        obs: npt.NDArray[Any],
        legal: npt.NDArray[np.bool_] | None = None,
        state: npt.NDArray[np.float32] | None = None,
    ) -> npt.NDArray[np.float32]:
        """The network's actions, float32 [n, action_width], for rows of observations
        [n, observation_size], or of stacks of k frames [n, k * observation_size], and masks
        [n, choices], where the game has them. The result is the caller's to change.

        `state` [n, size]: the recurrent states before these frames, of a network with a memory
        (None: zeros); it becomes those behind them."""
        with torch.inference_mode():
            states = [
                torch.from_numpy(look.shaped(part)).to(self._device)
                for look, part in zip(self._network.looks, self._spec.parts(obs), strict=True)
            ]
            allowed = None if legal is None else torch.from_numpy(legal).to(self._device)
            before = None if state is None else torch.from_numpy(state).to(self._device)
            x = self._network.encode(*states, state=before)
            rows = self._network.choose(x, allowed)
            if state is not None:
                state[:] = self._network.state_of(x).cpu().numpy()
            actions: npt.NDArray[np.float32] = rows.cpu().numpy()
        return actions

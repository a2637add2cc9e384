"""A policy with the weights of a checkpoint: an opponent that does not change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from agent import checkpoint
from agent.checkpoint import CheckpointError, spec_text
from agent.network_settings import mismatch, network_settings, settings_of
from agent.policy import Policy
from config.models import LearnerConfig
from protocol.spaces import GameSpec


class StoredWeights:
    """One set of weights, as a source for a policy. There is none before `vector` is set."""

    def __init__(self) -> None:
        self.version = 0
        self.vector = np.empty(0, np.float32)

    def fetch(self, out: npt.NDArray[np.float32]) -> int:
        """Copy them."""
        out[:] = self.vector
        return self.version


def stored_policy(
    path: Path,
    spec: GameSpec,
    learner: LearnerConfig,
    *,
    device: torch.device | str = "cpu",
    frame_stack: int = 1,
) -> Policy:
    """The greedy policy of a checkpoint's network.

    Errors: CheckpointError where it is none, or is of another game or of another network.
    """
    state = checkpoint.load(path, spec=spec_text(spec))
    try:
        network: dict[str, Any] = state["learner"]["network"]
        weights = StoredWeights()
        policy = Policy(spec, learner, weights, device=device, frame_stack=frame_stack)
        shapes = policy.shapes
        found = {name: tuple(network[name].shape) for name in shapes}
        if found != shapes:
            asked = network_settings(learner, policy.hidden, frame_stack)
            raise CheckpointError(f"{path}: {mismatch(settings_of(state['learner']), asked)}")
        parts = [network[name].reshape(-1).to(torch.float32) for name in shapes]
        weights.vector = torch.cat(parts).numpy()
        weights.version = max(1, int(state["version"]))  # 0 is that of no weights
        policy.refresh()
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: expected what a trainer of this run saves, got a state whose network cannot "
            f"be made anew ({error!r}); name another checkpoint"
        ) from error
    return policy

"""Small learners, and random batches for them."""

from __future__ import annotations

from typing import Any

import torch

from agent.learner import Learner
from agent.replay import Batch
from config.models import AdvantageConfig, ImitationConfig, LearnerConfig, Schedule
from protocol.actor import Actor
from protocol.spaces import Continuous, Discrete, GameSpec, Head, Observation
from tests.support.tensors import DispatchMode

DQN, EXPERT = int(Actor.DQN), int(Actor.EXPERT)

HYBRID: tuple[Head, ...] = (Discrete("fire", 4), Continuous("aim", -0.9, 0.9, 1))

SEVERAL: tuple[Head, ...] = (
    Continuous("a", 0.0, 10.0, 2),
    Discrete("b", 3),
    Discrete("c", 5),
    Continuous("d", -2.0, -1.0, 1),
)

SIZE = 6
NO_CLONING = ImitationConfig(expert=Schedule(start=0.0, end=0.0, frames=1))


def spec_of(actions: tuple[Head, ...] = HYBRID, size: int = SIZE) -> GameSpec:
    return GameSpec("g", Observation("float32", (size,)), actions)


def batch_of(spec: GameSpec, n: int = 64, seed: int = 0) -> Batch:
    """Random rows of both actors, the expert's with better rewards; one in ten terminal."""
    g = torch.Generator().manual_seed(seed)
    (observation,) = spec.observations
    shape = (n, *observation.shape)
    actors = torch.where(torch.rand(n, generator=g) < 0.7, DQN, EXPERT)
    columns = list(spec.continuous_columns)
    low, high = torch.tensor(spec.low[columns]), torch.tensor(spec.high[columns])
    picked = [torch.randint(0, head.n, (n,), generator=g) for head in spec.discrete]
    return Batch(
        states=(torch.randn(shape, generator=g),),
        discrete=torch.stack(picked, 1) if picked else torch.empty(n, 0, dtype=torch.int64),
        continuous=low + torch.rand(n, len(columns), generator=g) * (high - low),
        recommended=torch.full((n, spec.action_width), torch.nan),
        rewards=torch.randn(n, generator=g) + 3 * (actors == EXPERT),
        returns=torch.randn(n, generator=g) * 2,
        next_states=(torch.randn(shape, generator=g),),
        discounts=torch.where(torch.rand(n, generator=g) < 0.1, 0.0, 0.97),
        actors=actors,
        horizons=torch.full((n,), 3),
        importance=torch.ones(n),
        indices=torch.arange(n),
    )


def learner_of(
    spec: GameSpec,
    *,
    advantage: dict[str, Any] | None = None,
    imitation: dict[str, Any] | None = None,
    seed: int = 1,
    **settings: Any,
) -> Learner:
    """Values are in units of the rewards, unless `normalize_values` says otherwise."""
    settings = {"hidden": (16, 8), "learning_rate": 1e-2, "normalize_values": False} | settings
    return Learner(
        spec,
        LearnerConfig(**settings),
        AdvantageConfig(**({"signal": "reward"} | (advantage or {}))),
        NO_CLONING if imitation is None else ImitationConfig(**imitation),
        device="cpu",
        seed=seed,
    )


class NoReadBack(DispatchMode):
    """Fails where a number is fetched from the device, or a shape depends on one."""

    FORBIDDEN = ("_local_scalar_dense", "nonzero", "unique", "masked_select", "item")

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert not any(name in str(func) for name in self.FORBIDDEN), f"{func} waits for the device"
        self.operations += 1
        return func(*args, **(kwargs or {}))

"""A parallel environment of PettingZoo's kind, without its package, and the same registered there
where it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces

LAST = {"a": 2, "b": 4, "c": 4}
"""The step in which each agent ends; c comes with the second one."""


class Relay:
    """Each agent sees its number and the step, and earns its action times 10, plus the step."""

    metadata = {"name": "relay_v0"}  # noqa: RUF012  (PettingZoo has it so)

    def __init__(self, uneven: bool = False) -> None:
        self.possible_agents = list(LAST)
        self.agents: list[str] = []
        self.uneven = uneven
        self.seeds: list[int | None] = []
        self.taken: list[Mapping[str, Any]] = []
        self.closed = False

    def observation_space(self, _agent: str) -> spaces.Space[Any]:
        return spaces.Box(0, 9, (2,))

    def action_space(self, agent: str) -> spaces.Space[Any]:
        return spaces.Discrete(3 if self.uneven and agent == "b" else 2)

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[Any, Any]:
        assert options is None
        self.seeds.append(seed)
        self.time = 0
        self.agents = ["a", "b"]
        return self._seen(self.agents), self._infos(self.agents)

    def step(self, actions: Mapping[str, Any]) -> tuple[Any, ...]:
        assert list(actions) == self.agents
        self.taken.append(dict(actions))
        self.time += 1
        there = [*self.agents, *(["c"] if self.time == 1 else [])]
        rewards = {agent: 10.0 * int(actions[agent]) + self.time for agent in actions}
        ended = {agent: self.time == LAST[agent] and agent != "b" for agent in there}
        cut = {agent: self.time == LAST[agent] and agent == "b" for agent in there}
        self.agents = [agent for agent in there if not (ended[agent] or cut[agent])]
        return self._seen(there), rewards, ended, cut, self._infos(there)

    def close(self) -> None:
        self.closed = True

    def _infos(self, agents: list[str]) -> dict[str, Any]:
        return {agent: {} for agent in agents}

    def _seen(self, agents: list[str]) -> dict[str, Any]:
        return {a: np.array([list(LAST).index(a), self.time], np.float32) for a in agents}


try:
    import pettingzoo
except ImportError:
    pass
else:

    class RegisteredRelay(Relay, pettingzoo.ParallelEnv):  # type: ignore[misc]
        """The same as PettingZoo wants it."""

    if "relay-v0" not in pettingzoo.parallel_registry:
        pettingzoo.register("parallel", "relay_v0", entry_point=RegisteredRelay)


def ones(_env: Any, seen: Mapping[str, Any]) -> dict[str, int]:
    """An expert that has advice for all agents but b."""
    return {agent: 1 for agent in seen if agent != "b"}


def same(env: Any) -> Any:
    """A wrapper that gives agents of different spaces the larger one."""
    import pettingzoo

    class Same(pettingzoo.utils.BaseParallelWrapper):  # type: ignore[misc]
        def action_space(self, _agent: str) -> spaces.Space[Any]:
            return spaces.Discrete(3)

        def step(self, actions: Mapping[str, Any]) -> Any:
            return self.env.step({a: min(int(i), 1) for a, i in actions.items()})

    return Same(env)


def all_ones(_env: Any, seen: Mapping[str, Any]) -> dict[str, int]:
    """An expert with advice for all agents."""
    return dict.fromkeys(seen, 1)

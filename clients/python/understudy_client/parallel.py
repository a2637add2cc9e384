"""PettingZoo's parallel environments: each agent is a slot of one connection, all share one policy.

Terry et al. 2021 (arXiv:2009.14471). All agents must see and do the same kind of things. An agent
may come late and end early: its slot then has no frames.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
from gymnasium.error import DependencyNotInstalled

from understudy_client.action_masks import Masks
from understudy_client.client import Client
from understudy_client.env_options import PLAIN, EnvOptions
from understudy_client.environments import named
from understudy_client.gym import Episode, episodes_of
from understudy_client.observation_spaces import observation_space
from understudy_client.spaces import action_space, told
from understudy_client.spec import GameSpec
from understudy_client.wire import RUNNING, TERMINATED, TRUNCATED

ParallelExpert = Callable[[Any, Mapping[Any, Any]], Mapping[Any, Any]]
"""What an expert is: (env, observations by agent) -> actions by agent; agents may be missing."""


def is_parallel(env_id: str) -> bool:
    """Whether `module:ID` is one of PettingZoo's: the module is imported, and registers it there.
    The built-in ones are in `pettingzoo`, as in pettingzoo:classic/rps_v2."""
    module, _, name = env_id.rpartition(":")
    if not module:
        return False
    try:
        importlib.import_module(module)
    except ImportError as error:
        if module == "pettingzoo":
            raise DependencyNotInstalled(
                f"parallel environments need the package pettingzoo, which cannot be imported "
                f"({error}); install it: python -m pip install pettingzoo"
            ) from error
        return False  # Gymnasium says what is wrong
    zoo = sys.modules.get("pettingzoo")
    if zoo is None or name in gymnasium.registry:
        return False
    return module == "pettingzoo" or _normal(name) in {*zoo.parallel_registry, *zoo.aec_registry}


def _normal(name: str) -> str:
    """A name with the hyphen before its version that the registry has."""
    return re.sub(r"_(v\d+)$", r"-\1", name)


def make_parallel(env_id: str, options: EnvOptions = PLAIN) -> Any:
    """A parallel environment by its name; `is_parallel` has said that it is one. Errors:
    ValueError, DependencyNotInstalled; those of the environment."""
    import pettingzoo
    from pettingzoo.env_registry.exceptions import FailedToImport, PettingZooRegistryError

    name = env_id.rpartition(":")[2]
    if options != EnvOptions(args=options.args, wraps=options.wraps):
        raise ValueError(
            "expected only --env-args and --wrap for a parallel environment; do the rest in a "
            "--wrap function (pettingzoo.utils.BaseParallelWrapper)"
        )
    try:
        env: Any = pettingzoo.make("parallel", name, **options.args)
    except FailedToImport as error:
        raise DependencyNotInstalled(f"{error} ({error.__cause__})") from error
    except PettingZooRegistryError as error:
        if _normal(name) in pettingzoo.aec_registry:
            raise ValueError(
                f"expected a parallel environment, got {name}, whose agents take turns; if they "
                "could act at once, register what pettingzoo.utils.aec_to_parallel makes of it"
            ) from error
        raise ValueError(str(error)) from error
    for wrap in options.wraps:
        env = named(wrap)(env)
        if not isinstance(env, pettingzoo.ParallelEnv):
            raise ValueError(
                f"wrap {wrap!r}: expected a function that returns a pettingzoo.ParallelEnv, got "
                f"{type(env).__name__} from it"
            )
    return env


def parallel_masks(env: Any) -> bool:
    """As understudy_client.gym.has_masks."""
    first = env.possible_agents[0]
    infos = env.reset()[1]
    return _masks_of(env, first).are_there(next(iter(infos.values()), {}))


def parallel_spec_of(env: Any, env_id: str) -> GameSpec:
    """The spec of what each agent sees and does, named after the id. Errors: TypeError, ValueError
    where it is not the same for all."""
    first, *others = env.possible_agents
    seen, done = env.observation_space(first), env.action_space(first)
    for agent in others:
        for what, space, mine in (
            ("observation", env.observation_space(agent), seen),
            ("action", env.action_space(agent), done),
        ):
            if space != mine:
                raise ValueError(
                    f"{what} space: expected the same for all agents, which share one policy; got "
                    f"{told(mine)} of {first} and {told(space)} of {agent}; make them equal in a "
                    "--wrap function (pettingzoo.utils.BaseParallelWrapper)"
                )
    name = _normal(env_id.rpartition(":")[2])
    return GameSpec(name, observation_space(seen).observations, action_space(done).heads)


def _masks_of(env: Any, agent: Any) -> Masks:
    done = env.action_space(agent)
    return Masks(done, action_space(done), observation_space(env.observation_space(agent)))


def play_parallel(
    env: Any,
    client: Client,
    *,
    expert: ParallelExpert | None = None,
    episodes: int | None = None,
    frames: int | None = None,
    seed: int | Callable[[int], int] | None = None,
    on_episode: Callable[[Episode], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> None:
    """As `understudy_client.gym.play`, for a parallel environment and a client with a slot for each
    of its possible agents. An episode ends with its last agent; its return is the mean over its
    agents, its length counts the actions of all."""
    player = _Player(env, client, expert)
    episodes_of(
        lambda episode, left: player.play(episode, left, stop),
        episodes=episodes,
        frames=frames,
        seed=seed,
        on_episode=on_episode,
    )


class _Player:
    def __init__(self, env: Any, client: Client, expert: ParallelExpert | None) -> None:
        self._env, self._client, self._expert = env, client, expert
        self._slots = {agent: slot for slot, agent in enumerate(env.possible_agents)}
        first = env.possible_agents[0]
        self._seen = observation_space(env.observation_space(first))
        self._actions = action_space(env.action_space(first))
        self._masks = _masks_of(env, first) if client.spec.masks else None

    def play(self, episode: Episode, left: int | None, stop: Callable[[], bool] | None) -> bool:
        """Play one episode into `episode`; False where `stop()` ended it early."""
        env = self._env
        seen, infos = env.reset(seed=episode.seed)
        earned: dict[Any, float] = dict.fromkeys(env.agents, 0.0)
        agents, total = set(env.agents), 0.0
        episode.terminated = True
        while env.agents:
            if stop is not None and stop():
                return False
            acting, before = list(env.agents), seen
            actions = self._ask(acting, seen, infos, earned, episode)
            seen, rewards, terminations, truncations, infos = env.step(actions)
            agents.update(env.agents)
            over = left is not None and episode.length >= left
            for agent in acting:
                reward = float(rewards.get(agent, 0.0))
                total += reward
                earned[agent] = reward
                if terminations.get(agent, False):
                    status = TERMINATED
                elif truncations.get(agent, False) or over or agent not in env.agents:
                    status = TRUNCATED
                    episode.terminated = False
                else:
                    continue
                # One that is gone without a word was seen last before.
                last = seen[agent] if agent in seen else before[agent]
                self._frame(agent, last, reward, status)
            episode.return_ = total / max(len(agents), 1)
            if over:
                break
        return True

    def _ask(
        self,
        acting: list[Any],
        seen: Mapping[Any, Any],
        infos: Mapping[Any, Any],
        earned: dict[Any, float],
        episode: Episode,
    ) -> dict[Any, Any]:
        """The actions of these agents."""
        advice = self._expert(self._env, seen) if self._expert is not None else {}
        actions = {}
        for agent in acting:
            advised = self._actions.to_wire(advice[agent]) if agent in advice else None
            more: dict[str, Any] = {"expert": advised}
            if self._masks is not None:
                more["legal"] = self._masks.legal(seen[agent], infos.get(agent, {}))
            answer = self._frame(agent, seen[agent], earned.get(agent, 0.0), RUNNING, **more)
            actions[agent] = self._actions.to_env(answer.action)
            episode.length += 1
            episode.actors[answer.actor] = episode.actors.get(answer.actor, 0) + 1
        return actions

    def _frame(self, agent: Any, seen: Any, reward: float, status: int, **more: Any) -> Any:
        slot = self._slots.get(agent)
        if slot is None:
            raise ValueError(
                f"expected an agent of possible_agents, got {agent!r}; list all that may come there"
            )
        return self._client.act(self._seen.to_wire(seen), reward, status, slot=slot, **more)

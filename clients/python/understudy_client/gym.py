"""Play Gymnasium environments: `spec_of(env)` for connecting, `play(env, client)` for playing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import gymnasium

from understudy_client.action_masks import Flags, masks_of
from understudy_client.checks import shown
from understudy_client.client import Client
from understudy_client.errors import Reconnected
from understudy_client.info import metrics_of, reward_names, reward_parts
from understudy_client.observation_spaces import ObservationSpace, observation_space
from understudy_client.spaces import ActionSpace, action_space, told
from understudy_client.spec import GameSpec, Part
from understudy_client.wire import DQN, EPISODE_LIMIT, EXPERT, RUNNING, TERMINATED, TRUNCATED

Expert = Callable[..., Any]
"""What an expert is: (env, observation) -> an action of that environment. One with a true attribute
`wants_legal` is asked (env, observation, legal): what is legal now, a bool for each choice of each
discrete head; None where all is."""


def asked(
    expert: Expert, env: gymnasium.Env[Any, Any], obs: Any, legal: Flags | None = None
) -> Any:
    """What an expert would do now."""
    if getattr(expert, "wants_legal", False):
        return expert(env, obs, legal)
    return expert(env, obs)


@dataclass(slots=True)
class Episode:
    """One complete episode."""

    index: int
    """Its number within this call of `play`, from 0."""
    seed: int | None
    return_: float = 0.0
    """The sum of the environment's rewards: undiscounted, unclipped."""
    length: int = 0
    """Actions taken."""
    actors: dict[int, int] = field(default_factory=lambda: {DQN: 0, EXPERT: 0})
    """Actions by who chose them."""
    terminated: bool = False
    """False where it was truncated."""
    cut: bool = False
    """An episode of evaluation that the server's limit cut: it did not end by itself."""


class EpisodeDiscarded(Exception):
    """Raised by `Person.look`: this episode ends here, as one that is cut short, and does not
    count."""


class Person(Protocol):
    """Somebody who sees a game, and may be at its controls."""

    def look(
        self,
        env: gymnasium.Env[Any, Any],
        obs: Any,
        episode: Episode,
        status: int,
        legal: Flags | None,
    ) -> Sequence[Part] | None:
        """Asked before each frame: what is done on it, a part for each head, whatever the server
        answers; None where nobody is at the controls, and for the last frame of an episode
        (`status`). `legal`: as an expert that wants it is told. Errors: EpisodeDiscarded."""


def has_masks(env: gymnasium.Env[Any, Any]) -> bool:
    """Whether the environment says which actions are legal (understudy_client.action_masks): it is
    reset to see. Errors: TypeError, ValueError; those of its own."""
    masks = masks_of(env)
    return masks.declared or masks.are_there(env.reset()[1])


def spec_of(
    env: gymnasium.Env[Any, Any], *, masks: bool = False, rewards: Sequence[str] = ()
) -> GameSpec:
    """The spec of an environment, named after its id. Errors: TypeError, ValueError.

    masks: frames say which actions are legal (`has_masks`); one with a method `action_masks` has
        masks in any case.
    rewards: names of parts of the reward that `info` has (understudy_client.info).

    `Client.connect(host, port, client="...", **spec_of(env).fields())`
    """
    game = env.spec.id if env.spec is not None else type(env.unwrapped).__name__
    seen = observation_space(env.observation_space)
    heads = action_space(env.action_space).heads
    masks = masks or masks_of(env).declared
    return GameSpec(game, seen.observations, heads, reward_names(rewards), masks)


def play(
    env: gymnasium.Env[Any, Any],
    client: Client,
    *,
    expert: Expert | None = None,
    episodes: int | None = None,
    frames: int | None = None,
    seed: int | Callable[[int], int] | None = None,
    on_episode: Callable[[Episode], None] | None = None,
    stop: Callable[[], bool] | None = None,
    person: Person | None = None,
) -> None:
    """Play until `episodes` are complete, `frames` actions are taken, or `stop()` is true. The
    numbers that the client has declared (`metrics` of `Client.connect`) and the parts of the reward
    (`spec_of`) are taken from `info`.

    expert: its action is sent as the recommendation with every frame.
    seed: episode i is reset with seed + i, or with seed(i) where it is a function; None leaves
        seeding to the environment.
    on_episode: called after each complete episode.
    person: what it does is told as `took`, with the actor expert; `expert` is not asked then.

    An episode that is cut by a lost connection is played again from its beginning and counts
    once. One that the server cuts (`Episode.cut`), and one in which the budget of frames runs out
    and which is truncated, count too; one in which `stop()` becomes true does not. Errors: those
    of `Client.act`, except Reconnected.
    """
    actions, seen = action_space(env.action_space), observation_space(env.observation_space)

    def one(episode: Episode, left: int | None) -> bool:
        return _episode(env, client, seen, actions, expert, episode, left, stop, person)

    episodes_of(one, episodes=episodes, frames=frames, seed=seed, on_episode=on_episode)


def episodes_of(
    play_one: Callable[[Episode, int | None], bool],
    *,
    episodes: int | None,
    frames: int | None,
    seed: int | Callable[[int], int] | None,
    on_episode: Callable[[Episode], None] | None,
) -> None:
    """Episodes one after the other, as `play` says. `play_one` plays one into what it is given,
    with so many frames left; False where it was ended early."""
    index = taken = 0
    while (episodes is None or index < episodes) and (frames is None or taken < frames):
        episode = Episode(index, seed(index) if callable(seed) else _plus(seed, index))
        left = None if frames is None else frames - taken
        try:
            complete = play_one(episode, left)
        except EpisodeDiscarded:
            continue
        except Reconnected as lost:
            if lost.code != EPISODE_LIMIT or not episode.length:
                continue
            complete = episode.cut = True
        finally:
            taken += episode.length
        if not complete:
            return
        index += 1
        if on_episode is not None:
            on_episode(episode)


def _plus(seed: int | None, index: int) -> int | None:
    return None if seed is None else seed + index


def _episode(
    env: gymnasium.Env[Any, Any],
    client: Client,
    seen: ObservationSpace,
    actions: ActionSpace,
    expert: Expert | None,
    episode: Episode,
    frames_left: int | None,
    stop: Callable[[], bool] | None,
    person: Person | None,
) -> bool:
    """Play one episode into `episode`; False where `stop()` ended it early."""
    obs, info = env.reset(seed=episode.seed)
    masks = masks_of(env) if client.spec.masks else None
    reward = reward_parts({}, 0.0, client.spec.rewards)
    status = RUNNING
    took: tuple[Sequence[Part], int] | None = None
    while True:
        legal = masks.legal(obs, info) if masks is not None and status == RUNNING else None
        wish = None
        try:
            if person is not None:
                wish = person.look(env, obs, episode, status, legal)
        except EpisodeDiscarded:
            told = metrics_of(info, client.metrics)
            client.act(seen.to_wire(obs), reward, status or TRUNCATED, None, took, metrics=told)
            raise
        if stop is not None and stop():
            return False
        if masks is not None and legal is not None and wish is not None:
            wish = wish if masks.allows(legal, wish) else None
        recommended: list[Part] | None = None
        if expert is not None and status == RUNNING and wish is None:
            recommended = _advice(env, actions, asked(expert, env, obs, legal))
        answer = client.act(
            seen.to_wire(obs), reward, status, recommended, took,
            legal=legal, metrics=metrics_of(info, client.metrics),
        )  # fmt: skip
        if status != RUNNING:
            return True
        if answer.action is None:
            raise ValueError("expected an action for a running frame, got none")
        action, actor = (answer.action, answer.actor) if wish is None else (wish, EXPERT)
        took = None if wish is None else (wish, EXPERT)
        obs, earned, terminated, truncated, info = env.step(actions.to_env(action))
        number = _number(earned)
        reward = reward_parts(info, number, client.spec.rewards)
        episode.return_ += number
        episode.length += 1
        episode.actors[actor] = episode.actors.get(actor, 0) + 1
        if terminated:
            status, episode.terminated = TERMINATED, True
        elif truncated or episode.length == frames_left:
            status = TRUNCATED


def _advice(env: gymnasium.Env[Any, Any], actions: ActionSpace, action: Any) -> list[Part]:
    """An expert's action as the wire has it. Errors: ValueError."""
    try:
        return actions.to_wire(action)
    except (TypeError, ValueError, LookupError) as error:
        raise ValueError(
            f"expected the expert to return an action of {told(env.action_space)}, got "
            f"{shown(action)}"
        ) from error


def _number(reward: Any) -> float:
    """A reward of the environment. Errors: ValueError."""
    try:
        return float(reward)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"expected the environment to return a number as reward, got {shown(reward)}"
        ) from error

"""The environment of a game's process, of Gymnasium or of PettingZoo, and how it is played."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, NamedTuple

from msgspec.structs import replace

from server.play.game_errors import GameNotMade, made
from server.play.game_messages import Part
from server.play.person.pictures import drawn
from server.play.show_options import ShowOptions
from understudy_client import GameSpec
from understudy_client import gym as client_gym
from understudy_client.environments import make
from understudy_client.parallel import (
    is_parallel,
    make_parallel,
    parallel_masks,
    parallel_spec_of,
    play_parallel,
)


class MadeGame(NamedTuple):
    """An environment and what it shows."""

    env: Any
    """Of Gymnasium, or a parallel one of PettingZoo."""
    spec: GameSpec
    slots: int = 1
    play: Callable[..., None] = client_gym.play


def made_game(part: Part, closing: ExitStack) -> MadeGame:
    """The environment, which `closing` will close. Errors: GameNotMade for what cannot get better;
    those of its own."""
    options = part.options
    try:
        if is_parallel(options.env):
            return _made_parallel(part, closing)
        shown = shown_of(part) is not None
        env = drawn(options.env, options.making) if shown else make(options.env, options.making)
    except Exception as error:
        raise made(options.env, error) from error
    closing.callback(env.close)
    try:
        spec = client_gym.spec_of(env, rewards=options.making.rewards)
    except (TypeError, ValueError) as error:
        raise GameNotMade(str(error)) from error
    return MadeGame(env, replace(spec, masks=client_gym.has_masks(env)))


def _made_parallel(part: Part, closing: ExitStack) -> MadeGame:
    """The same for a parallel environment."""
    options = part.options
    if shown_of(part) is not None or options.weaken:
        raise GameNotMade(
            f"--env {options.env}: expected none of --human, --render, --video and --weaken, which "
            "are for environments of Gymnasium; leave them out"
        )
    env = make_parallel(options.env, options.making)
    closing.callback(env.close)
    try:
        spec = parallel_spec_of(env, options.env)
    except (TypeError, ValueError) as error:
        raise GameNotMade(str(error)) from error
    spec = replace(spec, masks=parallel_masks(env))
    return MadeGame(env, spec, len(env.possible_agents), play_parallel)


def shown_of(part: Part) -> ShowOptions | None:
    """What is shown of this game."""
    return part.options.show if part.client == 0 else None

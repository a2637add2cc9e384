"""A game of Gymnasium, played by an exported policy in this process: no server, no torch."""

from __future__ import annotations

import argparse
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import gymnasium
import msgspec
import numpy as np
import numpy.typing as npt

from protocol.spaces import GameSpec
from server.play.env_options import env_options
from server.play.game_errors import GameNotMade
from server.play.game_messages import GameEpisode
from server.play.person.first_game import view_of
from server.play.person.pictures import drawn
from server.play.person.view import GameView
from server.play.policy_file import PolicyError, PolicyFile
from server.play.show_arguments import show_of
from understudy_client import gym as client_gym
from understudy_client.action_masks import masks_of
from understudy_client.environments import make
from understudy_client.observation_spaces import ObservationSpace, observation_space
from understudy_client.spaces import action_space
from understudy_client.wire import RUNNING


def play(args: argparse.Namespace, stop: Callable[[], bool]) -> list[GameEpisode]:
    """Play as the arguments of `understudy play` say: --policy, --env, --episodes, --frames,
    --seed. Episode i is reset with seed + i; one in which the frames run out counts, one that is
    stopped does not. Errors: PolicyError."""
    _check_options(args)
    show = show_of(args)
    policy = PolicyFile.load(Path(args.policy))
    try:
        env = (make if show is None else drawn)(args.env, env_options(args))
    except (gymnasium.error.Error, ImportError, ValueError) as error:
        raise PolicyError(f"--env {args.env}: {error}") from error
    with ExitStack() as closing:
        closing.callback(env.close)
        _check_game(policy, env, args.policy)
        try:
            view = None if show is None else view_of(env, policy.spec, show, closing, stopped=stop)
            print(f"{args.policy}, update {policy.updates:,}, plays {args.env}", flush=True)
            return _play(env, policy, args.episodes, args.frames, args.seed, stop, view)
        except GameNotMade as error:
            raise PolicyError(str(error)) from error


def _check_options(args: argparse.Namespace) -> None:
    others = {
        "--clients": args.clients != 1,
        "--connect": args.connect != ("127.0.0.1", 7777),
        "--role": args.role != "train",
        "--expert": args.expert is not None,
        "--weaken": args.weaken != 0,
        "--eval-every": args.eval_every is not None,
        "--token": args.token is not None,
        "--human": args.human is not None,
    }
    if given := [name for name, there in others.items() if there]:
        raise PolicyError(f"{given[0]} is about games of a server; leave it out with --policy")


def _check_game(policy: PolicyFile, env: gymnasium.Env[Any, Any], name: str) -> None:
    """Refuse an environment that is another game than the policy's."""
    try:
        found = client_gym.spec_of(env, masks=client_gym.has_masks(env))
    except (TypeError, ValueError) as error:
        raise PolicyError(f"{env}: {error}") from error
    wire = msgspec.structs.replace(found, rewards=policy.spec.rewards)
    spec = msgspec.json.decode(msgspec.json.encode(wire), type=GameSpec)
    if spec != policy.spec:
        raise PolicyError(
            f"{name} is a policy for {policy.spec.describe()}; the environment is "
            f"{spec.describe()}; play the game that it was trained on"
        )


def _play(
    env: gymnasium.Env[Any, Any],
    policy: PolicyFile,
    episodes: int | None,
    frames: int | None,
    seed: int | None,
    stop: Callable[[], bool],
    view: GameView | None,
) -> list[GameEpisode]:
    actions, seen = action_space(env.action_space), observation_space(env.observation_space)
    masks = masks_of(env) if policy.spec.masks else None
    done: list[GameEpisode] = []
    left = frames
    while (episodes is None or len(done) < episodes) and left != 0:
        obs, info = env.reset(seed=None if seed is None else seed + len(done))
        stack = Stack(policy.spec, policy.frame_stack, seen, obs)
        memory = np.zeros((1, policy.memory), np.float32) if policy.memory else None
        total, length, over = 0.0, 0, False
        while not over:
            legal = None if masks is None else masks.legal(obs, info)
            if view is not None:
                episode = client_gym.Episode(len(done), None, total, length)
                view.look(env, obs, episode, RUNNING, legal)
            if stop() or (view is not None and view.ended):
                return done
            row = None if legal is None else legal[None]
            chosen = policy.act(stack.frames(), row, memory)
            (parts,) = policy.spec.actions_of_rows(chosen)
            obs, reward, terminated, truncated, info = env.step(actions.to_env(parts))
            stack.add(obs)
            total, length = total + float(reward), length + 1
            left = None if left is None else left - 1
            over = terminated or truncated or left == 0
        done.append(GameEpisode(0, len(done), total, length, length, 0))
    return done


class Stack:
    """The newest frames of an episode, as the policy wants to see them."""

    def __init__(self, spec: GameSpec, frames: int, seen: ObservationSpace, first: Any) -> None:
        self._spec, self._seen = spec, seen
        self._frames: deque[npt.NDArray[Any]] = deque(maxlen=frames)
        for _ in range(frames):  # before the first frame there was only the first
            self.add(first)

    def add(self, obs: Any) -> None:
        """A new frame; the oldest goes."""
        self._frames.append(self._spec.row(self._seen.to_wire(obs)))

    def frames(self) -> npt.NDArray[Any]:
        """A row of observations, [1, k * observation_size]."""
        return np.concatenate(self._frames)[None]

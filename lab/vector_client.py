"""Gymnasium games that play in lock step with a frame loop, as one connection without a socket."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import msgspec
import numpy as np
import numpy.typing as npt

from protocol import codec
from protocol.errors import RemoteError
from protocol.framing import LENGTH_BYTES
from protocol.masks import packed
from protocol.messages import NOT_SENT, RUNNING, TERMINATED, TRUNCATED, Actions, Frames
from protocol.spaces import GameSpec, Part
from understudy_client.action_masks import masks_of
from understudy_client.gym import Expert, asked, spec_of
from understudy_client.observation_spaces import observation_space
from understudy_client.spaces import action_space


def game_spec(env: gymnasium.Env[Any, Any], *, masks: bool = False) -> GameSpec:
    """The server's idea of an environment: what its client's HELLO would say. Errors: TypeError,
    ValueError where it cannot be played."""
    found = spec_of(env, masks=masks)
    return msgspec.convert(msgspec.to_builtins(found), GameSpec).checked()


class Game:
    """One environment, the expert beside it, and the episodes that it plays one after another.

    Episode i is reset with seed + i * stride; with seed None, with no seed.
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        expert: Expert | None,
        *,
        seed: int | None,
        stride: int = 1,
        episodes: int | None = None,
    ) -> None:
        self.env = env
        self.returns: list[float] = []
        """Of the complete episodes: sums of the environment's rewards."""
        self.over = False
        """All episodes are complete. Its frames are then last frames of nothing."""
        self._expert = expert
        self._seed, self._stride, self._episodes = seed, stride, episodes
        self._actions = action_space(env.action_space)
        self._seen = observation_space(env.observation_space)
        self._masks = masks_of(env)
        self._begun = 0
        self.reward, self.status, self._return = 0.0, RUNNING, 0.0
        self._begin()

    @property
    def spec(self) -> GameSpec:
        """That of the environment; its first observation has said whether it has masks."""
        return game_spec(self.env, masks=self._has_masks)

    def recommend(self) -> list[Part] | None:
        """What the expert would do now, as it travels; None if it has nothing to recommend."""
        if self._expert is None or self.status != RUNNING:
            return None
        action = asked(self._expert, self.env, self.obs, self.legal())
        return None if action is None else self._actions.to_wire(action)

    def seen(self) -> Any:
        """The observation now, as it travels."""
        return self._seen.to_wire(self.obs)

    def legal(self) -> npt.NDArray[np.bool_] | None:
        """Which choices are legal now, [choices]; None where all are, or nobody acts any more."""
        if self.status != RUNNING or not self._has_masks:
            return None
        return self._masks.legal(self.obs, self._info)

    def act(self, action: Sequence[Part]) -> None:
        """Do what the answer to the last frame says; that to the last frame of an episode says
        nothing, and the next episode begins."""
        if self.status != RUNNING:
            if not self.over:
                self.returns.append(self._return)
                self._begin()
            return
        done = self._actions.to_env(action)
        self.obs, earned, terminated, truncated, self._info = self.env.step(done)
        self.reward = float(earned)
        self._return += self.reward
        self.status = TERMINATED if terminated else TRUNCATED if truncated else RUNNING

    def _begin(self) -> None:
        self.reward, self._return = 0.0, 0.0
        if self._begun == self._episodes:
            self.status, self.over = TRUNCATED, True
            return
        seed = None if self._seed is None else self._seed + self._begun * self._stride
        self.obs, self._info = self.env.reset(seed=seed)
        self._has_masks = self._masks.are_there(self._info)
        self.status = RUNNING
        self._begun += 1


class VectorClient:
    """Games as the slots of one player of `server.gateway.frame_loop`: it sends FRAMES, and is sent
    ACTIONS."""

    def __init__(self, spec: GameSpec, games: Sequence[Game]) -> None:
        self.games = games
        self.rows = np.empty(0, np.int64)
        """The frame loop's rows of the games; set when it is joined."""
        self.answer: Actions | None = None
        """What was sent last."""
        self._spec = spec
        self._seq = 0
        n = len(games)
        self._obs = np.zeros((n, spec.observation_size), spec.observation_dtype)
        self._rewards = np.zeros((n, len(spec.rewards)), "<f4")
        self._statuses = np.zeros(n, np.uint8)
        self._experts = np.zeros((n, spec.action_width), "<f4")
        self._legal = np.zeros((n, spec.choices), np.bool_)

    @property
    def over(self) -> bool:
        """Whether all games are."""
        return all(game.over for game in self.games)

    def frames(self) -> Frames:
        """What the games show now. Valid until it is asked again."""
        for i, game in enumerate(self.games):
            self._obs[i] = self._spec.row(game.seen())
            self._rewards[i] = game.reward
            self._statuses[i] = game.status
            recommended = game.recommend()
            self._experts[i] = np.nan if recommended is None else self._spec.action_row(recommended)
            if self._spec.masks:
                legal = game.legal()
                self._legal[i] = True if legal is None else legal
        masks = NOT_SENT
        if self._spec.masks:
            masks = msgspec.Raw(msgspec.msgpack.encode(packed(self._legal).data))
        frames = Frames(
            self._seq,
            self._obs.view(np.uint8).data,
            self._rewards.data,
            self._statuses.data,
            self._experts.data,
            None,
            masks,
        )
        self._seq += 1
        return frames

    def act(self) -> None:
        """Let the games do what the answer says."""
        assert self.answer is not None
        rows = np.frombuffer(self.answer.actions, "<f4").reshape(len(self.games), -1)
        # Rows without an action are NaN, which has no integer; nobody acts on them.
        for game, action in zip(
            self.games, self._spec.actions_of_rows(np.nan_to_num(rows)), strict=True
        ):
            game.act(action)

    def send(self, data: bytes) -> None:
        """The answer to `frames`."""
        answer = codec.decode_server(memoryview(data)[LENGTH_BYTES:])
        assert isinstance(answer, Actions)
        self.answer = answer

    def answered(self, slot: int | None) -> None:
        """All slots are answered at once."""

    def fail(self, error: RemoteError) -> None:
        """A game sent what no server would take. Errors: ValueError, that."""
        raise ValueError(str(error))

"""Self-play in one process and in lock step: does a network learn connect four from games against
its own checkpoints? `python -m lab.self_play` trains, and plays the matches of docs/self-play.md.

The code is the server's: turns, slots in the roles train and play, the shelf of checkpoints, replay
and learner. What is left out is sockets and time, as in lab.sync_trainer.
"""

from __future__ import annotations

import argparse
import math
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from agent import checkpoint
from agent.decision import acting_params_at
from agent.evidence import Evidence
from agent.factory import make_learner, make_replay
from agent.policy import Policy
from agent.stored_policy import stored_policy
from agent.training_step import learn
from agent.update_budget import updates_due
from config.load import config_from
from config.models import Config
from lab.sync_trainer import Newest, ReplaySink, one_thread
from protocol import codec
from protocol.errors import RemoteError
from protocol.framing import LENGTH_BYTES
from protocol.masks import packed
from protocol.messages import NOT_SENT, RUNNING, TERMINATED, Action, Frame
from protocol.policies import PolicyName
from protocol.spaces import Discrete, GameSpec, Observation
from server.gateway.checkpoint_shelf import CheckpointShelf
from server.gateway.frame_loop import FrameLoop
from understudy_client.connect_four import COLUMNS, ROWS, Board, opened, random_player

SPEC = GameSpec(
    "connect four",
    Observation("float32", (2, ROWS, COLUMNS), kind="picture", low=0, high=1),
    (Discrete("column", COLUMNS),),
    masks=True,
).checked()

SETTINGS: dict[str, Any] = {
    "trainer.device": "cpu",
    "trainer.replay_ratio": 0.1,
    "learner.batch_size": 256,
    "learner.hidden": (128,),
    "learner.n_step": 1,
    "learner.value": "c51",
    "learner.value_min": -1.0,
    "learner.value_max": 1.0,
    "learner.atoms": 21,
    "learner.cosine_updates": 7900,
    "exploration.epsilon.end": 0.1,
    "exploration.epsilon.frames": 20_000,
}
"""Over the defaults: a game costs little and no two are alike, so many are played and few updates
made; with an update for each frame a network learns its games by heart. A game is won or lost, so
values are probabilities of what lies between -1 and 1; and the rate falls by the end of FRAMES."""

FRAMES = 80_000

OPENING = 12
"""Games of training begin on boards with up to so many discs."""

EASY = 4
"""One of so many games is against random moves: who meets earlier selves alone forgets how to."""

EVERY = 200
"""Updates between two checkpoints."""

KEPT = 8
"""Checkpoints that opponents are drawn from."""


class Side:
    """Slots of one role, one for each game, as one player of a frame loop without a socket."""

    def __init__(self, loop: FrameLoop, number: int, games: int, role: str, **options: Any) -> None:
        """`options`: of FrameLoop.join."""
        streams = [number << 16 | slot for slot in range(games)]
        self.rows = loop.join(streams, role, **options)
        self.moves: dict[int, int] = {}
        """By game, what its newest frame was answered with."""
        self._loop = loop
        self._seqs = [0] * games
        self._begun = [False] * games

    def ask(self, game: int, board: Board) -> None:
        """A frame of the player whose turn it is."""
        self._begun[game] = True
        self._frame(game, board.seen_by(board.turn), 0.0, RUNNING, board.legal())

    def end(self, game: int, board: Board, player: int) -> None:
        """The last frame of this player, if it had one before."""
        if self._begun[game]:
            self._begun[game] = False
            reward = 0.0 if board.winner is None else 1.0 if board.winner == player else -1.0
            self._frame(game, board.seen_by(player), reward, TERMINATED, None)

    def _frame(self, game: int, seen: Any, reward: float, status: int, legal: Any) -> None:
        mask = NOT_SENT if legal is None else _mask(legal)
        obs = memoryview(seen.tobytes())
        frame = Frame(game, self._seqs[game], obs, reward, status, None, None, mask)
        self._seqs[game] += 1
        self._loop.add_frame(self, frame)

    def send(self, data: bytes) -> None:
        """Answers, one behind the other."""
        while data:
            size = LENGTH_BYTES + int.from_bytes(data[:LENGTH_BYTES], "big")
            answer = codec.decode_server(memoryview(data)[LENGTH_BYTES:size])
            assert isinstance(answer, Action)
            if answer.action is not None:
                self.moves[answer.slot] = int(answer.action[0])  # type: ignore[arg-type]
            data = data[size:]

    def answered(self, slot: int | None) -> None:
        """Answers tell their slot."""

    def fail(self, error: RemoteError) -> None:
        """A frame that no server would take. Errors: ValueError, that."""
        raise ValueError(str(error))


class Table:
    """Games of two sides side by side; in each turn all go on by a move."""

    def __init__(
        self,
        loop: FrameLoop,
        sides: Sequence[Side | None],
        games: int,
        opening: int,
        seed: int,
        most: float = math.inf,
        easy: int = 0,
    ) -> None:
        """`sides`: either begins every other game; None drops discs anywhere. Games begin with at
        most `opening` random moves. `most`: only so many games count, those that begin first: of
        the games that end first more are short. `easy`: how many of the games that go on
        side by side the second side leaves to random moves."""
        self.won = [0, 0]
        """By each side."""
        self.played = 0
        self._most, self._easy = most, easy
        self._loop, self._sides, self._opening = loop, sides, opening
        self._random = random.Random(seed)
        self._anywhere = random_player(self._random)
        self._begun = 0
        self._games = [self._begin() for _ in range(games)]

    def turn(self) -> None:
        """A move in each game."""
        asked: list[tuple[int, Side]] = []
        for at, (board, number) in enumerate(self._games):
            side = self._players(at)[(board.turn + number) % 2]
            if side is None:
                board.drop(self._anywhere(board))
            else:
                side.ask(at, board)
                asked.append((at, side))
        self._loop.run()
        for at, side in asked:
            self._games[at][0].drop(side.moves.pop(at))
        for at, (board, number) in enumerate(self._games):
            if board.over:
                self._end(at, board, number)
                self._games[at] = self._begin()
        self._loop.run()

    def _players(self, at: int) -> Sequence[Side | None]:
        """Who plays one of the games."""
        return (self._sides[0], None) if at < self._easy else self._sides

    def _begin(self) -> tuple[Board, int]:
        """A game, and its number."""
        board = opened(self._opening, self._random)
        self._begun += 1
        return board, self._begun

    def _end(self, at: int, board: Board, number: int) -> None:
        counts = number <= self._most
        self.played += counts
        for which, side in enumerate(self._players(at)):
            player = (which + number) % 2
            self.won[which] += counts and board.winner == player
            if side is not None:
                side.end(at, board, player)


class SelfPlay:
    """A run: the student against its own checkpoints."""

    def __init__(self, config: Config, folder: Path, *, games: int = 16) -> None:
        """`folder`: for checkpoints. `games`: that are played side by side."""
        self.config = config
        device = torch.device("cpu")
        self.replay = make_replay(config, SPEC, device)
        self.learner = make_learner(config, SPEC, device)
        self._folder, self._saved = folder, 0
        self._games = games
        self._evidence = Evidence()
        self.sink = ReplaySink(self.replay, self.learner, self._evidence)
        self.policy = Policy(SPEC, config.learner, Newest(self.learner))
        self.policy.refresh()
        self.shelf = CheckpointShelf(
            folder,
            lambda path: stored_policy(path, SPEC, config.learner),
            lambda work, then: then(work()),
        )
        seed = config.run.seed or 0
        self.loop = FrameLoop(
            SPEC,
            config.reward,
            self.policy,
            self.sink,
            lambda: acting_params_at(config, self.sink.stored, 0.0, 0.0),
            np.random.default_rng(seed),
            most_slots=1024,
            shelf=self.shelf,
        )
        self._sessions = 0
        self._looks = 0

    def side(self, role: str, policy: PolicyName | None = None, **options: Any) -> Side:
        """Slots for all games, in this role."""
        self._sessions += 1
        if policy is not None:
            self.shelf.want(policy, _told)
        return Side(self.loop, self._sessions, self._games, role, policy=policy, **options)

    def train(self, frames: int, say: Callable[[str], None] = lambda _text: None) -> None:
        """Until so many frames are stored."""
        student = self.side("train")
        others = self.side("play", PolicyName(recent=KEPT), explores=True)
        seed, easy = self.config.run.seed or 0, self._games // EASY
        table = Table(self.loop, (student, others), self._games, OPENING, seed, easy=easy)
        told = 0
        while self.sink.stored < frames:
            self.policy.refresh()
            table.turn()
            self._learn()
            if self.sink.stored - told >= frames / 10:
                told = self.sink.stored
                say(f"{told:,} frames, {self.learner.updates:,} updates, {table.won} won")
                table.won = [0, 0]
        self.policy.refresh()

    def match(self, policy: PolicyName | None, games: int, seed: int = 0) -> tuple[int, int]:
        """Games of the newest network against a checkpoint, or against random moves: how many it
        won, and how many it lost. They begin with at most two random moves."""
        student = self.side("play")
        other = None if policy is None else self.side("play", policy)
        table = Table(self.loop, (student, other), self._games, 2, seed, games)
        while table.played < games:
            table.turn()
        return table.won[0], table.won[1]

    def save(self) -> None:
        """A checkpoint of the network as it is."""
        path = self._folder / checkpoint.file_name(self.learner.updates)
        state = {"spec": checkpoint.spec_text(SPEC), "learner": self.learner.state_dict()}
        checkpoint.save(path, state | {"version": self.policy.version})
        self._looks += 1
        self.shelf.poll(float(self._looks) * 100)

    def _learn(self) -> None:
        if not self.replay.can_sample:
            return
        frames = self.sink.stored
        due = updates_due(self.config.trainer, frames, self.learner.updates)
        device = torch.device("cpu")
        for _ in learn(self.config, self.replay, self.learner, device, frames, self._evidence, due):
            pass
        if self.learner.updates >= self._saved + EVERY:
            self._saved = self.learner.updates
            self.save()


def _told(lacks: RemoteError | None) -> None:
    if lacks is not None:
        raise ValueError(str(lacks))


def _mask(legal: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.msgpack.encode(packed(legal[None]).data))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Connect four by self-play.")
    parser.add_argument("--frames", type=int, default=FRAMES)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--games", type=int, default=100, help="games of each match")
    args = parser.parse_args()
    config = config_from(SETTINGS | {"run.seed": args.seed})
    began = time.process_time()
    with one_thread(), tempfile.TemporaryDirectory() as folder:
        run = SelfPlay(config, Path(folder))
        run.save()
        run.train(args.frames, lambda text: print(text, flush=True))
        print(f"{time.process_time() - began:.0f} s of processor time")
        names = checkpoint.checkpoints(Path(folder))
        for path in (None, names[0], names[len(names) // 2]):
            update = None if path is None else PolicyName(update=int(path.stem[7:]))
            won, lost = run.match(update, args.games)
            print(f"against {update or 'a random player'}: {won} won, {lost} lost", flush=True)


if __name__ == "__main__":
    main()

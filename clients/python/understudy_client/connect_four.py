"""Connect four: two players drop discs into columns; four in a row win. Beside the rules, a player
for each side of a training server's run: the network that learns, and who it plays against."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from understudy_client.client import Client
from understudy_client.errors import Reconnected
from understudy_client.observations import Observation
from understudy_client.spec import Discrete
from understudy_client.wire import TERMINATED, TRUNCATED, Answer

COLUMNS, ROWS, LINE = 7, 6, 4

_LINES = ((0, 1), (1, 0), (1, 1), (1, -1))


class Board:
    """A game of connect four. Player 0 moves first."""

    def __init__(self) -> None:
        self.discs = np.zeros((2, ROWS, COLUMNS), np.float32)
        """1 where a player has a disc; row 0 is the lowest."""
        self.heights = [0] * COLUMNS
        self.turn = 0
        """Whose move it is."""
        self.winner: int | None = None
        self.over = False

    def legal(self) -> npt.NDArray[np.bool_]:
        """Which columns take a disc, [7]."""
        return np.array([height < ROWS for height in self.heights])

    def seen_by(self, player: int) -> npt.NDArray[np.float32]:
        """The player's own discs, and then the other's, [2, 6, 7]: both players see the board
        alike, so that one network plays either side."""
        return self.discs if player == 0 else self.discs[::-1]

    def drop(self, column: int) -> None:
        """The player whose turn it is drops a disc. Errors: ValueError where that is not legal."""
        if self.over or not 0 <= column < COLUMNS or self.heights[column] >= ROWS:
            raise ValueError(f"column: expected one that takes a disc, got {column}")
        row = self.heights[column]
        self.heights[column] += 1
        self.discs[self.turn, row, column] = 1
        if any(self._count(row, column, *line) >= LINE for line in _LINES):
            self.winner = self.turn
        self.over = self.winner is not None or sum(self.heights) == ROWS * COLUMNS
        self.turn = 1 - self.turn

    def _count(self, row: int, column: int, up: int, right: int) -> int:
        """Discs of the player who moves in the line through this place."""
        found = 1
        for sign in (1, -1):
            r, c = row + sign * up, column + sign * right
            while 0 <= r < ROWS and 0 <= c < COLUMNS and self.discs[self.turn, r, c]:
                found, r, c = found + 1, r + sign * up, c + sign * right
        return found


Player = Callable[[Board], int]
"""What chooses a column; called when it is its turn."""


class NetworkPlayer:
    """A side that the server plays. In the role "train" it learns from that, in others not."""

    def __init__(self, host: str, port: int, **options: Any) -> None:
        """`options`: of `Client.connect`, such as role and policy."""
        self.client = Client.connect(
            host,
            port,
            client="connect four",
            game="connect four",
            observation=Observation("float32", (2, ROWS, COLUMNS), kind="picture", low=0, high=1),
            actions=[Discrete("column", COLUMNS)],
            masks=True,
            **options,
        )
        self.frames = 0
        """That were answered with a move."""
        self._player = 0
        self._begun = False

    def __call__(self, board: Board) -> int:
        """A frame: what the player sees, and what it may do."""
        self._player, self._begun = board.turn, True
        self.frames += 1
        return int(self._act(board, legal=board.legal()).action[0])  # type: ignore[index, arg-type]

    def end(self, board: Board) -> None:
        """The last frame: what the game was worth to this player, who has seen a part of it."""
        if self._begun:
            self._begun = False
            reward = 0.0 if board.winner is None else 1.0 if board.winner == self._player else -1.0
            self._act(board, reward, TERMINATED if board.over else TRUNCATED)

    def _act(self, board: Board, *frame: Any, **options: Any) -> Answer:
        try:
            return self.client.act(board.seen_by(self._player), *frame, **options)
        except Reconnected:
            self._begun = False  # this episode is over already
            raise

    def close(self) -> None:
        """Leave the server."""
        self.client.close()


def random_player(rng: random.Random) -> Player:
    """Drops discs anywhere."""

    def choose(board: Board) -> int:
        return rng.choice([column for column in range(COLUMNS) if board.heights[column] < ROWS])

    return choose


def opened(moves: int, rng: random.Random) -> Board:
    """A board on which up to so many discs were dropped anywhere, and nobody has won: players that
    always answer alike would else play the same game again and again."""
    anywhere = random_player(rng)
    while True:
        board = Board()
        for _ in range(rng.randrange(moves + 1)):
            if not board.over:
                board.drop(anywhere(board))
        if not board.over:
            return board


def play(board: Board, first: Player, second: Player) -> Board:
    """A game to its end, from this board on. `first`: who plays player 0."""
    try:
        while not board.over:
            board.drop((first, second)[board.turn](board))
    finally:
        for each in (first, second):
            if isinstance(each, NetworkPlayer):
                each.end(board)
    return board


def match(one: Player, other: Player, games: int, rng: random.Random) -> tuple[int, int]:
    """So many games, in which either begins every other one, from boards of up to two discs. How
    many of them `one` won, and how many it lost."""
    won = lost = 0
    for game in range(games):
        side = game % 2
        players = (one, other) if side == 0 else (other, one)
        winner = play(opened(2, rng), *players).winner
        won, lost = won + (winner == side), lost + (winner == 1 - side)
    return won, lost

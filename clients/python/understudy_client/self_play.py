"""Self-play: a network learns connect four from games against its own earlier selves. One program
plays both sides: `python -m understudy_client.self_play`, beside an `understudy serve`."""

from __future__ import annotations

import argparse
import random

from understudy_client.connect_four import NetworkPlayer, match, opened, play, random_player
from understudy_client.errors import Reconnected

OPENING = 12
"""Games begin on boards with up to so many discs, dropped anywhere: who learns sees many kinds."""

EASY = 4
"""One of so many pairs of games is against random moves: who meets earlier selves alone forgets how
to play against others."""


def train(
    host: str, port: int, frames: int, *, opponent: str, rng: random.Random, token: str | None
) -> None:
    """Games until so many frames have been answered for training."""
    student = NetworkPlayer(host, port, role="train", token=token)
    earlier = NetworkPlayer(host, port, role="play", policy=opponent, explores=True, token=token)
    anywhere = random_player(rng)
    game, next_line = 0, 0
    while student.frames < frames:
        other = anywhere if game // 2 % EASY == 0 else earlier
        players = (student, other) if game % 2 == 0 else (other, student)
        try:
            play(opened(OPENING, rng), *players)
        except Reconnected as error:
            print(error, flush=True)
        game += 1
        if student.frames >= next_line:
            print(f"{student.frames:,} frames, {game:,} games", flush=True)
            next_line += frames // 10
    student.close()
    earlier.close()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=5555)
    parser.add_argument("--token", help="the server's, if it wants one")
    parser.add_argument("--frames", type=int, default=60_000, help="frames to learn from")
    parser.add_argument("--opponent", default="recent:8", help="policy of the other side")
    parser.add_argument("--games", type=int, default=100, help="games of each match at the end")
    parser.add_argument("--earlier", help="a checkpoint to play against at the end: its updates")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    if args.frames:
        train(args.host, args.port, args.frames, opponent=args.opponent, rng=rng, token=args.token)
    student = NetworkPlayer(args.host, args.port, role="play", token=args.token)
    won, lost = match(student, random_player(rng), args.games, rng)
    print(f"against a random player: {won} won, {lost} lost of {args.games}")
    if args.earlier is not None:
        earlier = NetworkPlayer(
            args.host, args.port, role="play", policy=args.earlier, token=args.token
        )
        won, lost = match(student, earlier, args.games, rng)
        print(f"against itself after {args.earlier} updates: {won} won, {lost} lost")
        earlier.close()
    student.close()


if __name__ == "__main__":
    main()

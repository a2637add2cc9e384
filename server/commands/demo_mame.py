"""`understudy demo-mame`: Breakout or Pong in MAME from start to finish. The server, the emulators,
training beside a weakened expert, and four players measured from the same starts: random play, the
expert, the expert weakened, and the network alone.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from config.options import add_arguments as add_config
from server.arguments import positive, share
from server.commands.demo_run import attributed, conduct, print_next
from server.play.attribution import compare, load_dump
from server.play.mame import GAMES, MameEpisode, MameError, MameGames, find_mame, load_answers
from server.signals import stop_flag
from server.supervisor.supervisor import Supervisor
from server.tui.keyboard import keyboard_for
from server.tui.live_table import Screen

FRAMES = 3000
CLIENTS = 2
EPISODES = 12
WEAKEN = 0.4

EVAL_SEED = 1_000_000
"""Every player is measured from these starts; training has others."""

PLAYERS = (
    ("random", "random play"),
    ("expert", "the expert"),
    ("weakened", "teacher: the expert, weakened"),
    ("student", "student: the network alone"),
)


class Stopped(RuntimeError):
    """Somebody wants this to end."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--game", choices=GAMES, default="breakout", help="the game to play (%(default)s)")
    add(
        "--frames", type=positive, default=FRAMES, metavar="N", help="training frames (%(default)s)"
    )
    add(
        "--clients",
        type=positive,
        default=CLIENTS,
        metavar="N",
        help="number of emulators (%(default)s)",
    )
    add(
        "--weaken",
        type=share,
        default=WEAKEN,
        metavar="SHARE",
        help="share of the expert's actions that are replaced by random ones, 0 to 1 (%(default)s)",
    )
    add(
        "--episodes",
        type=positive,
        default=EPISODES,
        metavar="N",
        help="episodes in which each player is measured (%(default)s)",
    )
    add("--json", action="store_true", help="print the summary as JSON, and nothing else")
    add_config(parser, preset="breakout")


def main(args: argparse.Namespace) -> int:
    try:
        find_mame()
    except MameError as error:
        print(f"understudy demo-mame: {error}", file=sys.stderr)
        return 2
    return conduct(
        args,
        "demo-mame",
        f"mame-{args.game}",
        f"mame-{args.game}",
        lambda supervisor, console: _Demo(args, supervisor, console).run(),
        _print_summary,
        MameError,
        Stopped,
    )


class _Demo:
    """From the first game to the last: what is played, by whom, and what came of it."""

    def __init__(self, args: argparse.Namespace, supervisor: Supervisor, console: Console) -> None:
        self._args = args
        self._supervisor = supervisor
        self._stop = stop_flag()
        self._screen = Screen(console, f"understudy: {args.game} in MAME", frames=args.frames)
        self._keys = keyboard_for(supervisor, self._screen)
        self._logs = supervisor.folder.path / "answers"

    def run(self) -> dict[str, Any]:
        """What the summary says beyond the metrics."""
        args, supervisor, screen = self._args, self._supervisor, self._screen
        played: dict[str, list[MameEpisode]] = {}
        with screen, self._keys:
            supervisor.on_row = screen.show
            # These first, and the teacher beside the student: the run's last evaluation is theirs.
            screen.note(f"{args.episodes} episodes of random play and of the expert")
            played["random"] = self._play(("eval_expert", 1.0))[0]
            played["expert"] = self._play(("eval_expert", 0.0))[0]
            screen.note(f"training: {args.clients} emulators")
            begin = time.monotonic()
            with self._mames(seed=0, weaken=args.weaken, log_dir=self._logs) as games:
                while not supervisor.steps:
                    self._wait(games)
                begin = time.monotonic()
                while supervisor.steps < args.frames:
                    self._wait(games)
            frames, seconds = supervisor.steps, time.monotonic() - begin
            trained = games.episodes
            screen.note("learning from the last frames")
            supervisor.settle()
            updates = int(supervisor.row["updates"])
            screen.note(f"{args.episodes} episodes of the network and of its teacher")
            played["student"], played["weakened"] = self._play(
                ("eval", 0.0), ("eval_expert", args.weaken)
            )
            screen.note("comparing the emulators' logs with the replay")
            dump = self._logs / "replay.npz"
            supervisor.trainer.dump(str(dump))
            attribution = compare(load_answers(self._logs), load_dump(dump))
            screen.note("done")
        return {
            "game": args.game,
            "clients": args.clients,
            "weaken": args.weaken,
            "frames": frames,
            "seconds": seconds,
            "frames_per_s": frames / seconds,
            "emulated_frames_per_s": sum(one.frames for one in trained) / seconds,
            "training_episodes": len(trained),
            "updates": updates,
            "players": {name: _measured(episodes) for name, episodes in played.items()},
            "attribution_compared": attribution.compared,
            "attribution_mismatches": attribution.mismatches + attribution.missing,
        }

    def _play(self, *players: tuple[str, float]) -> list[list[MameEpisode]]:
        """The episodes of players, each a role and a share of random actions, at the same time.
        As many emulators in all as train."""
        each = max(1, self._args.clients // len(players))
        games: list[MameGames] = []
        try:
            for role, weaken in players:
                games.append(
                    self._mames(
                        clients=each,
                        role=role,
                        weaken=weaken,
                        episodes=self._args.episodes,
                        seed=EVAL_SEED,
                    )
                )
            while not all(one.over for one in games):
                self._wait(*games)
        finally:
            for one in games:
                one.stop()
        return [one.episodes for one in games]

    def _mames(self, *, clients: int | None = None, **more: Any) -> MameGames:
        server = self._supervisor.config.server
        return MameGames(
            self._args.game,
            self._args.clients if clients is None else clients,
            host=server.host,
            port=self._supervisor.port,
            home=self._home,
            token=server.token.get_secret_value() if server.token else None,
            **more,
        )

    @property
    def _home(self) -> Path:
        return self._supervisor.folder.path / "mame"

    def _wait(self, *games: MameGames) -> None:
        self._supervisor.poll(0.05)
        self._keys.poll()
        if self._stop.set:
            raise Stopped("interrupted before the end")
        for one in games:
            one.check()


def _measured(episodes: Sequence[MameEpisode]) -> dict[str, Any]:
    returns = [one.return_ for one in episodes]
    error = statistics.stdev(returns) / len(returns) ** 0.5 if len(returns) > 1 else None
    return {
        "return_mean": statistics.fmean(returns),
        "standard_error": error,
        "episodes": len(returns),
        "returns": returns,
    }


def _print_summary(console: Console, summary: dict[str, Any]) -> None:
    table = Table(title=f"{summary['game']}: who plays how well", show_header=False, box=None)
    table.add_column(style="dim")
    table.add_column(justify="right")
    for name, title in PLAYERS:
        one = summary["players"][name]
        error = "" if one["standard_error"] is None else f" ± {one['standard_error']:.1f}"
        table.add_row(title, f"{one['return_mean']:.1f}{error}")
    buffer = summary["buffer"]
    for name, value in (
        ("frames", f"{summary['frames']:,} ({summary['frames_per_s']:,.1f} a second)"),
        ("emulated", f"{summary['emulated_frames_per_s']:,.0f} frames a second"),
        ("updates", f"{summary['updates']:,}"),
        ("replay", f"{buffer['frac_dqn']:.1%} dqn, {buffer['frac_expert']:.1%} expert"),
        attributed(summary),
    ):  # fmt: skip
        table.add_row(name, value)
    console.print(table)
    print_next(console, summary["run"])

"""`understudy demo`: LunarLander from start to finish. The server, the games, training, evaluation
of the network alone and of the expert alone, the attribution check, and a summary.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from config.load import ConfigError
from config.options import add_arguments as add_config
from server.arguments import add_weaken, positive
from server.cluster.start import on_cluster
from server.commands.demo_run import attributed, conduct, print_next, reached
from server.play.attribution import Attribution, compare, load_dump, load_logs, without
from server.play.client_options import add_failure_options
from server.play.evaluator import Evaluator
from server.play.failure_notice import FailureNotice
from server.play.game_messages import GameOptions
from server.play.games import Games, game_of
from server.signals import SignalFlag, stop_flag
from server.supervisor.processes import Processes
from server.supervisor.supervisor import Supervisor
from server.tui.keyboard import keyboard_for
from server.tui.live_table import Screen
from understudy_client.experts import EXPERTS, find

FRAMES = 20_000

ABOUT = {
    "CatchPixels-v0": "balls fall, and a paddle is to be below them; a picture each frame",
    "LunarLander-v3": "Gymnasium's moon lander; each frame one of its engines or none",
    "LunarLanderContinuous-v3": "Gymnasium's moon lander; both engines by strength",
    "LunarLanderHybrid-v3": "Gymnasium's moon lander; the main engine on or off, "
    "the side engines by strength",
    "MinAtar/Asterix-v1": "Asterix, small: gold is to be taken, and enemies are not to be met",
    "MinAtar/Breakout-v1": "Breakout, small: a ball is to be kept in play",
    "MinAtar/Freeway-v1": "Freeway, small: a chicken is to cross a road",
    "MinAtar/Seaquest-v1": "Seaquest, small: divers are to be fetched, and enemies shot",
    "MinAtar/SpaceInvaders-v1": "Space Invaders, small: aliens are to be shot",
    "PongRam-v0": "Atari's Pong, by where ball and paddles are",
}
"""What the games with a known expert are."""

EVAL_EVERY = 5000
EVAL_EPISODES = 5
"""On the way, to see where it goes."""
FINAL_EPISODES = 20
"""In the end, to be relied on."""


class DemoError(RuntimeError):
    """The demo cannot go on; the message says why."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--frames", type=positive, default=FRAMES, metavar="N", help="training frames (%(default)s)"
    )
    add(
        "--clients",
        type=positive,
        default=8,
        metavar="N",
        help="number of games, each in its own process (%(default)s)",
    )
    add(
        "--eval-every",
        type=positive,
        default=EVAL_EVERY,
        metavar="N",
        help=f"frames between two evaluations of {EVAL_EPISODES} episodes (%(default)s)",
    )
    add("--env", default="LunarLanderHybrid-v3", help="a Gymnasium environment (%(default)s)")
    add_weaken(parser)
    add(
        "--cluster", metavar="auto|HOST:PORT",
        help="the server runs on a Ray cluster (`understudy serve --cluster auto`); the games are "
        "here, and connect to all of its gateway nodes",
    )  # fmt: skip
    add("--json", action="store_true", help="print the summary as JSON, and nothing else")
    add_failure_options(parser)
    add_config(parser, preset="demo")


def main(args: argparse.Namespace) -> int:
    if find(args.env) is None:
        raise ConfigError(
            f"--env: expected one with a known expert ({', '.join(EXPERTS)}), got {args.env!r}; "
            "for others there are `understudy serve` and `understudy play`"
        )
    show = partial(_print_summary, args.env)
    make = Processes if args.cluster is None else on_cluster(args.cluster)
    play = partial(_run, args)
    return conduct(args, "demo", "demo", game_of(args.env), play, show, DemoError, make=make)


def _run(args: argparse.Namespace, supervisor: Supervisor, console: Console) -> dict[str, Any]:
    """Train, evaluate, check; what the summary says of it beyond the metrics."""
    stop = stop_flag()
    if args.cluster is not None:
        _wait_for_nodes(supervisor, stop)
    logs = supervisor.folder.path / "answers"
    games = Games(_options(args, supervisor, log_dir=logs))

    def wait() -> None:
        supervisor.poll(0.05)
        keys.poll()
        notice.tell(games, *evaluator.players)
        _check_all_is_well(stop, games, *evaluator.players)

    notice = FailureNotice("demo")
    evaluator = Evaluator(_options(args, supervisor), wait)
    console.print(f"the game: {args.env}: {ABOUT[args.env.rpartition(':')[2]]}")
    with (
        Screen(console, f"understudy: {args.env}", frames=args.frames) as screen,
        keyboard_for(supervisor, screen) as keys,
        evaluator,
    ):
        supervisor.on_row = screen.show
        screen.note(f"starting {args.clients} games")
        evaluator.start(FINAL_EPISODES)
        with games:
            games.start(args.clients, limit=0)
            begin, held, curve = _train(args, supervisor, games, evaluator, screen, wait)
        end = time.monotonic()
        screen.note("learning from the last frames")
        supervisor.settle()
        learnt = time.monotonic()
        frames = supervisor.steps  # with those that were on their way when the games were stopped
        trained = dict(supervisor.row)
        screen.note(f"evaluating network and expert, {FINAL_EPISODES} episodes each")
        played = evaluator.evaluate(games, FINAL_EPISODES, expert=True)
        supervisor.settle()  # so that the screen shows what is known now
        screen.note("comparing the games' logs with the replay")
        notice.summary(games, *evaluator.players)
        attribution = _check(supervisor, logs, games.unlogged)
        screen.note("done")
    updates = trained["updates"]
    student, teacher = ([e.return_ for e in each] for each in (played.student, played.teacher))
    return {
        "frames": frames,
        "seconds": end - begin - held,
        "frames_per_s": frames / (end - begin - held),
        "updates": int(updates),
        "updates_per_s": updates / (learnt - begin - held),
        "samples_per_s": updates * supervisor.config.learner.batch_size / (learnt - begin - held),
        "eval_return_mean": statistics.fmean(student),
        "eval_episodes": len(student),
        "expert_return_mean": statistics.fmean(teacher),
        "expert_episodes": len(teacher),
        "eval_on_the_way": curve,
        "attribution_compared": attribution.compared,
        "attribution_mismatches": attribution.mismatches + attribution.missing,
    }


def _wait_for_nodes(supervisor: Supervisor, stop: SignalFlag) -> None:
    """Until it is known where all of a cluster's gateway nodes are."""
    while len(supervisor.status.gateway_nodes) < supervisor.config.cluster.gateways:
        supervisor.poll(0.05)
        _check_all_is_well(stop)


def _check_all_is_well(stop: SignalFlag, *players: Games) -> None:
    if stop.set:
        raise DemoError("interrupted before the end")
    for one in players:
        if one.all_given_up:
            raise DemoError(f"all games were given up; the last: {one.failures[-1].message}")


def _options(args: argparse.Namespace, supervisor: Supervisor, **more: Any) -> GameOptions:
    """Those of the training games; the evaluator makes its own of them."""
    token = supervisor.config.server.token
    return GameOptions(
        env=args.env,
        host=supervisor.config.server.host,
        port=supervisor.port,
        gateway_nodes=supervisor.status.gateway_nodes,
        weaken=args.weaken,
        seed=supervisor.config.run.seed,
        token=token.get_secret_value() if token else None,
        own=supervisor.config.server.tls_cert,
        evaluates=True,
        restarts=args.restarts,
        hang_s=args.hang_after,
        **more,
    )


def _train(
    args: argparse.Namespace,
    supervisor: Supervisor,
    games: Games,
    evaluator: Evaluator,
    screen: Screen,
    wait: Callable[[], None],
) -> tuple[float, float, list[list[float]]]:
    """Until the frame budget is used up, with evaluations on the way: when the first frame came,
    for how many seconds the games were held after that, and what the network scored at which
    frame."""
    begin = held = 0.0
    due: int | None = 0
    answered = 0
    curve: list[list[float]] = []
    while supervisor.steps < args.frames:
        asked = games.asked > answered
        if asked or (due is not None and games.frames >= due):
            screen.note("evaluating")
            start = time.monotonic()
            games.hold()
            answered = games.asked
            played = evaluator.evaluate(games, EVAL_EPISODES, expert=due == 0)
            if played.student:
                mean = statistics.fmean(episode.return_ for episode in played.student)
                curve.append([supervisor.steps, mean])
            held += time.monotonic() - start if begin else 0.0
            while due is not None and due <= games.frames:
                # The last one is yet to come, when all is learnt.
                due = due + args.eval_every if due + args.eval_every < args.frames else None
            games.go_on(due)
            screen.note("training")
        wait()
        if not begin and supervisor.steps:
            begin = time.monotonic()
    return begin, held, curve


def _check(supervisor: Supervisor, logs: Path, unlogged: set[int]) -> Attribution:
    """Compare every answer that the games logged with the replay. `unlogged`: sessions of games
    that were killed, and have left no log."""
    supervisor.trainer.dump(str(logs / "replay.npz"))
    dumps = sorted(logs.glob("replay*.npz"))  # of several learners one each
    return compare(load_logs(logs), without(load_dump(*dumps), unlogged))


def _print_summary(env: str, console: Console, summary: dict[str, Any]) -> None:
    table = Table(title=f"{env}: student against teacher", show_header=False, box=None)
    table.add_column(style="dim")
    table.add_column(justify="right")
    buffer = summary["buffer"]
    way = ", ".join(f"{mean:.0f}" for _, mean in summary["eval_on_the_way"])
    for name, text in (
        ("student: the network alone", f"{summary['eval_return_mean']:.1f}"),
        ("the same, on its way", way),
        ("teacher: the expert alone", f"{summary['expert_return_mean']:.1f}"),
        *reached(summary["eval_return_mean"], summary["expert_return_mean"]),
        ("frames", f"{summary['frames']:,} ({summary['frames_per_s']:,.0f} a second)"),
        ("updates", f"{summary['updates']:,} ({summary['updates_per_s']:,.0f} a second)"),
        ("replay", f"{buffer['frac_dqn']:.1%} dqn, {buffer['frac_expert']:.1%} expert"),
        ("transitions dropped", f"{summary['transitions_dropped'] + summary['steps_in_flight']}"),
        attributed(summary),
    ):  # fmt: skip
        table.add_row(name, text)
    console.print(table)
    print_next(console, summary["run"])

"""`understudy record`: a file of what an expert or a person plays, to be imported into runs."""

from __future__ import annotations

import argparse
import contextlib
import queue
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from agent import recording
from config.load import COMMAND_LINE, ConfigError, Layer, Overrides, load
from config.models import Config
from protocol.streams import stream_number
from server.arguments import add_weaken, look_here, positive
from server.play.client_options import add_failure_options
from server.play.env_options import add_env_options, env_options, given_env_options
from server.play.failure_notice import FailureNotice
from server.play.game_messages import GameOptions
from server.play.games import Games, game_of
from server.play.show_arguments import add_show_options, show_of
from server.play.show_options import PLAY
from server.signals import SignalFlag, stop_flag
from server.supervisor.child import ChildDied
from server.supervisor.session import running
from server.supervisor.supervisor import Supervisor
from server.trainer.task import Task
from understudy_client.experts import find

SETTINGS: dict[str, Any] = {
    # The expert plays wherever it recommends something; the rest is what the network would do,
    # without dice.
    "expert.ratio.start": 1.0,
    "expert.ratio.end": 1.0,
    "exploration.epsilon.start": 0.0,
    "exploration.epsilon.end": 0.0,
    "exploration.noise.start": 0.0,
    "exploration.noise.end": 0.0,
    # Nobody learns: rows are kept beside the replay, which may be small.
    "trainer.enabled": False,
    "trainer.min_steps": 1,
    "replay.capacity_steps": 4096,
    "replay.device": "cpu",
    "checkpoint.replay": False,
    # Rows are in the memory of the trainer alone: another one would not have them.
    "supervision.max_restarts": 0,
    "trainer.device": "cpu",
    # A run that learns from the recording clips rewards as it is told to.
    "reward.clip": None,
    "metrics.every_s": 0.2,
}
"""What a recording needs, whatever a configuration file says of training."""

REPORT_S = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Record what an expert plays to a file: in Gymnasium games that are started here (--env), "
        "or in any game that connects. A person at the controls is recorded with --human, or by "
        "what `took` says in each frame. Each episode is in the file once it has ended. Ctrl-C "
        "ends the recording."
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="FILE", help="the recording to write, .npz")
    add("--episodes", type=positive, metavar="N", help="end after so many complete episodes")
    add("--env", help="a Gymnasium environment to play; without it, games connect by themselves")
    add(
        "--clients",
        type=positive,
        default=1,
        metavar="N",
        help="number of games of --env (%(default)s)",
    )
    add("--expert", metavar="MODULE:FUNCTION", help="an expert for --env instead of the known one")
    add_weaken(parser, float)
    add("--seed", type=int, metavar="N", help="episode i of --env is reset with seed + i")
    add_env_options(parser)
    add_show_options(parser, "the script")
    add_failure_options(parser)
    add("--host", help="the address to listen on (server.host)")
    add("--port", type=int, metavar="N", help="the port to listen on (server.port)")
    add(
        "--config",
        dest="settings",
        type=Path,
        metavar="FILE",
        help="read settings from this TOML file; training settings are ignored",
    )


def main(args: argparse.Namespace) -> int:
    look_here()
    with tempfile.TemporaryDirectory() as name:
        config, stop = _config(args, Path(name, "run")), stop_flag()
        with running(config, Task(recording=args.out.absolute())) as supervisor:
            try:
                failure = _play(args, supervisor, stop)
            except ChildDied as error:  # what was played before is worth keeping
                failure = str(error)
            print("writing", flush=True)
            try:
                supervisor.end_games()
                written = _write(supervisor, args.out)
            except ChildDied as error:
                failure, written = str(error), False
                _print_found(args.out)
    if failure:
        print(f"understudy record: {failure}", file=sys.stderr)
    return 0 if written and not failure else 1


def _config(args: argparse.Namespace, folder: Path) -> Config:
    """The configuration of a server whose run is in `folder`. Errors: ConfigError, also for what
    cannot be recorded."""
    out: Path = args.out
    if out.suffix != recording.SUFFIX:
        raise ConfigError(f"--out: expected a name that ends in {recording.SUFFIX}, got {out}")
    if out.exists():
        raise ConfigError(f"--out: {out} exists; name a new file")
    if not out.absolute().parent.is_dir():
        raise ConfigError(f"--out: there is no folder {out.absolute().parent}; make it first")
    values: dict[str, Any] = SETTINGS | {"run.dir": str(folder)}
    options = dict.fromkeys(values, "record")
    for option, key in (("host", "server.host"), ("port", "server.port"), ("seed", "run.seed")):
        if (value := getattr(args, option)) is not None:
            values[key], options[key] = value, f"--{option}"
    if args.env is None:
        given = [f"--{n}" for n in ("expert", "seed") if getattr(args, n) is not None]
        given += given_env_options(args)
        given += [f"--{n}" for n in ("weaken", "human", "render", "video") if getattr(args, n)]
        if given:
            raise ConfigError(f"{given[0]} needs --env")
    else:
        _check_expert(args)
        values["run.game"], options["run.game"] = game_of(args.env), "--env"
        values.setdefault("server.port", 0)  # nobody else is to find it
        options.setdefault("server.port", "--env")
    settings = Layer(COMMAND_LINE, values, options)
    return load(Overrides(file=args.settings, settings=settings)).config


def _check_expert(args: argparse.Namespace) -> None:
    if args.human == PLAY and args.expert is None:
        return
    try:
        expert = find(args.env, args.expert)
    except ValueError as error:
        raise ConfigError(f"--expert: {error}") from None
    if expert is None:
        raise ConfigError(
            f"--env: no expert is known for {args.env!r}; name one with --expert module:function"
        )


def _play(args: argparse.Namespace, supervisor: Supervisor, stop: SignalFlag) -> str | None:
    """Until the episodes are through or somebody stops it; why it could not go on, if so."""
    notice = FailureNotice("record")
    with contextlib.ExitStack() as stack:
        games = None
        if args.env is not None:
            games = stack.enter_context(_games(args, supervisor))
            games.start(args.clients)
            print(f"{args.clients} games of {args.env}; Ctrl-C ends them", flush=True)
        else:
            host = supervisor.config.server.host
            print(
                f"recording what connects to {host}:{supervisor.port}; Ctrl-C ends it", flush=True
            )
        shown = time.monotonic()
        while not stop.set:
            supervisor.poll()
            if games is not None:
                _judge(games, supervisor)
                notice.tell(games)
                if not games.running():
                    break
            if games is None and args.episodes and supervisor.episodes >= args.episodes:
                break
            if time.monotonic() - shown >= REPORT_S:
                shown = time.monotonic()
                print(f"{supervisor.steps:,} steps, {supervisor.episodes:,} episodes", flush=True)
        if games is None:
            return None
    notice.tell(games)
    notice.summary(games)
    return "all games were given up" if games.all_given_up else None


def _judge(games: Games, supervisor: Supervisor) -> None:
    """Pass on what persons say of their episodes."""
    with contextlib.suppress(queue.Empty):
        while True:
            said = games.judged.get_nowait()
            supervisor.trainer.judge(stream_number(said.session, 0), said.word)
            games.judgement_known(said.client)


def _games(args: argparse.Namespace, supervisor: Supervisor) -> Games:
    token = supervisor.config.server.token
    try:
        games = Games(
            GameOptions(
                env=args.env,
                host=supervisor.config.server.host,
                port=supervisor.port,
                episodes=args.episodes,
                seed=args.seed,
                making=env_options(args),
                # A person who begins at the controls needs no script beside.
                expert=args.expert or ("none" if args.human == PLAY else None),
                show=show_of(args, records=True),
                weaken=args.weaken,
                token=token.get_secret_value() if token else None,
                own=supervisor.config.server.tls_cert,
                restarts=args.restarts,
                hang_s=args.hang_after,
            )
        )
    except ValueError as error:
        raise ConfigError(str(error)) from None
    return games


def _write(supervisor: Supervisor, out: Path) -> bool:
    """Have the recording finished, and say what is in it."""
    if not supervisor.steps:
        print("understudy record: nothing was played, so no file is written", file=sys.stderr)
        return False
    answer = supervisor.trainer.finish_recording()
    if answer.error:
        print(f"understudy record: {answer.error}", file=sys.stderr)
    _print_found(out)
    return answer.error is None


def _print_found(out: Path) -> None:
    """Say what is in the file, if anything."""
    if out.exists():
        print(f"{out}: {recording.summary(recording.read(out))}")

"""`understudy serve`: the server, until it is stopped. SIGUSR1 writes a checkpoint now."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from agent import checkpoint
from agent.checkpoint import CheckpointError
from config.load import ConfigError, load
from config.options import add_arguments as add_config
from config.options import given
from config.passing import exit_code
from server.cluster.start import on_cluster
from server.run import checkpoints
from server.signals import SignalFlag, stop_flag
from server.supervisor.child import ChildDied
from server.supervisor.processes import Processes
from server.supervisor.sd_notify import ServiceManager
from server.supervisor.session import running
from server.supervisor.supervisor import Supervisor
from server.terminal import terminal
from server.trainer.task import Task
from server.tui.keyboard import keyboard_for
from server.tui.live_table import Screen
from server.web.server import any_http_port

log = logging.getLogger("supervisor")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Run the server. SIGINT or SIGTERM stop it: all steps are stored and a checkpoint is "
        "written. SIGUSR1 writes a checkpoint now. The dashboard is on server.http_port. In a "
        "terminal, keys pause training, save, evaluate and change settings; each asks first."
    )
    parser.add_argument(
        "--best",
        action="store_true",
        help="with --resume: continue from the checkpoint that evaluated best; newer "
        "checkpoints get the ending .left and are ignored",
    )
    parser.add_argument(
        "--init-from",
        type=Path,
        metavar="RUN[/CHECKPOINT]",
        help="begin a new run with the weights of another one's network, as far as they fit: of "
        "its checkpoint best, newest, or the file of that name (default: the best one, where the "
        "run was evaluated, else the newest); all else is new. The log says what does not fit",
    )
    parser.add_argument(
        "--cluster",
        metavar="auto|HOST:PORT",
        help="run gateways and learners on the nodes of a running Ray cluster (cluster.*): that of "
        "this machine, or the one whose head is there. Needs the extra `cluster`",
    )
    add_config(parser)


def _checkpoint(supervisor: Supervisor) -> None:
    """Have a checkpoint written, and say so if that fails: the server goes on."""
    try:
        saved = supervisor.trainer.checkpoint()
    except TimeoutError as error:
        log.error("no checkpoint: %s", error)
    else:
        if saved.error:
            log.error("no checkpoint: %s", saved.error)


def _check_best(run: Path | None) -> None:
    """Errors: ConfigError where there is no best checkpoint to go on from."""
    if run is None:
        raise ConfigError("--best needs --resume: a new run has no checkpoint")
    if run.is_dir() and checkpoint.best(run / "checkpoints") is None:
        raise ConfigError(
            f"--best: expected {run / 'checkpoints' / checkpoint.BEST}, found none; it is written "
            "when the run is evaluated (`understudy play --eval-every`)"
        )


def _init_from(named: Path, task: Task) -> Path:
    """The checkpoint whose weights a new run begins with, its bytes checked. Errors:
    ConfigError."""
    if task.resume:
        raise ConfigError(
            "--init-from begins a new run, and --resume continues one; leave one of them out"
        )
    try:
        path = checkpoints.named(named).resolve()
        checkpoint.check(path)
    except (CheckpointError, OSError) as error:
        raise ConfigError(f"--init-from: {error}") from None
    return path


def main(args: argparse.Namespace) -> int:
    asked = given(args)
    loaded = load(asked)
    config, form = loaded.config, loaded.config.server.log_format
    task = Task(resume=args.config_resume is not None, best=args.best)
    if task.best:
        _check_best(args.config_resume)
    if args.init_from is not None:
        task = replace(task, init_from=_init_from(args.init_from, task))
    console = terminal()
    say = partial(console.print, soft_wrap=True) if form == "text" else log.info
    manager = ServiceManager()
    stop, save = stop_flag(), SignalFlag(signal.SIGUSR1)
    any_port = any_http_port(loaded)
    if task.best and config.cluster.learners > 1 and args.cluster is not None:
        raise ConfigError("--best: expected cluster.learners = 1, got more; go back with one")
    make = Processes if args.cluster is None else on_cluster(args.cluster)
    with running(
        config, task, console=console, http=True, any_http_port=any_port, make=make
    ) as supervisor:
        supervisor.publisher.update(preset=asked.preset)
        supervisor.on_beat = lambda: manager.look(supervisor.status)
        _introduce(supervisor, say)
        lines = None if form == "text" else log.info
        title = f"understudy {config.server.host}:{supervisor.port}"
        screen = Screen(console, title, lines=lines)
        screen.nodes = lambda: supervisor.status.nodes
        try:
            with screen, keyboard_for(supervisor, screen) as keys:
                supervisor.on_row = screen.show
                while not stop.set:
                    supervisor.poll()
                    keys.poll()
                    if save.take():
                        _checkpoint(supervisor)
                    screen.note(_doing(supervisor, live=screen.live))
        except (ChildDied, ConfigError) as error:
            # Said here: the reason comes before the end.
            print(f"understudy serve: {error}", file=sys.stderr, flush=True)
            return exit_code(error) if isinstance(error, ConfigError) else 1
        finally:
            manager.stopping()
    return 0


def _doing(supervisor: Supervisor, *, live: bool) -> str:
    """What the server is doing. `live`: a line that changes all the time is fine."""
    status = supervisor.status
    if status.loading:
        return status.loading if live else "the run is being loaded"
    if status.degraded:
        return status.degraded if live else "a process does not report"
    if status.evaluation_note and live:
        return status.evaluation_note
    if status.evaluating:
        return "evaluating"
    # Asked of the connections: the newest row may be older than they are.
    return "playing" if supervisor.training_games else "waiting for a game"


def _introduce(supervisor: Supervisor, say: Callable[[str], None]) -> None:
    """Say where everything is."""
    config = supervisor.config
    tls = ", with TLS" if config.server.tls_cert else ""
    where = f"{config.server.host}:{supervisor.port}"
    say(f"understudy listens on {where}{tls}; the run is {supervisor.folder.path}")
    if config.run.game is not None:
        say(f"the run is for the game {config.run.game!r}")
    elif supervisor.status.spec is None:
        say("the run is for the game that connects first; run.game can name one")
    if supervisor.tempest_port is not None:
        say(f"older clients for Tempest connect to {config.tempest.host}:{supervisor.tempest_port}")
    if supervisor.websocket_port is not None:
        scheme = "wss" if tls else "ws"
        say(
            f"games in browsers connect to {scheme}://{config.server.host}:{supervisor.websocket_port}"
        )
    if supervisor.dashboard is not None:
        say(f"dashboard: {supervisor.dashboard}")
        if supervisor.websocket_port is not None:
            say(f"a game in the browser: {supervisor.dashboard}catch")

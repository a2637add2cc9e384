"""`understudy serve`: the server, until it is stopped. SIGUSR1 has it write a checkpoint now."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from functools import partial
from pathlib import Path
from types import FrameType

from rich.console import Console

from agent import checkpoint
from config.load import ConfigError, Loaded, load
from config.options import add_arguments as add_config
from config.options import given
from server.blocked_signals import signals_held_back
from server.net.tls import certificate
from server.run.directory import RunDirectory
from server.run.logs import log_here, stop_logging
from server.run.summary import write_summary
from server.supervisor.exposure import is_loopback
from server.supervisor.sd_notify import ServiceManager
from server.supervisor.supervisor import ChildDied, Supervisor
from server.tui.keyboard import Keyboard, Keys
from server.tui.live_table import Screen
from server.web.server import HttpServer

log = logging.getLogger("supervisor")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Run the server until SIGINT or SIGTERM, which end it in order: all steps are stored and a "
        "checkpoint is written. SIGUSR1 has a checkpoint written now. The dashboard is on "
        "server.http_port; in a terminal, keys pause, save, evaluate and set, and each asks first."
    )
    parser.add_argument(
        "--best",
        action="store_true",
        help="with --resume: go on from the checkpoint that evaluated best, not from the newest; "
        "newer ones are put away",
    )
    add_config(parser)


class Flag:
    """Set by signals, so that a loop can act on them in its own time."""

    def __init__(self, *numbers: signal.Signals) -> None:
        self.set = False
        for number in numbers:
            signal.signal(number, self._on)

    def _on(self, _number: int, _frame: FrameType | None) -> None:
        self.set = True

    def taken(self) -> bool:
        """Whether it is set; then it no longer is."""
        was, self.set = self.set, False
        return was


def stop_flag() -> Flag:
    """Set when somebody wants this process to end."""
    return Flag(signal.SIGINT, signal.SIGTERM)


def serve_http(loaded: Loaded, supervisor: Supervisor) -> HttpServer | None:
    """The dashboard, unless it is switched off. Where nobody chose its port for this start, it may
    be another one. Errors: ConfigError."""
    server = loaded.config.server
    if server.http_port is None:
        return None
    token = supervisor.config.server.control_token
    if not is_loopback(server.http_host):
        log.warning("whoever reaches %s sees the run: the dashboard asks nobody", server.http_host)
    return HttpServer(
        server.http_host,
        server.http_port,
        lambda: supervisor.status,
        supervisor.mailbox,
        control_token=None if token is None else token.get_secret_value(),
        certificate=certificate(server),
        or_any_port=any_http_port(loaded),
    )


def any_http_port(loaded: Loaded) -> bool:
    """Whether HTTP may be on another port than the one in the settings: nobody chose it for this
    start."""
    return loaded.origins["server.http_port"].startswith(("default", "preset ", "run "))


def keys_for(supervisor: Supervisor, screen: Screen) -> Keyboard:
    """The keys below a live table, which says from now on when training is paused; where there is
    none, keys that are never pressed."""
    screen.paused = lambda: supervisor.paused
    keys = Keys(supervisor.controller, screen.paused, supervisor.last.get, screen.say, screen.hint)
    return Keyboard(keys, screen.live)


def _checkpoint(supervisor: Supervisor) -> None:
    """Have a checkpoint written, and say so if that fails: the server goes on."""
    try:
        saved = supervisor.checkpoint()
    except TimeoutError as error:
        log.error("no checkpoint: %s", error)
    else:
        if saved.error:
            log.error("no checkpoint: %s", saved.error)


def _check_best(run: Path | None) -> None:
    """Errors: ConfigError where there is no best checkpoint to go on from."""
    if run is None:
        raise ConfigError("--best: expected --resume with it, for a new run has no checkpoint")
    if run.is_dir() and checkpoint.best(run / "checkpoints") is None:
        raise ConfigError(
            f"--best: expected {run / 'checkpoints' / checkpoint.BEST}, found none; it is written "
            "when the run is evaluated (`understudy play --eval-every`)"
        )


def main(args: argparse.Namespace) -> int:
    asked = given(args)
    loaded: Loaded = load(asked)
    resume = args.config_resume is not None
    if args.best:
        _check_best(args.config_resume)
    folder = RunDirectory.open(loaded.config, resume=resume)
    console = Console()
    form = loaded.config.server.log_format
    log_here(folder.log, console, form)
    say = partial(console.print, soft_wrap=True) if form == "text" else log.info
    supervisor = Supervisor(loaded.config, folder, resume=resume, best=args.best)
    supervisor.publisher.update(preset=asked.preset)
    http: HttpServer | None = None
    manager = ServiceManager()
    supervisor.on_beat = manager.beat
    stop, save = stop_flag(), Flag(signal.SIGUSR1)
    started = False
    try:
        # Before any game is let in: its port may be taken.
        http = serve_http(loaded, supervisor)
        supervisor.dashboard = http.url if http is not None else None
        with signals_held_back():
            supervisor.start()
        started = True
        host = loaded.config.server.host
        encrypted = ", with TLS" if loaded.config.server.tls_cert else ""
        say(f"understudy listens on {host}:{supervisor.port}{encrypted}; the run is {folder.path}")
        if supervisor.tempest_port is not None:
            where = f"{loaded.config.tempest.host}:{supervisor.tempest_port}"
            say(f"older clients for Tempest connect to {where}")
        if http is not None:
            say(f"dashboard: {http.url}")
        manager.ready()
        lines = None if form == "text" else log.info
        title = f"understudy {host}:{supervisor.port}"
        with Screen(console, title, lines=lines) as screen, keys_for(supervisor, screen) as keys:
            supervisor.on_row = screen.show
            while not stop.set:
                supervisor.poll()
                keys.poll()
                if save.taken():
                    _checkpoint(supervisor)
                screen.note("playing" if supervisor.row.get("slots") else "waiting for a game")
    except (ChildDied, ConfigError) as error:
        # Said here: the reason comes before the end.
        print(f"understudy serve: {error}", file=sys.stderr, flush=True)
        return error.exit_code if isinstance(error, ConfigError) else 1
    finally:
        manager.stopping()
        supervisor.stop()
        if http is not None:
            http.stop()
        if started:
            write_summary(folder, supervisor.row, supervisor.last)
        stop_logging()
        if not started:
            folder.refused()
    return 0

"""`understudy serve`: the server, until it is stopped. SIGUSR1 has it write a checkpoint now."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from pathlib import Path
from types import FrameType

from rich.console import Console

from agent import checkpoint
from config.load import ConfigError, Loaded, load
from config.options import add_arguments as add_config
from config.options import given
from server.logs import log_here, stop_logging
from server.rundir import RunFolder
from server.summary import write_summary
from server.supervisor import ChildDied, Supervisor
from server.terminal import Screen

log = logging.getLogger("supervisor")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Run the server until SIGINT or SIGTERM, which end it in order: all steps are stored and a "
        "checkpoint is written. SIGUSR1 has a checkpoint written now."
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
    loaded: Loaded = load(given(args))
    resume = args.config_resume is not None
    if args.best:
        _check_best(args.config_resume)
    folder = RunFolder.open(loaded.config, resume=resume)
    console = Console()
    log_here(folder.log, console)
    supervisor = Supervisor(loaded.config, folder, resume=resume, best=args.best)
    stop, save = stop_flag(), Flag(signal.SIGUSR1)
    try:
        supervisor.start()
        host = loaded.config.server.host
        console.print(f"understudy listens on {host}:{supervisor.port}; the run is {folder.path}")
        if supervisor.tempest_port is not None:
            where = f"{loaded.config.tempest.host}:{supervisor.tempest_port}"
            console.print(f"older clients for Tempest connect to {where}")
        with Screen(console, f"understudy {host}:{supervisor.port}") as screen:
            supervisor.on_row = screen.show
            while not stop.set:
                supervisor.poll()
                if save.taken():
                    _checkpoint(supervisor)
                screen.note("playing" if supervisor.row.get("slots") else "waiting for a game")
    except ChildDied as error:
        print(f"understudy serve: {error}", file=sys.stderr)
        return 1
    finally:
        supervisor.stop()
        write_summary(supervisor)
        stop_logging()
    return 0

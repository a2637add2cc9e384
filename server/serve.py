"""`understudy serve`: the server, until it is stopped."""

from __future__ import annotations

import argparse
import signal
import sys
from types import FrameType

from rich.console import Console

from config.load import Loaded, load
from config.options import add_arguments as add_config
from config.options import given
from server.logs import log_here, stop_logging
from server.rundir import RunFolder
from server.summary import write_summary
from server.supervisor import ChildDied, Supervisor
from server.terminal import Screen


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)


class StopSignal:
    """Turns SIGINT and SIGTERM into a flag, so that the loop ends in order."""

    def __init__(self) -> None:
        self.set = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on)

    def _on(self, _number: int, _frame: FrameType | None) -> None:
        self.set = True


def main(args: argparse.Namespace) -> int:
    loaded: Loaded = load(given(args))
    resume = args.config_resume is not None
    folder = RunFolder.open(loaded.config, resume=resume)
    console = Console()
    log_here(folder.log, console)
    supervisor = Supervisor(loaded.config, folder, resume=resume)
    stop = StopSignal()
    try:
        supervisor.start()
        host = loaded.config.server.host
        console.print(f"understudy listens on {host}:{supervisor.port}; the run is {folder.path}")
        with Screen(console, f"understudy {host}:{supervisor.port}") as screen:
            supervisor.on_row = screen.show
            while not stop.set:
                supervisor.poll()
                screen.note("playing" if supervisor.row.get("slots") else "waiting for a game")
    except ChildDied as error:
        print(f"understudy serve: {error}", file=sys.stderr)
        return 1
    finally:
        supervisor.stop()
        write_summary(supervisor)
        stop_logging()
    return 0

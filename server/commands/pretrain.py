"""`understudy pretrain`: learn from a run's demonstrations before any game connects.

It is the trainer without games: the replay filled from the demonstrations, the run's own settings,
and a checkpoint in the end that `understudy serve --resume` goes on from.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import multiprocessing
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from agent import demonstrations
from agent.device import resolve_device
from config.load import ConfigError, load
from config.models import Config
from config.options import add_arguments as add_config
from config.options import given
from protocol.spaces import GameSpec
from server.arguments import positive
from server.ipc.heartbeat import Heartbeat
from server.ipc.messages import (
    CheckpointSaved,
    GameDecided,
    LogLine,
    ProcessFailed,
    Stop,
    TrainerReport,
)
from server.monitor.collector import MetricsCollector
from server.run.directory import RunDirectory, append_lines
from server.run.disk import Writes
from server.run.logs import logged
from server.run.metrics_log import plain
from server.signals import stop_flag
from server.trainer import process as trainer_process
from server.tui.live_table import number

log = logging.getLogger("pretrain")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Learn from the demonstrations that `understudy import` put into a run, and write a "
        "checkpoint. Settings given here become the run's. Ctrl-C ends it early, and saves."
    )
    parser.add_argument(
        "--updates", type=positive, required=True, metavar="N", help="updates to make"
    )
    add_config(parser)
    parser.usage = "%(prog)s --run DIR --updates N [options]"


class PretrainError(RuntimeError):
    """Learning ended before its time; the message says why."""


def main(args: argparse.Namespace) -> int:
    config = _config(args)
    assert config.run.dir is not None
    folder = RunDirectory.open(config, resume=True)
    console = Console()
    try:
        with logged(folder.log):
            spec = folder.game()
            if spec is None or not demonstrations.files(folder.path):
                raise ConfigError(
                    f"{folder.path} has no demonstrations; put some there with `understudy import "
                    f"SOURCE --run {folder.path}`"
                )
            made, saved = _pretrain(config, folder, spec, args.updates, console)
    except (PretrainError, OSError) as error:
        print(f"understudy pretrain: {error}", file=sys.stderr)
        return 1
    finally:
        folder.close()
    console.print(f"{made:,} updates made; checkpoint {saved}", soft_wrap=True)
    console.print(f"go on with `understudy serve --resume {folder.path}`", soft_wrap=True)
    return 0


def _config(args: argparse.Namespace) -> Config:
    """The run's settings, and those given here over them. Errors: ConfigError."""
    words = given(args)
    named = words.resume or words.settings.values.get("run.dir")
    if named is None:
        raise ConfigError("expected --run DIR: a run with demonstrations (`understudy import`)")
    config = load(replace(words, resume=Path(named))).config
    for field, name in (
        ("trainer.device", config.trainer.device),
        ("replay.device", config.replay.device),
    ):
        try:
            resolve_device(name, field)
        except RuntimeError as error:
            raise ConfigError(str(error)) from None
    return config


def _pretrain(
    config: Config, folder: RunDirectory, spec: GameSpec, updates: int, console: Console
) -> tuple[int, str]:
    """Make the updates in the trainer's process, or as many as there is time for; how many that
    were, and the checkpoint.

    Errors: PretrainError.
    """
    stop = stop_flag()
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    process = context.Process(
        target=trainer_process.main,
        args=(config, theirs, Heartbeat(context), folder.path, True, False),
        kwargs={"pretrain_updates": updates},
        name="trainer",
    )
    process.start()
    theirs.close()
    pipe.send(GameDecided(spec, ()))
    shown = _Shown(folder, console, updates)
    asked = False
    try:
        with shown.progress:
            while True:
                if stop.set and not asked:
                    asked = True
                    with contextlib.suppress(OSError):
                        pipe.send(Stop())
                if pipe.poll(0.1):
                    shown.handle(pipe.recv())
    except (EOFError, ConnectionResetError):  # it has ended
        pass
    finally:
        pipe.close()  # whatever went wrong here, it notices, saves and ends
        process.join()
    if shown.failure or process.exitcode or not shown.saved:
        raise PretrainError(shown.failure or f"the trainer ended by itself; see {folder.log}")
    return shown.made, shown.saved


class _Shown:
    """What the trainer says: kept in the run's folder, and shown."""

    def __init__(self, folder: RunDirectory, console: Console, updates: int) -> None:
        self.made = 0
        """Updates."""
        self.saved = ""
        self.failure: str | None = None
        self.progress = Progress(
            TextColumn("updates"), BarColumn(None), MofNCompleteColumn(), TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"), console=console,
        )  # fmt: skip
        self._folder = folder
        self._writes = Writes(log, "training goes on")
        self._updates = updates
        self._task = self.progress.add_task("updates", total=updates, note="")
        self._collector = MetricsCollector()
        self._last: dict[str, float] = {}
        """The newest metrics that were numbers."""

    def handle(self, message: Any) -> None:
        """Take in one message."""
        match message:
            case TrainerReport():
                self._collector.trainer(message.metrics)
                row = self._collector.row()
                with self._writes.tried(str(self._folder.metrics)):
                    append_lines(self._folder.metrics, [plain(row)])
                for line in message.lines:
                    log.info("%s", line)
                self._last |= {name: value for name, value in row.items() if value == value}
                self.made = self._updates - int(row["updates_due"])
                self.progress.update(self._task, completed=self.made, note=self._note())
            case LogLine():
                logging.getLogger(message.source).log(message.level, "%s", message.text)
            case CheckpointSaved():
                self.saved = message.path
                if message.error:
                    self.failure = f"cannot write {message.path}: {message.error}"
            case ProcessFailed():
                self.failure = message.text

    def _note(self) -> str:
        loss, imitation = (number(self._last, name, 3) for name in ("loss", "loss_imitation"))
        return f"loss {loss}, imitation {imitation}"

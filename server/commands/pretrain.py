"""`understudy pretrain`: learn from a run's demonstrations before any game connects.

It is the trainer without games: the replay filled from the demonstrations, the run's own settings,
and a checkpoint in the end that `understudy serve --resume` goes on from.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from agent.device import resolve_device
from config.load import ConfigError, load
from config.models import Config
from config.options import add_arguments as add_config
from config.options import given
from config.passing import LATER, exit_code
from server.arguments import positive
from server.signals import stop_flag
from server.supervisor.pretraining import pretraining
from server.terminal import terminal
from server.tui.live_table import number


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Train on the demonstrations that `understudy import` put into a run, and write a "
        "checkpoint. Settings given here become the run's. Ctrl-C saves and ends early."
    )
    parser.add_argument(
        "--updates", type=positive, required=True, metavar="N", help="number of updates"
    )
    add_config(parser)
    parser.usage = "%(prog)s --run DIR --updates N [options]"


def main(args: argparse.Namespace) -> int:
    config, stop, console = _config(args), stop_flag(), terminal()
    progress = Progress(
        TextColumn("updates", markup=False), BarColumn(None),
        MofNCompleteColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False), console=console,
    )  # fmt: skip
    task = progress.add_task("updates", total=args.updates, note="")
    try:
        with pretraining(config, args.updates) as run, progress:
            while not run.over:
                if stop.set:
                    run.request_stop()
                run.poll()
                progress.update(task, completed=run.made, note=_note(run.last))
    except OSError as error:
        print(f"understudy pretrain: {error}", file=sys.stderr)
        return exit_code(error)
    if run.failure:
        print(f"understudy pretrain: {run.failure}", file=sys.stderr)
        return LATER if run.passing else 1
    console.print(f"{run.made:,} updates made; checkpoint {run.saved}", soft_wrap=True)
    console.print(f"continue with `understudy serve --resume {run.folder.path}`", soft_wrap=True)
    return 0


def _note(metrics: Mapping[str, float]) -> str:
    """What stands behind the bar."""
    loss, imitation = (number(metrics, name, 3) for name in ("loss", "loss_imitation"))
    return f"loss {loss}, imitation {imitation}"


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

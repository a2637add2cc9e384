"""`understudy import`: recordings and Minari datasets become a run's demonstrations."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from agent import demonstrations, recording
from agent.recording import Recording, RecordingError
from config.load import ConfigError, Overrides, load
from config.options import add_arguments as add_config
from config.options import given
from protocol.actor import Actor
from protocol.spaces import GameSpec
from server.commands import minari_source
from server.play.env_options import add_action_bounds
from server.run.directory import RunDirectory

MINARI = "minari:"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Add recordings of experts to a run; they enter the replay at the next start. --run names "
        "the run; if there is none yet, it is made with the settings given here."
    )
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="a file that `understudy record` wrote, or minari:DATASET-ID, which must be on this "
        "machine",
    )
    add_action_bounds(parser)
    parser.add_argument(
        "--marked",
        action="store_true",
        help="import only the episodes that a person marked",
    )
    add_config(parser)
    parser.usage = "%(prog)s SOURCE... --run DIR [options]"


def main(args: argparse.Namespace) -> int:
    words = given(args)
    named = words.resume or words.settings.values.get("run.dir")
    if named is None:
        raise ConfigError("expected --run DIR: the run that is to learn from it")
    path = Path(named)
    folder = _existing(path, words) if RunDirectory.exists(path) else None
    done = False
    try:
        # All are read before a folder is made: one wrong name must not leave half a run.
        found = _read_all(args.sources, folder.game() if folder else None, args.action_bounds)
        if args.marked:
            found = [each.of_marked() for each in found]
        if folder is None:
            config = load(replace(words, resume=None)).config
            folder = RunDirectory.open(config, resume=False)
            folder.accept(config)
        if folder.game() is None:
            folder.keep_game(found[0].spec)
        for source, each in zip(args.sources, found, strict=True):
            _import(source, each, folder)
        done = True
    except (RecordingError, OSError, MemoryError) as error:
        said = "out of memory" if isinstance(error, MemoryError) else str(error)
        print(f"understudy import: {said}; the run is as it was", file=sys.stderr)
        return 1
    finally:
        if folder is not None:
            if not done:
                folder.refused()
            folder.close()
    return 0


def _existing(path: Path, words: Overrides) -> RunDirectory:
    """The folder of a run that there is. Errors: ConfigError."""
    if set(words.settings.values) - {"run.dir"} or words.preset or words.file:
        raise ConfigError(
            f"{path} is a run with settings of its own; leave those out, and give them to "
            f"`understudy serve --resume {path}`"
        )
    return RunDirectory.take(path)


def _read_all(
    sources: Sequence[str], spec: GameSpec | None, bounds: minari_source.Bounds | None
) -> list[Recording]:
    """The recordings of these sources, all of one game. Errors: RecordingError."""
    found = []
    for source in sources:
        found.append(_read(source, spec, bounds))
        spec = found[0].spec
    return found


def _read(source: str, spec: GameSpec | None, bounds: minari_source.Bounds | None) -> Recording:
    if source.startswith(MINARI):
        return minari_source.read(source.removeprefix(MINARI), spec, bounds)
    return recording.read(Path(source), spec=spec)


def _import(source: str, found: Recording, folder: RunDirectory) -> None:
    expert = found.of_expert()
    left_out = found.steps(Actor.DQN)
    if not expert.steps(Actor.EXPERT):
        print(f"{source}: no step of an expert ({left_out:,} of dqn); nothing is imported")
        return
    name = source if source.startswith(MINARI) else Path(source).stem
    path = demonstrations.add(folder.path, name, expert)
    if path is None:
        print(f"{source}: imported before; left as it is")
        return
    print(f"{source}: {recording.summary(found)}")
    if left_out:
        print(f"left out: {left_out:,} steps of dqn")
    print(f"written to {path}")

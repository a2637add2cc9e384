"""The options of commands that show a game, or put a person at its controls."""

from __future__ import annotations

import argparse
from pathlib import Path

from server.arguments import above_zero
from server.play.show_options import PLAY, WATCH, ShowOptions
from understudy_client.env_options import EnvOptions


def add_show_options(parser: argparse.ArgumentParser) -> None:
    """Add --human, --keys, --write-keys, --render, --video and --fps."""
    add = parser.add_argument
    add(
        "--human",
        nargs="?",
        const=PLAY,
        choices=(PLAY, WATCH),
        help="a person plays the first game in a window; watch: the network does, and a person may "
        "take over with Tab or any key that plays, and give back with Tab",
    )
    add(
        "--keys",
        type=Path,
        metavar="FILE",
        help="what keys and gamepads do (TOML); without it, keys are derived from the game",
    )
    add(
        "--write-keys",
        type=Path,
        metavar="FILE",
        help="write the keys of --env to a new file, to be edited, and end",
    )
    add("--render", action="store_true", help="show the first game in a window")
    add(
        "--video",
        type=Path,
        metavar="FILE",
        help="make a video of the first game, .mp4 or .gif (extra video)",
    )
    add(
        "--fps",
        type=above_zero,
        metavar="N",
        help="frames a second of the game that is shown; its environment's own by default",
    )


def show_of(args: argparse.Namespace, *, records: bool = False) -> ShowOptions | None:
    """What they ask for; None where nothing is shown. Errors: ValueError."""
    show = ShowOptions(args.human, args.render, args.video, args.keys, args.fps, records)
    show.check()
    return show if show.window or show.video is not None else None


def write_keys(env_id: str, making: EnvOptions, path: Path) -> str:
    """Write the keys that are derived for an environment; a line that says so. Errors: ValueError,
    those of making the environment."""
    from server.play.person import key_map
    from server.play.person.default_keys import default_keys
    from understudy_client.environments import make
    from understudy_client.gym import spec_of

    env = make(env_id, making)
    try:
        keys = default_keys(env, spec_of(env).actions)
    finally:
        env.close()
    try:
        key_map.write(path, keys, env_id)
    except OSError as error:
        raise ValueError(f"--write-keys: cannot write {path}: {error.strerror}") from None
    left = f"; no key does {', '.join(keys.unreachable)}" if keys.unreachable else ""
    return f"{path}: {keys.words()}{left}"

"""The options of commands that show a game, or put a person at its controls."""

from __future__ import annotations

import argparse
from pathlib import Path

from server.arguments import above_zero
from server.play.show_options import PLAY, WATCH, ShowOptions
from understudy_client.env_options import EnvOptions


def add_show_options(parser: argparse.ArgumentParser, other: str) -> None:
    """Add --human, --keys, --render, --video and --fps. `other`: who plays if nobody is at the
    controls."""
    add = parser.add_argument_group("what is seen of the first game, and who plays it").add_argument
    add(
        "--human",
        nargs="?",
        const=PLAY,
        choices=(PLAY, WATCH),
        help=f"a person plays in a window; watch: {other} does, and a person may take over with "
        "Tab or any key that plays, and give back with Tab",
    )
    add(
        "--keys",
        type=Path,
        metavar="FILE",
        help="what keys and gamepads do (TOML); without it, keys are derived from the game",
    )
    add("--render", action="store_true", help="show it in a window")
    add(
        "--video",
        type=Path,
        metavar="FILE",
        help="make a video of it, .mp4 or .gif (extra video)",
    )
    add(
        "--fps",
        type=above_zero,
        metavar="N",
        help="frames a second that are shown; those of its environment by default",
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

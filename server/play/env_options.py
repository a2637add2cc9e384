"""The options of commands that make environments: their arguments, and what is put around them."""

from __future__ import annotations

import argparse
import ast
import re
from typing import Any

from understudy_client.env_options import EnvOptions

WORDS = {"true": True, "false": False, "none": None, "null": None}


def add_env_options(parser: argparse.ArgumentParser) -> None:
    """Add --env-args, --atari, --wrap, --resize, --grayscale and --action-bounds; `env_options`
    reads them."""
    group = parser.add_argument_group(
        "what --env is made of", "done in this order; docs/gymnasium.md has examples"
    )
    add = group.add_argument
    add(
        "--env-args",
        nargs="+",
        action="extend",
        type=_argument,
        metavar="KEY=VALUE",
        help="arguments of the environment; values are numbers, true, false, none, lists as Python "
        "writes them, or text",
    )
    add(
        "--atari",
        action="store_true",
        help="a game of ALE as gray pictures of 84 x 84, an action for 4 frames; serve with "
        "--replay.frame_stack 4",
    )
    # What --atari was called.
    add("--preprocess", dest="atari", type=_atari, help=argparse.SUPPRESS)
    add(
        "--wrap",
        action="append",
        metavar="MODULE:FUNCTION",
        help="a function or class that is given the environment and returns the one to play; of "
        "several, the first is called first",
    )
    add("--resize", type=_size, metavar="WxH", help="make pictures so wide and high, as 84x84")
    add("--grayscale", action="store_true", help="make pictures gray")
    add_action_bounds(group)
    add(
        "--metrics",
        type=_names,
        metavar="KEY,...",
        help="numbers in info that are shown beside the return: mean and peak of an episode",
    )
    add(
        "--rewards",
        type=_names,
        metavar="KEY,...",
        help="parts of the reward in info, which become its components; what they do not explain "
        "is the component rest",
    )


def add_action_bounds(parser: argparse._ActionsContainer) -> None:
    """Add --action-bounds, (low, high) or None."""
    parser.add_argument(
        "--action-bounds",
        type=_bounds,
        metavar="LOW,HIGH",
        help="bounds of continuous actions where the environment, or a dataset of Minari, has "
        "none; as --action-bounds=-1,1 where the first is negative",
    )


def env_options(args: argparse.Namespace) -> EnvOptions:
    """What was given."""
    return EnvOptions(
        args=dict(args.env_args or ()),
        atari=args.atari,
        wraps=tuple(args.wrap or ()),
        resize=args.resize,
        grayscale=args.grayscale,
        action_bounds=args.action_bounds,
        metrics=args.metrics or (),
        rewards=args.rewards or (),
    )


def given_env_options(args: argparse.Namespace) -> list[str]:
    """The names of those that were given."""
    names = (
        "env_args", "atari", "wrap", "resize", "grayscale", "action_bounds", "metrics", "rewards",
    )  # fmt: skip
    return [f"--{name.replace('_', '-')}" for name in names if getattr(args, name)]


def _atari(text: str) -> bool:
    if text != "atari":
        raise argparse.ArgumentTypeError(f"expected atari, got {text!r}")
    return True


def _argument(text: str) -> tuple[str, Any]:
    key, sign, value = text.partition("=")
    if not (sign and key.isidentifier()):
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, as size=8, got {text!r}")
    return key, _typed(value)


def _typed(text: str) -> Any:
    """The value that a text stands for: itself where it stands for none."""
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if not all(names) or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"expected KEY,KEY, each once, got {text!r}")
    return names


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([1-9]\d{0,4})[x×]([1-9]\d{0,4})", text)
    if not found:
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT, as 84x84, got {text!r}")
    return int(found[1]), int(found[2])


def _bounds(text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.split(","))
        if -1e30 < low < high < 1e30:
            return low, high
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"expected LOW,HIGH with LOW < HIGH, as -1,1, got {text!r}")

"""Types of command-line arguments, for argparse; and where modules that they name are found."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path


def look_here() -> None:
    """Have modules that a command line or a setting names found in the current folder too: the
    usual path comes first."""
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)


def positive(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def share(text: str) -> float:
    """A number from 0 to 1, as an argument."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, got {text!r}")
    return number


def above_zero(text: str) -> float:
    """A number above 0, for argparse."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return number


def seconds(text: str) -> float:
    """A time, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < 86_400:
        raise argparse.ArgumentTypeError(f"expected seconds, got {text!r}")
    return value


def parse_address(text: str) -> tuple[str, int]:
    """`host:port` or `[ipv6]:port`."""
    host, colon, port = text.rpartition(":")
    if not (colon and host and port.isdecimal() and int(port) < 65536):
        raise argparse.ArgumentTypeError(f"expected HOST:PORT, got {text!r}")
    return host.removeprefix("[").removesuffix("]"), int(port)


def add_weaken(parser: argparse._ActionsContainer, read: Callable[[str], float] = share) -> None:
    """Add --weaken. `read`: float where the command itself says what is wrong with the number."""
    parser.add_argument(
        "--weaken",
        type=read,
        default=0.0,
        metavar="SHARE",
        help="share of the expert's actions that are replaced by random ones, 0 to 1",
    )

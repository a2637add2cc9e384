"""The options of commands that connect to a server as games do."""

from __future__ import annotations

import argparse
from pathlib import Path

from server.arguments import seconds
from server.play.game_messages import HANG_S
from server.play.tries import MOST, WINDOW_S


def add_connection_options(parser: argparse.ArgumentParser) -> None:
    """Add --token, --token-file, --tls and --ca; `token_of` reads the first two."""
    add = parser.add_argument
    add(
        "--token",
        help="the server's token, if it needs one; other users of this machine can see it",
    )
    add("--token-file", type=Path, metavar="FILE", help="read the token from this file instead")
    add(
        "--tls", action="store_true", help="encrypt the connection, for a server with a certificate"
    )
    add(
        "--ca",
        type=Path,
        metavar="FILE",
        help="with TLS: trust this certificate (PEM), the server's or its signer's, instead of "
        "those that the system trusts",
    )


def add_failure_options(parser: argparse.ArgumentParser) -> None:
    """Add --restarts and --hang-after: what becomes of a game that fails."""
    parser.add_argument(
        "--restarts",
        type=_restarts,
        default=MOST,
        metavar="N",
        help="a game that fails begins again, at most N times in "
        f"{WINDOW_S / 60:g} minutes; the others play on (%(default)s)",
    )
    parser.add_argument(
        "--hang-after",
        type=seconds,
        default=HANG_S,
        metavar="S",
        help="a game that takes more than S seconds for a frame has failed (%(default)g)",
    )


def _restarts(text: str) -> int:
    """A whole number, for argparse."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, got {text!r}")
    return int(text)


def token_of(args: argparse.Namespace) -> str | None:
    """The token that was given. Errors: ValueError for a file that has none, or for both ways."""
    path: Path | None = args.token_file
    if path is None:
        token: str | None = args.token
        return token
    if args.token is not None:
        raise ValueError("--token and --token-file exclude each other; give one of them")
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ValueError(f"--token-file: cannot read {path}: {reason}") from None
    if not token or "\n" in token:
        raise ValueError(f"--token-file: expected {path} to hold a token on one line")
    return token

"""The options of commands that connect to a server as games do."""

from __future__ import annotations

import argparse
from pathlib import Path


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

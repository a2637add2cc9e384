"""The terminal that commands print to: text is shown as it is, and is never markup."""

from __future__ import annotations

from rich.console import Console

WIDE = 160
"""Columns where the output is no terminal: a row of a wide table is a line of a file."""


def terminal(*, stderr: bool = False, quiet: bool = False, wide: bool = False) -> Console:
    """A console that takes no text for markup or emoji codes. Names of games, of folders and errors
    come from outside: a game may be called `[/x]`, and one called `[red]` is shown so.
    `wide`: at least WIDE where the output is no terminal."""
    console = Console(stderr=stderr, quiet=quiet, markup=False, emoji=False)
    if wide and not console.is_terminal:
        console.width = max(console.width, WIDE)
    return console

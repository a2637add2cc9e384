"""The terminal that commands print to: text is shown as it is, and is never markup."""

from __future__ import annotations

from rich.console import Console


def terminal(*, stderr: bool = False, quiet: bool = False) -> Console:
    """A console that takes no text for markup or emoji codes. Names of games, of folders and errors
    come from outside: a game may be called `[/x]`, and one called `[red]` is shown so."""
    return Console(stderr=stderr, quiet=quiet, markup=False, emoji=False)

"""The first function of each child process.

What a child runs is imported in the child alone: torch takes a process seconds of cpu and hundreds
of megabytes, and the supervisor has no use for it.
"""

from __future__ import annotations

from typing import Any


def gateway(*args: Any) -> None:
    """Run `server.gateway.process.main`."""
    from server.gateway import process

    process.main(*args)


def trainer(*args: Any) -> None:
    """Run `server.trainer.process.main`."""
    from server.trainer import process

    process.main(*args)

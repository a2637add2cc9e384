"""The first function of each child process.

What a child runs is imported here and not by the supervisor, which has no use for torch: it takes
seconds of cpu and hundreds of megabytes. The process that forks the children has imported it before
(server.supervisor.preload), so that this finds it there.
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

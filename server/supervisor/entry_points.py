"""The first function of each child process.

What a child runs is imported here and not by the supervisor, which has no use for torch: it takes
seconds of cpu and hundreds of megabytes. The process that forks the children has imported it before
(server.supervisor.child), so that this finds it there.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def gateway(*args: Any) -> None:
    """Run `server.gateway.process.main`."""
    with _importing():
        from server.gateway import process
    process.main(*args)


def trainer(*args: Any) -> None:
    """Run `server.trainer.process.main`."""
    with _importing():
        from server.trainer import process
    process.main(*args)


@contextmanager
def _importing() -> Iterator[None]:
    """What is imported stays: looking through it again and again would be a tenth of the time that
    it takes, and more with each later collection."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()

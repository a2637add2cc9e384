"""The end of a gateway: games read why, and the ring takes what is left."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection

from protocol.errors import RemoteError
from server.gateway.frame_loop import FrameLoop
from server.gateway.turn_scheduler import POLL_S

log = logging.getLogger("gateway")

STOP_S = 4.0
"""How long the end may take. Less than the supervisor allows (server.supervisor.supervisor)."""

_POLL_S = 0.02


def stopping() -> RemoteError:
    """What games are told."""
    return RemoteError(
        "server_stopping", "the server is shutting down; reconnect when it is back", retry=True
    )


async def drain(
    connections: Collection[object], frame_loop: FrameLoop | None, now: Callable[[], float]
) -> None:
    """Wait until the connections, which were told, have gone; then truncate their episodes and wait
    until the ring has taken all steps. Both within STOP_S."""
    deadline = now() + STOP_S
    while connections and now() < deadline:
        await asyncio.sleep(_POLL_S)
    if frame_loop is None:
        return
    while not frame_loop.idle and now() < deadline:
        frame_loop.flush()
        frame_loop.run()
        await asyncio.sleep(POLL_S)
    if not frame_loop.idle:
        log.error("the trainer took no more steps: some are lost")

"""The errors for clients that miss a deadline: of the handshake, of messages, of reading."""

from __future__ import annotations

from protocol.errors import RemoteError


def handshake_timeout(limit_s: float, first_message: str, held: str) -> RemoteError:
    """`first_message` did not come in time; `held`: what there is of it, in words."""
    return RemoteError(
        "handshake_timeout",
        f"expected a whole {first_message} within {limit_s:g} s, got {held}; send {first_message} "
        "first",
        retry=True,
    )


def idle_timeout(limit_s: float) -> RemoteError:
    """No message came for so long."""
    return RemoteError(
        "idle_timeout",
        f"no message for {limit_s:g} s; send PING while the game is paused",
        retry=True,
    )


def slow_reader(limit_s: float) -> RemoteError:
    """Replies were not read for so long."""
    return RemoteError(
        "slow_reader",
        f"replies were not read for {limit_s:g} s; read every ACTION before the next frame",
        retry=True,
    )

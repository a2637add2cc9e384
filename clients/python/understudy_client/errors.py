"""What can go wrong between a game and its server.

ClientError             anything below
├── ServerError         the server refused: carries its code, message, and `retry`
├── TlsError            TLS was asked for, and the server cannot be trusted or speaks none
├── ProtocolViolation   what came back is not the protocol (not this kind of server?)
├── ConnectionLost      there is no connection, and trying again was given up or is off
├── Reconnected         the connection was lost and is back: begin a new episode
└── Cancelled           the caller's own `cancelled` said to stop waiting
"""

from __future__ import annotations


class ClientError(Exception):
    """Anything that goes wrong between a game and its server."""


class ServerError(ClientError):
    """The server sent ERROR and closed the connection.

    `code` is one of the stable strings of the protocol; `message` says what was expected, what
    came, and what to do; `retry` is true where the same attempt may succeed later.
    """

    def __init__(self, code: str, message: str, retry: bool) -> None:
        super().__init__(f"the server refused ({code}): {message}")
        self.code = code
        self.message = message
        self.retry = retry


class TlsError(ClientError):
    """There is no TLS with this server: its certificate cannot be trusted, or it speaks none.

    Trying again would not help: somebody has to look.
    """


class ProtocolViolation(ClientError):
    """The other side sent what the protocol does not allow."""


class ConnectionLost(ClientError):
    """There is no connection to the server, and the client does not try (any longer)."""


class Reconnected(ClientError):
    """The connection was lost, and a new one stands: a control signal more than an error.

    The server has truncated the episode of every slot, and each slot counts from seq 0 again:
    reset the game and send the first frame of a new episode. `session` is the new session; `code`
    is that of the server's ERROR, empty where there was none: with "episode_limit" an episode of
    evaluation was too long, and is not to be played again.
    """

    def __init__(self, session: int, cause: str, code: str = "") -> None:
        super().__init__(f"reconnected as session {session} after: {cause}; begin a new episode")
        self.session = session
        self.cause = cause
        self.code = code


class Cancelled(ClientError):
    """Waiting for the server was broken off because `cancelled()` returned true."""

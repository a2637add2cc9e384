"""Settings `server.*`: where games and operators connect, and what they may do."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, field_validator

from config.settings.base import (
    Count,
    CountOrNone,
    Device,
    Expected,
    File,
    OrNone,
    Seconds,
    Section,
    Unit,
)
from protocol.messages import RESERVED

_DEEPEST = 16
"""Lists and tables within each other, in `settings`."""


class ServerConfig(Section):
    """The socket side: where games connect, and what they may do."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """The address to listen on. 0.0.0.0 for every interface; beyond loopback it takes a token."""
    port: Annotated[int, Field(ge=0, le=65_535)] = 7777
    """The TCP port to listen on. 0: any free one."""
    gateways: Annotated[Count, Unit("processes")] = 1
    """Processes that share the port, for when one core is not enough."""
    max_clients: Annotated[Count, Unit("connections")] = 1024
    """Connections at a time; more are refused. Each gateway takes an equal part of them."""
    max_message_bytes: Annotated[int, Field(ge=1024, le=2**32 - 1), Unit("bytes")] = 1_048_576
    """The longest message that a welcomed client may send."""
    max_slot_bytes: Annotated[int, Field(ge=65_536), Unit("bytes")] = 2**30
    """Memory for the slots of all connections of a gateway. Who asks for more slots than fit is
    refused."""
    max_game_bytes: Annotated[
        Annotated[int, Field(ge=2**20), Expected("a whole number of at least 1048576")] | None,
        OrNone,
        Unit("bytes"),
    ] = None
    """Memory that a run's game may take with a full replay, rings and network. The first game to
    connect is refused if it would take more. none: the memory of the machine or the container."""
    handshake_timeout_s: Seconds = 10.0
    """How long a new connection may take until its HELLO is complete."""
    idle_timeout_s: Seconds = 300.0
    """How long a client may send nothing. The clock stops while the server is not reading."""
    write_timeout_s: Seconds = 30.0
    """How long a client may leave its replies unread."""
    token: Annotated[Annotated[SecretStr, Field(min_length=1)] | None, OrNone] = None
    """What a client must say to be let in. none: everybody is. Never shown and never saved;
    best set by environment, for other users see a command line."""
    token_file: File = None
    """A file that holds the token instead, as containers get their secrets."""
    insecure: bool = False
    """Listen beyond loopback without a token all the same, and for the older clients for Tempest,
    which have none: whoever reaches the port plays."""
    tls_cert: File = None
    """A file with the certificate chain (PEM). With it, games and HTTP are served with TLS 1.2 or
    later and no other way. A renewed one is taken up within a minute. none: not encrypted."""
    tls_key: File = None
    """A file with its private key (PEM), without a passphrase. none: it is in tls_cert too."""
    max_clients_per_address: Annotated[CountOrNone, Unit("connections")] = None
    """Connections at a time from one address (in IPv6 from one /64 network). Each gateway takes an
    equal part of them. none: no other limit than max_clients."""
    max_frames_per_address: Annotated[CountOrNone, Unit("frames a second")] = None
    """Frames that one address is answered, all its games together, of each gateway; beyond that its
    games wait. none: as many as there are."""
    http_host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """The address that the dashboard listens on. It shows the run to everybody who can reach it."""
    http_port: Annotated[Annotated[int, Field(ge=0, le=65_535)] | None, OrNone] = 8080
    """The port of dashboard, metrics and health. 0: any free one. none: no HTTP."""
    control_token: Annotated[Annotated[SecretStr, Field(min_length=8)] | None, OrNone] = None
    """What controls over HTTP ask for, another than the games'; at least 8 characters. none: no
    controls over HTTP. Never shown and never saved."""
    control_token_file: File = None
    """A file that holds it instead, as containers get their secrets."""
    device: Device = "cpu"
    """Where forward passes run: cpu, cuda, cuda:N, or auto (cuda where there is one)."""
    log_format: Literal["text", "json"] = "text"
    """Lines of the log, in the run's folder and on the console: text, or JSON objects."""
    ring_steps: Annotated[int, Field(ge=2), Unit("steps")] = 16_384
    """Records in each gateway's ring to the trainer. Full: the games wait."""
    settings: dict[str, Any] = {}
    """Sent to the games when they connect: start level and the like, as they define them."""

    @field_validator("settings")
    @classmethod
    def _plain(cls, settings: dict[str, Any]) -> dict[str, Any]:
        for name, value in settings.items():
            if name.startswith(RESERVED):
                raise ValueError(
                    f"{name!r} begins with {RESERVED!r}, which is kept for the protocol; give it "
                    "another name"
                )
            _check_plain(name, value)
        return settings


def _check_plain(name: str, value: object, depth: int = 0) -> None:
    """Refuse what cannot be both sent to a game and written to TOML."""
    if depth == _DEEPEST and isinstance(value, dict | list):
        raise ValueError(f"{name}: expected at most {_DEEPEST} lists and tables within each other")
    if isinstance(value, dict):
        for key, inner in value.items():
            _check_plain(f"{name}.{key}", inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _check_plain(name, inner, depth + 1)
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError(f"{name} is {value}; expected a whole number that 64 bits can hold")
    elif not isinstance(value, bool | int | float | str):
        raise ValueError(
            f"{name} is {value!r}; expected text, a number, true, false, a list or a table of those"
        )

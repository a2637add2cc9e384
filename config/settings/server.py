"""Settings `server.*`: where games and operators connect, and what they may do."""

from __future__ import annotations

import json
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
    Unsaved,
)
from protocol.messages import RESERVED

HostName = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?$"),
    Expected("a host's name, without scheme and port"),
]

PageOrigin = Annotated[
    str,
    Field(pattern=r"^[A-Za-z][A-Za-z0-9+.-]*://[^\s/?#@]{1,253}$"),
    Expected("a scheme and a host, without a path, such as https://example.org"),
]

MOST_SETTINGS, SETTING_BYTES, SETTINGS_BYTES = 64, 1024, 16_384
"""Of `settings`: how many, the bytes of each as JSON with its name, and of all together. All are in
every WELCOME, and in the run's configuration."""

_DEEPEST = 16
"""Lists and tables within each other, in `settings`."""


class ServerConfig(Section):
    """The sockets: where games and operators connect, and their limits."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """Address to listen on. 0.0.0.0 for every interface; beyond loopback a token is needed."""
    port: Annotated[int, Field(ge=0, le=65_535)] = 7777
    """TCP port to listen on. 0: any free one."""
    websocket_port: Annotated[Annotated[int, Field(ge=0, le=65_535)] | None, OrNone] = None
    """TCP port for the same over WebSockets, for games in browsers. 0: any free one. none: no
    WebSockets."""
    websocket_origins: Annotated[tuple[PageOrigin, ...], Field(strict=False)] = ()
    """Origins of pages that may open a WebSocket, such as https://example.org, beside pages of the
    server's own host: its literal address, localhost, or a name of server.http_names."""
    gateways: Annotated[Count, Unit("processes")] = 1
    """Processes that share the port, for when one core is not enough."""
    max_clients: Annotated[Count, Unit("connections")] = 1024
    """Connections at a time; further ones are refused. Each gateway takes an equal share."""
    max_message_bytes: Annotated[int, Field(ge=1024, le=2**32 - 1), Unit("bytes")] = 1_048_576
    """Longest message that a client may send after its handshake."""
    max_slot_bytes: Annotated[int, Field(ge=65_536), Unit("bytes")] = 2**30
    """Memory for the slots of all connections of a gateway. A client that asks for more slots than
    fit is refused."""
    max_game_bytes: Annotated[
        Annotated[int, Field(ge=2**20), Expected("a whole number of at least 1048576")] | None,
        OrNone,
        Unit("bytes"),
    ] = None
    """Memory that a run's game may need with a full replay, rings and network. The first game to
    connect is refused if it needs more. none: the memory of the machine or the container."""
    handshake_timeout_s: Seconds = 10.0
    """Time in which a new connection must complete its HELLO."""
    idle_timeout_s: Seconds = 300.0
    """Time in which a client must send something. The clock stops while the server is not
    reading."""
    write_timeout_s: Seconds = 30.0
    """Time in which a client must read its replies."""
    token: Annotated[Annotated[SecretStr, Field(min_length=1)] | None, OrNone] = None
    """Token that games must send; beyond loopback at least 16 characters. none: no token is needed.
    Never shown and never saved. Set it in the environment or a file: other users of the machine can
    see a command line."""
    token_file: File = None
    """File that holds the token, as containers get their secrets."""
    insecure: Annotated[bool, Unsaved()] = False
    """Allow server.host beyond loopback without a token: whoever reaches the port can play. Never
    saved: each start is told anew."""
    tls_cert: File = None
    """File with the certificate chain (PEM). With it, games and HTTP are served with TLS 1.2 or
    later only. A renewed certificate is used within a minute. none: no encryption."""
    tls_key: File = None
    """File with the private key (PEM), without a passphrase. none: it is in tls_cert."""
    max_clients_per_address: Annotated[CountOrNone, Unit("connections")] = None
    """Connections at a time from one address (for IPv6, one /64 network). Each gateway takes an
    equal share. none: max_clients is the only limit."""
    max_frames_per_address: Annotated[CountOrNone, Unit("frames a second")] = None
    """Frames per second that a gateway answers to one address, all its games together; beyond that
    its games wait. none: no limit."""
    http_host: Annotated[str, Field(min_length=1), Unsaved()] = "127.0.0.1"
    """Address of the dashboard. Everybody who can reach it sees the run. Never saved: each start
    is told anew."""
    http_names: Annotated[tuple[HostName, ...], Field(strict=False)] = ()
    """Names under which HTTP is reached, beside localhost and literal addresses: as Prometheus
    calls the server, or a proxy. Requests for other names are refused."""
    http_port: Annotated[Annotated[int, Field(ge=0, le=65_535)] | None, OrNone] = 8080
    """Port of dashboard, metrics and health. 0: any free one. none: no HTTP."""
    control_token: Annotated[Annotated[SecretStr, Field(min_length=8)] | None, OrNone] = None
    """Token that controls over HTTP need, different from the games' token; at least 8 characters,
    and 16 with server.http_host beyond loopback. none: no controls over HTTP. Never shown and never
    saved."""
    control_token_file: File = None
    """File that holds the control token, as containers get their secrets."""
    device: Device = "cpu"
    """Device of forward passes: cpu, cuda, cuda:N, or auto (cuda if available)."""
    log_format: Literal["text", "json"] = "text"
    """Format of the log, in the run's folder and on the console: text lines or JSON objects."""
    ring_steps: Annotated[int, Field(ge=2), Unit("steps")] = 16_384
    """Steps that fit into each gateway's ring to the trainer. While it is full, the games wait."""
    settings: dict[str, Any] = {}
    """Settings that are sent to the games when they connect, such as a start level; the games
    define them. At most 64, of 1,024 bytes each as JSON, and 16,384 together."""

    @field_validator("settings")
    @classmethod
    def _plain(cls, settings: dict[str, Any]) -> dict[str, Any]:
        return checked_settings(settings)


def checked_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings for games, if they can be sent to them. Errors: ValueError."""
    for name, value in settings.items():
        if name.startswith(RESERVED):
            raise ValueError(
                f"{name!r} begins with {RESERVED!r}, which is kept for the protocol; give it "
                "another name"
            )
        _check_plain(name, value)
    _check_size(settings)
    return settings


def _check_size(settings: dict[str, Any]) -> None:
    """Refuse more than every game should be sent when it connects."""
    fewer = "the games keep what they were told: use those names again, or start anew with fewer"
    if len(settings) > MOST_SETTINGS:
        raise ValueError(f"expected at most {MOST_SETTINGS} settings, got {len(settings)}; {fewer}")
    sizes = {name: _json_bytes({name: value}) for name, value in settings.items()}
    for name, size in sizes.items():
        if size > SETTING_BYTES:
            raise ValueError(
                f"{name[:64]!r}: expected at most {SETTING_BYTES} bytes as JSON, got {size}; "
                "make it shorter"
            )
    if (together := sum(sizes.values())) > SETTINGS_BYTES:
        raise ValueError(
            f"expected at most {SETTINGS_BYTES} bytes as JSON, got {together}; {fewer}"
        )


def _json_bytes(value: object) -> int:
    return len(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"))


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

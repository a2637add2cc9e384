"""A gateway's process: its loop, its listeners, and what the system lets it have."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable
from multiprocessing.connection import Connection as Pipe

import torch
import uvloop

from config.load import ConfigError
from config.models import Config
from protocol.errors import RemoteError
from protocol.session import ServerSession
from server.gateway import expert_plugin
from server.gateway.admission import ENDING
from server.gateway.connection import GameConnection
from server.gateway.gateway import Gateway
from server.gateway.tempest import TempestConnection
from server.ipc.heartbeat import Heartbeat
from server.ipc.messages import GATEWAY, ProcessFailed
from server.ipc.pipe_writer import PipeWriter
from server.net.listener import HANDSHAKES, Listener
from server.net.open_files import room_for
from server.net.tls import certificate
from server.run.logs import log_to_pipe

log = logging.getLogger("gateway")

OWN_FILES = 88
"""Open files beside its connections."""


def main(
    config: Config,
    index: int,
    launch: int,
    pipe: Pipe,
    heartbeat: Heartbeat,
    sock: socket.socket,
    tempest: socket.socket | None = None,
    websocket: socket.socket | None = None,
) -> None:
    """The process's entry. `tempest`: where older clients for Tempest connect; `websocket`: where
    browsers do. The supervisor decides when it ends: signals are ignored here, since a terminal
    sends them to every process of the group."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    writer = PipeWriter(pipe)
    log_to_pipe(writer, f"gateway {index}" if config.server.gateways > 1 else "gateway")
    log.info("process %d", os.getpid())
    torch.set_num_threads(1)
    wanted = _connections_wanted(config)
    room = room_for(OWN_FILES, *wanted, log=log, what="connections")
    try:
        # Before there is a game: an expert that cannot be imported here refuses the start.
        expert_plugin.check(config)
        uvloop.run(_serve(config, index, launch, writer, heartbeat, sock, tempest, websocket, room))
    except Exception as error:
        log.exception("the gateway ends after an error")
        if isinstance(error, ConfigError):
            with contextlib.suppress(OSError):
                writer.send(ProcessFailed(f"gateway: {error}", kind=GATEWAY))
        raise SystemExit(1) from error
    finally:
        writer.close()


async def _serve(
    config: Config,
    index: int,
    launch: int,
    writer: PipeWriter,
    heartbeat: Heartbeat,
    sock: socket.socket,
    tempest: socket.socket | None,
    websocket: socket.socket | None,
    room: tuple[int, ...],
) -> None:
    """`room`: as `_connections_wanted`, as far as there are files for them."""
    connections, ending, handshakes = room
    loop = asyncio.get_running_loop()
    ports = port_of(sock), None if tempest is None else port_of(tempest)
    gateway = Gateway(
        config, index, launch, writer, heartbeat, loop, ports, room=(connections, ending)
    )
    loop.set_exception_handler(gateway.failed)
    gateway.listen()

    def accepted() -> GameConnection:
        return GameConnection(gateway, ServerSession(**gateway.session_options()))

    handshake_s = config.server.handshake_timeout_s

    def listener(sock: socket.socket, accepted: Callable[[], GameConnection]) -> Listener:
        return Listener(
            sock,
            accepted,
            certificate(config.server),
            handshake_s=handshake_s,
            handshakes=handshakes,
            failed=lambda peer, address, text: gateway.log.count(
                peer, address, RemoteError("tls_failed", text)
            ),
        )

    listeners = [listener(sock, accepted)]
    if websocket is not None:
        # Here: a server without them does not need the library.
        from server.gateway.websocket import WebSocketConnection, page_origins

        origins = page_origins(config.server)
        listeners.append(listener(websocket, lambda: WebSocketConnection(gateway, origins)))
    if tempest is not None:
        older = Listener(tempest, lambda: TempestConnection(gateway), None, handshake_s=handshake_s)
        listeners.append(older)
    gateway.sweep()
    gateway.report()
    try:
        await gateway.stopped
    finally:
        for each in listeners:
            each.close()
    gateway.send_report()
    gateway.close()


def port_of(sock: socket.socket) -> int:
    """Where this one listens."""
    port: int = sock.getsockname()[1]
    return port


def open_files_wanted(config: Config) -> int:
    """File descriptors that a gateway may come to need: a connection each, and what else it has."""
    return OWN_FILES + sum(_connections_wanted(config))


def _connections_wanted(config: Config) -> tuple[int, int, int]:
    """Connections that play, that are told why they may not, and that shake hands."""
    server = config.server
    ports = 1 if server.websocket_port is None else 2
    handshakes = 0 if server.tls_cert is None else ports * HANDSHAKES
    return -(-server.max_clients // server.gateways), ENDING, handshakes

"""A gateway's process: its loop, its listeners, and what the system lets it have."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import socket
from multiprocessing.connection import Connection as Pipe

import torch
import uvloop

from config.models import Config
from protocol.errors import RemoteError
from server.gateway.admission import ENDING
from server.gateway.connection import GameConnection
from server.gateway.gateway import Gateway
from server.gateway.tempest import TempestConnection
from server.ipc.heartbeat import Heartbeat
from server.ipc.pipe_writer import PipeWriter
from server.net.listener import Listener
from server.net.tls import certificate
from server.run.logs import log_to_pipe

log = logging.getLogger("gateway")

SPARE_FILES = 600
"""Open files beside its connections: handshakes under way, and its own."""


def main(
    config: Config,
    index: int,
    launch: int,
    pipe: Pipe,
    heartbeat: Heartbeat,
    sock: socket.socket,
    tempest: socket.socket | None = None,
) -> None:
    """The process's entry. `tempest`: where older clients for Tempest connect. The supervisor
    decides when it ends: signals are ignored here, since a terminal sends them to every process of
    the group."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    writer = PipeWriter(pipe)
    log_to_pipe(writer, f"gateway {index}" if config.server.gateways > 1 else "gateway")
    log.info("process %d", os.getpid())
    torch.set_num_threads(1)
    wanted = open_files_wanted(config)
    if (most := allow_open_files(wanted)) < wanted:
        log.warning("only %d files may be open, %d may be needed; raise ulimit -n", most, wanted)
    try:
        uvloop.run(_serve(config, index, launch, writer, heartbeat, sock, tempest))
    except Exception as error:
        log.exception("the gateway ends after an error")
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
) -> None:
    loop = asyncio.get_running_loop()
    ports = port_of(sock), None if tempest is None else port_of(tempest)
    gateway = Gateway(config, index, launch, writer, heartbeat, loop, ports)
    loop.set_exception_handler(gateway.failed)
    gateway.listen()

    def accepted() -> GameConnection:
        return GameConnection(gateway, gateway.new_session())

    servers: list[asyncio.AbstractServer | Listener] = []
    secured = certificate(config.server)
    if secured is None:
        servers.append(await loop.create_server(accepted, sock=sock))
    else:
        servers.append(
            Listener(
                sock,
                accepted,
                secured,
                handshake_s=config.server.handshake_timeout_s,
                failed=lambda peer, address, text: gateway.log.count(
                    peer, address, RemoteError("tls_failed", text)
                ),
            )
        )
    if tempest is not None:
        older = await loop.create_server(lambda: TempestConnection(gateway), sock=tempest)
        servers.append(older)
    gateway.sweep()
    gateway.report()
    try:
        await gateway.stopped
    finally:
        for server in servers:
            server.close()
    gateway.send_report()
    gateway.close()


def port_of(sock: socket.socket) -> int:
    """Where this one listens."""
    port: int = sock.getsockname()[1]
    return port


def open_files_wanted(config: Config) -> int:
    """File descriptors that a gateway may come to need: a connection each, and what else it has."""
    return -(-config.server.max_clients // config.server.gateways) + ENDING + SPARE_FILES


def allow_open_files(wanted: int) -> int:
    """Raise what this process may have open to `wanted`, as far as it may raise it; how many of
    those it may have now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most

"""Accepting where there are no file descriptors, and who gets how many of them."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket

import pytest

from server.net import listener
from server.net.listener import Listener
from server.net.open_files import shares


@pytest.mark.promise("few-open-files")
def test_accept_without_descriptors_waits_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(listener, "PAUSE_S", 0.05)
    accept, tries = socket.socket.accept, 0

    def fails(self: socket.socket) -> tuple[socket.socket, object]:
        nonlocal tries
        tries += 1
        if tries <= 4:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return accept(self)

    monkeypatch.setattr(socket.socket, "accept", fails)

    async def scene() -> None:
        made = asyncio.Event()

        class Conversation(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                made.set()
                transport.close()

        sock = socket.create_server(("127.0.0.1", 0))
        one = Listener(sock, Conversation, None, handshake_s=1.0)
        clients = [socket.create_connection(sock.getsockname()) for _ in range(20)]
        loop = asyncio.get_running_loop()
        begin = loop.time()
        await asyncio.wait_for(made.wait(), 20.0)
        assert loop.time() - begin >= 4 * 0.05, "it does not spin"
        one.close()
        for client in clients:
            client.close()

    with caplog.at_level(logging.WARNING):
        asyncio.run(scene())
    assert len(caplog.records) == 1
    assert "cannot accept connections: [Errno 24] Too many open files" in caplog.text


@pytest.mark.promise("few-open-files")
def test_few_files_are_shared_in_proportion() -> None:
    assert shares(1000, 500, 300, 0) == (500, 300, 0)
    assert shares(400, 500, 300, 0) == (250, 150, 0)
    assert shares(168, 1024, 256, 512) == (96, 24, 48)
    assert shares(-5, 500, 300, 0) == (1, 1, 0), "the server starts all the same"

"""Waiting for a TLS client's first message without taking it: so nobody has handshakes begun, and
then sends all at once what makes them costly."""

from __future__ import annotations

import asyncio
import socket
import ssl

_RECORD, _MESSAGE = 5, 4
"""Bytes of the heads of a TLS record, and of a message in it."""

_HANDSHAKE, _CLIENT_HELLO = 22, 1

_MAX_RECORD = 2**14 + 256


async def client_hello(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> None:
    """Wait until a whole ClientHello can be read from this socket, which does not block, or
    something that is none: that costs nothing to refuse. Errors: ssl.SSLError for one that is in
    pieces, which no client sends; OSError."""
    wanted = _RECORD
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, wanted)
    try:
        while True:
            await _readable(loop, connection)
            there = connection.recv(wanted, socket.MSG_PEEK)
            if len(there) < wanted:
                return  # all that will come
            if len(there) == _RECORD:
                length = int.from_bytes(there[3:], "big")
                if there[0] != _HANDSHAKE or not _MESSAGE < length <= _MAX_RECORD:
                    return
                wanted = _RECORD + length
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, wanted)
                continue
            message = int.from_bytes(there[_RECORD + 1 : _RECORD + _MESSAGE], "big")
            if there[_RECORD] == _CLIENT_HELLO and _RECORD + _MESSAGE + message > len(there):
                raise ssl.SSLError(ssl.SSL_ERROR_SSL, "expected a ClientHello in one record")
            return
    finally:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)


async def _readable(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> None:
    came = asyncio.Event()
    loop.add_reader(connection.fileno(), came.set)
    try:
        await came.wait()
    finally:
        loop.remove_reader(connection.fileno())

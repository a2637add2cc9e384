"""What a hostile connection can do on the port for WebSockets."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

from lab.fuzz.attacker import Attacker
from lab.fuzz.mutator import PROTOCOL

OPENING = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)

_BINARY, _CONTINUATION, _PING, _FINAL = 2, 0, 9, 0x80


def frame(data: bytes, opcode: int = _BINARY | _FINAL) -> bytes:
    """A frame of the WebSocket; a mask of zeros leaves its data as it is."""
    length = len(data)
    if length < 126:
        return bytes([opcode, 0x80 | length]) + bytes(4) + data
    return bytes([opcode, 0xFF]) + struct.pack(">Q", length) + bytes(4) + data


async def websocket_garbage(it: Attacker) -> None:
    """A stream of the fuzzer's, as frames or instead of them."""
    await it.send(OPENING)
    data = it.mutator.mutated(PROTOCOL, it.rng)
    if it.rng.random() < 0.5:
        data = b"".join(frame(data[at : at + 200]) for at in range(0, len(data), 200))
    await it.send(data)
    await asyncio.wait_for(it.reader.read(65_536), 0.3)


async def websocket_flood(it: Attacker) -> None:
    """Empty fragments, or PINGs whose PONGs nobody reads."""
    await it.send(OPENING + frame(b"", _BINARY))
    piece = frame(b"", it.rng.choice((_CONTINUATION, _PING | _FINAL)))
    for _ in range(20):
        await it.send(piece * 5000)


async def websocket_headers(it: Attacker) -> None:
    """A request that never ends, or one that opens nothing."""
    await it.send(it.rng.choice((OPENING[:-2], b"POST / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\n")))
    for _ in range(100):
        await it.send(b"X-%d: " % it.rng.randint(0, 9) + b"y" * it.rng.choice((10, 8000)) + b"\r\n")
    await asyncio.wait_for(it.reader.read(65_536), 0.5)


async def websocket_huge(it: Attacker) -> None:
    """A message that is announced as up to 8 EiB, and begun."""
    length: Any = it.rng.choice((65_537, 2**20 + 1, 2**32, 2**63 - 1))
    head = bytes([_BINARY | _FINAL, 0xFF]) + struct.pack(">Q", length) + bytes(4)
    await it.send(OPENING + head + bytes(it.rng.choice((0, 1, 500_000))))
    await asyncio.wait_for(it.reader.read(65_536), 0.5)


WEBSOCKET_ATTACKS = (websocket_garbage, websocket_flood, websocket_headers, websocket_huge)

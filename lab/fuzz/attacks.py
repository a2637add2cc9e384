"""What a hostile connection can do, each kind a function, and the process that makes them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import struct
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from multiprocessing.connection import Connection as Pipe

import numpy as np

from lab.fuzz.attacker import Attacker
from lab.fuzz.mutator import PROTOCOL, TEMPEST, Mutator
from lab.fuzz.websocket_attacks import WEBSOCKET_ATTACKS
from lab.fuzz.well_behaved import SPEC
from protocol import codec
from protocol.messages import HelloFields
from protocol.tempest import LEAD
from server.net.plain_messages import message


async def garbage(it: Attacker) -> None:
    """A stream of the fuzzer's, in random pieces."""
    data = it.mutator.mutated(PROTOCOL, it.rng)
    while data:
        n = it.rng.randint(1, 4096)
        await it.send(data[:n])
        data = data[n:]
        if it.rng.random() < 0.3:
            await asyncio.sleep(0.001)
    await asyncio.wait_for(it.reader.read(65_536), 0.3)


async def older_garbage(it: Attacker) -> None:
    """The same in the older format."""
    await it.send(it.mutator.mutated(TEMPEST, it.rng))
    await asyncio.wait_for(it.reader.read(65_536), 0.3)


async def single_bytes(it: Attacker) -> None:
    """A game that plays by the rules, a byte at a time."""
    await it.hello()
    for byte in it.frame(0)[:200]:
        await it.send(bytes([byte]))
        if it.rng.random() < 0.05:
            await asyncio.sleep(0.001)


async def flood_of_frames(it: Attacker) -> None:
    """Frames without waiting for answers."""
    await it.hello(slots=16)
    for seq in range(20):
        await it.send(b"".join(it.frame(seq, slot) for slot in range(16)))
    await it.reader.read(65_536)


async def flood_of_pings(it: Attacker) -> None:
    """PINGs whose answers nobody reads: a slow reader."""
    sock = it.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await it.hello()
    it.reader._transport.pause_reading()  # type: ignore[attr-defined]
    ping = message(4, bytes(4000))
    for _ in range(200):
        it.writer.write(ping)
        await asyncio.wait_for(it.writer.drain(), 0.5)
    await asyncio.sleep(0.5)


async def slow_writer(it: Attacker) -> None:
    """A HELLO that never ends."""
    for byte in codec.encode_hello(
        HelloFields(
            protocol=1, client="slow", game="x", observation=SPEC.observation, actions=SPEC.actions
        )
    )[: it.rng.randint(1, 40)]:
        await it.send(bytes([byte]))
        await asyncio.sleep(0.02)


async def huge_length(it: Attacker) -> None:
    """A message that is announced as up to 4 GiB, and begun."""
    if it.rng.random() < 0.5:
        await it.hello()
    length = it.rng.choice((65_537, 2**20, 2**20 + 1, 2**31, 2**32 - 1))
    await it.send(length.to_bytes(4, "big") + bytes(it.rng.choice((0, 1, 65_536, 500_000))))
    await asyncio.wait_for(it.reader.read(65_536), 0.5)


async def disconnects(it: Attacker) -> None:
    """A game that goes in the middle of a frame."""
    await it.hello(role=it.rng.choice(("train", "eval", "play")))
    for seq in range(it.rng.randint(0, 5)):
        await it.send(it.frame(seq))
        await it.answer()
    await it.send(it.frame(99)[: it.rng.randint(0, 300)])


async def half_open(it: Attacker) -> None:
    """A connection on which nothing comes, or of which one side has ended."""
    if it.rng.random() < 0.5:
        await it.hello()
        it.writer.write_eof()
    await asyncio.sleep(it.rng.choice((0.01, 0.1, 0.5)))


async def silent(it: Attacker) -> None:
    """A connection on which nothing is said until the server ends it."""
    if it.rng.random() < 0.9:
        await asyncio.sleep(0.05)
    else:
        await it.reader.read(65_536)


async def many_slots(it: Attacker) -> None:
    """As many games as a connection may have, and a frame of some of them."""
    await it.hello(slots=4096)
    await it.send(b"".join(it.frame(0, slot) for slot in it.rng.sample(range(4096), 20)))
    for _ in range(10):
        await it.answer()


async def wrong_game(it: Attacker) -> None:
    """Another game, as large as the handshake allows."""
    actions = [["continuous", f"h{i}", -1.0, 1.0, 4096] for i in range(64)]
    fields = {
        "protocol": 1, "client": "x" * 64, "game": "other", "observation": ["float32", [250_000]],
        "actions": actions, "slots": 4096,
    }  # fmt: skip
    await it.send(message(1, fields))
    await it.reader.read(65_536)


async def wild_numbers(it: Attacker) -> None:
    """NaN and infinity where numbers belong."""
    await it.hello()
    value = it.rng.choice((float("nan"), float("inf"), 3e38))
    if it.rng.random() < 0.5:
        await it.send(it.frame(0, reward=[value, 0.0]))
    else:
        await it.send(it.frame(0, obs=np.full(SPEC.observation_size, value, "<f4").tobytes()))
    await it.reader.read(65_536)


async def older_flood(it: Attacker) -> None:
    """Frames in the older format without waiting for replies."""
    frames = it.mutator.mutated(TEMPEST, random.Random(7))
    await it.send((frames if frames[:2] == LEAD else LEAD + frames) + bytes(200_000))
    await asyncio.wait_for(it.reader.read(65_536), 0.3)


ATTACKS = (
    garbage, older_garbage, single_bytes, flood_of_frames, flood_of_pings, slow_writer, huge_length,
    disconnects, half_open, silent, many_slots, wrong_game, wild_numbers, older_flood,
    *WEBSOCKET_ATTACKS,
)  # fmt: skip
"""What a hostile connection can do, each as often as the others."""


@dataclass(frozen=True)
class Compute:
    """A request: compute for so many seconds."""

    seconds: float


@dataclass(frozen=True)
class Attack:
    """A request: make the hostile connections of these numbers, or those that there is time for;
    the answer counts them by kind."""

    begin: int
    end: int
    seconds: float


def attack(
    pipe: Pipe, ports: tuple[int, int, int], seed: int, at_once: int, network: int, *, idle: bool
) -> None:
    """The attackers' process: says that it is there, and does what it is asked until the end of the
    pipe; or sends the exception that ended it. ports: of the protocol, of the older format, and of
    WebSockets.
    network: the first number of the addresses that connections come from (lab.fuzz.machines).
    idle: it gets time of the processor that nobody else wants."""
    os.nice(19)  # it stands for other machines, whose work is not this one's
    if idle:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    try:
        pipe.send("ready")
        while True:
            match pipe.recv():
                case Compute(seconds):
                    until = time.monotonic() + seconds
                    while time.monotonic() < until:
                        pass
                    pipe.send("computed")
                case Attack(begin, end, seconds):
                    numbers = _in_time(begin, end, seconds)
                    pipe.send(asyncio.run(_attackers(ports, seed, numbers, at_once, network)))
    except EOFError:
        return
    except Exception as error:
        pipe.send(error)


def _in_time(begin: int, end: int, seconds: float) -> Iterator[int]:
    until = time.monotonic() + seconds
    return takewhile(lambda _: time.monotonic() < until, range(begin, end))


async def _attackers(
    ports: tuple[int, int, int], seed: int, numbers: Iterator[int], at_once: int, network: int
) -> Counter[str]:
    mutator, did = Mutator(seed), Counter[str]()

    async def one() -> None:
        for number in numbers:
            rng = random.Random(seed << 64 | number)
            kind = ATTACKS[number % len(ATTACKS)]
            await _attempt(kind, ports, rng, mutator, network)
            did[kind.__name__] += 1

    await asyncio.gather(*(one() for _ in range(at_once)))
    return did


async def _attempt(
    kind: Callable[[Attacker], Awaitable[None]], ports: tuple[int, int, int], rng: random.Random,
    mutator: Mutator, network: int,
) -> None:  # fmt: skip
    """One connection, which does one thing, and is gone in order or without."""
    older, browser = (kind.__name__.startswith(each) for each in ("older", "websocket"))
    port = ports[1] if older else ports[2] if browser else ports[0]
    try:
        # As many machines: each has an address of its own.
        source = (f"{network}.{rng.randint(1, 250)}.{rng.randint(0, 250)}.{rng.randint(1, 250)}", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=source)
    except OSError:
        return
    try:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
            await asyncio.wait_for(kind(Attacker(reader, writer, rng, mutator)), 4.0)
    finally:
        if rng.random() < 0.5:
            sock = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort() if rng.random() < 0.5 else writer.close()

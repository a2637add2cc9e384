"""Hostile connections against a live server that trains and has games to answer.

Games of both formats play at an even pace, as many as make a load, first alone and then beside the
hostile connections. What must hold: no process dies, no slot stays behind, memory is bounded, and
the games' answers are not slower than twice what is normal.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import random
import select
import socket
import struct
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from config.load import config_from
from lab.fuzz.streams import PROTOCOL, TEMPEST, Mutator
from lab.load.generator import _exactly, _Game, _OlderGame
from protocol import codec
from protocol.framing import framed
from protocol.messages import HelloFields, Welcome
from protocol.spaces import GameSpec
from protocol.tempest import LEAD, tempest_spec
from server.run.directory import RunDirectory
from server.run.logs import log_here, stop_logging
from server.supervisor.supervisor import ChildDied, Supervisor

_SPAWN = multiprocessing.get_context("spawn")

SPEC = tempest_spec(195, "continuous")
"""The run's game: what clients of both formats can play."""

GAMES, OLDER_GAMES = 24, 8
"""Games that play by the rules, by format."""

PACE_HZ = 60.0
"""Frames of each in a second. With so many that is a server under load: the network is asked about
2,000 frames a second, few of which arrive together."""

SLOT_BYTES = 2**26
"""`server.max_slot_bytes` here."""

SLACK_BYTES = 96 * 2**20
"""Memory that a gateway may have grown by beyond what its settings bound: allocators keep some."""

P99_FACTOR = 2.0

SETTINGS: dict[str, Any] = {
    "server.port": 0,
    "server.http_port": None,
    "server.max_slot_bytes": SLOT_BYTES,
    "server.handshake_timeout_s": 2.0,
    "server.idle_timeout_s": 5.0,
    "server.write_timeout_s": 2.0,
    "tempest.port": 0,
    "tempest.spinner": "continuous",
    "replay.capacity_steps": 50_000,
    "learner.hidden": [64, 64],
    "trainer.device": "cpu",
    "trainer.threads": 1,
    "metrics.every_s": 0.5,
}


def live(
    connections: int, *, seed: int, at_once: int, seconds: float, judge_p99: bool
) -> Iterator[dict[str, Any]]:
    """A server that bears so many hostile connections; rows to print."""
    with tempfile.TemporaryDirectory() as folder:
        values = SETTINGS | {"run.dir": str(Path(folder) / "run"), "run.seed": seed}
        config = config_from(values)
        run = RunDirectory.open(config, resume=False)
        log_here(run.log, None)
        server = Supervisor(config, run)
        started: list[_Child] = []
        try:
            server.start()
            assert server.tempest_port is not None
            ports = server.port, server.tempest_port
            games = _Child(server, started, _play, ports)
            yield _measure(
                server, started, games, ports, connections, seed, at_once, seconds, judge_p99
            )
        except ChildDied as error:
            yield {"case": "connections", "ok": False, "broken": [str(error)]}
        finally:
            for child in started:
                child.end()
            server.stop()
            stop_logging()


class _Child:
    """A process that is told what to do, while the server is polled."""

    def __init__(
        self, server: Supervisor, started: list[_Child], target: Callable[..., None], *args: Any
    ) -> None:
        self._server = server
        self._pipe, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=target, args=(theirs, *args), daemon=True)
        self._process.start()
        theirs.close()
        started.append(self)

    def ask(
        self, message: Any, timeout_s: float = 1e9, each: Callable[[], None] | None = None
    ) -> Any:
        """Send a message and poll the server until it is answered. Errors: RuntimeError."""
        self._pipe.send(message)
        deadline = time.monotonic() + timeout_s
        while not self._pipe.poll():
            self._server.poll(0.05)
            if each is not None:
                each()
            if time.monotonic() > deadline:
                raise TimeoutError(f"expected an answer to {message} within {timeout_s:g} s")
        answer = self._pipe.recv()
        if isinstance(answer, Exception):
            raise RuntimeError(f"{type(answer).__name__}: {answer}")
        return answer

    def end(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _measure(
    server: Supervisor, started: list[_Child], games: _Child, ports: tuple[int, int],
    connections: int, seed: int, at_once: int, seconds: float, judge_p99: bool,
) -> dict[str, Any]:  # fmt: skip
    broken: list[str] = []
    games.ask("begin", 120)
    games.ask(min(2.0, seconds))  # what is slow at first is not what is normal
    alone = games.ask(seconds)
    gateways = _gateways()
    before = _memory(gateways)
    peak = before

    def look() -> None:
        nonlocal peak
        peak = max(peak, _memory(gateways))

    hostile = _Child(server, started, _attack, ports, seed, at_once)
    hostile.ask("begin", 120)
    # As a control: what the time that their process takes costs, where it stays at home.
    games.ask("measure")
    hostile.ask(min(seconds, 10.0), 120)
    beside_work = games.ask("measured")
    games.ask("measure")
    begin = time.monotonic()
    done: Counter[str] = hostile.ask(connections, each=look)
    took = time.monotonic() - begin
    beside = games.ask("measured")

    expected = {"clients": GAMES + OLDER_GAMES, "slots": GAMES + OLDER_GAMES}
    deadline = time.monotonic() + 60
    while any(server.row.get(name) != n for name, n in expected.items()):
        server.poll(0.05)
        look()
        if time.monotonic() > deadline:
            there = {name: server.row.get(name) for name in expected}
            broken.append(f"expected {expected} when the hostile ones have gone, got {there}")
            break
    after = _memory(gateways)
    again = games.ask(min(2.0, seconds))
    if again["frames"] == 0:
        broken.append("expected the games to play on afterwards, they stand still")
    if games.ask("end"):
        broken.append("expected the games' connections to be the same ones to the end")
    server.settle()
    if server.row["transitions_dropped"]:
        broken.append(f"expected no step to be lost, {server.row['transitions_dropped']} were")
    if _gateways() != gateways:
        broken.append("expected the gateway to live on, it is another process now")
    limit = SLOT_BYTES + at_once * 2 * 2**20 + SLACK_BYTES
    if peak - before > limit:
        broken.append(f"expected at most {limit:,} bytes more memory, got {peak - before:,}")
    ratio = beside["p99_ms"] / alone["p99_ms"]
    if judge_p99 and ratio > P99_FACTOR:
        broken.append(f"expected at most {P99_FACTOR:g} times the normal p99, got {ratio:.2f}")
    errors = {
        name.removeprefix("errors_"): int(value)
        for name, value in server.row.items()
        if name.startswith("errors_") and value
    }
    return {
        "case": "connections",
        "seed": seed,
        "connections": sum(done.values()),
        "at_once": at_once,
        "seconds": round(took, 1),
        "connections_per_s": round(sum(done.values()) / took, 1),
        "did": dict(done.most_common()),
        "errors": errors,
        "games": GAMES + OLDER_GAMES,
        "pace_hz": PACE_HZ,
        "p50_ms_alone": alone["p50_ms"],
        "p99_ms_alone": alone["p99_ms"],
        "p50_ms_beside_work": beside_work["p50_ms"],
        "p99_ms_beside_work": beside_work["p99_ms"],
        "p50_ms": beside["p50_ms"],
        "p99_ms": beside["p99_ms"],
        "p99_ratio": round(ratio, 2),
        "p99_judged": judge_p99,
        "memory_before": before,
        "memory_peak": peak,
        "memory_after": after,
        "broken": broken,
        "ok": not broken,
    }


def _gateways() -> list[int]:
    """The processes of this one's children that are gateways, by number."""
    return sorted(
        child.pid
        for child in multiprocessing.active_children()
        if child.name.startswith("gateway") and child.pid is not None
    )


def _memory(pids: list[int]) -> int:
    """What these processes have in memory, in bytes."""
    page, total = os.sysconf("SC_PAGE_SIZE"), 0
    for pid in pids:
        with contextlib.suppress(OSError):
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page
    return total


# Games that play by the rules.


def _play(pipe: Pipe, ports: tuple[int, int]) -> None:
    """The games' process: plays all the time at an even pace, and says how long answers took."""
    try:
        pipe.recv()
        rng = np.random.default_rng(0)
        games: list[Any] = []
        for number in range(GAMES + OLDER_GAMES):
            kind, port = (_Paced, ports[0]) if number < GAMES else (_OlderGame, ports[1])
            games.append(kind(("127.0.0.1", port), SPEC, rng))
            games[-1].hello(SPEC)
            games[-1].sock.setblocking(False)
        pipe.send("begun")
        _pace(pipe, games)
    except EOFError:
        return
    except Exception as error:
        pipe.send(error)


class _Paced(_Game):
    """A game of `SPEC`, whose recommendation has a part for each head."""

    def __init__(self, address: tuple[str, int], spec: GameSpec, rng: np.random.Generator) -> None:
        super().__init__(address, spec, rng)
        obs = rng.uniform(-1, 1, spec.observation_size).astype("<f4").tobytes()
        self.message = bytearray(
            framed(msgspec.msgpack.encode((2, 0, 2**32 - 1, obs, [0.5, 0.5], 0, [1, 0.5], None)))
        )
        self.seq_at = self.message.index(b"\xff\xff\xff\xff")
        # Behind it stand the recommendation and None.
        self.status_at = len(self.message) - len(msgspec.msgpack.encode([1, 0.5])) - 2

    def hello(self, spec: GameSpec) -> None:
        fields = HelloFields(
            protocol=1, client="fair/1", game=spec.game, observation=spec.observation,
            actions=spec.actions, rewards=spec.rewards,
        )  # fmt: skip
        self.sock.settimeout(60)
        self.sock.sendall(codec.encode_hello(fields))
        answer = codec.decode_server(
            _exactly(self.sock, int.from_bytes(_exactly(self.sock, 4), "big"))
        )
        if type(answer) is not Welcome:
            raise RuntimeError(f"expected WELCOME, got {answer}")


def _pace(pipe: Pipe, games: list[Any]) -> None:
    by_file = {game.sock.fileno(): game for game in games}
    poll = select.epoll()
    poll.register(pipe.fileno(), select.EPOLLIN)
    for game in games:
        poll.register(game.sock, select.EPOLLIN)
    clock = time.perf_counter
    due = {game: clock() + i / len(games) / PACE_HZ for i, game in enumerate(games)}
    waiting: set[Any] = set()
    latencies: list[float] = []
    until: float | None = None
    while True:
        now = clock()
        for game in games:
            if game not in waiting and due[game] <= now:
                waiting.add(game)
                game.send(clock())
        ahead = min((due[game] for game in games if game not in waiting), default=now + 0.1)
        for file, _ in poll.poll(max(0.0, min(ahead - clock(), 0.1))):
            if file == pipe.fileno():
                message = pipe.recv()
                if message == "end":
                    pipe.send(0)
                    for game in games:
                        game.sock.close()
                    return
                if message == "measured":
                    pipe.send(_numbers(latencies))
                elif message == "measure":
                    latencies.clear()
                    pipe.send("measuring")
                else:
                    latencies.clear()
                    until = clock() + message
                continue
            game = by_file[file]
            answer = game.sock.recv(4096)
            if not answer:
                raise ConnectionError("a game that plays by the rules was disconnected")
            game.check(answer)
            now = clock()
            latencies.append(now - game.sent_at)
            waiting.discard(game)
            due[game] = max(due[game] + 1 / PACE_HZ, now)
        if until is not None and clock() >= until:
            until = None
            pipe.send(_numbers(latencies))


def _numbers(latencies: list[float]) -> dict[str, float]:
    if not latencies:
        return {"frames": 0, "p50_ms": 0.0, "p99_ms": 0.0}
    p50, p99 = (np.percentile(latencies, [50, 99]) * 1e3).round(3).tolist()
    return {"frames": len(latencies), "p50_ms": p50, "p99_ms": p99}


# Those that do not.


def _attack(pipe: Pipe, ports: tuple[int, int], seed: int, at_once: int) -> None:
    """The attackers' process: computes for so many seconds, then makes as many hostile connections
    as it is told, and says what they did."""
    os.nice(10)  # it stands for other machines, whose work is not this one's
    try:
        pipe.recv()
        pipe.send("begun")
        until = time.monotonic() + pipe.recv()
        while time.monotonic() < until:
            pass
        pipe.send("computed")
        count = pipe.recv()
        pipe.send(asyncio.run(_attackers(ports, seed, count, at_once)))
    except EOFError:
        return
    except Exception as error:
        pipe.send(error)


async def _attackers(ports: tuple[int, int], seed: int, count: int, at_once: int) -> Counter[str]:
    mutator, did, numbers = Mutator(seed), Counter[str](), iter(range(count))

    async def one() -> None:
        for number in numbers:
            rng = random.Random(seed << 64 | number)
            act = ACTS[number % len(ACTS)]
            await _hostile(act, ports, rng, mutator)
            did[act.__name__] += 1

    await asyncio.gather(*(one() for _ in range(at_once)))
    return did


class _Hostile:
    """A connection of an attacker."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rng: random.Random,
        mutator: Mutator,
    ) -> None:  # fmt: skip
        self.reader, self.writer, self.rng, self.mutator = reader, writer, rng, mutator

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def hello(self, slots: int = 1, role: str = "train") -> None:
        fields = HelloFields(
            protocol=1, client="hostile/1", game=SPEC.game, observation=SPEC.observation,
            actions=SPEC.actions, rewards=SPEC.rewards, slots=slots, role=role,  # type: ignore[arg-type]
        )  # fmt: skip
        await self.send(codec.encode_hello(fields))
        await self.answer()

    async def answer(self) -> None:
        head = await self.reader.readexactly(4)
        await self.reader.readexactly(int.from_bytes(head, "big"))

    def frame(self, seq: int, slot: int = 0, **changes: Any) -> bytes:
        obs = changes.get("obs", bytes(SPEC.observation_bytes))
        parts = (2, slot, seq, obs, changes.get("reward", [0.0, 0.0]), 0, None, None)
        return framed(msgspec.msgpack.encode(parts))


async def _hostile(
    act: Callable[[_Hostile], Awaitable[None]], ports: tuple[int, int], rng: random.Random,
    mutator: Mutator,
) -> None:  # fmt: skip
    """One connection, which does one thing, and is gone in order or without."""
    port = ports[1] if act.__name__.startswith("older") else ports[0]
    try:
        # As many machines: each has an address of its own.
        source = (f"127.{rng.randint(1, 250)}.{rng.randint(0, 250)}.{rng.randint(1, 250)}", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=source)
    except OSError:
        return
    try:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
            await asyncio.wait_for(act(_Hostile(reader, writer, rng, mutator)), 4.0)
    finally:
        if rng.random() < 0.5:
            sock = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort() if rng.random() < 0.5 else writer.close()


async def garbage(it: _Hostile) -> None:
    """A stream of the fuzzer's, in random pieces."""
    data = it.mutator.mutated(PROTOCOL, it.rng)
    while data:
        n = it.rng.randint(1, 4096)
        await it.send(data[:n])
        data = data[n:]
        if it.rng.random() < 0.3:
            await asyncio.sleep(0.001)
    await asyncio.wait_for(it.reader.read(65_536), 0.3)


async def older_garbage(it: _Hostile) -> None:
    """The same in the older format."""
    await it.send(it.mutator.mutated(TEMPEST, it.rng))
    await asyncio.wait_for(it.reader.read(65_536), 0.3)


async def single_bytes(it: _Hostile) -> None:
    """A game that plays by the rules, a byte at a time."""
    await it.hello()
    for byte in it.frame(0)[:200]:
        await it.send(bytes([byte]))
        if it.rng.random() < 0.05:
            await asyncio.sleep(0.001)


async def flood_of_frames(it: _Hostile) -> None:
    """Frames without waiting for answers."""
    await it.hello(slots=16)
    for seq in range(20):
        await it.send(b"".join(it.frame(seq, slot) for slot in range(16)))
    await it.reader.read(65_536)


async def flood_of_pings(it: _Hostile) -> None:
    """PINGs whose answers nobody reads: a slow reader."""
    sock = it.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await it.hello()
    it.reader._transport.pause_reading()  # type: ignore[attr-defined]
    ping = framed(msgspec.msgpack.encode([4, bytes(4000)]))
    for _ in range(200):
        it.writer.write(ping)
        await asyncio.wait_for(it.writer.drain(), 0.5)
    await asyncio.sleep(0.5)


async def slow_writer(it: _Hostile) -> None:
    """A HELLO that never ends."""
    for byte in codec.encode_hello(
        HelloFields(
            protocol=1, client="slow", game="x", observation=SPEC.observation, actions=SPEC.actions
        )
    )[: it.rng.randint(1, 40)]:
        await it.send(bytes([byte]))
        await asyncio.sleep(0.02)


async def huge_length(it: _Hostile) -> None:
    """A message that is announced as up to 4 GiB, and begun."""
    if it.rng.random() < 0.5:
        await it.hello()
    length = it.rng.choice((65_537, 2**20, 2**20 + 1, 2**31, 2**32 - 1))
    await it.send(length.to_bytes(4, "big") + bytes(it.rng.choice((0, 1, 65_536, 500_000))))
    await asyncio.wait_for(it.reader.read(65_536), 0.5)


async def disconnects(it: _Hostile) -> None:
    """A game that goes in the middle of a frame."""
    await it.hello(role=it.rng.choice(("train", "eval")))
    for seq in range(it.rng.randint(0, 5)):
        await it.send(it.frame(seq))
        await it.answer()
    await it.send(it.frame(99)[: it.rng.randint(0, 300)])


async def half_open(it: _Hostile) -> None:
    """A connection on which nothing comes, or of which one side has ended."""
    if it.rng.random() < 0.5:
        await it.hello()
        it.writer.write_eof()
    await asyncio.sleep(it.rng.choice((0.01, 0.1, 0.5)))


async def silent(it: _Hostile) -> None:
    """A connection on which nothing is said until the server ends it."""
    if it.rng.random() < 0.9:
        await asyncio.sleep(0.05)
    else:
        await it.reader.read(65_536)


async def many_slots(it: _Hostile) -> None:
    """As many games as a connection may have, and a frame of some of them."""
    await it.hello(slots=4096)
    await it.send(b"".join(it.frame(0, slot) for slot in it.rng.sample(range(4096), 20)))
    for _ in range(10):
        await it.answer()


async def wrong_game(it: _Hostile) -> None:
    """Another game, as large as the handshake allows."""
    actions = [["continuous", f"h{i}", -1.0, 1.0, 4096] for i in range(64)]
    fields = {
        "protocol": 1, "client": "x" * 64, "game": "other", "observation": ["float32", [250_000]],
        "actions": actions, "slots": 4096,
    }  # fmt: skip
    await it.send(framed(msgspec.msgpack.encode([1, fields])))
    await it.reader.read(65_536)


async def wild_numbers(it: _Hostile) -> None:
    """NaN and infinity where numbers belong."""
    await it.hello()
    value = it.rng.choice((float("nan"), float("inf"), 3e38))
    if it.rng.random() < 0.5:
        await it.send(it.frame(0, reward=[value, 0.0]))
    else:
        await it.send(it.frame(0, obs=np.full(SPEC.observation_size, value, "<f4").tobytes()))
    await it.reader.read(65_536)


async def older_flood(it: _Hostile) -> None:
    """Frames in the older format without waiting for replies."""
    frames = it.mutator.mutated(TEMPEST, random.Random(7))
    await it.send((frames if frames[:2] == LEAD else LEAD + frames) + bytes(200_000))
    await asyncio.wait_for(it.reader.read(65_536), 0.3)


ACTS = (
    garbage, older_garbage, single_bytes, flood_of_frames, flood_of_pings, slow_writer, huge_length,
    disconnects, half_open, silent, many_slots, wrong_game, wild_numbers, older_flood,
)  # fmt: skip
"""What a hostile connection can do, each as often as the others."""

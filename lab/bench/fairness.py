"""Bench: a crowd of clients at an equal pace, in total half of what the server can do. Does any of
them starve?

What the server can do is measured first, with the same connections, each sending its next frame
when its answer came. Then every client has a beat, as a game has that runs at so many frames a
second. Who has no answer yet when its next beat comes sends late; who has none a beat later has
lost one. What counts is how many of its beats each got an answer to.
"""

from __future__ import annotations

import multiprocessing
import select
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from statistics import median
from typing import Any

import numpy as np

from lab.bench.serving import _server
from lab.load.generator import _Game, bench_spec
from protocol.spaces import GameSpec
from server.gateway.process import allow_open_files
from server.supervisor.supervisor import Supervisor

CLIENTS = 1000

FREE_S, PACED_S = 4.0, 20.0
"""How long each of the two is measured."""

SHARE = 0.5
"""Of what the server can do."""

WORST = 0.9
"""The worst client's rate, of that of the median: at least. And the median's, of the pace."""

SPARE_FILES = 64

WAIT_S = 60.0
"""For an answer, at full speed."""

_SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Paced:
    """What clients with a beat saw."""

    hz: float
    """The pace of each."""
    beats: int
    """Of each, in all."""
    answered: list[int]
    """Of those, for each client."""
    p50_ms: float
    """From a frame's sending to its answer."""
    p99_ms: float
    late_p99_ms: float
    """How much too late this process sent those for which nothing was to be waited for: large where
    it is the load that cannot keep the pace."""

    def rates(self) -> tuple[float, float]:
        """The median client's and the worst one's, in frames a second."""
        per_beat = self.hz / self.beats
        return median(self.answered) * per_beat, min(self.answered) * per_beat


class Crowd:
    """Connections of one process, in one loop."""

    def __init__(self, address: tuple[str, int], spec: GameSpec, clients: int) -> None:
        """Connect, and shake hands. Errors: OSError where so many files cannot be open."""
        wanted = clients + SPARE_FILES
        if (most := allow_open_files(wanted)) < wanted:
            raise OSError(
                f"expected to be allowed {wanted} open files, got {most}; raise ulimit -n"
            )
        rng = np.random.default_rng(0)
        self._games: list[_Game] = []
        self._poll = select.epoll()
        self._number: dict[int, int] = {}
        """Of a client, by its file descriptor."""
        for number in range(clients):  # one by one: the server gives each but so long for its HELLO
            game = _Game(address, spec, rng)
            self._games.append(game)
            game.hello(spec)
            game.sock.setblocking(False)
            self._number[game.sock.fileno()] = number
            self._poll.register(game.sock, select.EPOLLIN)

    def close(self) -> None:
        for game in self._games:
            game.sock.close()
        self._poll.close()

    def free(self, seconds: float) -> float:
        """Everybody as fast as it is answered; frames a second. Ends when nobody waits any more."""
        clock, games, number = time.perf_counter, self._games, self._number
        begin = clock()
        until, frames, waiting = begin + seconds, 0, len(games)
        for game in games:
            game.send(begin)
        while waiting:
            events = self._poll.poll(WAIT_S)
            if not events:
                raise TimeoutError(f"expected an answer within {WAIT_S:g} s, got none")
            for file, _ in events:
                game = games[number[file]]
                _take(game)
                now = clock()
                if now < until:
                    frames += 1
                    game.send(now)
                else:
                    waiting -= 1
        return frames / seconds

    def paced(self, hz: float, seconds: float) -> Paced:
        """Everybody at its beat, `hz` frames a second, each a little after the one before it."""
        clock, games, number = time.perf_counter, self._games, self._number
        clients = len(games)
        beats = max(1, round(seconds * hz))
        total, gap = beats * clients, 1 / (hz * clients)
        answered = [0] * clients
        waiting, owing = [False] * clients, [False] * clients
        latencies: list[float] = []
        late: list[float] = []
        begin, beat = clock(), 0
        # The last ones have as long for their answers as all others: until their next beat.
        end = begin + (total + clients) * gap
        while (now := clock()) < end:
            while beat < total and begin + beat * gap <= now:
                who = beat % clients
                if waiting[who]:
                    owing[who] = True
                else:
                    waiting[who] = True
                    late.append(now - begin - beat * gap)
                    games[who].send(clock())
                beat += 1
            ahead = begin + beat * gap if beat < total else end
            for file, _ in self._poll.poll(max(0.0, ahead - clock())):
                who = number[file]
                game = games[who]
                _take(game)
                now = clock()
                latencies.append(now - game.sent_at)
                answered[who] += 1
                if owing[who]:
                    owing[who] = False
                    game.send(now)
                else:
                    waiting[who] = False
        p50, p99 = (np.percentile(latencies or [0.0], [50, 99]) * 1e3).tolist()
        late_p99 = float(np.percentile(late or [0.0], 99)) * 1e3
        return Paced(hz, beats, answered, p50, p99, late_p99)


def _take(game: _Game) -> None:
    answer = game.sock.recv(4096)
    if not answer:
        raise ConnectionError("a client of the crowd was disconnected")
    game.check(answer)


def judge(paced: Paced) -> list[str]:
    """What is broken, in words."""
    middle, worst = paced.rates()
    broken = []
    if not worst >= WORST * middle:
        broken.append(
            f"expected the worst client's rate to be at least {WORST:g} of the median "
            f"({middle:.2f} frames/s), got {worst:.2f}"
        )
    if not middle >= WORST * paced.hz:
        broken.append(
            f"expected the crowd to get its pace of {paced.hz:.2f} frames/s each, the median got "
            f"{middle:.2f}"
        )
    return broken


def measure(
    *,
    clients: int = CLIENTS,
    free_s: float = FREE_S,
    paced_s: float = PACED_S,
    share: float = SHARE,
    observations: int = 195,
    actions: int = 44,
    config: dict[str, Any] | None = None,
    show: Callable[[str], None] = print,
) -> dict[str, Any]:
    """A row to print. `config`: settings over the preset `bench`. `share`: of what the server can
    do, that all together are to send."""
    spec = bench_spec(observations, actions)
    room = {"server.max_clients": max(1024, clients + SPARE_FILES)}
    with _server(room | (config or {})) as server:
        ours, theirs = _SPAWN.Pipe()
        process = _SPAWN.Process(
            target=crowd_process, args=(theirs, ("127.0.0.1", server.port), spec, clients),
            daemon=True,
        )  # fmt: skip
        process.start()
        theirs.close()
        try:
            show(f"crowd, {clients} clients connect")
            _ask(server, ours, ("begin",))
            _until_it_trains(server, ours)
            show("crowd, at full speed")
            capacity: float = _ask(server, ours, ("free", free_s))
            hz = share * capacity / clients
            show(f"crowd, each at {hz:.2f} frames/s")
            before, since = _updates(server), time.monotonic()
            paced: Paced = _ask(server, ours, ("paced", hz, paced_s))
            updates = (_updates(server) - before) / (time.monotonic() - since)
        finally:
            ours.close()
            process.join(WAIT_S)
            process.kill()
            process.join()
    middle, worst = paced.rates()
    broken = judge(paced)
    if not updates > 0:
        broken.append("expected the trainer to train meanwhile, it made no update")
    return {
        "case": "crowd",
        "clients": clients,
        "training": True,
        "capacity_fps": round(capacity),
        "share": share,
        "pace_hz": round(hz, 3),
        "beats": paced.beats,
        "fps": round(sum(paced.answered) / paced.beats * hz),
        "median_hz": round(middle, 3),
        "worst_hz": round(worst, 3),
        "worst_of_median": round(worst / middle, 3) if middle else 0.0,
        "p50_ms": round(paced.p50_ms, 2),
        "p99_ms": round(paced.p99_ms, 2),
        "late_p99_ms": round(paced.late_p99_ms, 2),
        "updates_per_s": round(updates, 2),
        "broken": broken,
        "ok": not broken,
    }


def crowd_process(pipe: Pipe, address: tuple[str, int], spec: GameSpec, clients: int) -> None:
    """The crowd as a process's entry: does what it is told, and answers; or sends the exception
    that ended it."""
    crowd: Crowd | None = None
    try:
        while True:
            match pipe.recv():
                case ("begin",):
                    crowd = Crowd(address, spec, clients)
                    pipe.send(clients)
                case (str() as what, *args):
                    pipe.send(getattr(crowd, what)(*args))
    except EOFError:
        return
    except Exception as error:
        pipe.send(error)
    finally:
        if crowd is not None:
            crowd.close()


def _ask(server: Supervisor, pipe: Pipe, message: tuple[Any, ...]) -> Any:
    """Have the crowd do something, while the server is looked after. Errors: what went wrong."""
    pipe.send(message)
    while not pipe.poll():
        server.poll(0.1)
    answer = pipe.recv()
    if isinstance(answer, Exception):
        raise answer
    return answer


def _until_it_trains(server: Supervisor, pipe: Pipe) -> None:
    deadline = time.monotonic() + WAIT_S
    while not _updates(server):
        _ask(server, pipe, ("free", 0.5))
        if time.monotonic() > deadline:
            raise TimeoutError(f"expected an update within {WAIT_S:g} s, the trainer made none")


def _updates(server: Supervisor) -> float:
    return server.row.get("updates") or 0.0

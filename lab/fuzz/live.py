"""Hostile connections against a live server that trains and has games to answer.

Games of both formats play at an even pace, as many as make a load, first alone and then beside the
hostile connections. What must hold: no process dies, no slot stays behind, memory is bounded, and
the games' answers are not slower than twice what is normal.
"""

from __future__ import annotations

import math
import multiprocessing
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from lab.fuzz import attacks, well_behaved
from lab.fuzz.well_behaved import GAMES, OLDER_GAMES, PACE_HZ, AnswerTimes, End, Measure, Measured
from lab.load.process import LoadProcess
from lab.proc import resident_bytes
from lab.supervised import supervised
from server.supervisor.child import ChildDied
from server.supervisor.supervisor import Supervisor

SLOT_BYTES = 2**26
"""`server.max_slot_bytes` here."""

SLACK_BYTES = 96 * 2**20
"""Memory that a gateway may have grown by beyond what its settings bound: allocators keep some."""

P99_FACTOR = 2.0

CONNECTION_BYTES = 2 * 2**20
"""Memory that a hostile connection may take while it is there."""

GONE_S = 60.0
"""Within so long the server must have noticed that all of them have gone."""

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
    # How long answers take is judged, not how far training is.
    "trainer.max_lag_updates": None,
    "metrics.every_s": 0.5,
}


def live(
    connections: int, *, seed: int, at_once: int, seconds: float, judge_p99: bool
) -> Iterator[dict[str, Any]]:
    """A row to print about a server under so many hostile connections, `at_once` at a time.
    seconds: how long the games play alone. judge_p99: whether slower answers are a failure."""
    try:
        with supervised(SETTINGS | {"run.seed": seed}) as server:
            trial = _Trial(server, connections, seed, at_once, seconds)
            with LoadProcess(well_behaved.play, trial.ports) as games:
                yield trial.run(games, judge_p99=judge_p99)
    except ChildDied as error:
        yield {"case": "connections", "ok": False, "broken": [str(error)]}


class _Trial:
    """One server, its games, and the hostile connections."""

    def __init__(
        self, server: Supervisor, connections: int, seed: int, at_once: int, seconds: float
    ) -> None:
        assert server.tempest_port is not None
        self.ports = server.port, server.tempest_port
        self._server = server
        self._connections, self._seed, self._at_once = connections, seed, at_once
        self._seconds = seconds
        self._gateways = _gateways()
        self._peak = 0

    def run(self, games: LoadProcess, *, judge_p99: bool) -> dict[str, Any]:
        """The row to print. Errors: what the games or the attackers raise; ChildDied."""
        self._received(games, timeout_s=120)
        short = min(2.0, self._seconds)
        self._ask(games, Measure(short))  # what is slow at first is not what is normal
        alone: AnswerTimes = self._ask(games, Measure(self._seconds))
        before = self._look()
        with LoadProcess(attacks.attack, self.ports, self._seed, self._at_once) as hostile:
            self._received(hostile, timeout_s=120)
            # As a control: what the time that their process takes costs, without connections.
            self._ask(games, Measure())
            self._ask(hostile, attacks.Compute(min(self._seconds, 10.0)), timeout_s=120)
            beside_work: AnswerTimes = self._ask(games, Measured())
            self._ask(games, Measure())
            begin = time.monotonic()
            did: Counter[str] = self._ask(hostile, attacks.Attack(self._connections))
            took = time.monotonic() - begin
            beside: AnswerTimes = self._ask(games, Measured())
            broken = self._until_they_have_gone()
        after = self._look()
        again: AnswerTimes = self._ask(games, Measure(short))
        if again.frames == 0:
            broken.append("expected the games to play on afterwards, they stand still")
        self._ask(games, End())
        self._server.settle()
        broken += self._violations(before)
        ratio = beside.p99_ms / alone.p99_ms
        if judge_p99 and ratio > P99_FACTOR:
            broken.append(f"expected at most {P99_FACTOR:g} times the normal p99, got {ratio:.2f}")
        return {
            "case": "connections",
            "seed": self._seed,
            "connections": sum(did.values()),
            "at_once": self._at_once,
            "seconds": round(took, 1),
            "connections_per_s": round(sum(did.values()) / took, 1),
            "did": dict(did.most_common()),
            "errors": self._errors(),
            "games": GAMES + OLDER_GAMES,
            "pace_hz": PACE_HZ,
            "p50_ms_alone": alone.p50_ms,
            "p99_ms_alone": alone.p99_ms,
            "p50_ms_beside_work": beside_work.p50_ms,
            "p99_ms_beside_work": beside_work.p99_ms,
            "p50_ms": beside.p50_ms,
            "p99_ms": beside.p99_ms,
            "p99_ratio": round(ratio, 2),
            "p99_judged": judge_p99,
            "memory_before": before,
            "memory_peak": self._peak,
            "memory_after": after,
            "broken": broken,
            "ok": not broken,
        }

    def _ask(self, process: LoadProcess, request: Any, *, timeout_s: float = math.inf) -> Any:
        process.pipe.send(request)
        return self._received(process, timeout_s=timeout_s)

    def _received(self, process: LoadProcess, *, timeout_s: float) -> Any:
        """Its next answer; the server is looked after meanwhile, and its memory measured."""

        def meanwhile() -> None:
            self._server.poll(0.05)
            self._look()

        return process.receive(meanwhile=meanwhile, timeout_s=timeout_s)

    def _look(self) -> int:
        """The memory of the gateways now, in bytes; the largest is kept."""
        memory = sum(map(resident_bytes, self._gateways))
        self._peak = max(self._peak, memory)
        return memory

    def _until_they_have_gone(self) -> list[str]:
        """Wait until the games alone are connected; what is broken where that does not come."""
        expected = {"clients": GAMES + OLDER_GAMES, "slots": GAMES + OLDER_GAMES}
        deadline = time.monotonic() + GONE_S
        while any(self._server.row.get(name) != n for name, n in expected.items()):
            self._server.poll(0.05)
            self._look()
            if time.monotonic() > deadline:
                there = {name: self._server.row.get(name) for name in expected}
                return [f"expected {expected} when the hostile ones have gone, got {there}"]
        return []

    def _violations(self, before: int) -> list[str]:
        """What is broken of the server, in words. before: bytes of the gateways at first."""
        broken = []
        if lost := self._server.row["transitions_dropped"] + self._server.row["steps_in_flight"]:
            broken.append(f"expected no step to be lost, {lost} were")
        if _gateways() != self._gateways:
            broken.append("expected the gateway to live on, it is another process now")
        limit = SLOT_BYTES + self._at_once * CONNECTION_BYTES + SLACK_BYTES
        if (more := self._peak - before) > limit:
            broken.append(f"expected at most {limit:,} bytes more memory, got {more:,}")
        return broken

    def _errors(self) -> dict[str, int]:
        """How often each ERROR was sent."""
        return {
            name.removeprefix("errors_"): int(value)
            for name, value in self._server.row.items()
            if name.startswith("errors_") and value
        }


def _gateways() -> list[int]:
    """The process IDs of this process's children that are gateways, sorted."""
    return sorted(
        child.pid
        for child in multiprocessing.active_children()
        if child.name.startswith("gateway") and child.pid is not None
    )

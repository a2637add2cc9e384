"""Hostile connections against a live server that trains and has games to answer.

Games of both formats play at an even pace, as many as make a load, in turn beside a process that
merely computes (the control) and beside the same process while it attacks. What must hold: no
process dies, no slot stays behind, memory is bounded, and the games' answers take little longer
than beside the control: what is more than that is the server's own part.
"""

from __future__ import annotations

import math
import multiprocessing
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lab.fuzz import attacks, machines, well_behaved
from lab.fuzz.well_behaved import GAMES, OLDER_GAMES, PACE_HZ, AnswerTimes, End, Measure, Measured
from lab.load.process import LoadProcess
from lab.proc import processor_s, resident_bytes
from lab.supervised import supervised
from server.supervisor.child import ChildDied
from server.supervisor.supervisor import Supervisor

SLOT_BYTES = 2**26
"""`server.max_slot_bytes` here."""

SLACK_BYTES = 96 * 2**20
"""Memory that a gateway may have grown by beyond what its settings bound: allocators keep some."""

P99_FACTOR = 2.0
"""The slowest percent of the answers under attack, in times that of the control, where it is
judged: the median of the rounds."""

WARM_UP_S = 2.0
ATTACK_TIMES = 4.0
"""How long an attack may take, in times what its control took."""

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
    "server.websocket_port": 0,
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
    connections: int, *, seed: int, at_once: int, seconds: float, rounds: int, judge_p99: bool
) -> Iterator[dict[str, Any]]:
    """A row to print about a server under so many hostile connections, `at_once` at a time, in so
    many rounds. seconds: how long the control of each round lasts. judge_p99: whether slower
    answers are a failure; then the attackers get idle time of the processor alone."""
    network = 10 if machines.many() else 127
    try:
        with supervised(SETTINGS | {"run.seed": seed}) as server:
            trial = _Trial(server, connections, seed, at_once, seconds, network)
            with LoadProcess(well_behaved.play, trial.ports) as games:
                yield trial.run(games, rounds=rounds, judge_p99=judge_p99)
    except ChildDied as error:
        yield {"case": "connections", "ok": False, "broken": [str(error)]}


@dataclass(frozen=True)
class _Stretch:
    """A stretch of time of the games."""

    seconds: float
    p50_ms: float
    p99_ms: float
    gateway_load: float
    """Processors that the gateways used, on average."""


class _Trial:
    """One server, its games, and the hostile connections."""

    def __init__(
        self, server: Supervisor, connections: int, seed: int, at_once: int, seconds: float,
        network: int,
    ) -> None:  # fmt: skip
        assert server.tempest_port is not None
        assert server.websocket_port is not None
        self.ports = server.port, server.tempest_port
        self._attacked = *self.ports, server.websocket_port
        self._server = server
        self._connections, self._seed, self._at_once = connections, seed, at_once
        self._seconds, self._network = seconds, network
        self._gateways = _gateways()
        self._peak = 0

    def run(self, games: LoadProcess, *, rounds: int, judge_p99: bool) -> dict[str, Any]:
        """The row to print. Errors: what the games or the attackers raise; ChildDied."""
        self._received(games, timeout_s=120)
        self._ask(games, Measure(min(WARM_UP_S, self._seconds)))  # what is slow at first
        before = self._look()
        did: Counter[str] = Counter()
        controls: list[_Stretch] = []
        attacked: list[_Stretch] = []
        arguments = self._attacked, self._seed, self._at_once, self._network
        with LoadProcess(attacks.attack, *arguments, idle=judge_p99) as hostile:
            self._received(hostile, timeout_s=120)
            for number in range(rounds):
                compute = attacks.Compute(self._seconds)
                controls.append(self._beside(games, hostile, compute)[0])
                begin, end = (self._connections * n // rounds for n in (number, number + 1))
                attack = attacks.Attack(begin, end, ATTACK_TIMES * self._seconds)
                stretch, made = self._beside(games, hostile, attack)
                attacked.append(stretch)
                did += made
            broken = self._until_they_have_gone()
        after = self._look()
        again: AnswerTimes = self._ask(games, Measure(min(WARM_UP_S, self._seconds)))
        if again.frames == 0:
            broken.append("expected the games to play on afterwards, they stand still")
        self._ask(games, End())
        self._server.settle()
        broken += self._violations(before)
        ratios = {
            name: statistics.median(
                getattr(under, name) / getattr(control, name)
                for under, control in zip(attacked, controls, strict=True)
            )
            for name in ("p50_ms", "p99_ms")
        }
        if judge_p99 and ratios["p99_ms"] > P99_FACTOR:
            broken.append(
                f"expected at most {P99_FACTOR:g} times the p99 beside a process that merely "
                f"computes, got {ratios['p99_ms']:.2f}"
            )
        took = sum(each.seconds for each in attacked)
        return {
            "case": "connections",
            "seed": self._seed,
            "connections": sum(did.values()),
            "at_once": self._at_once,
            "addresses": f"{self._network}.0.0.0/8",
            "rounds": rounds,
            "seconds": round(took, 1),
            "connections_per_s": round(sum(did.values()) / took, 1),
            "did": dict(did.most_common()),
            "errors": self._errors(),
            "games": GAMES + OLDER_GAMES,
            "pace_hz": PACE_HZ,
            **_medians("_control", controls),
            **_medians("", attacked),
            "p50_ratio": round(ratios["p50_ms"], 2),
            "p99_ratio": round(ratios["p99_ms"], 2),
            "p99_ms_by_round": [
                [control.p99_ms, under.p99_ms]
                for control, under in zip(controls, attacked, strict=True)
            ],
            "p99_judged": judge_p99,
            "memory_before": before,
            "memory_peak": self._peak,
            "memory_after": after,
            "broken": broken,
            "ok": not broken,
        }

    def _beside(self, games: LoadProcess, other: LoadProcess, what: Any) -> tuple[_Stretch, Any]:
        """How the games fare while the other process does this, and what it answers."""
        self._ask(games, Measure())
        begin, used = time.monotonic(), sum(map(processor_s, self._gateways))
        answer = self._ask(other, what, timeout_s=600)
        took = time.monotonic() - begin
        used = sum(map(processor_s, self._gateways)) - used
        times: AnswerTimes = self._ask(games, Measured())
        return _Stretch(took, times.p50_ms, times.p99_ms, used / took), answer

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


def _medians(suffix: str, stretches: list[_Stretch]) -> dict[str, float]:
    return {
        f"{name}{suffix}": round(statistics.median(getattr(each, name) for each in stretches), 3)
        for name in ("p50_ms", "p99_ms", "gateway_load")
    }


def _gateways() -> list[int]:
    """The process IDs of this process's children that are gateways, sorted."""
    return sorted(
        child.pid
        for child in multiprocessing.active_children()
        if child.name.startswith("gateway") and child.pid is not None
    )

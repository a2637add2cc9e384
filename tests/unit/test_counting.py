"""Rows of metrics under whatever happens in whatever order: no impossible number.

The rings, the file in which gateways count, the account of it and the collector are the real ones;
gateways and trainers are played here, killed between any two of their steps.
"""

from __future__ import annotations

import logging
import math
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agent.diagnostics import METRICS, Diagnostics
from agent.step import FINAL, STEP, StepBlock
from protocol.actor import ACTORS, NAMES
from server.ipc.inflight import cells
from server.ipc.messages import GatewayReport
from server.ipc.step_ring import StepRing
from server.ipc.turn_buckets import TURN_BUCKETS_S
from server.monitor import collector as collecting
from server.monitor.collector import MetricsCollector
from server.monitor.metric import COUNTER
from server.monitor.metrics import SERIES
from server.run.disk import Writes
from server.run.events import EventLog
from server.supervisor.in_flight_account import InFlightAccount
from tests.support.worlds import SPEC

GATEWAYS, ROOM, BASE = 2, 12, 1000
COUNTERS = sorted(name for name, series in SERIES.items() if series.metric.kind == COUNTER)

gateways = st.integers(0, GATEWAYS - 1)
few = st.integers(0, 9)


class Gateway:
    """One gateway's own memory; all of it is lost with it."""

    def __init__(self, index: int, ring: StepRing, file: Path) -> None:
        ring.take_over()
        self.index, self.ring, self.cells = index, ring, cells(file, index)
        self.cells[:] = ring.steps, 0
        self.completed = ring.steps
        self.pending: list[int] = []
        self.frames = self.errors = self.stalls = self.failures = self.turns = 0

    def report(self, now: float) -> GatewayReport:
        return GatewayReport(
            index=self.index, frames={"train": self.frames, "eval": self.frames // 3}, clients=1,
            slots=1, errors={"bad_hello": self.errors}, turns=self.turns, turn_p50_ms=math.nan,
            turn_p99_ms=math.nan, stalls=self.stalls, policy_version=1, expert_ratio=0.5,
            epsilon=0.1, expert_failures=self.failures, time=now,
            turn_buckets=[self.turns] * (len(TURN_BUCKETS_S) + 1), turn_seconds=self.turns / 1e3,
        )  # fmt: skip


class Numbers(RuleBasedStateMachine):
    """A server in which anything may happen next."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.rings = [StepRing.create(SPEC, ROOM) for _ in range(GATEWAYS)]
        writes = Writes(logging.getLogger("test"), "it goes on")
        events = EventLog(self.folder / "events.jsonl", writes)
        self.account = InFlightAccount(self.folder, events, GATEWAYS)
        self.account.begin(BASE, resumed=False)
        self.collector = MetricsCollector()
        file = Path(self.account.file)
        self.gateways = [Gateway(i, ring, file) for i, ring in enumerate(self.rings)]
        self.now = 50.0
        # What the trainer has read, kept, and not given back: gateway, rows, steps among them.
        self.held: tuple[int, int, int] | None = None
        self.stored = 0
        self.trainer_counts = dict.fromkeys(("rollbacks", "updates_skipped", "rows_unkept"), 0.0)
        self.before: dict[str, float] = {}
        self.buckets: tuple[int, ...] = ()

    def teardown(self) -> None:
        for ring in self.rings:
            ring.close()
            ring.unlink()
        shutil.rmtree(self.folder)

    @rule(g=gateways, steps=few, finals=st.integers(0, 2), counts=st.booleans())
    def turn(self, g: int, steps: int, finals: int, counts: bool) -> None:
        """Frames complete steps; `counts`: they are answered, too, and so counted."""
        gateway = self.gateways[g]
        gateway.completed += steps
        gateway.pending += [STEP] * steps + [FINAL] * finals
        gateway.frames += steps + 1
        gateway.turns += 1
        if counts:
            gateway.cells[:] = gateway.completed, steps

    @rule(g=gateways, n=few)
    def flush(self, g: int, n: int) -> None:
        gateway = self.gateways[g]
        n = min(n, gateway.ring.free, len(gateway.pending))
        block = StepBlock.empty(SPEC, n)
        block.kind[:] = gateway.pending[:n]
        gateway.ring.write(block)
        del gateway.pending[:n]
        gateway.stalls += gateway.ring.free == 0

    @rule(g=gateways, errors=few, failures=few)
    def trouble(self, g: int, errors: int, failures: int) -> None:
        self.gateways[g].errors += errors
        self.gateways[g].failures += failures

    @rule(g=gateways, passes_s=st.floats(0.0, 3.0))
    def gateway_reports(self, g: int, passes_s: float) -> None:
        self.now += passes_s
        self.collector.gateway(self.gateways[g].report(self.now))

    @rule(g=gateways, n=few)
    def trainer_reads(self, g: int, n: int) -> None:
        if self.held is None and (block := self.rings[g].read(n)) is not None:
            self.held = g, len(block), int(np.count_nonzero(block.kind == STEP))

    @rule()
    def trainer_gives_back(self) -> None:
        if self.held is not None:
            g, rows, steps = self.held
            self.rings[g].release(rows)
            self.stored += steps
            self.held = None

    @rule(more=few)
    def trainer_reports(self, more: int) -> None:
        self.trainer_counts = {name: n + more for name, n in self.trainer_counts.items()}
        report = {"steps_stored": float(self.stored), "frames": float(BASE + self.stored)}
        self.collector.trainer(report | self.trainer_counts | {"updates": float(more)})

    @rule(g=gateways)
    def gateway_dies(self, g: int) -> None:
        ring = self.rings[g]
        self.account.gateway_gone(g, f"gateway-{g}", ring.steps)
        self.collector.gateway_gone(g)
        self.gateways[g] = Gateway(g, ring, Path(self.account.file))

    @rule()
    def trainer_dies(self) -> None:
        self.collector.trainer_gone()
        kept_in, kept, steps = self.held or (0, 0, 0)
        self.stored += steps
        for g, ring in enumerate(self.rings):
            ring.take_over_reading(kept if g == kept_in else 0)
        self.held = None
        self.trainer_counts = dict.fromkeys(self.trainer_counts, 0.0)

    @rule(passes_s=st.floats(0.0, 3.0))
    def row(self, passes_s: float) -> None:
        self.now += passes_s
        clock = SimpleNamespace(time=lambda: 0.0, monotonic=lambda: self.now)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(collecting, "time", clock)
            self.collector.lost = self.account.lost
            self.check(self.collector.row(self.account.step_counts(self.rings), BASE))

    def check(self, row: dict[str, float]) -> None:
        known = [max(int(g.cells[0]), g.ring.steps) for g in self.gateways]
        assert row["steps_in_flight"] == sum(known) - self.stored >= 0
        assert row["steps_stored"] == self.stored
        assert row["steps_completed"] == row["steps_stored"] + row["steps_in_flight"]
        assert row["frames"] == BASE + row["steps_stored"]
        assert row["transitions_dropped"] == row["steps_lost"] == self.account.lost.steps
        for name in (name for name in COUNTERS if name in row):
            assert row[name] >= self.before.get(name, 0.0), f"{name} falls"
        completed = row["steps_completed"] + row["steps_lost"]
        assert completed >= sum(self.before.get(n, 0) for n in ("steps_completed", "steps_lost"))
        for name, value in row.items():
            if name.endswith("_per_s"):
                assert 0 <= value < 1e6, name
            elif name in SERIES and SERIES[name].metric.unit == "fraction":
                assert math.isnan(value) or 0 <= value <= 1, name
        self.before |= row

    @invariant()
    def histogram_rises(self) -> None:
        buckets = self.collector.turns.buckets
        assert all(a <= b for a, b in zip(self.buckets, buckets, strict=False))
        self.buckets = buckets


TestNumbers = Numbers.TestCase
TestNumbers.settings = settings(max_examples=40, stateful_step_count=60, deadline=None)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_fractions_of_the_learner_stay_within_0_and_1(data: Any) -> None:
    diagnostics = Diagnostics(torch.device("cpu"))
    seed = data.draw(st.integers(0, 2**32 - 1))
    draw = np.random.default_rng(seed)
    rows = data.draw(st.integers(1, 64))
    scale = data.draw(st.sampled_from((1e-30, 1e-3, 1.0, 90.0, 1e15)))
    for step in range(data.draw(st.integers(1, 5))):
        expert = torch.tensor(draw.random(rows) < data.draw(st.sampled_from((0.0, 0.5, 1.0))))
        masks = torch.stack((~expert, expert), 1).float()
        equal = data.draw(st.booleans())
        weights = torch.tensor(np.full(rows, 0.1) if equal else draw.random(rows)).float() * scale
        numbers = torch.tensor(draw.normal(size=(rows, 5))).float()
        zero = torch.zeros(())
        actors = 1 + expert.long()
        diagnostics.update(actors, numbers[:, 0], weights, numbers, zero + 1, zero)
        diagnostics.count(step, actors)
        diagnostics.actor_norms(masks, torch.tensor(draw.random(2)).float() * scale)
    found = diagnostics.fetch()
    assert set(found) | {"learning_rate"} == set(METRICS)
    for name, value in found.items():
        if SERIES[name].metric.unit == "fraction":
            assert math.isnan(value) or 0 <= value <= 1, f"{name} is {value!r}"
    shares = [found[f"grad_share_{NAMES[actor]}"] for actor in ACTORS]
    assert sum(shares) == pytest.approx(1)

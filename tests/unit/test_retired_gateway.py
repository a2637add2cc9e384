"""A gateway that was told to end, as those of a node that is drained: the server is well without
it, and what it said last counts."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from config.load import config_from
from server.ipc.inflight import InFlight, cells
from server.ipc.messages import GatewayReport, Joined
from server.ipc.turn_buckets import TURN_BUCKETS_S
from server.monitor.metrics import OF_GATEWAYS
from server.run.directory import RunDirectory
from server.supervisor.supervisor import Supervisor

pytestmark = pytest.mark.promise("cluster-drain")

SETTINGS = {"server.gateways": 2, "metrics.tensorboard": False}


class Ended:
    """A process, once it is no more."""

    pid = 7

    def __init__(self, code: int) -> None:
        self.exitcode, self.sentinel = code, -1

    def is_alive(self) -> bool:
        return False

    def kill(self) -> None:
        pass

    def join(self) -> None:
        pass


class Pipe:
    """What a process has said."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    def poll(self) -> bool:
        return bool(self.said)

    def recv(self) -> Any:
        return self.said.pop(0)

    def close(self) -> None:
        pass


def report(index: int, frames: int) -> GatewayReport:
    return GatewayReport(
        index=index, frames={"train": frames}, clients=1, slots=1, errors={}, turns=frames,
        turn_p50_ms=1.0, turn_p99_ms=1.0, stalls=0, policy_version=1, expert_ratio=0.5,
        epsilon=0.1, expert_failures=0, time=time.monotonic(), opened=True,
        turn_buckets=[frames] * (len(TURN_BUCKETS_S) + 1), turn_seconds=1.0,
    )  # fmt: skip


class World:
    """A supervisor of two gateways, of which no process runs."""

    def __init__(self, folder: Path) -> None:
        config = config_from(SETTINGS | {"run.dir": str(folder)})
        self.folder = RunDirectory.open(config, resume=False)
        self.supervisor = Supervisor(config, self.folder)
        self.processes: Any = self.supervisor._processes
        self.processes._in_flight.begin(0, resumed=False)
        self.processes.rings = [SimpleNamespace(steps=40, steps_read=40, used=0, capacity=64)] * 2
        for index, child in enumerate(self.processes.gateways):
            child.pipe, child.process = Pipe(), Ended(0)
            child.monitor = SimpleNamespace(allowed_s=0.0)
            game = Joined(index, index, "bot", "test", "train", 1, "127.0.0.1:7", 0.0)
            child.pipe.said += [game, report(index, 50)]
        self.supervisor._take_in_all()

    def ends(self, index: int, code: int) -> None:
        child = self.processes.gateways[index]
        child.process = Ended(code)
        self.supervisor._lost(child, "died")

    def row_later(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
        """When the newest report of both is old, and the first one has told of itself anew."""
        later = time.monotonic() + 60.0
        monkeypatch.setattr(time, "monotonic", lambda: later)
        self.processes.gateways[0].pipe.said.append(report(0, 90))
        self.supervisor._take_in_all()
        self.supervisor.publisher.beat()
        self.supervisor._publish_row()
        return self.supervisor.row


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "run")
    yield made
    made.folder.close()


def test_server_without_a_gateway_that_was_told_to_end_is_well(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = world.processes.gateways[1]
    gone.retired = True
    gone.pipe.said.append(report(1, 70))
    world.ends(1, 0)
    assert world.supervisor.status.ready, "at once"
    assert [game.session for game in world.supervisor.training_games] == [0]
    row = world.row_later(monkeypatch)
    status = world.supervisor.status
    assert (status.degraded, status.unready, status.ready) == ("", "", True)
    assert not [name for name in OF_GATEWAYS if name in row and math.isnan(row[name])]
    assert row["clients"] == 1
    assert world.supervisor._collector.turns.buckets[0] == 90 + 70, "what it said last counts"
    assert world.processes._policy.due(math.inf) == []


def test_frames_in_flight_are_counted_of_a_gateway_that_was_told_to_end(world: World) -> None:
    world.processes.gateways[1].retired = True
    cells(Path(world.processes._in_flight.file), 1)[:] = 43, 2
    world.ends(1, -9)
    assert world.processes.lost == InFlight(3, 2)


def test_gateway_that_is_to_start_again_is_not_once_it_is_retired(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.ends(1, -9)
    world.processes.gateways[1].retired = True
    started: list[Any] = []
    monkeypatch.setattr(world.processes, "_start", started.append)
    world.row_later(monkeypatch)
    world.processes.start_due()
    assert started == []
    assert world.supervisor.status.degraded == ""


def test_gateway_that_nobody_told_to_end_is_missed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.ends(1, -9)
    world.row_later(monkeypatch)
    assert "gateway-1" in world.supervisor.status.degraded
    assert not world.supervisor.status.ready
    assert world.processes._policy.due(math.inf) == [world.processes.gateways[1]]

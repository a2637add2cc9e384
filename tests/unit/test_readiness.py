"""When games can play, from what the processes have said."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from server.ipc.load_messages import Loading
from server.supervisor.readiness import Readiness

pytestmark = pytest.mark.promise("ready-when-loaded")


class _Shown:
    """The newest status."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __getattr__(self, name: str) -> Any:
        return self._world.shown[name]


class World:
    """A supervisor's parts that readiness talks to."""

    def __init__(self, gateways: int = 1) -> None:
        self.shown: dict[str, Any] = {
            "port": 7,
            "tempest_port": None,
            "websocket_port": None,
            "ended": "",
        }
        self.events: list[str] = []
        places = [SimpleNamespace(retired=False) for _ in range(gateways)]
        self.processes = SimpleNamespace(gateways=places, ready=None)
        status: Any = SimpleNamespace(update=self._update, status=_Shown(self))
        events: Any = SimpleNamespace(add=lambda event, **_: self.events.append(event))
        self.readiness = Readiness(cast(Any, self.processes), status, events)

    def _update(self, **fields: Any) -> None:
        self.shown |= fields

    def report(self, index: int = 0, *, opened: bool = False) -> bool:
        report: Any = SimpleNamespace(index=index, opened=opened)
        self.readiness.reported(report)
        return bool(self.shown["ready"])


def test_run_without_a_game_is_ready_once_all_gateways_take_up_a_hello() -> None:
    world = World(gateways=2)
    world.readiness.begin(loads=False, dashboard=None)
    assert not world.report(0)
    assert world.report(1)
    assert world.events == ["ready"]
    # Its first game makes nobody unready.
    world.processes.ready = object()
    assert world.report(0)
    assert world.report(1, opened=True)
    assert world.events == ["ready"]


def test_run_with_a_game_is_ready_once_all_gateways_would_welcome_it() -> None:
    world = World(gateways=2)
    world.readiness.begin(loads=True, dashboard=None)
    assert world.shown["loading"] == "the run is being loaded"
    assert not world.report(0)
    assert not world.report(1)
    world.readiness.loading(Loading(312_000))
    assert world.shown["loading"] == (
        "the run is being loaded: 312,000 rows of the replay are read"
    )
    assert not world.report(0, opened=True)
    assert world.events == []
    assert world.report(1, opened=True)
    assert (world.events, world.shown["loading"]) == (["ready"], "")


def test_server_that_is_stopping_is_not_said_to_be_ready() -> None:
    world = World()
    world.readiness.begin(loads=False, dashboard=None)
    world.shown["ended"] = "the server is stopping"
    world.report()
    assert world.events == []


def test_restarted_gateway_is_ready_once_it_would_welcome_the_game() -> None:
    world = World()
    world.readiness.begin(loads=False, dashboard=None)
    assert world.report()
    world.processes.ready = object()
    world.readiness.gateway_gone(0)
    assert not world.shown["ready"]
    assert not world.readiness.serving
    assert not world.report()
    assert world.report(opened=True)

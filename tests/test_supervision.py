"""Processes that die or hang, for real: started again, and games come back by themselves."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running import Running, client_for

from understudy_client import ClientError, Reconnected

pytestmark = pytest.mark.timeout(180)

QUICK: dict[str, Any] = {"supervision__pause_s": 0.1, "supervision__restarts": 20}


class Player:
    """A game that goes on whatever happens to the server, and remembers what it was told."""

    def __init__(self, port: int, **more: Any) -> None:
        self.answers = 0
        self.streams: list[int] = []
        self.cuts = 0
        self.failure: ClientError | None = None
        self._stop = threading.Event()
        self._port = port
        self._more = more
        self._thread = threading.Thread(target=self._play, name="player")
        self._thread.start()

    def _play(self) -> None:
        obs, first = np.ones(3), True
        try:
            with client_for(self._port, timeout_s=60.0, **self._more) as client:
                self.streams.append(client.session)
                while not self._stop.is_set():
                    try:
                        client.act(obs, 0.0 if first else 1.0)
                    except Reconnected:
                        self.cuts += 1
                        self.streams.append(client.session)
                        first = True
                    else:
                        self.answers += 1
                        first = False
                    time.sleep(0.001)
        except ClientError as error:
            self.failure = error

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        assert self.failure is None, self.failure


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Running]:
    with Running(folder / "watched", **QUICK) as running:
        yield running


@pytest.fixture
def player(server: Running) -> Iterator[Player]:
    one = Player(server.port)
    server.until(lambda: one.answers > 50, "it plays", 60.0)
    yield one
    one.stop()


def restarts(server: Running, kind: str) -> float:
    return server.row.get(f"restarts_{kind}", 0.0)


def back(server: Running, player: Player) -> None:
    """It plays, and what it plays is stored."""
    answers = player.answers
    server.until(lambda: player.answers > answers + 50, "games go on", 60.0)
    stored = server.row["steps_stored"]
    server.until(lambda: server.row["steps_stored"] > stored, "steps are stored", 60.0)


def test_a_gateway_that_is_killed_is_started_again(server: Running, player: Player) -> None:
    before, steps = restarts(server, "gateway"), server.supervisor.steps
    pid = server.pid("gateway-0")
    os.kill(pid, signal.SIGKILL)
    server.until(lambda: player.cuts == 1, "the game has noticed", 60.0)
    back(server, player)
    assert server.pid("gateway-0") != pid
    server.until(lambda: restarts(server, "gateway") == before + 1, "it is counted", 30.0)
    assert re.search(r"gateway-0 died \(killed by SIGKILL", server.log())
    assert len(set(player.streams)) == 2, "a stream is never used twice"
    assert server.supervisor.steps > steps, "the counts go on"


def test_a_trainer_that_is_killed_is_started_again_and_games_play_on(
    server: Running, player: Player
) -> None:
    before, version = restarts(server, "trainer"), server.row["policy_version"]
    pid, answers = server.pid("trainer"), player.answers
    os.kill(pid, signal.SIGKILL)
    server.until(lambda: player.answers > answers + 20, "games play without it", 60.0)
    server.until(lambda: server.pid("trainer") != pid, "it is started again", 60.0)
    server.until(lambda: server.row["policy_version"] > version, "it publishes", 60.0)
    back(server, player)
    assert player.cuts == 0
    server.until(lambda: restarts(server, "trainer") == before + 1, "it is counted", 30.0)

"""Training keeps its pace: games in lock step wait for it, games in real time do not."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

from config.models import TrainerConfig
from server.ipc.step_ring import StepRing
from server.ipc.weight_slot import WeightSlot
from server.monitor import watches
from tests.support.running import Running, client_for
from tests.support.worlds import SPEC
from understudy_client import Client, ClientError, Reconnected

pytestmark = pytest.mark.timeout(180)

LIMIT = TrainerConfig().max_lag_updates
RATIO = TrainerConfig().replay_ratio


class FastGame:
    """A game that plays as fast as it is answered, or every `pause_s`; it reconnects."""

    def __init__(self, port: int, *, slots: int = 1, pause_s: float = 0.0, **hello: Any) -> None:
        self.answers = 0
        """Frames that were answered, of all slots."""
        self.worst_s = 0.0
        self.failure: ClientError | None = None
        self._slots, self._pause_s = slots, pause_s
        self._stop = threading.Event()
        self.client: Client = client_for(port, slots=slots, timeout_s=60.0, **hello)
        self._thread = threading.Thread(target=self._play, name="fast game")
        self._thread.start()

    def _play(self) -> None:
        obs, zeros = np.zeros((self._slots, 3)), np.zeros(self._slots)
        while not self._stop.is_set():
            begin = time.perf_counter()
            try:
                self.client.act_all(obs, zeros, zeros.astype(np.uint8))
            except Reconnected:
                continue
            except ClientError as error:
                self.failure = error
                return
            self.worst_s = max(self.worst_s, time.perf_counter() - begin)
            self.answers += self._slots
            time.sleep(self._pause_s)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(30.0)
        assert not self._thread.is_alive(), "a game waits for ever"
        self.client.close()
        assert self.failure is None, self.failure

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Watch:
    """Looks into the shared memory all the time: how many frames were answered, wherever they
    lie, beyond those that games in lock step may play."""

    def __init__(self, server: Running) -> None:
        self.beyond = -(10**9)
        self.looks = 0
        rings, ready = server.supervisor._processes.rings, server.supervisor._processes.ready
        assert ready is not None
        self._slot = WeightSlot.attach(ready.weights, ready.size)
        steps = server.supervisor.config.server.ring_steps
        self._rings = [StepRing.attach(ring.name, SPEC, steps) for ring in rings]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, name="watch")
        self._thread.start()

    @property
    def answered(self) -> int:
        return sum(ring.answered for ring in self._rings)

    @property
    def allowed(self) -> int:
        return self._slot.allowed

    def _look(self) -> None:
        while not self._stop.is_set():
            # What is answered first: the limit only rises.
            answered = self.answered
            self.beyond = max(self.beyond, answered - self._slot.allowed)
            self.looks += 1
            time.sleep(0.0005)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._slot.close()
        for ring in self._rings:
            ring.close()


@contextlib.contextmanager
def watched(server: Running) -> Iterator[Watch]:
    watch = Watch(server)
    try:
        yield watch
    finally:
        watch.close()


def learns(server: Running, least: int = 1) -> None:
    server.until(lambda: server.row.get("updates", 0) >= least, "it learns", 60.0)


@contextlib.contextmanager
def standing_still(server: Running) -> Iterator[None]:
    """The trainer does nothing for a moment."""
    pid = server.pid("trainer")
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def stands_still(game: FastGame, for_s: float = 0.5) -> None:
    """Wait until the game waits, and see that it goes on waiting."""
    deadline = time.monotonic() + 15.0
    while True:
        before = game.answers
        time.sleep(for_s)
        if game.answers == before:
            return
        assert time.monotonic() < deadline, "the game plays on"


@pytest.mark.parametrize("gateways", [1, 2])
def test_games_are_never_further_ahead_of_training_than_the_limit(
    tmp_path: Path, gateways: int
) -> None:
    """The default ring, ratio, limit and network; games that could play a hundred times as fast."""
    games, slots = 3, 2
    assert LIMIT is not None
    with Running(
        tmp_path / "run",
        server__gateways=gateways,
        server__ring_steps=16_384,
        learner__hidden=[512, 512, 256],
        learner__batch_size=256,
        trainer__min_steps=100,
    ) as server:
        with contextlib.ExitStack() as stack:
            players = [
                stack.enter_context(FastGame(server.port, slots=slots)) for _ in range(games)
            ]
            watch = stack.enter_context(watched(server))
            learns(server)
            server.until(lambda: server.row["games_held"] > 0.3, "games wait", 30.0)
            begin = len(server.rows)
            server.until(lambda: len(server.rows) > begin + 15, "it has run for a while", 30.0)
            rows = server.rows[begin:]
            # What the games themselves have counted, against the updates that they could not know.
            updates = server.row["updates"]
            answered = sum(player.answers for player in players)
        slack = games * slots
        assert watch.looks > 100
        assert 0 <= watch.beyond < slack
        assert answered - (100 + updates / RATIO) < LIMIT / RATIO + slack + 400, "as of a row ago"
        assert max(row["updates_due"] for row in rows) <= LIMIT + slack * RATIO
        assert max(row["ring_fill"] for row in rows) < 0.1
        made = server.settle()
        assert made["updates"] == int((made["steps_stored"] - 100) * RATIO), "the configured ratio"


@pytest.mark.alone
def test_game_in_real_time_is_answered_at_once_while_others_wait(tmp_path: Path) -> None:
    with (
        Running(tmp_path / "run") as server,
        FastGame(server.port, slots=4) as fast,
        FastGame(server.port, pause_s=0.01, realtime=True) as person,
    ):
        learns(server)
        with watched(server) as watch, standing_still(server):
            stands_still(fast)
            person.worst_s, before = 0.0, person.answers
            waiting = fast.answers
            with FastGame(server.port, pause_s=0.01, role="eval") as evaluation:
                time.sleep(1.0)
                assert evaluation.answers > 20
            assert fast.answers == waiting
            assert person.answers > before + 20
            assert person.worst_s < 0.3
            assert watch.answered >= watch.allowed
            late = client_for(server.port, timeout_s=60.0)
            thread = threading.Thread(target=lambda: late.act(np.zeros(3)), name="late")
            thread.start()
            thread.join(0.5)
            assert thread.is_alive(), "one that comes meanwhile waits too"
        thread.join(30.0)
        assert not thread.is_alive()
        late.close()
        server.until(lambda: fast.answers > waiting + 100, "they play on")


@pytest.mark.promise("trainer-slow")
def test_games_that_wait_meet_no_deadline_and_may_leave(tmp_path: Path) -> None:
    with Running(
        tmp_path / "run", server__idle_timeout_s=2.0, server__handshake_timeout_s=2.0
    ) as server:
        with FastGame(server.port) as stays, FastGame(server.port) as leaves:
            learns(server)
            with standing_still(server):
                stands_still(stays)
                stands_still(leaves)
                leaves._stop.set()
                time.sleep(3.0)
            leaves.stop()
            server.until_row(clients=1)
            before = stays.answers
            server.until(lambda: stays.answers > before + 100, "it plays on")
        server.until_row(clients=0, transitions_dropped=0)
        assert server.row["errors"] == 0


@pytest.mark.alone
@pytest.mark.promise("kill-trainer")
def test_games_that_wait_for_a_killed_trainer_go_on_with_the_next(tmp_path: Path) -> None:
    with (
        # The person alone owes 50 x 0.25 updates a second, which a busy machine makes too.
        Running(tmp_path / "run", trainer__replay_ratio=0.25) as server,
        FastGame(server.port) as fast,
        FastGame(server.port, pause_s=0.02, realtime=True) as person,
    ):
        learns(server)
        pid = server.pid("trainer")
        os.kill(pid, signal.SIGKILL)
        server.until(lambda: server.pid("trainer") != pid, "it is restarted", 30.0)
        server.pids.add(server.pid("trainer"))
        before, theirs = fast.answers, person.answers
        server.until(lambda: fast.answers > before + 300, "the game plays on", 100.0)
        assert person.answers > theirs
        with watched(server) as watch:
            server.wait_rows(5)
        assert watch.beyond < 100, "what the person plays comes on top"
        assert server.row["errors"] == 0
        fast.stop()
        person.stop()
        server.until_row(clients=0)


@pytest.mark.promise("kill-gateway")
def test_frames_lost_with_a_gateway_hold_no_game_back(tmp_path: Path) -> None:
    with (
        # 50 updates are 200 frames: some turns of so many slots.
        Running(tmp_path / "run", trainer__replay_ratio=0.25) as server,
        FastGame(server.port, slots=64) as fast,
    ):
        learns(server)
        with watched(server) as watch:
            for _ in range(2):
                with standing_still(server):
                    stands_still(fast, 0.3)
                    pid = server.pid("gateway-0")
                    os.kill(pid, signal.SIGKILL)
                    server.until(lambda p=pid: server.pid("gateway-0") != p, "restarted", 30.0)
                    server.pids.add(server.pid("gateway-0"))
                before = fast.answers
                server.until(lambda b=before: fast.answers > b + 500, "it plays on", 60.0)
            assert watch.beyond < 64
        fast.stop()
        server.until_row(clients=0)
    assert server.row["transitions_dropped"] == 0


def test_pause_and_a_live_limit_of_none_let_games_play_and_the_pace_comes_back(
    tmp_path: Path,
) -> None:
    """The trainer is slow: 20 updates for each frame."""
    with (
        Running(tmp_path / "run", trainer__replay_ratio=20.0) as server,
        FastGame(server.port) as fast,
        watched(server) as watch,
    ):
        learns(server, 100)
        control = server.supervisor.controller
        server.do(lambda: control.pause(True, "test"))
        server.until(lambda: watch.allowed > 10**9, "nothing limits games")
        before = fast.answers
        server.until(lambda: fast.answers > before + 2000, "they play as fast as they can")
        server.do(lambda: control.pause(False, "test"))
        server.until(lambda: watch.allowed < 10**9, "the limit is back")
        assert server.wait_rows()["updates_due"] <= 50 + 3 * 20, "what came meanwhile is not owed"
        server.do(lambda: control.change({"trainer.max_lag_updates": None}, "test"))
        before = fast.answers
        server.until(lambda: fast.answers > before + 2000, "nobody waits")
        server.until(lambda: server.row["updates_due"] > 10_000, "training is behind")
        server.do(lambda: control.change({"trainer.max_lag_updates": 7}, "test"))
        stands_still(fast, 0.3)
        server.do(lambda: control.pause(True, "test"))
        server.until(lambda: watch.allowed > 10**9, "nothing limits games")


def test_training_behind_a_game_in_real_time_is_said_with_what_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watches, "BEHIND_S", 0.5)
    with Running(tmp_path / "run", trainer__replay_ratio=200.0) as server:
        with FastGame(server.port, realtime=True):
            learns(server)
            server.until(lambda: server.supervisor.status.warnings, "it is said", 30.0)
        (warning,) = [
            one for one in server.supervisor.status.warnings if one["id"] == watches.BEHIND
        ]
        assert "updates behind" in warning["text"]
        assert "lower trainer.replay_ratio" in warning["cure"]
        assert server.row["updates_due"] > 1000
        assert server.row["games_held"] == 0
        assert server.log().count("updates behind") == 1, "once, then after growing pauses"
        control = server.supervisor.controller
        server.do(lambda: control.pause(True, "test"))  # nothing need be caught up with at the end


def test_stop_while_games_wait_is_quick_and_loses_nothing(tmp_path: Path) -> None:
    with Running(tmp_path / "run", trainer__replay_ratio=500.0) as server:
        client = client_for(server.port, slots=8, timeout_s=20.0)
        told: list[BaseException] = []

        def play() -> None:
            zeros = np.zeros(8)
            try:
                while True:
                    client.act_all(np.zeros((8, 3)), zeros, zeros.astype(np.uint8))
            except ClientError as error:
                told.append(error)

        client._backoff = type(client._backoff)(give_up_s=0.0)
        thread = threading.Thread(target=play, name="player")
        thread.start()
        learns(server)
        server.until(lambda: server.row["games_held"] > 0.5, "the games wait")
        server.close()
        thread.join(30.0)
        assert server.stop_s < 10
        assert "server_stopping" in str(told)
        assert server.row["steps_completed"] == server.row["steps_stored"]

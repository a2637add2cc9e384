"""Stopping while the trainer is away: it has just died, waits to be started again, was stopped, or
hangs. It ends within 10 s all the same, games are told, and every step is stored or counted."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from server.gateway import shutdown
from server.ipc.inflight import FILE, left
from server.trainer import process as trainer_process
from server.trainer.trainer import Trainer
from tests.support.processes import is_zombie
from tests.support.running import RawClient, Running
from tests.support.supervision import LONG_S, rows_kept

pytestmark = pytest.mark.timeout(240)

PLAYED = 160
"""Frames; the trainer is away for the last 60 of them."""

AWAY: dict[str, Any] = {
    "supervision__backoff_s": 900.0,
    "supervision__hang_timeout_s": 900.0,
    "trainer__max_lag_updates": None,
}
"""Nobody starts it again, and nobody finds out that it hangs, before the end; the game plays on and
does not wait for training that is behind."""

HUNG = "hangs"
"""In the run's folder: the trainer is to hang."""


def play(client: RawClient, first: int, last: int) -> None:
    for seq in range(first, last):
        assert client.frame(seq, reward=1.0)[:3] == [12, 0, seq]


def in_flight(run: Path) -> int:
    """The steps that are not in the run's folder, all of which are counted there."""
    kept = rows_kept(run)
    assert kept == [(kept[0][0], seq) for seq in range(len(kept))], "none is missing in between"
    counted = left(run / FILE)
    if counted is None:
        assert len(kept) == PLAYED - 1, "without a count nothing is missing"
    else:
        assert counted[0] == PLAYED - 1
    return PLAYED - 1 - len(kept)


def killed(server: Running) -> None:
    """The supervisor has seen it, and waits."""
    os.kill(server.pid("trainer"), signal.SIGKILL)
    server.until(lambda: "trainer died" in server.log(), "it is seen", LONG_S)


def stopped(server: Running) -> None:
    os.kill(server.pid("trainer"), signal.SIGSTOP)


def hanging(server: Running) -> None:
    (server.folder.path / HUNG).touch()
    server.until(lambda: "it hangs" in server.log(), "it hangs", LONG_S)


def that_hangs(*args: Any) -> None:
    """A trainer that hangs once it finds a file that says so."""
    drain = Trainer._drain

    def drained(self: Trainer) -> int:
        if (self._checkpointer._folder.parent / HUNG).exists():
            trainer_process.log.info("it hangs")
            while True:
                time.sleep(1000)
        return drain(self)

    Trainer._drain = drained  # type: ignore[method-assign]
    trainer_process.main(*args)


@pytest.mark.parametrize("away", [killed, stopped, hanging])
@pytest.mark.promise("stop-without-trainer")
def test_stop_without_trainer_stores_every_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, away: Callable[[Running], None]
) -> None:
    if away is hanging:
        monkeypatch.setattr("server.supervisor.entry_points.trainer", that_hangs)
    with Running(tmp_path / "run", **AWAY) as server:
        with RawClient(server.port, timeout_s=LONG_S).welcome() as client:
            play(client, 0, PLAYED - 60)
            away(server)
            play(client, PLAYED - 60, PLAYED)
            server.close(check=False)
            assert client.refusal()[0] == "server_stopping"
        assert server.stop_s < 10
        missing, log = in_flight(server.folder.path), server.log()
    if away is hanging:
        assert "trainer did not end in time; killed" in log
        assert "the next start counts what is missing" in log
        assert missing >= 60
    elif away is stopped or "did not end in time" not in log:
        # The other has to be started once more: on a busy machine there may be no time for that.
        assert missing == 0


@pytest.mark.promise("stop-without-trainer")
def test_stop_before_the_trainers_death_is_seen_stores_every_step(tmp_path: Path) -> None:
    with Running(tmp_path / "run", **AWAY) as server:
        with RawClient(server.port, timeout_s=LONG_S).welcome() as client:
            play(client, 0, PLAYED - 60)
            stopped(server)  # nothing is taken out of the ring any more
            play(client, PLAYED - 60, PLAYED)
            server._stop.set()
            server._thread.join()
            pid = server.pid("trainer")
            os.kill(pid, signal.SIGKILL)
            while not is_zombie(pid):
                time.sleep(0.01)
            server.close(check=False)
            assert client.refusal()[0] == "server_stopping"
        assert server.stop_s < 10
        missing, log = in_flight(server.folder.path), server.log()
    assert "trainer died (killed by SIGKILL" in log
    if "did not end in time" not in log:
        assert missing == 0


def that_comes_late(*args: Any) -> None:
    """A trainer that takes longer to start than gateways wait for it at the end."""
    time.sleep(shutdown.STOP_S + 0.3)
    trainer_process.main(*args)


@pytest.mark.promise("stop-without-trainer")
def test_stop_with_a_full_ring_counts_what_had_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trainer comes back to store what is in the ring, when the gateway has gone with the
    rest."""
    with Running(tmp_path / "run", server__ring_steps=64, **AWAY) as server:
        with RawClient(server.port, timeout_s=LONG_S).welcome() as client:
            play(client, 0, PLAYED - 65)
            ring = server.supervisor._processes.rings[0]
            server.until(lambda: ring.steps and not ring.used, "it is empty", LONG_S)
            killed(server)
            play(client, PLAYED - 65, PLAYED)
            monkeypatch.setattr("server.supervisor.entry_points.trainer", that_comes_late)
            server.close(check=False)
            assert client.refusal()[0] == "server_stopping"
        assert server.stop_s < 10
        missing, log = in_flight(server.folder.path), server.log()
    assert "gateways still had 1 steps and 1 frames; the next start counts" in log
    assert "Exception" not in log
    if "did not end in time" not in log:
        assert missing == 1

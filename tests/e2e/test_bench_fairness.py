"""Clients at an equal pace: the short form, and proof that it notices who starves."""

from __future__ import annotations

import json
import resource
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from lab.bench import fairness
from lab.bench.fairness import ClientPool, PacedResult, judge
from lab.load.clients import bench_spec
from server import cli
from tests.support.fake_server import FakeServer, Peer

SPEC = bench_spec(4, 3)


def _of(*answered: int) -> PacedResult:
    return PacedResult(
        hz=10.0, ticks=200, answered=list(answered), p50_ms=1.0, p99_ms=2.0, late_p99_ms=1.0
    )


def test_fair_server_passes_the_verdict() -> None:
    fair = _of(200, 199, 200, 181)
    assert judge(fair) == []
    assert fair.rates() == (pytest.approx(9.975), pytest.approx(9.05))


def test_one_starving_client_fails_the_verdict() -> None:
    (said,) = judge(_of(*[200] * 999, 179))
    assert "the worst client's rate to be at least 0.9 of the median (10.00 frames/s)" in said
    assert "got 8.95" in said


def test_starving_clients_together_fail_the_verdict() -> None:
    (said,) = judge(_of(170, 171, 172))
    assert "expected the clients to get their pace of 10.00 frames/s each" in said
    assert len(judge(_of(0, 0, 0))) == 1


# A server of a few lines, that is fair to all but one.


def _answers(pause_s: float) -> Callable[[Peer], None]:
    """A connection whose answers take so long."""

    def script(peer: Peer) -> None:
        peer.welcome()
        while (frame := peer.recv()) is not None:
            time.sleep(pause_s)
            if select.select([peer.sock], [], [], 0)[0]:  # its end, and no frame
                assert not peer.sock.recv(1, socket.MSG_PEEK), "it must not send twice"
                return
            peer.answer(frame, action=(1,))

    return script


@contextmanager
def _pool(clients: int, *pauses_s: float) -> Iterator[ClientPool]:
    server = FakeServer(*(_answers(pause) for pause in pauses_s))
    try:
        pool = ClientPool(("127.0.0.1", server.port), SPEC, clients)
        try:
            yield pool
        finally:
            pool.close()
    finally:
        server.close()


def test_late_answers_to_one_client_are_measured_as_starvation() -> None:
    """The first connection gets two answers a second; all have ten ticks."""
    with _pool(6, 0.5, 0.0) as pool:
        paced = pool.paced(10.0, 3.0)
    assert paced.ticks == 30
    assert len(paced.answered) == 6
    assert paced.answered.index(min(paced.answered)) == 0
    assert 1 <= paced.answered[0] <= 7
    assert any("worst client" in said for said in judge(paced))


def test_load_without_pace_runs_at_full_speed() -> None:
    with _pool(3, 0.01) as pool:
        fps = pool.full_speed(0.5)
        assert 0 < fps <= 300
        # Nobody waits for an answer of before.
        assert max(pool.paced(10.0, 0.5).answered) <= 5


def test_paced_load_gives_every_client_equal_ticks() -> None:
    with _pool(4, 0.0) as pool:
        paced = pool.paced(20.0, 1.0)
    assert paced.ticks == 20
    assert max(paced.answered) <= 20
    assert min(paced.answered) > 0
    assert paced.p99_ms >= paced.p50_ms > 0


def test_load_needs_enough_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 200))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)  # not this process's, really
    with pytest.raises(OSError, match="allowed 1064 open files, got 200; raise ulimit -n"):
        ClientPool(("127.0.0.1", 1), SPEC, 1000)


@pytest.mark.timeout(400)
@pytest.mark.usefixtures("no_leaks")
@pytest.mark.alone
def test_two_hundred_clients_of_a_real_server_are_served_fairly() -> None:
    """At a tenth of what it can do, and held to half of the median: other work on the machine may
    hold up some of so few ticks."""
    said: list[str] = []
    row = fairness.measure(
        clients=200, free_s=1.0, paced_s=3.0, share=0.1, observations=8, actions=3,
        config={"learner.hidden": [16], "learner.batch_size": 16, "trainer.min_steps": 100},
        show=said.append,
    )  # fmt: skip
    assert row["clients"] == 200
    assert row["capacity_fps"] > 0
    assert row["pace_hz"] == pytest.approx(0.1 * row["capacity_fps"] / 200, rel=0.01)
    assert row["updates_per_s"] > 0
    assert row["worst_hz"] >= 0.5 * row["median_hz"] > 0, row
    assert row["p99_ms"] >= row["p50_ms"] > 0
    assert len(said) == 3


@pytest.mark.parametrize("ok", [True, False])
def test_bench_crowd_exit_code_follows_its_verdict(
    ok: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measured(**_: Any) -> dict[str, Any]:
        return {"case": "fairness", "ok": ok}

    monkeypatch.setattr(fairness, "measure", measured)
    for name in ("fairness", "crowd"):  # as it is called, and as it was
        assert cli.main(["bench", name]) == (0 if ok else 1)
        machine, row = map(json.loads, capsys.readouterr().out.splitlines())
        assert (machine["case"], row["case"]) == ("machine", "fairness")

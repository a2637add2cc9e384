"""A visitor who plays evaluations without end, each better than the one before."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent import checkpoint
from server.run.evaluation import read_evaluations
from server.supervisor import best_network, evaluation_recorder
from tests.support.running import RawClient, Running, client_for

EPISODES = 10
"""Of an evaluation of this test."""

pytestmark = pytest.mark.timeout(120)


def evaluations(client: RawClient, n: int) -> None:
    """So many evaluations of episodes of one step, each with a mean 1 above the one before."""
    seq = 0
    for mean in range(1, n + 1):
        for _ in range(EPISODES):
            client.frame(seq)
            client.frame(seq + 1, reward=float(mean), status=1)
            seq += 2


@pytest.mark.promise("evaluation-load")
def test_visitor_with_rising_returns_is_counted_and_recorded_at_a_bounded_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.run.evaluations.MOST", EPISODES)
    monkeypatch.setattr(evaluation_recorder, "BURST", 2)
    monkeypatch.setattr(best_network, "EVERY_S", 1.0)
    monkeypatch.setattr(evaluation_recorder, "EVERY_S", 3.0)
    written: list[int] = []
    with Running(tmp_path / "run") as server:
        with client_for(server.port) as game:  # there is a network
            game.act([0.0, 0.0, 0.0])
        path = server.folder.evaluations
        best = server.folder.checkpoints / checkpoint.BEST

        def look() -> bool:
            if best.exists() and (at := best.stat().st_mtime_ns) not in written:
                written.append(at)
            return server.row["eval_return_mean"] == 12.0

        with RawClient(server.port).welcome(role="eval") as client:
            evaluations(client, 12)
        server.until(look, "all of them are counted", 30.0)
        assert server.row["eval_return_best"] == 12.0
        server.until(
            lambda: look() and 12.0 in [one.mean for one in read_evaluations(path)],
            "the best and newest is recorded", 30.0,
        )  # fmt: skip
    kept = [one.mean for one in read_evaluations(path)]
    assert kept == sorted(set(kept), key=lambda mean: mean or 0.0)
    assert kept[:2] == [1.0, 2.0]
    assert len(kept) < 12
    assert 12.0 in kept
    assert checkpoint.load(best)["evaluation"]["mean"] == 12.0, "it is not lost"
    assert len(written) <= 6

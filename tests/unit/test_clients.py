"""Who is connected, from what gateways tell."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from server.ipc.messages import EvaluationGame, FinishedEpisode, GatewayReport, Joined
from server.monitor.clients import RETURNS, Clients


def joined(session: int, **changes: Any) -> Joined:
    values: dict[str, Any] = {
        "session": session, "gateway": 0, "client": "c/1", "game": "g", "role": "train",
        "slots": 1, "peer": "127.0.0.1:5", "time": 100.0,
    }  # fmt: skip
    return Joined(**(values | changes))


def report(
    sessions: list[int], played: list[list[int]], *episodes: FinishedEpisode, at: float = 0.0
) -> GatewayReport:
    return GatewayReport(
        index=0, frames={}, clients=0, slots=0, errors={}, turns=0, turn_p50_ms=0.0,
        turn_p99_ms=0.0, stalls=0, policy_version=0, expert_ratio=0.0, epsilon=0.0,
        episodes=list(episodes), sessions=sessions,
        played=np.array(played, np.int64).reshape(-1, 3), time=at,
    )  # fmt: skip


def test_rows_report_frames_rates_and_returns_per_client() -> None:
    players = Clients()
    players.joined(joined(1))
    players.joined(joined(2, role="eval"))
    assert [each.session for each in players.training] == [1]
    assert players.peers == {1: "127.0.0.1:5", 2: "127.0.0.1:5"}
    players.report(
        report([1, 2], [[1, 6, 3], [2, 0, 0]], FinishedEpisode("train", 2.5, 9, 1), at=100.9)
    )
    first, second = players.rows(101.0)
    assert (first["frames"], first["frames_dqn"], first["frames_expert"]) == (10, 6, 3)
    assert (first["episodes"], first["last_return"], first["recent_returns"]) == (1, 2.5, [2.5])
    assert (second["frames"], second["last_return"], second["recent_returns"]) == (2, None, [])
    assert first["frames_per_s"] == 0.0, "over which time?"
    assert first["connected_s"] == 1.0
    players.report(report([1, 2], [[1, 26, 13], [2, 0, 0]], at=102.9))
    first, second = players.rows(103.0)
    assert (first["frames_per_s"], second["frames_per_s"]) == (15.0, 0.0)
    first, second = players.rows(103.9)
    assert first["frames_per_s"] == 15.0, "no report since the last row"


def test_row_has_the_role_that_the_server_gave_a_client() -> None:
    players = Clients()
    players.joined(joined(1))
    told = report([1], [[1, 6, 3]])
    players.report(replace(told, evaluating=[EvaluationGame(1, "eval", 1, 2)]))
    assert players.rows(101.0)[0]["role"] == "eval"
    assert [each.session for each in players.training] == [1], "it trains again soon"
    players.report(told)
    assert players.rows(102.0)[0]["role"] == "train"


def test_departed_and_unknown_sessions_are_not_listed() -> None:
    players = Clients()
    players.joined(joined(1))
    players.left(1)
    players.left(7)
    players.report(report([1, 7], [[1, 0, 0], [1, 0, 0]], FinishedEpisode("train", 1.0, 1, 7)))
    assert players.rows(1.0) == []
    assert players.training == []


def test_recent_returns_are_limited_to_newest() -> None:
    players = Clients()
    players.joined(joined(1))
    players.report(
        report([1], [[0, 0, 0]], *(FinishedEpisode("train", float(i), 1, 1) for i in range(80)))
    )
    (one,) = players.rows(1.0)
    assert (one["episodes"], one["last_return"], len(one["recent_returns"])) == (80, 79.0, RETURNS)


def test_gateway_gone_removes_its_clients() -> None:
    players = Clients()
    for session, gateway in ((1, 0), (2, 1), (3, 0)):
        players.joined(joined(session, gateway=gateway))
    players.gateway_gone(0)
    assert [row["session"] for row in players.rows(1.0)] == [2]

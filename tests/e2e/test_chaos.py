"""Processes are killed while games play, and every step is accounted for: once in each way."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lab.chaos import command as chaos
from lab.chaos.accounting import ChaosResult, holes
from server import cli
from server.ipc.inflight import InFlight
from server.play.attribution import Attribution
from tests.support.preloaded import fork_serves

pytestmark = pytest.mark.timeout(900)

EVENTS = ["kill a gateway", "kill the trainer", "kill everything", "kill the supervisor"]

CLEAN = ChaosResult(
    seconds=1.0,
    events={"kill everything": 1},
    attribution=Attribution(compared=100, mismatches=0, missing=3, batch_compared=0),
    wrong_decisions=0,
    holes=0,
    doubled=0,
    said=InFlight(steps=3, frames=2),
    damages=0,
    restarts=0,
)


@pytest.mark.promise("chaos")
def test_random_kills_lose_only_steps_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    fork_serves(monkeypatch)
    result = chaos.chaos(5.0, players=2, events=list(EVENTS), quiet_s=(0.5, 2.0))
    assert result.ok, result
    assert result.events.keys() >= set(EVENTS)
    assert result.attribution.compared > 100
    assert result.restarts >= 2
    assert result.said.frames > 0, "games were in play when all was killed"


@pytest.mark.parametrize(
    "wrong",
    [
        {"events": {}},
        {"wrong_decisions": 1},
        {"holes": 1},
        {"doubled": 1},
        {"said": InFlight(steps=2)},
        {"attribution": replace(CLEAN.attribution, mismatches=1)},
        {"attribution": replace(CLEAN.attribution, compared=0)},
    ],
)
def test_chaos_check_detects_wrong_missing_and_doubled_rows(wrong: dict[str, Any]) -> None:
    assert CLEAN.ok
    assert not replace(CLEAN, **wrong).ok


def test_chaos_check_counts_a_missing_step_before_a_present_one_as_hole() -> None:
    seqs = np.arange(6)
    truth = {
        "session": np.full(6, 5),
        "slot": np.zeros(6, np.int64),
        "seq": seqs,
        "actor": np.array([1, 2, 0, 1, 1, 1]),  # the third ended an episode
    }
    stream = np.int64(5 << 16)

    def stored(*kept: int) -> dict[str, Any]:
        return {"stream": np.full(len(kept), stream), "seq": np.array(kept, np.int64)}

    assert holes(truth, stored(0, 1, 3, 4)) == 0
    assert holes(truth, stored(0, 1)) == 0
    assert holes(truth, stored(0, 3, 4)) == 1
    assert holes(truth, stored(4)) == 3


def test_chaos_exit_code_follows_its_findings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[float] = []

    def found(seconds: float, **_: Any) -> ChaosResult:
        asked.append(seconds)
        return replace(CLEAN, holes=len(asked) - 1)

    monkeypatch.setattr(chaos, "chaos", found)
    assert cli.main(["chaos", "--minutes", "0.5", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["missing"], report["said_in_flight"], report["holes"]) == (3, 3, 0)
    assert cli.main(["chaos"]) == 1
    assert "STEPS ARE WRONG OR LOST" in capsys.readouterr().out
    assert asked == [30.0, 1800.0]

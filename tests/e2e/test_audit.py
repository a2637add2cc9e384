"""The audit itself: it is clean where the code is right, and finds each place that is not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lab import audit, audit_player
from lab.audit import AuditResult
from protocol.actor import Actor
from server.play.attribution import Attribution
from tests.support import faults
from tests.support.commands import in_this_process
from tests.support.preloaded import completed

pytestmark = pytest.mark.timeout(180)


def run(*options: str, fault: str) -> tuple[int, dict[str, Any]]:
    """`understudy audit --json` in a process of its own: its exit code and what it prints."""
    broken = partial(faults.put, fault)
    done = completed("audit", "--json", *options, first=broken, timeout=170)
    lines = done.stdout.splitlines()
    assert len(lines) == 1, done.stdout + done.stderr
    return done.returncode, json.loads(lines[0])


Audits = dict[str, Future[tuple[int, dict[str, Any]]]]


@pytest.fixture(scope="module")
def audits() -> Iterator[Audits]:
    """The audit with each fault, a few at a time: each waits for games for half of its time."""
    with ThreadPoolExecutor(3) as pool:
        yield {
            name: pool.submit(run, "--steps", "3000", "--players", "2", fault=name)
            for name in faults.FAULTS
        }


def test_short_audit_finds_no_mismatch() -> None:
    code, out, errors = in_this_process(
        "audit", "--json", "--steps", "8000", "--players", "2", "--seed", "3"
    )
    assert (code, errors) == (0, "")
    report = json.loads(out)
    assert report["mismatches"] == report["missing"] == report["doubled"] == 0
    assert report["compared"] == report["steps"] >= 8_000
    assert report["batch_compared"] > 5_000
    # Both actors are at work, or there would be nothing to mix up.
    assert 0.1 < report["expert"] / report["compared"] < 0.9


@pytest.mark.parametrize("fault", list(faults.FAULTS))
def test_audit_detects_what_is_wrong_at_every_place(audits: Audits, fault: str) -> None:
    """`missing` stays 0: nothing is lost here, it is all said of the wrong one."""
    code, report = audits[fault].result()
    assert code == 1, report
    assert report["mismatches"] > 0, report
    assert report["missing"] == 0


def test_audit_faults_cover_every_place() -> None:
    places = {name.split("_")[0] for name in faults.FAULTS}
    assert places == {"decision", "ring", "replay", "sample"}


# The verdict.

GOOD = AuditResult(
    steps=10,
    seconds=1.23,
    attribution=Attribution(compared=10, mismatches=0, missing=0, batch_compared=20),
    wrong_decisions=0,
    expert=4,
    rows_missing=0,
    rows_doubled=0,
)


def test_audit_report_has_the_fields_scripts_read() -> None:
    assert GOOD.ok
    assert GOOD.report() == {
        "steps": 10,
        "seconds": 1.2,
        "compared": 10,
        "mismatches": 0,
        "missing": 0,
        "doubled": 0,
        "batch_compared": 20,
        "expert": 4,
    }


@pytest.mark.parametrize(
    "change",
    [
        {"wrong_decisions": 1},
        {"rows_missing": 1},
        {"rows_doubled": 1},
        {"attribution": replace(GOOD.attribution, mismatches=1)},
        {"attribution": replace(GOOD.attribution, missing=1)},
        {"attribution": replace(GOOD.attribution, compared=0)},
        {"attribution": replace(GOOD.attribution, batch_compared=0)},
    ],
)
@pytest.mark.parametrize("as_json", [True, False])
def test_audit_without_complete_evidence_fails(
    change: dict[str, Any],
    as_json: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bad = replace(GOOD, **change)
    assert not bad.ok
    arguments = audit.argparse.ArgumentParser()  # type: ignore[attr-defined]
    audit.add_arguments(arguments)
    for result, code in ((GOOD, 0), (bad, 1)):
        monkeypatch.setattr(audit, "audit", lambda *_, result=result, **__: result)
        assert audit.main(arguments.parse_args(["--json"] if as_json else [])) == code
        printed = capsys.readouterr().out
        if as_json:
            assert json.loads(printed) == result.report()
        else:
            assert ("WRONG" in printed) is (code == 1)


def test_audit_counts_a_wrong_decision_as_mismatch() -> None:
    result = replace(GOOD, wrong_decisions=2, attribution=replace(GOOD.attribution, mismatches=3))
    assert result.report()["mismatches"] == 5


# What the players log.


def test_audit_player_recommendations_never_repeat() -> None:
    rows = audit_player.unique_actions(np.random.default_rng(0), 100_000)
    assert len(np.unique(rows, axis=0)) == len(rows)
    assert ((rows[:, 0] >= 0) & (rows[:, 0] < audit_player.CHOICES)).all()
    assert (rows[:, 0] == np.floor(rows[:, 0])).all()
    assert ((rows[:, 1:] >= 0) & (rows[:, 1:] < 1)).all()


def test_answer_log_without_answers_is_not_written(tmp_path: Path) -> None:
    log = audit_player.TruthLog()
    log.save(tmp_path / "client-0.npz")
    assert not list(tmp_path.iterdir())
    pending = audit_player.Pending(2)
    pending.log(log, 5, np.arange(2))
    log.save(tmp_path / "client-0.npz")
    assert not list(tmp_path.iterdir())


def test_answer_log_holds_the_answers_since_the_last_save(tmp_path: Path) -> None:
    log, pending = audit_player.TruthLog(), audit_player.Pending(3)
    pending.answered[:] = [True, False, True]
    pending.actor[:] = [Actor.DQN, 0, Actor.EXPERT]
    pending.seq[:] = 7
    pending.action[:] = np.arange(12).reshape(3, 4)
    pending.wrong[2] = True
    pending.log(log, 5, np.arange(3))
    pending.log(log, 5, np.arange(3))  # once is enough
    log.save(tmp_path / "client-0.npz")
    with np.load(tmp_path / "client-0.npz") as file:
        assert file["session"].tolist() == [5, 5]
        assert file["slot"].tolist() == [0, 2]
        assert file["seq"].tolist() == [7, 7]
        assert file["actor"].tolist() == [1, 2]
        assert file["action"].tolist() == [[0, 1, 2, 3], [8, 9, 10, 11]]
        assert file["wrong"].tolist() == [False, True]

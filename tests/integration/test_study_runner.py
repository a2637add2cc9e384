"""Jobs in worker processes: complete once and for all, or not there at all."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from lab import sync_trainer
from lab.study.design import Job, jobs
from lab.study.results import Results
from lab.study.runner import run
from lab.study.store import load, path_of, read
from lab.study.workers import Began, Done, JobFailed, News, Workers
from lab.sync_trainer import EvaluationPoint
from tests.support.fake_results import comparison

WHAT = comparison(seeds=1)


def outcomes(folder: Path, wanted: Sequence[Job]) -> dict[str, list[tuple[float, ...]]]:
    """The returns of all evaluations, by job."""
    return {job.key: [e.returns for e in read(path_of(folder, job)).evaluations] for job in wanted}


def found(folder: Path) -> Results:
    return load(folder, jobs(WHAT), episodes=2, seeds=1)


def last(told: Sequence[tuple[Job, News]]) -> dict[str, type[News]]:
    return {job.key: type(news) for job, news in told}


def test_study_runs_are_complete_or_absent(tmp_path: Path) -> None:
    """A study that is stopped in the middle, a worker that is killed, and one that goes on."""
    wanted = jobs(WHAT)
    expert, a, b = wanted

    # Stopped in the middle of the run of `a`: the expert's is complete, that one is not.
    stopped = run(wanted, tmp_path, workers=1)
    for job, news in stopped:
        if job == a and isinstance(news, EvaluationPoint):
            break
    stopped.close()  # type: ignore[attr-defined]
    assert path_of(tmp_path, expert).exists()
    assert not path_of(tmp_path, a).exists()
    assert path_of(tmp_path, a).with_suffix(".part").exists()
    assert found(tmp_path).runs == {}
    assert len(found(tmp_path).experts["land"]) == 4
    before = path_of(tmp_path, expert).stat().st_mtime_ns

    # It goes on with what is missing.
    missing = [job for job in wanted if not path_of(tmp_path, job).exists()]
    assert missing == [a, b]
    told = list(run(missing, tmp_path, workers=2))
    assert last(told) == {a.key: Done, b.key: Done}
    assert sum(isinstance(news, Began) for _, news in told) == 2
    assert sum(isinstance(news, EvaluationPoint) for _, news in told) == 4
    assert path_of(tmp_path, expert).stat().st_mtime_ns == before
    assert sorted(found(tmp_path).runs) == [("land", "a"), ("land", "b")]

    # What came out is what comes out of a run that nobody stopped.
    assert a.config is not None
    with sync_trainer.one_thread():
        plain = sync_trainer.run(a.config, a.options)
    assert outcomes(tmp_path, [a]) == {a.key: [e.returns for e in plain]}
    again = read(path_of(tmp_path, a))
    assert again.made["revision"]
    assert again.evaluations[0].metrics.keys() == plain[0].metrics.keys()


def test_dead_study_worker_costs_only_its_own_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, a, b = jobs(WHAT)
    workers: list[int] = []
    new = Workers._new

    def noted(pool: Workers[Job]) -> tuple[BaseProcess, Connection[Any, Any]]:
        process, pipe = new(pool)
        assert process.pid is not None
        workers.append(process.pid)
        return process, pipe

    monkeypatch.setattr(Workers, "_new", noted)
    told = []
    for job, news in run([a, b], tmp_path, workers=1):
        told.append((job, news))
        if job == a and isinstance(news, Began):
            os.kill(workers[0], signal.SIGKILL)
    assert last(told) == {a.key: JobFailed, b.key: Done}
    assert "exit code -9" in next(n.message for _, n in told if isinstance(n, JobFailed))
    assert (path_of(tmp_path, a).exists(), path_of(tmp_path, b).exists()) == (False, True)


def test_failed_study_run_reports_its_reason(tmp_path: Path) -> None:
    (scene,) = WHAT.scenes
    wrong = comparison(
        seeds=1, variants={"a": {}}, scenes=(type(scene)("land", "x", "NoSuchGame-v1"),)
    )
    told = [news for _, news in run(jobs(wrong), tmp_path, workers=1)]
    reasons = [news.message for news in told if isinstance(news, JobFailed)]
    assert len(reasons) == 2
    assert "no expert" in reasons[0]
    assert "NoSuchGame" in reasons[1]
    assert list(tmp_path.rglob("*.jsonl")) == []


def test_damaged_study_result_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    for text in ("", "{", '{"seed": 1, "made": {}}\n'):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"x\.jsonl is damaged.*remove it and run"):
            read(path)

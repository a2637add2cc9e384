"""Whoever plays evaluations all day has them counted, and costs a bounded part of disk and log."""

from __future__ import annotations

import json
import logging
import math
import tracemalloc
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from config.models import Config
from server.ipc.expert_messages import Trusted
from server.ipc.messages import FinishedEpisode, SaveBest, SavedBest
from server.run import evaluation as run_evaluation
from server.run import evaluation_log
from server.run.disk import Writes
from server.run.evaluation import Evaluation, read_evaluations
from server.run.evaluation_log import EvaluationLog
from server.run.evaluation_part import KEPT, EvaluationPart
from server.run.evaluations import NEWEST, Evaluations
from server.run.history import thinned
from server.supervisor import best_network, evaluation_recorder
from server.supervisor.evaluation_recorder import BURST, EVERY_S, EvaluationRecorder


def evaluation(mean: float, *, time: float = 0.0, teacher: float | None = None) -> Evaluation:
    expert = () if teacher is None else (teacher, teacher)
    return Evaluation(
        time=time, frames=int(time), versions=(1, 1), returns=(mean, mean), mean=mean,
        expert_returns=expert, expert_mean=teacher, partial=False,
    )  # fmt: skip


def numbers(path: Path) -> dict[str, float]:
    """What a resumed run knows of its evaluations."""
    return Evaluations(read_evaluations(path)).numbers()


class Recorded:
    """A recorder whose clock is moved by hand, with a trainer that answers when told to."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        clock = SimpleNamespace(monotonic=lambda: self.now, time=lambda: self.now)
        monkeypatch.setattr(evaluation_recorder, "time", clock)
        monkeypatch.setattr(best_network, "time", clock)
        self.asked: list[float] = []
        self.trusted = math.nan
        self.answered = 0
        self.trainer = SimpleNamespace(pid=7, alive=True, send=self._asked)
        self.told = 0
        processes: Any = SimpleNamespace(trainer=self.trainer, tell_gateways=self._told)
        self.shown: list[Evaluation] = []
        status: Any = SimpleNamespace(add_evaluation=self.shown.append, update=lambda **_: None)
        self.path = folder / "evaluations.jsonl"
        place: Any = SimpleNamespace(evaluations=self.path, checkpoints=folder / "checkpoints")
        writes = Writes(logging.getLogger("test"), "it goes on")
        clients: Any = SimpleNamespace(peers={})
        self.recorder = EvaluationRecorder(
            Config(), place, Evaluations(), processes, status, writes, clients
        )

    def _asked(self, message: Any) -> None:
        if isinstance(message, Trusted):
            self.trusted = message.trust
            return
        assert isinstance(message, SaveBest)
        self.asked.append(message.evaluation["mean"])

    def _told(self, _: Any) -> None:
        self.told += 1

    def answer(self, error: str | None = None) -> None:
        self.answered = len(self.asked)
        self.recorder.saved_best(SavedBest("best.pt", self.asked[-1], error))

    def pass_s(self, seconds: float) -> None:
        """The loop goes round ten times a second meanwhile, and the trainer answers at once."""
        until = self.now + seconds
        while self.now < until:
            self.now += 0.1
            self.recorder.poll(lambda: None)
            if len(self.asked) > self.answered:
                self.answer()

    @property
    def kept(self) -> list[float]:
        return [one.mean for one in read_evaluations(self.path) if one.mean is not None]


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    return Recorded(tmp_path, monkeypatch)


@pytest.mark.promise("evaluation-load")
def test_visitor_with_rising_returns_costs_a_bounded_rate(
    recorded: Recorded, caplog: pytest.LogCaptureFixture
) -> None:
    """A thousand evaluations in two seconds, and again for a while."""
    caplog.set_level(logging.INFO, "supervisor")
    for second in range(40):
        for each in range(500):
            mean = float(second * 500 + each)
            recorded.recorder.add([evaluation(mean, time=recorded.now)])
        recorded.pass_s(1.0)
    intervals = 40 / EVERY_S + 1
    assert len(recorded.kept) <= BURST + 2 * intervals
    assert recorded.kept[:BURST] == [float(n) for n in range(BURST)]
    assert len(recorded.shown) == len(recorded.kept) == len(set(recorded.kept))
    assert recorded.told <= BURST + intervals
    assert len(recorded.asked) <= 40 / best_network.EVERY_S + 2
    assert sorted(recorded.asked) == recorded.asked
    assert len(caplog.records) <= 2 * len(recorded.kept) + intervals
    assert "more evaluations have ended within" in caplog.text
    recorded.pass_s(3 * EVERY_S)
    newest = 40 * 500 - 1.0
    assert (recorded.kept[-1], recorded.asked[-1]) == (newest, newest), "the best is not lost"


@pytest.mark.promise("evaluation-load")
def test_best_the_newest_and_the_experts_of_an_interval_are_recorded(recorded: Recorded) -> None:
    recorded.recorder.add([evaluation(1.0)] * BURST)
    recorded.recorder.add([evaluation(5.0, time=1.0, teacher=70.0), evaluation(9.0, time=2.0)])
    recorded.recorder.add([evaluation(4.0, time=each) for each in (3.0, 4.0, 5.0)])
    recorded.recorder.add([evaluation(8.0, time=6.0), evaluation(6.0, time=7.0)])
    assert recorded.kept == [1.0] * BURST
    recorded.pass_s(EVERY_S + 1)
    assert recorded.kept == [1.0] * BURST + [5.0, 9.0, 6.0]
    found = numbers(recorded.path)
    assert (found["eval_return_mean"], found["eval_return_best"]) == (6.0, 9.0)
    assert found["expert_return_mean"] == 70.0


@pytest.mark.promise("evaluation-load")
def test_what_waits_is_recorded_when_the_server_stops(recorded: Recorded) -> None:
    recorded.recorder.add([evaluation(float(n)) for n in range(BURST + 5)])
    assert recorded.asked == [0.0], "one at a time"
    recorded.recorder.end()
    assert recorded.kept[-1] == BURST + 4
    assert recorded.asked == [0.0, BURST + 4]


@pytest.mark.promise("evaluation-load")
def test_best_network_is_asked_for_again_when_the_trainer_died_or_could_not(
    recorded: Recorded,
) -> None:
    recorded.recorder.add([evaluation(3.0)])
    recorded.trainer.pid = 8
    recorded.pass_s(best_network.EVERY_S + 1)
    assert recorded.asked == [3.0, 3.0]
    recorded.recorder.add([evaluation(2.0), evaluation(3.0)])
    assert recorded.asked == [3.0, 3.0], "neither is better"
    recorded.pass_s(best_network.EVERY_S + 1)
    recorded.recorder.add([evaluation(4.0)])
    recorded.answer(error="the disk is full")
    recorded.recorder.add([evaluation(3.5)])
    recorded.pass_s(best_network.EVERY_S + 1)
    assert recorded.asked == [3.0, 3.0, 4.0, 3.5]


# The file.


@pytest.mark.promise("evaluation-load")
def test_full_file_keeps_what_the_run_goes_on_by_and_what_charts_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation_log, "FULL", 40_000)
    path = tmp_path / "evaluations.jsonl"
    log, largest = EvaluationLog(path), 0
    for n in range(2000):
        mean = 900.0 if n == 700 else float(n % 50)
        one = evaluation(mean, time=float(n), teacher=55.0 if n == 300 else None)
        log.add([one])
        largest = max(largest, path.stat().st_size)
    assert largest < 41_000
    found = list(read_evaluations(path))
    times = [one.time for one in found]
    assert times == sorted(set(times))
    assert {0.0, 700.0, 1999.0} <= set(times)
    assert times[-20:] == [float(n) for n in range(1980, 2000)], "the newest are whole"
    old = [time for time in times if time < 1900]
    assert max(b - a for a, b in pairwise(old)) < 400, "the rest is spread"
    known = numbers(path)
    assert (known["eval_return_best"], known["eval_return_mean"]) == (900.0, 49.0)
    assert known["expert_return_mean"] == 55.0
    assert Evaluations(read_evaluations(path)).first == 0.0


@pytest.mark.promise("evaluation-load")
def test_file_of_any_size_is_read_in_bounded_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    longest = 2**19
    monkeypatch.setattr(run_evaluation, "LONGEST_LINE", longest)
    path = tmp_path / "evaluations.jsonl"
    line = json.dumps(evaluation(1.0).line()).encode() + b"\n"
    with path.open("wb") as file:
        for _ in range(10):
            file.write(line * 2000)
        file.write(b"x" * (longest + 1000) + b"\n")
        file.write(json.dumps(evaluation(7.0).line()).encode() + b"\n" + line[:50])
    tracemalloc.start()
    found = Evaluations(read_evaluations(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path.stat().st_size > 6e6
    assert peak < 2 * longest + 1e6
    assert (found.mean, found.best, len(found.newest)) == (7.0, 7.0, NEWEST)


def test_damaged_lines_are_named_a_few_times_and_then_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "evaluations.jsonl"
    path.write_text("nonsense\n" * 500)
    assert list(read_evaluations(path)) == []
    assert len(caplog.records) < 10
    assert "500 lines cannot be read" in caplog.text


def test_million_announced_episodes_make_a_short_line(tmp_path: Path) -> None:
    part = EvaluationPart(announced=5000)
    for n in range(5000):
        assert part.add(FinishedEpisode("eval", float(n), 1))
        part.add(FinishedEpisode("eval", 0.0, 1, cut="left"))
    assert (len(part.returns), len(part.cut), part.accounted) == (KEPT, KEPT, 5000)
    assert part.mean == pytest.approx(4999 / 2)
    assert part.progress == "5000 of 5000 episodes"
    one = Evaluation(
        time=1.0, frames=2, versions=(1, 1), returns=(), mean=None,
        expert_returns=tuple(part.returns), expert_mean=part.mean, partial=False,
        expert_episodes=part.beyond,
    )  # fmt: skip
    EvaluationLog(tmp_path / "evaluations.jsonl").add([one])
    known = numbers(tmp_path / "evaluations.jsonl")
    assert (known["expert_return_mean"], known["expert_episodes"]) == (part.mean, 5000)
    assert "expert 2499.5 over 5000 episodes" in one.text()


def test_thinned_rows_are_few_and_evenly_spread() -> None:
    assert thinned(iter(range(10)), 20) == list(range(10))
    found = thinned(iter(range(100_000)), 100)
    assert 50 <= len(found) <= 100
    assert len({b - a for a, b in pairwise(found)}) == 1
    assert not math.isnan(found[0])

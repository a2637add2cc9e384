from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from agent import diagnostics
from protocol.actor import ACTORS, NAMES, Actor
from protocol.errors import CODES
from server.ipc.inflight import InFlight, StepCounts
from server.ipc.messages import FinishedEpisode
from server.ipc.turn_buckets import TURN_BUCKETS_S
from server.monitor.collector import MetricsCollector, TurnHistogram
from server.monitor.earlier_rows import RENAMED, with_current_names
from server.monitor.game_metrics import HELP
from server.monitor.metric import labeled
from server.monitor.metrics import (
    ACTOR,
    CODE,
    PROCESS,
    REGISTRY,
    SERIES,
)
from server.monitor.metrics_doc import SUMMARY, document
from server.run.summary import summarize, write_summary
from tests.support.reports import report
from tests.support.running import RawClient, Running, client_for

pytestmark = pytest.mark.timeout(60)

ROOT = Path(__file__).parents[2]


# Names.


def test_metrics_page_is_what_the_module_prints() -> None:
    assert (ROOT / "docs/metrics.md").read_text() == document()
    printed = subprocess.run(
        [sys.executable, "-m", "server.monitor.metrics_doc"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (printed.returncode, printed.stdout) == (0, document())


def test_metrics_page_has_every_metric() -> None:
    page = (ROOT / "docs/metrics.md").read_text()
    assert [name for name in SERIES if f"| `{name}` |" not in page] == []


def test_metrics_page_is_three_well_formed_tables() -> None:
    """A bar in a meaning (|TD error|) would end its cell."""
    tables, _, _ = document().partition("## Prometheus")
    rows = [line for line in tables.splitlines() if line.startswith("|")]
    assert len(rows) == len(SERIES) + 2 + len(HELP) + 2 + len(SUMMARY) + 2
    bars = [line.replace(r"\|", "").count("|") for line in rows]
    own = [3] * (len(HELP) + 2)
    assert bars == [5] * (len(SERIES) + 2) + own + [4] * (len(SUMMARY) + 2)


def test_every_metric_has_its_own_description() -> None:
    meanings = [series.help for series in SERIES.values()]
    assert all(meanings)
    assert len(set(meanings)) == len(meanings)


def test_registry_has_the_learners_metrics() -> None:
    assert set(diagnostics.METRICS) <= SERIES.keys()
    assert all(SERIES[name].help for name in diagnostics.METRICS)


def test_per_actor_metrics_exist_for_every_actor() -> None:
    for name in (
        "batch_n",
        "td_err_mean",
        "reward_mean",
        "q_mean",
        "grad_norm",
        "reward_frame_mean",
    ):
        for actor in ACTORS:
            assert f"{name}_{NAMES[actor]}" in SERIES
    assert "batch_frac_dqn" in SERIES


def test_every_error_code_has_a_counter() -> None:
    assert {name for name in SERIES if name.startswith("errors_")} == {
        f"errors_{code}" for code in CODES
    }


def test_row_names_are_made_from_labels() -> None:
    by_actor = [metric for metric in REGISTRY if metric.label is ACTOR]
    assert {metric.name for metric in by_actor} >= {
        "batch_n",
        "td_err_mean",
        "grad_share",
        "buffer",
    }
    for metric in by_actor:
        assert [series.name for series in metric.series] == [
            f"{metric.name}_{NAMES[actor]}" for actor in ACTORS
        ]
    assert SERIES["td_err_mean"].metric is not SERIES["td_err_mean_dqn"].metric
    assert SERIES["errors_bad_token"].metric.label is CODE
    assert labeled("restarts", PROCESS, {"trainer": 2}) == {
        "restarts_gateway": 0.0, "restarts_trainer": 2.0,
    }  # fmt: skip


def test_series_names_are_unique() -> None:
    assert len(SERIES) == sum(len(metric.series) for metric in REGISTRY)
    assert not RENAMED.keys() & SERIES.keys()
    assert set(RENAMED.values()) <= SERIES.keys()


def test_row_of_an_earlier_revision_gets_current_names() -> None:
    assert with_current_names({"went_back": 1, "loss": None}) == {"rollbacks": 1, "loss": None}
    # What was called so had steps in flight in it, and could be negative.
    old = {"transitions_dropped": -33_856, "steps_lost": 2}
    assert with_current_names(old) == {"transitions_dropped": 2, "steps_lost": 2}
    assert with_current_names({"transitions_dropped": 5}) == {"transitions_dropped": None}
    new = {"transitions_dropped": 5, "steps_in_flight": 3}
    assert with_current_names(new) == new


# Rows.


def test_reports_of_all_gateways_are_summed() -> None:
    collector = MetricsCollector()
    collector.gateway(
        report(
            0,
            frames={"train": 10, "eval": 2, "eval_expert": 0},
            clients=1,
            slots=2,
            errors={"idle_timeout": 1, "bad_hello": 2},
            turn_p50_ms=1.0,
            turn_p99_ms=5.0,
            stalls=3,
            policy_version=7,
            expert_ratio=0.5,
            epsilon=0.2,
        )
    )
    collector.gateway(
        report(
            1,
            frames={"train": 20, "eval": 0, "eval_expert": 4},
            clients=3,
            slots=4,
            errors={"idle_timeout": 5},
            turn_p50_ms=2.0,
            turn_p99_ms=4.0,
            stalls=1,
            policy_version=8,
            expert_ratio=0.4,
            epsilon=0.1,
        )
    )
    collector.trainer({"steps_stored": 24.0, "frames": 124.0})
    row = collector.row(StepCounts(27, 25), 100)
    expected = {
        "steps_completed": 27,
        "steps_stored": 25,
        "steps_in_flight": 2,
        "transitions_dropped": 0,
        "frames": 125,
        "frames_eval": 2,
        "frames_eval_expert": 4,
        "clients": 4,
        "slots": 6,
        "errors": 8,
        "errors_idle_timeout": 6,
        "errors_bad_hello": 2,
        "errors_bad_token": 0,
        "turn_p50_ms": 1.5,
        "turn_p99_ms": 5,
        "stalls": 4,
        "policy_version": 8,
        "expert_ratio": 0.45,
        "epsilon": pytest.approx(0.15),
    }
    assert {name: row[name] for name in expected} == expected


def test_newer_report_replaces_the_older_totals() -> None:
    collector = MetricsCollector()
    for stalls in (5, 8):
        collector.gateway(report(stalls=stalls, errors={"bad_hello": stalls}))
    row = collector.row()
    assert (row["stalls"], row["errors"]) == (8, 8)


def test_rates_use_the_monotonic_time_between_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that nobody sets: the time of day stands still here, and goes back. Reports come
    at other moments than rows: two between two rows, or none."""
    now, of_day = 1000.0, 5000.0
    clock = SimpleNamespace(time=lambda: of_day, monotonic=lambda: now)
    monkeypatch.setattr("server.monitor.collector.time", clock)
    collector = MetricsCollector()

    def hear(frames: int, at: float) -> None:
        collector.gateway(report(frames={"train": frames, "eval": 50}, time=at))

    def rates(completed: int) -> tuple[float, float]:
        row = collector.row(StepCounts(completed, completed // 2), 0)
        return row["frames_per_s"], row["answers_per_s"]

    hear(150, 999.9)
    assert rates(100) == (0, 0), "there is no interval yet"
    now = 1002.0
    assert rates(200) == (50, 0), "no second report yet"
    hear(250, 1001.9)
    assert rates(200) == (50, 50), "a row at the same moment"
    of_day -= 86_400.0
    now = 1003.0
    assert rates(300) == (100, 50), "no report since: it goes on as it did"
    hear(350, 1003.9)
    hear(360, 1003.901)  # an evaluation has begun: too soon for a rate
    now = 1004.0
    assert rates(300) == (0, 50)
    now = 1100.0
    assert rates(300) == (0, 0), "it has not been heard of for long"


def test_trainers_counters_go_on_when_it_dies() -> None:
    collector = MetricsCollector()
    collector.trainer({"rollbacks": 2.0, "updates_skipped": 5.0, "updates": 70.0})
    collector.trainer_gone()
    row = collector.row()
    assert (row["rollbacks"], row["updates_skipped"], row["updates"]) == (2, 5, 70)
    collector.trainer_gone()  # its successor has died before it said anything
    collector.trainer({"rollbacks": 0.0, "updates_skipped": 1.0, "updates": 60.0})
    row = collector.row()
    assert (row["rollbacks"], row["updates_skipped"], row["updates"]) == (2, 6, 60)


def test_return_means_cover_the_newest_training_episodes() -> None:
    collector = MetricsCollector()
    assert math.isnan(collector.row()["episode_return_mean"])
    old = [FinishedEpisode("train", 1e6, 1)] * 50
    new = [FinishedEpisode("train", float(i), 10) for i in range(100)]
    other = [FinishedEpisode("eval", 1e9, 1), FinishedEpisode("eval_expert", 1e9, 1)]
    collector.gateway(report(episodes=old))
    collector.gateway(report(episodes=other + new))
    row = collector.row()
    assert row["episodes"] == 150
    assert row["episode_return_mean"] == 49.5
    assert row["episode_length_mean"] == 10


def test_measurements_between_two_rows_are_in_the_next_row() -> None:
    """Reports come in their own time: two may fall between two rows, the second without updates."""
    nothing = {"loss": math.nan, "updates": 5.0}
    collector = MetricsCollector()
    collector.trainer({"loss": 0.5, "updates": 5.0})
    collector.trainer(nothing)
    row = collector.row()
    assert (row["loss"], row["updates"]) == (0.5, 5.0)
    collector.trainer(nothing)
    assert math.isnan(collector.row()["loss"]), "it was told once"
    collector.trainer({"loss": 0.4, "updates": 6.0})
    collector.trainer({"loss": 0.3, "updates": 7.0})
    row = collector.row()
    assert (row["loss"], row["updates"]) == (0.3, 7.0)


def test_means_without_gateways_are_nan() -> None:
    row = MetricsCollector().row()
    assert math.isnan(row["expert_ratio"])
    assert (row["clients"], row["transitions_dropped"], row["steps_in_flight"]) == (0, 0, 0)
    assert math.isnan(row["turn_p50_ms"])
    assert math.isnan(row["turn_p99_ms"])


def test_turn_times_are_of_gateways_that_had_turns() -> None:
    collector = MetricsCollector()
    collector.gateway(report(0, turn_p50_ms=2.0, turn_p99_ms=5.0))
    collector.gateway(report(1, turn_p50_ms=math.nan, turn_p99_ms=math.nan))
    row = collector.row()
    assert (row["turn_p50_ms"], row["turn_p99_ms"]) == (2, 5)


def test_turn_time_histograms_are_summed_and_survive_a_gateways_death() -> None:
    collector = MetricsCollector()
    assert collector.turns == TurnHistogram()
    rising = list(range(1, len(TURN_BUCKETS_S) + 2))
    collector.gateway(report(0, turn_buckets=rising, turn_seconds=1.5))
    collector.gateway(report(1, turn_buckets=[10] * len(rising), turn_seconds=0.5))
    assert collector.turns.buckets == tuple(n + 10 for n in rising)
    assert collector.turns.seconds == 2.0
    collector.gateway_gone(0)
    collector.gateway(report(0))  # its successor
    assert collector.turns.buckets == tuple(n + 10 for n in rising)
    collector.gateway(report(0, turn_buckets=rising, turn_seconds=1.0))
    assert collector.turns.buckets == tuple(2 * n + 10 for n in rising)
    assert collector.turns.seconds == 3.0


# A real run.


@pytest.fixture(scope="module")
def trained(folder: Path) -> Iterator[Running]:
    """With what has numbers of its own."""
    with Running(folder / "metrics", replay__prioritized=True) as server:
        with client_for(server.port) as client:
            for i in range(200):
                advice = [1, [0.5, 0.5]]
                took = (advice, Actor.EXPERT) if i in (5, 6) else None
                client.act([0, 1, i / 200], i % 3, int(i % 20 == 19), advice, took)
        for role in ("eval", "eval_expert"):
            with client_for(server.port, role=role) as client:
                client.act([0, 1, 1], 0, 0, [1, [0.5, 0.5]])
                client.act([0, 1, 1], 5.0, 1)
        with RawClient(server.port) as rude:
            rude.send([99])
            rude.refusal()
        server.settle()
        yield server


def test_row_of_a_running_server_has_exactly_the_registered_metrics(trained: Running) -> None:
    assert trained.row["updates"] > 0
    assert set(trained.row) == set(SERIES)


def test_row_of_a_running_server_has_the_runs_numbers(trained: Running) -> None:
    row = trained.supervisor.last
    assert row["steps_completed"] == row["frames"] == row["buffer_total"] == 190
    assert row["episodes"] == 10
    assert row["episode_length_mean"] == 19
    assert row["episode_return_mean"] == pytest.approx(19, abs=1)
    assert (row["errors"], row["errors_hello_first"] + row["errors_unknown_type"]) == (1, 1)
    assert row["buffer_dqn"] + row["buffer_expert"] == 190
    assert row["buffer_expert"] > 20
    assert row["batch_n_dqn"] + row["batch_n_expert"] == pytest.approx(16)
    assert 0 <= row["reward_frame_mean_expert"] <= 2
    assert (row["takeovers"], row["takeover_length_mean"]) == (1, 2)
    # Everything was measured at some time, with a number, but what this game does not tell.
    told = [name for name in SERIES if not name.startswith(("game_score_", "game_level_"))]
    missing = {name for name in told if not math.isfinite(row.get(name, math.nan))}
    # Times of turns are those of one report of a gateway: where two came before a row, the second,
    # of an interval without turns, is shown.
    assert missing <= {"turn_p50_ms", "turn_p99_ms"}


def test_summary_has_the_last_row_and_the_buffer_table(trained: Running) -> None:
    summary = trained.do(
        lambda: write_summary(
            trained.folder,
            trained.supervisor.row,
            trained.supervisor.last,
            extra=[1],
            frames="mine",
        )
    )
    assert json.loads(trained.folder.summary.read_text()) == summary
    assert summary["run"] == str(trained.folder.path)
    assert (summary["extra"], summary["frames"]) == ([1], "mine")
    assert set(summary["buffer"]) == {"total", "dqn", "expert", "frac_dqn", "frac_expert"}
    assert summary["buffer"]["total"] == 190
    assert set(SERIES) - set(summary) == {f"buffer_{part}" for part in summary["buffer"]}
    assert all(summary[name] is not None for name in diagnostics.METRICS)
    assert summary["transitions_dropped"] == 0


def test_summary_without_games_has_nulls(folder: Path) -> None:
    run = SimpleNamespace(path=folder, launch=2)
    summary = summarize(run, MetricsCollector().row(), {})  # type: ignore[arg-type]
    assert summary["expert_ratio"] is None
    assert summary["buffer"]["total"] is None
    assert summary["frames"] == 0
    assert summary["launch"] == 2


def test_undocumented_metric_fails_the_comparison(trained: Running) -> None:
    """The comparison above turns red."""
    collector = trained.supervisor._collector
    extra = dict(collector._trainer) | {"secret": 1.0}
    fresh = MetricsCollector()
    fresh.trainer(extra)
    fresh.gateway(report())
    assert set(fresh.row()) - set(SERIES) == {"secret"}


# Processes that die.


def test_counts_of_a_dead_gateway_are_kept() -> None:
    collector = MetricsCollector()
    counted = {"frames": {"eval": 10}, "errors": {"bad_hello": 2}, "stalls": 3}
    collector.gateway(report(0, clients=1, slots=2, expert_failures=1, **counted))
    collector.gateway(report(1, clients=1, slots=1))
    collector.gateway_gone(0)
    row = collector.row()
    assert (row["clients"], row["slots"]) == (1, 1)
    assert (row["errors_bad_hello"], row["stalls"], row["expert_failures"]) == (2, 3, 1)
    collector.gateway(report(0))  # the next one
    assert collector.row()["frames_eval"] == 10
    collector.gateway(report(0, stalls=1, errors={"bad_hello": 1}))
    row = collector.row()
    assert (row["frames_eval"], row["stalls"], row["errors_bad_hello"]) == (10, 4, 3)


def test_every_row_has_restarts_and_losses() -> None:
    collector = MetricsCollector()
    assert [collector.row()[name] for name in ("restarts_gateway", "steps_lost")] == [0, 0]
    collector.restarts["trainer"] += 1
    collector.lost += InFlight(3, 2)
    row = collector.row()
    assert (row["restarts_gateway"], row["restarts_trainer"]) == (0, 1)
    assert (row["steps_lost"], row["frames_lost"], row["transitions_dropped"]) == (3, 2, 3)

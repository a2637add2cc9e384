"""The short form of scripts/soak, and proof that it would notice a server that does not last."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lab.soak import command as soak
from lab.soak.judge import BINS, ServerSample, bins, judge, percentile_ms, together
from server import cli

MIB = 2**20

TINY: dict[str, Any] = {
    "learner.hidden": [16],
    "learner.batch_size": 16,
    "replay.capacity_steps": 4096,
    "trainer.min_steps": 100,
    "checkpoint.every_s": 0.5,
    "metrics.every_s": 0.2,
}


def seconds(
    count: int, change: Callable[[int, dict[str, Any]], None] | None = None
) -> list[ServerSample]:
    """So many seconds of a server that is always the same, but for what is changed."""
    rng = np.random.default_rng(0)
    found = []
    for second in range(count):
        values: dict[str, Any] = {
            "frames": 10_000 + int(rng.integers(-500, 500)),
            "latency_s": 0.002,
            "memory": {"supervisor": 170 * MIB, "gateway": 180 * MIB, "trainer": 480 * MIB},
            "files": {"supervisor": 24, "gateway": 60 + second % 2, "trainer": 16},
            "disk": (190 + second % 7) * MIB,
        }
        if change is not None:
            change(second, values)
        latencies = rng.exponential(values["latency_s"], values.pop("frames"))
        del values["latency_s"]
        found.append(
            ServerSample(
                at_s=second, seconds=1.0, histogram=bins(latencies), visits=5,
                written=2000 * second, **values,
            )
        )  # fmt: skip
    return found


def broken(change: Callable[[int, dict[str, Any]], None] | None = None, pace: bool = True) -> str:
    """What the judge says of 80 seconds."""
    found = seconds(80, change)
    return "; ".join(judge(together(found[:20]), together(found[60:]), pace=pace))


def test_steady_server_passes_the_verdict() -> None:
    assert broken() == ""


def _grows(what: str, process: str, per_second: int) -> Callable[[int, dict[str, Any]], None]:
    def change(second: int, values: dict[str, Any]) -> None:
        values[what][process] += per_second * second

    return change


@pytest.mark.parametrize("process", ["supervisor", "gateway", "trainer"])
def test_memory_leak_fails_the_verdict(process: str) -> None:
    said = broken(_grows("memory", process, MIB // 2), pace=False)
    assert f"memory of the {process}: expected at most" in said
    assert said.count("expected") == 1


def test_memory_growth_within_tolerance_passes_the_verdict() -> None:
    assert broken(_grows("memory", "supervisor", 100_000)) == ""


@pytest.mark.parametrize("process", ["supervisor", "gateway", "trainer"])
def test_descriptor_leak_fails_the_verdict(process: str) -> None:
    def change(second: int, values: dict[str, Any]) -> None:
        values["files"][process] += second // 15  # 4 from the first quarter to the last

    said = broken(change, pace=False)
    assert f"file descriptors of the {process}: expected at most" in said
    assert said.count("expected") == 1


def test_decaying_frame_rate_fails_the_verdict() -> None:
    def change(second: int, values: dict[str, Any]) -> None:
        values["frames"] = round(values["frames"] * 0.997**second)

    assert "frame rate: expected at least 0.9" in broken(change)
    assert broken(change, pace=False) == ""


def test_growing_answer_times_fail_the_verdict() -> None:
    def change(second: int, values: dict[str, Any]) -> None:
        values["latency_s"] *= 1.005**second

    assert "p99: expected at most 1.25 times" in broken(change)
    assert broken(change, pace=False) == ""


def test_few_bad_seconds_pass_the_verdict() -> None:
    def change(second: int, values: dict[str, Any]) -> None:
        if 60 < second < 68:
            values["frames"] //= 4
            values["latency_s"] *= 10

    assert broken(change) == ""


def test_server_silent_at_the_end_fails_the_verdict() -> None:
    def change(second: int, values: dict[str, Any]) -> None:
        if second >= 60:
            values["frames"] = 0

    said = broken(change)
    assert "frame rate" in said
    assert "p99" in said


def test_growing_disk_use_fails_the_verdict() -> None:
    def change(second: int, values: dict[str, Any]) -> None:
        values["disk"] += second * MIB

    assert "disk: expected" in broken(change, pace=False)


def test_replaced_process_fails_the_verdict() -> None:
    def change(second: int, values: dict[str, Any]) -> None:
        if second >= 60:
            del values["memory"]["trainer"]

    assert "processes: expected supervisor, gateway, trainer to the end" in broken(change)


def test_histogram_percentiles_are_exact_to_one_percent() -> None:
    latencies = np.random.default_rng(1).lognormal(-6, 1, 50_000)
    for percent in (50, 99):
        exact = float(np.percentile(latencies, percent)) * 1e3
        assert percentile_ms(bins(latencies), percent) == pytest.approx(exact, rel=0.011)
    assert bins(np.array([0.0, 1e-9, 1e9])).sum() == 3
    assert np.isnan(percentile_ms(np.zeros(BINS, np.int64), 99))


def test_quarter_report_projects_a_days_writes() -> None:
    assert together(seconds(10)).written_per_day == 2000 * 86_400


# A real one.


def _short(**settings: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The quarters and the verdict of a few seconds, frame rate and answer times not judged."""
    warm, *quarters, last = soak.soak(
        4.0,
        clients=4,
        visitors=2,
        pace=False,
        warm_up_s=5.0,
        every_s=0.25,
        settings=TINY | settings,
    )
    assert warm["warm_up"] or last["broken"]
    return quarters, last


@pytest.mark.timeout(400)
@pytest.mark.usefixtures("no_leaks")
def test_short_soak_keeps_memory_and_descriptors() -> None:
    quarters, last = _short()
    assert last["ok"], last
    assert not last["pace_judged"]
    assert [row["quarter"] for row in quarters] == [1, 2, 3, 4]
    for row in quarters:
        assert row["memory"].keys() == row["files"].keys() == {"supervisor", "gateway-0", "trainer"}
        assert min(row["memory"].values()) > 10 * MIB
        assert row["files"]["gateway-0"] > 6  # those that stay, and those that come and go
        assert row["frames_per_s"] > 0
    assert sum(row["visits"] for row in quarters) > 0


@pytest.mark.timeout(400)
def test_short_soak_detects_a_leaking_server(monkeypatch: pytest.MonkeyPatch) -> None:
    root = str(Path(__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
    _, last = _short(**{"expert.plugin": "tests.support.leaking_expert:act"})
    assert not last["ok"]
    said = "; ".join(last["broken"])
    assert "memory of the gateway" in said
    assert "file descriptors of the gateway" in said
    assert "supervisor" not in said


def test_soak_of_a_server_that_does_not_start_says_so() -> None:
    (last,) = soak.soak(1.0, settings={"server.host": "192.0.2.1"})
    assert not last["ok"]
    assert "the server has ended" in last["broken"][0]
    assert "192.0.2.1" in last["broken"][0]


def test_soak_exit_code_follows_its_verdict(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[float, dict[str, Any]]] = []

    def found(seconds: float, **options: Any) -> Iterator[dict[str, Any]]:
        asked.append((seconds, options))
        yield {"quarter": 1}
        yield {"ok": options["pace"], "broken": []}

    monkeypatch.setattr(soak, "soak", found)
    assert cli.main(["soak"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["ok"]
    assert cli.main(["soak", "--minutes", "0.5", "--clients", "8", "--no-pace"]) == 1
    assert [each[0] for each in asked] == [1200.0, 30.0]
    assert asked[1][1]["clients"] == 8

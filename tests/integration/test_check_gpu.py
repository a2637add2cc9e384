"""scripts/check-gpu, on the cpu at sizes that only show that it runs."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import check_gpu
from lab.bench.serving import Serving
from tests.support.commands import in_this_process
from tests.support.processes import is_zombie


def checked(tmp_path: Path, *words: str) -> tuple[int, dict[str, Any]]:
    out = tmp_path / "gpu.json"
    code = check_gpu.main(["--device", "cpu", "--small", "--out", str(out), *words])
    return code, json.loads(out.read_text())


@pytest.mark.timeout(240)
def test_check_on_the_cpu_measures_updates_and_the_bench_records_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, found = checked(tmp_path, "--steps", "updates")
    assert code == 0
    assert found["ok"]
    machine, replay, *updates = found["rows"]
    assert (machine["case"], replay["case"]) == ("machine", "gpu replay")
    assert {row["case"] for row in updates} == {"gpu update"}
    assert [row["graphs"] for row in updates] == [True, False, True, True]
    assert [row["prioritized"] for row in updates] == [True, True, False, True]
    assert all(row["updates_per_s"] > 0 and not row["skipped"] for row in updates)
    assert not any("problem" in row for row in updates)

    history = tmp_path / "docs" / "benchmarks.md"
    history.parent.mkdir()
    history.write_text("# Benchmarks\n")
    monkeypatch.chdir(tmp_path)
    code, out, _ = in_this_process("bench", "--rows", "gpu.json", "--record")
    assert code == 0
    text = history.read_text()
    assert [json.loads(line) for line in out.splitlines()] == found["rows"]
    assert f"at {found['revision'] or 'no revision'}\n" in text
    assert text.count('"case": "gpu update"') == 4


def test_rows_that_no_check_has_written_are_refused(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.json"
    wrong.write_text('{"rows": 3}')
    code, _, errors = in_this_process("bench", "--rows", str(wrong))
    assert code == 2
    assert f"{wrong}: expected a file of scripts/check-gpu" in errors


def test_check_of_a_device_that_is_not_there_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "gpu.json"
    assert check_gpu.main(["--device", "cuda:99", "--out", str(out)]) == 2
    assert "--device is 'cuda:99', and this machine has" in capsys.readouterr().err
    assert not out.exists()


def test_steps_for_which_no_time_is_left_fail_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_gpu, "LIMIT_S", 1.0)
    code, found = checked(tmp_path, "--steps", "updates", "game")
    assert code == 1
    assert not found["ok"]
    assert [row.get("said") for row in found["rows"][1:]] == ["no time was left for it"] * 2


@pytest.mark.parametrize(("fps", "met"), [(949.0, False), (950.0, True)])
def test_serving_is_measured_with_the_trainer_on_the_device_and_judged(
    monkeypatch: pytest.MonkeyPatch, fps: float, met: bool
) -> None:
    asked: dict[str, Any] = {}

    class Found(Serving):
        def rows(self, parameters: dict[str, Any]) -> Iterator[dict[str, Any]]:
            yield {"case": "serving", "fps": fps, **parameters}
            yield {"case": "serving", "fps": 1000.0, **parameters}

    def measure(shape: Any, actions: int, hidden: list[int], **options: Any) -> Serving:
        asked.update(shape=shape, hidden=hidden, actions=actions, **options)
        return Found(shape)

    monkeypatch.setattr("lab.bench.serving.measure", measure)
    args = check_gpu.arguments().parse_args(["--device", "cuda:0"])
    row, alone = check_gpu.serving(args)
    assert (row["goal"], row["ok"], "ok" in alone) == (0.95, met, False)
    assert (asked["shape"].clients, asked["shape"].observations, asked["rounds"]) == (32, 195, 1)
    assert asked["config"]["trainer.device"] == asked["config"]["replay.device"] == "cuda:0"
    assert (row["batch_size"], row["device"]) == (768, "cuda:0")
    dry = check_gpu.arguments().parse_args(["--device", "cpu", "--small"])
    assert not any("ok" in each for each in check_gpu.serving(dry))


def test_step_that_takes_too_long_is_ended_with_all_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = tmp_path / "pids"
    words = f'sleep 600 & echo $$ $! >{pids}; echo \'{{"case": "begun"}}\'; wait'
    plain = subprocess.Popen

    def started(_: Any, **options: Any) -> Any:
        return plain(["sh", "-c", words], **options)

    monkeypatch.setattr(subprocess, "Popen", started)
    monkeypatch.setattr(check_gpu, "LEAST_S", 0.0)
    args = check_gpu.arguments().parse_args(["--device", "cpu"])
    begun, ended = check_gpu._step("game", args, 1.0)
    assert begun == {"case": "begun"}
    assert (ended["ok"], ended["said"]) == (False, "it took longer than 1 s")
    deadline = time.monotonic() + 60
    while any(
        Path(f"/proc/{pid}").exists() and not is_zombie(int(pid))
        for pid in pids.read_text().split()
    ):
        assert time.monotonic() < deadline, "something that it started is still there"
        time.sleep(0.01)

"""lab/bench/gpu.py: which rows have a goal, and what the memory of a case is."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lab.bench.gpu import GOAL, PeakMemory, judged


def row(**more: Any) -> dict[str, Any]:
    return {"device": "cuda", "batch_size": 8192, "samples_per_s": GOAL} | more


def test_updates_of_8192_rows_on_a_gpu_have_a_goal_and_others_have_none() -> None:
    assert judged(row()) == {"goal": 5_000_000, "ok": True}
    assert judged(row(samples_per_s=GOAL - 1))["ok"] is False
    assert judged(row(problem="it asks for a value"))["ok"] is False
    assert judged(row(device="cpu")) == judged(row(batch_size=768)) == {}


def test_peak_memory_is_that_since_the_case_began(monkeypatch: pytest.MonkeyPatch) -> None:
    held = {"peak": 3 * 2**30}
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda _: held.update(peak=2**30))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: held["peak"])
    assert PeakMemory(torch.device("cuda")).row() == {"peak_gib": 1.0}
    assert PeakMemory(torch.device("cpu")).row() == {}

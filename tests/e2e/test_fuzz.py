"""The short form of scripts/fuzz, and proof that it would notice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lab.fuzz import command as fuzz
from lab.fuzz import live as fuzz_live
from lab.fuzz.attacks import ATTACKS
from lab.fuzz.mutator import KINDS, PROTOCOL, TEMPEST, Mutator
from lab.fuzz.streams import BrokenPromise, check
from protocol import framing, spaces, tempest
from server import cli

ROOT = Path(__file__).parents[2]


def test_mutated_streams_break_no_rule() -> None:
    row = fuzz.seeded(5000, seed=3, jobs=1)
    assert row["ok"], row["broken"]
    assert row["streams"] == 5000
    # They get far: past the handshake, into frames, and to the refusals of every part.
    assert row["ends"]["open"] > 500
    for code in (
        "message_malformed", "message_truncated", "bad_hello", "observation_size",
        "seq_out_of_order", "reward_not_finite", "action_shape", "not_understudy",
    ):  # fmt: skip
        assert row["ends"].get(code), code


def test_mutated_stream_is_reproducible_from_seed_and_number() -> None:
    kind, data, _ = Mutator(5).make(77)
    assert Mutator(5).make(77)[:2] == (kind, data)
    assert Mutator(6).make(77)[1] != data
    assert {Mutator(5).make(number)[0] for number in range(50)} == set(KINDS)


@pytest.mark.skipif(not fuzz.has_atheris(), reason="needs atheris: scripts/install --dev")
def test_coverage_guided_streams_break_no_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *sys.path]))
    row = fuzz.coverage(2001, seed=1, jobs=2)
    assert row["ok"], row
    assert 2001 <= row["streams"] < 2100  # what one has found, the other tries too
    assert row["cpu_s"] > 0
    assert row["branches"] > 100


def _broken(count: int = 3000) -> list[str]:
    return [each["why"] for each in fuzz.seeded(count, seed=3, jobs=1)["broken"]]


def test_fuzz_detects_an_unexpected_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    def action_row(_self: Any, action: Any) -> list[float]:
        return [float(part) for part in action]

    monkeypatch.setattr(spaces.GameSpec, "action_row", action_row)
    assert any("expected RemoteError alone" in why for why in _broken())


def test_fuzz_detects_results_that_depend_on_splitting(monkeypatch: pytest.MonkeyPatch) -> None:
    real = framing.MessageReader.feed

    def feed(self: Any, data: bytes) -> Any:
        yield from real(self, data if len(data) != 3 else data[:2] + b"\x00")

    monkeypatch.setattr(framing.MessageReader, "feed", feed)
    assert any("however it is split" in why for why in _broken())


def test_fuzz_detects_unbounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def announced(_self: Any, head: Any) -> int:
        return int.from_bytes(head[:4], "big") if len(head) >= 4 else 0

    monkeypatch.setattr(framing.MessageReader, "_announced", announced)
    data = (2**31).to_bytes(4, "big") + bytes(80_000)
    with pytest.raises(BrokenPromise, match="bytes of an unfinished message"):
        check(PROTOCOL, data, Mutator(0).make(0)[2])


def test_fuzz_checks_the_older_format_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempest.TempestSession, "_bad_value", lambda _self: 1 / 0)
    payload = bytearray(tempest.HEADER.itemsize) + b"\x7f\xc0\x00\x00"  # NaN
    payload[1] = 1  # of one value
    data = tempest.LEAD + len(payload).to_bytes(2, "big") + payload
    with pytest.raises(BrokenPromise, match="expected RemoteError alone"):
        check(TEMPEST, data, Mutator(0).make(0)[2])


def test_fuzz_exits_with_1_after_a_broken_rule(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["fuzz", "--streams", "50", "--connections", "0", "--engine", "seeded", "--jobs", "1"]
    assert cli.main(words) == 0
    assert json.loads(capsys.readouterr().out)["streams"] == 50
    monkeypatch.setattr(spaces.GameSpec, "action_row", lambda *_: 1 / 0)
    words[2] = "2000"
    assert cli.main(words) == 1
    row = json.loads(capsys.readouterr().out)
    assert not row["ok"]
    assert bytes.fromhex(row["broken"][0]["hex"])


@pytest.mark.promise("hostile-connections")
@pytest.mark.timeout(400)
def test_server_survives_hostile_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the claim about the 99th percentile, which other work on the machine would break, and
    with the time that all attacks take there."""
    monkeypatch.setattr(fuzz_live, "ATTACK_TIMES", 60.0)
    (row,) = fuzz_live.live(126, seed=1, at_once=16, seconds=1.0, rounds=2, judge_p99=False)
    assert row["ok"], row
    assert row["connections"] == 126
    assert set(row["did"]) == {act.__name__ for act in ATTACKS}
    for code in ("frame_before_answer", "spec_mismatch", "message_truncated", "handshake_timeout"):
        assert row["errors"].get(code), row["errors"]
    assert row["p99_ms"] > 0


def test_fuzz_help_names_its_exit_code() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "server.cli", "fuzz", "--help"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "exit code 1" in done.stdout

"""`understudy inspect`: what is in a run's folder, and what is wrong with it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from agent import checkpoint, journal
from agent.journal import Journal, Position
from agent.step import FINAL, STEP, StepBlock
from protocol.messages import RUNNING, TERMINATED, TRUNCATED
from protocol.spaces import GameSpec
from server.cli import main
from server.commands.inspect import look
from tests.support.worlds import DQN, EXPERT, SPEC

Row = tuple[int, int, int, int, int, float]
"""stream, seq, actor, kind, status, reward."""


def block(*rows: Row) -> StepBlock:
    made = StepBlock.empty(SPEC, len(rows))
    for name, column in zip(
        ("stream", "seq", "actor", "kind", "status", "reward"), zip(*rows, strict=True), strict=True
    ):
        getattr(made, name)[:] = column
    return made


def step(stream: int, seq: int, actor: int, reward: float, status: int = RUNNING) -> Row:
    return (stream, seq, actor, STEP, status, reward)


def final(stream: int, seq: int) -> Row:
    return (stream, seq, 0, FINAL, RUNNING, 0.0)


# Streams are interleaved, as games are.
EPISODES = [
    step(1, 0, EXPERT, 1.0),
    step(2, 0, DQN, 0.5),
    step(1, 1, EXPERT, 2.0, TERMINATED),
    final(1, 2),
    step(2, 1, EXPERT, 0.25, TRUNCATED),
    step(1, 3, DQN, 4.0, TERMINATED),  # the first of its stream to be whole by what is before it
    step(2, 2, DQN, 8.0),  # has not ended
    step(3, 7, DQN, 16.0, TERMINATED),  # its beginning is gone
    step(1, 5, DQN, 32.0, TERMINATED),  # behind a gap
    step(1, 6, DQN, 64.0, TERMINATED),
]


def make_run(folder: Path, *blocks: StepBlock, spec: GameSpec = SPEC) -> Path:
    folder.mkdir()
    (folder / "run.json").write_text('{"launches": 1}')
    (folder / "game.json").write_bytes(msgspec.json.encode(spec))
    writer = Journal(folder / journal.FOLDER, spec, 1000, Position())
    for each in blocks:
        writer.append(each)
    writer.close()
    return folder


def inspect(capsys: pytest.CaptureFixture[str], run: Path) -> tuple[int, dict[str, Any]]:
    code = main(["inspect", str(run), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_inspect_shows_composition_streams_returns_and_sizes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "run", block(*EPISODES[:4]), block(*EPISODES[4:]))
    checkpoint.save(run / "checkpoints" / checkpoint.file_name(5), {"a": torch.zeros(9)})
    code, found = inspect(capsys, run)
    assert code == 0
    assert found["game"] == "test"
    assert found["checkpoint"] == "update-0000000005.pt"
    assert (found["rows"], found["run_steps"], found["streams"]) == (10, 9, 3)
    assert found["steps"] == {"dqn": 6, "expert": 3}
    assert found["mean_reward"]["expert"] == pytest.approx(3.25 / 3)
    assert found["returns"] == {
        "expert": {"episodes": 1, "mean": 3.0},
        "mixed": {"episodes": 1, "mean": 0.75},
        "dqn": {"episodes": 2, "mean": 34.0},
    }
    assert found["damages"] == []
    sizes = [path.stat().st_size for path in run.rglob("*") if path.is_file()]
    assert found["disk_bytes"] == sum(sizes)
    assert found["replay_bytes"] == sum(p.stat().st_size for p in journal.segments(run / "replay"))
    assert main(["inspect", str(run)]) == 0
    text = capsys.readouterr().out
    for part in ("9 steps of 3 streams", "6 (66.7%)", "episodes of mixed", "all right"):
        assert part in text


def test_inspect_lists_the_best_and_the_rejected_checkpoints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "run")
    folder = run / "checkpoints"
    best = {"evaluation": {"mean": 12.5}, "frames": 1500}
    checkpoint.save(folder / checkpoint.BEST, best)
    code, found = inspect(capsys, run)
    assert (code, found["checkpoint"]) == (0, None)
    assert found["best"] == {"name": "best.pt", "mean": 12.5, "frames": 1500}
    assert found["left"] == []
    for updates in (7, 9):
        checkpoint.save(folder / checkpoint.file_name(updates), {})
    checkpoint.roll_back(folder, 5, folder / checkpoint.BEST)
    code, found = inspect(capsys, run)
    assert (code, found["checkpoint"]) == (0, "update-0000000005.pt")
    assert found["left"] == ["update-0000000007.pt.left", "update-0000000009.pt.left"]
    assert main(["inspect", str(run)]) == 0
    text = capsys.readouterr().out
    assert "best.pt, evaluated at 12.5, frame 1,500" in text
    assert "set aside" in text
    # One that was set aside may be wanted again.
    (folder / found["left"][0]).write_bytes(b"no checkpoint")
    (folder / checkpoint.BEST).write_bytes(b"none either")
    code, found = inspect(capsys, run)
    assert (code, len(found["damages"])) == (1, 2)
    assert found["best"] == {"name": "best.pt", "mean": None, "frames": None}
    assert main(["inspect", str(run)]) == 1


@pytest.mark.promise("damaged-rows")
def test_inspect_names_a_flipped_bit_and_a_truncated_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "run", block(*EPISODES[:4]), block(*EPISODES[4:]))
    (rows,) = journal.segments(run / "replay")
    data = bytearray(rows.read_bytes())
    data[-40] ^= 4
    rows.write_bytes(data)
    saved = run / "checkpoints" / checkpoint.file_name(5)
    checkpoint.save(saved, {"a": torch.zeros(900)})
    saved.write_bytes(saved.read_bytes()[:-100])
    code, found = inspect(capsys, run)
    assert code == 1
    of_checkpoint, of_rows = found["damages"]
    assert str(saved) in of_checkpoint
    assert "remove it to resume from the checkpoint before it" in of_checkpoint
    assert of_rows.startswith(f"{rows}: bytes")
    assert "6 rows in them are dropped" in of_rows
    assert found["rows"] == 4, "the others are there"
    assert main(["inspect", str(run)]) == 1
    assert "2 damaged places" in capsys.readouterr().out


def test_inspect_reports_no_damage_for_a_block_being_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_run(tmp_path / "run", block(*EPISODES)) / "replay"
    (rows,) = journal.segments(folder)
    whole = rows.read_bytes()
    rows.write_bytes(whole[:-20])
    assert len(look(folder, SPEC).damages) == 1, "nobody writes"
    real = Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        data = real(path)
        path.write_bytes(whole)
        return data

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    found = look(folder, SPEC)
    assert (found.rows, found.damages) == (0, [])


def test_inspect_skips_a_segment_deleted_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_run(tmp_path / "run", block(*EPISODES)) / "replay"
    real = journal.segments

    def with_one_more(folder: Path) -> list[Path]:
        return [folder / "000000.rows", *real(folder)]

    monkeypatch.setattr(journal, "segments", with_one_more)
    found = look(folder, SPEC)
    assert (found.rows, found.damages) == (10, [])


def test_inspect_shows_a_run_without_game_or_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "run")
    assert inspect(capsys, run)[1]["rows"] == 0
    assert math.isnan(look(run / "replay", SPEC).mean_reward["dqn"])
    (run / "game.json").unlink()
    code, found = inspect(capsys, run)
    assert (code, found["game"], found["rows"]) == (0, None, 0)
    assert main(["inspect", str(run)]) == 0
    assert "none has come yet" in capsys.readouterr().out


def test_inspect_refuses_other_folders_and_other_games(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(tmp_path)]) == 2
    assert "expected the folder of a run" in capsys.readouterr().err
    run = make_run(tmp_path / "run", block(*EPISODES))
    other = msgspec.structs.replace(SPEC, game="other")
    (run / "game.json").write_bytes(msgspec.json.encode(other))
    assert main(["inspect", str(run)]) == 2
    assert "holds rows of another game" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["[/x]", "[red]", "[link=http://a.example]", ":smile:"])
def test_inspect_shows_the_name_of_a_game_as_it_is(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A client chooses it. The folder's name and the damage come from outside, too."""
    spec = msgspec.structs.replace(SPEC, game=name)
    run = make_run(tmp_path / "run[red]", block(*EPISODES), spec=spec)
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / checkpoint.file_name(5)).write_bytes(b"no checkpoint")
    assert main(["inspect", str(run)]) == 1
    said = capsys.readouterr().out
    assert name in said
    assert "run[red]" in "".join(said.split())
    assert checkpoint.file_name(5) in said

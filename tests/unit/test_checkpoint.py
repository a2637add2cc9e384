"""A checkpoint is written whole or not at all, and what cannot be gone on from is refused."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from agent import checkpoint
from agent.checkpoint import CheckpointError

STATE: dict[str, Any] = {
    "spec": '["game"]',
    "learner": {"network": {"w": torch.arange(5000.0)}, "updates": 7, "rates": [0.1, None, "x"]},
}


def test_save_then_load_returns_equal_state(tmp_path: Path) -> None:
    path = tmp_path / "new" / "update-1.pt"
    checkpoint.save(path, STATE)
    state = checkpoint.load(path, spec='["game"]')
    assert torch.equal(state["learner"]["network"]["w"], torch.arange(5000.0))
    assert state["learner"]["updates"] == 7
    assert state["learner"]["rates"] == [0.1, None, "x"]
    assert [p.name for p in path.parent.iterdir()] == ["update-1.pt"]


def test_save_disk_full_keeps_previous_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "update-1.pt"
    checkpoint.save(path, STATE)
    before = path.read_bytes()

    def write_half_then_fail(_content: Any, file: Any) -> None:
        file.write(before[: len(before) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", write_half_then_fail)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(path, {"spec": "other"})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["update-1.pt"]


@pytest.mark.promise("power-loss")
def test_save_syncs_file_before_rename_and_directory_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, done = tmp_path / "update-1.pt", []
    fsync, replace = os.fsync, Path.replace

    def sync(descriptor: int) -> None:
        done.append(Path(f"/proc/self/fd/{descriptor}").resolve().name)
        fsync(descriptor)

    def rename(self: Path, target: Path) -> Path:
        done.append(f"{self.name} -> {target.name}")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(Path, "replace", rename)
    checkpoint.save(path, STATE)
    assert done == ["update-1.pt.tmp", "update-1.pt.tmp -> update-1.pt", tmp_path.name]


def test_load_missing_file_raises(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"expected a checkpoint at .*none\.pt, found none"):
        checkpoint.load(tmp_path / "none.pt")


@pytest.mark.parametrize("kept", [0, 1, 100, 5000, -1])
@pytest.mark.promise("damaged-checkpoint")
def test_load_truncated_file_raises(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "update-1.pt"
    checkpoint.save(path, STATE)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"update-1\.pt: expected a complete checkpoint"):
        checkpoint.load(path)


@pytest.mark.promise("damaged-checkpoint")
def test_load_flipped_tensor_bit_raises_damaged(tmp_path: Path) -> None:
    path = tmp_path / "update-1.pt"
    checkpoint.save(path, STATE)
    content = bytearray(path.read_bytes())
    at = content.find(torch.arange(5000.0).numpy().tobytes()[400:800])
    assert at > 0
    content[at + 8] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.load(path)


@pytest.mark.parametrize("content", [b"hello", pickle.dumps({"format": checkpoint.FORMAT})])
def test_load_non_checkpoint_bytes_raises(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="expected a complete checkpoint"):
        checkpoint.load(path)


def test_load_torch_file_of_other_program_raises(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    torch.save({"model": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match="another kind of file"):
        checkpoint.load(path)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("evil",)


def test_load_malicious_pickle_runs_no_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"format": checkpoint.FORMAT, "version": 1, "state": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError):
        checkpoint.load(tmp_path / "evil.pt")
    assert not (tmp_path / "evil").exists()


def test_load_other_format_version_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "update-1.pt"
    monkeypatch.setattr(checkpoint, "VERSION", 99)
    checkpoint.save(path, STATE)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="expected format version 1, got 99"):
        checkpoint.load(path)


def test_load_checkpoint_of_other_game_raises(tmp_path: Path) -> None:
    path = tmp_path / "update-1.pt"
    checkpoint.save(path, STATE)
    with pytest.raises(CheckpointError, match=r'the game \["chess"\], got one of \["game"\]'):
        checkpoint.load(path, spec='["chess"]')


def test_prune_keeps_newest_checkpoints_and_other_files(tmp_path: Path) -> None:
    for n in (3, 1, 20, 100):
        (tmp_path / f"update-{n:010d}.pt").touch()
    (tmp_path / "update-0000000101.pt.tmp").touch()
    (tmp_path / "config.toml").touch()
    assert checkpoint.latest(tmp_path) == tmp_path / "update-0000000100.pt"
    checkpoint.prune(tmp_path, 2)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["config.toml", "update-0000000020.pt", "update-0000000100.pt"]
    with pytest.raises(ValueError, match="at least 1, got 0"):
        checkpoint.prune(tmp_path, 0)


def test_best_checkpoint_is_never_latest_and_survives_prune(tmp_path: Path) -> None:
    """It is never the newest, and never too old to keep."""
    assert checkpoint.best(tmp_path) is None
    (tmp_path / checkpoint.BEST).touch()
    assert checkpoint.best(tmp_path) == tmp_path / "best.pt"
    assert checkpoint.latest(tmp_path) is None
    for n in range(5):
        (tmp_path / checkpoint.file_name(n)).touch()
    checkpoint.prune(tmp_path, 1)
    assert checkpoint.checkpoints(tmp_path) == [tmp_path / "update-0000000004.pt"]
    assert checkpoint.best(tmp_path) is not None


def test_roll_back_sets_newer_checkpoints_aside(tmp_path: Path) -> None:
    for n in (9, 10, 11, 200):
        (tmp_path / checkpoint.file_name(n)).write_text(str(n))
    best = tmp_path / checkpoint.BEST
    best.write_text("best")
    away = checkpoint.roll_back(tmp_path, 10, best)
    assert away == checkpoint.left(tmp_path)
    assert [path.read_text() for path in away] == ["11", "200"]
    assert (tmp_path / checkpoint.file_name(10)).read_text() == "10", "it has a name of its own"
    assert checkpoint.latest(tmp_path) == tmp_path / checkpoint.file_name(10)
    assert len(checkpoint.checkpoints(tmp_path)) == 2
    assert checkpoint.best(tmp_path) is not None
    assert (tmp_path / "update-0000000200.pt.left").read_text() == "200"
    checkpoint.prune(tmp_path, 1)
    assert (tmp_path / "update-0000000200.pt.left").exists()


def test_latest_missing_directory_returns_none(tmp_path: Path) -> None:
    assert checkpoint.latest(tmp_path / "none") is None
    assert checkpoint.checkpoints(tmp_path) == []

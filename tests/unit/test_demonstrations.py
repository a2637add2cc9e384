"""A run's demonstrations: kept once, and rows of no session."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from agent import demonstrations, recording
from agent.demonstrations import blocks
from agent.recording import RecordingError
from config.models import RewardConfig
from tests.support.recordings import demonstrated
from tests.support.worlds import DQN, EXPERT, PIXELS, SPEC


def test_add_duplicate_content_is_stored_once(tmp_path: Path) -> None:
    path = demonstrations.add(tmp_path, "first", demonstrated())
    assert path is not None
    assert path.parent == tmp_path / "demonstrations"
    assert path.name.startswith("first-")
    assert recording.read(path).digest == demonstrated().digest
    assert demonstrations.add(tmp_path, "another name", demonstrated()) is None
    assert demonstrations.add(tmp_path, "first", demonstrated(3)) is not None
    assert len(demonstrations.files(tmp_path)) == 2


def test_add_unsafe_or_long_name_is_sanitized(tmp_path: Path) -> None:
    path = demonstrations.add(tmp_path, "minari:../D4RL/door" + "x" * 300, demonstrated())
    assert path is not None
    assert path.parent == tmp_path / "demonstrations"
    assert path.name.startswith("minari-..-D4RL-doorxxx")
    assert len(path.name) < 130


def test_blocks_have_unique_negative_stream_numbers(tmp_path: Path) -> None:
    """Two files with the same streams: no number twice, none that a session could have."""
    demonstrations.add(tmp_path, "a", demonstrated(3))
    demonstrations.add(tmp_path, "b", demonstrated(2))
    found = list(blocks(tmp_path, SPEC, RewardConfig()))
    names = [name for name, _ in found]
    assert [name[0] for name in names] == ["a", "b"]
    first, second = (np.unique(block.stream).tolist() for _, block in found)
    assert first == [-3, -2, -1]
    assert second == [-5, -4]
    for _, block in found:
        for stream in np.unique(block.stream):
            assert block.seq[block.stream == stream].tolist() == [0, 1, 2, 3, 4, 5]


def test_blocks_apply_reward_weights_and_clip_of_run(tmp_path: Path) -> None:
    demonstrations.add(tmp_path, "a", demonstrated())
    ((_, block),) = blocks(tmp_path, SPEC, RewardConfig(weights={"reward": 0.5, "other": 9.0}))
    assert set(block.reward.tolist()) == {0.0, 1.5}
    ((_, block),) = blocks(tmp_path, SPEC, RewardConfig(clip=1.0))
    assert set(block.reward.tolist()) == {0.0, 1.0}


def test_blocks_unusable_file_error_names_file(tmp_path: Path) -> None:
    path = demonstrations.add(tmp_path, "a", demonstrated())
    assert path is not None
    with pytest.raises(RecordingError, match=rf"{path.name}.*correct or remove it"):
        list(blocks(tmp_path, PIXELS, RewardConfig()))
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(RecordingError, match=rf"{path.name}.*correct or remove it"):
        list(blocks(tmp_path, SPEC, RewardConfig()))


def test_run_without_demonstrations_yields_no_blocks(tmp_path: Path) -> None:
    assert demonstrations.files(tmp_path) == []
    assert list(blocks(tmp_path, SPEC, RewardConfig())) == []


def test_blocks_keep_actor_tags_of_file(tmp_path: Path) -> None:
    """`add` is given experts' steps; a file that somebody put there keeps its own tags."""
    found = demonstrated()
    found.rows.actor[0] = DQN
    demonstrations.add(tmp_path, "mixed", found)
    ((_, block),) = blocks(tmp_path, SPEC, RewardConfig())
    assert block.actor[:2].tolist() == [DQN, EXPERT]

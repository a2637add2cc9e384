"""Connect four is learnt from games against one's own checkpoints, with the code of the server; and
the checks notice what they are for: each is broken on purpose.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from agent import checkpoint, networks
from agent.decision import PLAY
from config.load import config_from
from lab import self_play
from lab.self_play import SETTINGS, SelfPlay
from lab.sync_trainer import one_thread
from protocol.policies import PolicyName
from server.gateway import step_writer

CLEARLY = 75
"""Of 100 games against the network that there was at first. (Who always drops into one column beats
random moves as often: that shows little.)"""

QUICK = {
    "trainer.replay_ratio": 1.0,
    "learner.trunk": "linear",
    "learner.hidden": (128, 64),
    "learner.batch_size": 64,
    "learner.learning_rate": 1e-3,
}
"""Plain layers and many updates: they learn most from few games, and less from many."""

STUDENT = 1
"""The first session of a run."""


def trained(folder: Path, frames: int) -> SelfPlay:
    run = SelfPlay(config_from(SETTINGS | QUICK | {"run.seed": 1}), folder)
    run.save()
    with one_thread():
        run.train(frames)
    return run


def wins(run: SelfPlay) -> int:
    with one_thread():
        won, _ = run.match(PolicyName(update=0), 100)
    return won


def sessions(run: SelfPlay) -> set[int]:
    """Whose rows are in the replay."""
    return set((run.replay.rows().stream >> 16).tolist())


def test_student_that_plays_its_checkpoints_beats_its_earliest_self(tmp_path: Path) -> None:
    run = trained(tmp_path, 8000)
    assert wins(run) >= CLEARLY
    assert len(checkpoint.checkpoints(tmp_path)) > 2
    assert run.loop.frames["play"] > 2000
    assert sessions(run) == {STUDENT}


def test_student_that_learns_nothing_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(self_play, "learn", lambda *_: iter(()))
    assert wins(trained(tmp_path, 1500)) < CLEARLY


def test_opponents_rows_would_be_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_writer, "TRAIN", PLAY)
    assert sessions(trained(tmp_path, 300)) != {STUDENT}


def test_masks_that_are_dropped_would_be_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(networks, "masked", lambda preferences, _legal: preferences)
    with pytest.raises(ValueError, match="takes a disc"):
        trained(tmp_path, 4000)

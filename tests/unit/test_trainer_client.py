"""Requests to the trainer and its answers, without a trainer."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from server.ipc.messages import CheckpointSaved, DumpWritten, SaveCheckpoint
from server.supervisor import trainer_client
from server.supervisor.child import ChildDied
from server.supervisor.trainer_client import TrainerClient


class FakeTrainer:
    """What is sent is kept."""

    def __init__(self) -> None:
        self.alive = True
        self.process = object()
        self.sent: list[Any] = []

    def send(self, message: Any) -> None:
        self.sent.append(message)


class Desk:
    """A client, its trainer, and what happens whenever the loop comes round."""

    def __init__(self) -> None:
        self.trainer = FakeTrainer()
        self.saved: list[CheckpointSaved] = []
        self.then: Callable[[], None] = lambda: None
        self.client = TrainerClient(
            self.trainer,  # type: ignore[arg-type]
            lambda _: self.then(),
            self.saved.append,
            Path("run/understudy.log"),
        )


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_checkpoint_request_returns_answer_of_its_kind(desk: Desk) -> None:
    def answers() -> None:
        desk.client.answer(DumpWritten("replay.npz"))
        desk.client.answer(CheckpointSaved("update-1.pt"))

    desk.then = answers
    assert desk.client.checkpoint() == CheckpointSaved("update-1.pt")
    assert desk.trainer.sent == [SaveCheckpoint()]
    assert desk.saved == [CheckpointSaved("update-1.pt")], "whoever else waits for it is told"


def test_checkpoint_request_ignores_earlier_answers(desk: Desk) -> None:
    desk.client.answer(CheckpointSaved("update-1.pt"))
    with pytest.raises(TimeoutError, match=r"within 0\.01 s"):
        desk.client.checkpoint(0.01)


def test_request_when_trainer_dies_or_is_replaced_raises(desk: Desk) -> None:
    def dies() -> None:
        desk.trainer.alive = False

    def is_replaced() -> None:
        desk.trainer.alive, desk.trainer.process = True, object()

    for desk.then in (dies, is_replaced):
        with pytest.raises(ChildDied, match=r"ended before its answer; see run/understudy\.log"):
            desk.client.dump("replay.npz")


def test_checkpoint_request_without_trainer_fails_at_once(desk: Desk) -> None:
    desk.trainer.alive = False
    desk.client.request_checkpoint()
    assert desk.saved == [CheckpointSaved("", "the trainer is restarting; try again")]
    desk.client.lost()
    assert desk.saved[-1] == CheckpointSaved("", "the trainer has died; try again")


def test_checkpoints_wanted_by_clients_are_requested_at_intervals(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    for _ in range(3):
        desk.client.want_checkpoint()
        desk.client.request_wanted()
    assert desk.trainer.sent == [SaveCheckpoint()]
    now[0] += trainer_client.SAVE_EVERY_S
    desk.client.request_wanted()
    desk.client.request_wanted()
    assert desk.trainer.sent == [SaveCheckpoint()] * 2, "the second was still wanted"

"""A trainer whose numbers are made to go bad: what it skips, counts, says and goes back to."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agent import checkpoint
from agent.checkpoint import CheckpointError
from agent.learner import Learner
from agent.rollback import NumbersWentBad
from server.ipc.messages import (
    CheckpointSaved,
    RolledBack,
    SaveBest,
    SaveCheckpoint,
    SavedBest,
    TrainerReport,
)
from server.trainer import reporter
from server.trainer import trainer as trainer_module
from tests.support.trainer import World, played

pytestmark = [pytest.mark.usefixtures("no_leaks"), pytest.mark.timeout(120)]


QUARTER = {"health__lr_factor": 0.25}
FAR = {"learner__gamma": 0.9}


class Poison:
    """What is done to the learner, in the trainer's own thread, before an update."""

    def __init__(self) -> None:
        self.act: Callable[[Learner], None] | None = None
        self.once = False
        self.updates = 0
        """Made."""


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> Iterator[Poison]:
    poison, real = Poison(), trainer_module.learn

    def learn(
        config: Any,
        replay: Any,
        learner: Learner,
        device: Any,
        frames: Any,
        evidence: Any,
        due: int,
        captured: Any,
    ) -> Iterator[Any]:
        updates = real(config, replay, learner, device, frames, evidence, due, captured)
        for _ in range(due):
            act = poison.act
            poison.updates += 1
            if act is not None:
                if poison.once:
                    poison.act = None
                act(learner)
            yield next(updates)

    monkeypatch.setattr(trainer_module, "learn", learn)
    yield poison
    poison.act = None


def nan_weights(learner: Learner) -> None:
    with torch.no_grad():
        learner.network.heads.weight[0, 0] = math.nan


def policy_of(world: World) -> np.ndarray[Any, Any]:
    out = np.empty(world.slot.size, np.float32)
    while not world.slot.fetch(out):
        pass
    return out


def feed(world: World) -> Callable[[], None]:
    """Each call plays some steps more, so that updates are due."""
    at = 0

    def more() -> None:
        nonlocal at
        world.play(played(at, 100))
        at += 100

    return more


@pytest.mark.promise("repeated-bad-updates")
def test_nan_weights_cause_a_rollback(
    tmp_path: Path, poison: Poison, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with contextlib.closing(World(tmp_path, health__max_consecutive_skips=5, **QUARTER)) as world:
        more = feed(world)
        more()
        world.until(lambda: world.metrics.get("updates", 0) >= 20, "it learns")
        saved = world.ask(SaveCheckpoint(), CheckpointSaved)
        good = checkpoint.load(Path(saved.path))
        rate = world.metrics["learning_rate"]
        poison.act, poison.once = nan_weights, True
        while not world.metrics.get("rollbacks"):
            more()
            world.reports(1)
            assert np.isfinite(policy_of(world)).all(), "a policy of NaN was published"
        assert world.metrics["updates_skipped"] >= 5
        before = world.metrics["updates"]
        more()
        world.until(lambda: world.metrics["updates"] > before + 10, "it learns again")
        metrics = world.reports()
        assert metrics["learning_rate_factor"] == 0.25
        assert metrics["learning_rate"] == pytest.approx(0.25 * rate)
        assert metrics["rollbacks"] == 1
        assert np.isfinite(policy_of(world)).all()
        world.until(lambda: world.reports()["updates_due"] == 0, "it has caught up", 60.0)
        due = (world.metrics["steps_stored"] - 50) * 0.5
        assert poison.updates == due, "going back made no update due, and none undone"
        again = world.ask(SaveCheckpoint(), CheckpointSaved)
        assert again.error is None
    assert f"Training continues from {saved.path} with 0.25 of learner.learning_rate" in caplog.text
    state = checkpoint.load(Path(again.path))
    assert state["learner"]["rate_factor"] == 0.25, "a resumed run keeps the lower rate"
    assert state["learner"]["updates"] > good["learner"]["updates"]


def test_rollback_does_not_wait_for_a_report(tmp_path: Path, poison: Poison) -> None:
    """However rarely metrics are reported."""
    settings = {"metrics__every_s": 1000.0, "health__max_consecutive_skips": 5}
    with contextlib.closing(World(tmp_path, **settings, **QUARTER)) as world:
        more = feed(world)
        more()
        saved = world.ask(SaveCheckpoint(), CheckpointSaved)
        assert saved.error is None
        poison.act, poison.once = nan_weights, True
        for _ in range(3):
            more()
        world.until(lambda: world.heard(RolledBack), "it goes back", 30.0)
        assert not world.heard(TrainerReport)
        (told,) = world.heard(RolledBack)
        assert told.rollbacks == 1
        world.until(lambda: np.isfinite(policy_of(world)).all(), "it publishes")


def test_rollback_sets_aside_later_checkpoints(tmp_path: Path, poison: Poison) -> None:
    with contextlib.closing(World(tmp_path, health__max_consecutive_skips=5)) as world:
        more = feed(world)
        more()
        world.until(lambda: world.metrics.get("updates", 0) >= 20, "it learns")
        first = Path(world.ask(SaveCheckpoint(), CheckpointSaved).path)
        more()
        world.until(lambda: world.metrics["updates"] >= 60, "it learns")
        second = Path(world.ask(SaveCheckpoint(), CheckpointSaved).path)
        assert first != second
        second.write_bytes(second.read_bytes()[:500])  # damaged meanwhile
        poison.act, poison.once = nan_weights, True
        while not world.metrics.get("rollbacks"):
            more()
            world.reports(1)
        assert not second.exists()
        assert second.with_name(second.name + ".left").exists()
        assert first.exists()


@pytest.mark.promise("repeated-bad-updates")
def test_rollback_without_checkpoint_restarts_from_nothing(
    tmp_path: Path, poison: Poison, caplog: pytest.LogCaptureFixture
) -> None:
    with contextlib.closing(World(tmp_path, health__max_consecutive_skips=5)) as world:
        more = feed(world)
        more()
        world.until(lambda: world.metrics.get("updates", 0) >= 20, "it learns")
        poison.act, poison.once = nan_weights, True
        while not world.metrics.get("rollbacks"):
            more()
            world.reports(1)
        more()
        world.until(lambda: world.metrics["loss"] > 0, "it learns again")
    assert "the initial weights, since no checkpoint is good" in caplog.text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"health__on_divergence": "stop"}, "(health.on_divergence is stop)"),
        ({"health__max_rollbacks": 2}, "Training stopped after 2 rollbacks"),
    ],
)
@pytest.mark.promise("repeated-bad-updates")
def test_divergence_with_stop_ends_training_with_a_message(
    tmp_path: Path, poison: Poison, changes: dict[str, Any], words: str
) -> None:
    world = World(tmp_path, health__max_consecutive_skips=3, **changes)
    try:
        world.play(played(0, 100))
        world.until(lambda: world.metrics.get("updates", 0) >= 20, "it learns")
        saved = world.ask(SaveCheckpoint(), CheckpointSaved)
        poison.act = nan_weights  # again and again
        at = 100
        assert world._thread is not None
        while world._thread.is_alive():
            if world.rings[0].free >= 20:
                world.rings[0].write(played(at, 20))
                at += 20
            world.hear()
            world._thread.join(0.01)
        assert isinstance(world.error, NumbersWentBad)
        assert words in str(world.error)
        assert "lower learner.learning_rate" in str(world.error)
        assert [p.name for p in checkpoint.checkpoints(tmp_path / "checkpoints")] == [
            Path(saved.path).name
        ], "no checkpoint of bad numbers"
    finally:
        # What the supervisor does where a trainer has ended by itself.
        world.trainer._ingest.close()
        world.trainer._slot.close()
        world.trainer._slot.unlink()
        world.close()


@pytest.mark.promise("bad-update")
def test_single_bad_update_is_only_skipped_and_counted(tmp_path: Path, poison: Poison) -> None:
    def bad_batch(learner: Learner) -> None:
        objective = learner._objective
        before = objective._targets
        objective._targets = lambda *args: before(*args) * math.inf  # type: ignore[method-assign]

        def mend(_: Learner) -> None:
            del objective._targets  # type: ignore[method-assign]

        poison.act = mend  # before the next update

    with contextlib.closing(World(tmp_path, health__max_consecutive_skips=2)) as world:
        more = feed(world)
        more()
        world.until(lambda: world.metrics.get("updates", 0) >= 20, "it learns")
        poison.act, poison.once = bad_batch, True
        more()
        world.until(lambda: world.metrics.get("updates_skipped"), "it is counted")
        more()
        metrics = world.reports()
        assert metrics["updates_skipped"] == 1
        assert metrics["rollbacks"] == 0
        assert metrics["learning_rate_factor"] == 1
        assert world.ask(SaveCheckpoint(), CheckpointSaved).error is None


@pytest.mark.promise("bad-weights")
def test_weights_that_are_not_finite_are_neither_saved_nor_published(
    tmp_path: Path, poison: Poison, caplog: pytest.LogCaptureFixture
) -> None:
    with contextlib.closing(World(tmp_path, health__max_consecutive_skips=10**9)) as world:
        more = feed(world)
        more()
        world.until(lambda: world.metrics.get("updates", 0) >= 20, "it learns")
        good = world.ask(SaveCheckpoint(), CheckpointSaved)
        poison.act, poison.once = nan_weights, True
        more()
        world.until(lambda: world.metrics.get("updates_skipped"), "it has gone bad")
        more()
        for _ in range(3):
            refused = world.ask(SaveCheckpoint(), CheckpointSaved)
            assert "expected finite numbers, got NaN or infinity" in refused.error
        best = world.ask(SaveBest({"mean": 1.0}), SavedBest)
        assert best.error is not None
        world.reports()
        assert world.metrics["checkpoints_failed"] == 4
        assert np.isfinite(policy_of(world)).all()
        folder = tmp_path / "checkpoints"
        assert sorted(path.name for path in folder.iterdir()) == [Path(good.path).name]
    assert caplog.text.count("could not write") == 1, "said once, not each time"


@pytest.mark.promise("bad-weights")
def test_checkpoint_with_nan_is_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "old.pt"
    state = {"learner": {"network": {"w": torch.tensor([math.nan])}}}
    with pytest.raises(CheckpointError, match=r"got NaN or infinity in learner\.network\.w"):
        checkpoint.save(path, state)
    assert not path.exists()
    # As a version that did not look has left it.
    torch.save({"format": checkpoint.FORMAT, "version": checkpoint.VERSION, "state": state}, path)
    with pytest.raises(CheckpointError, match="resume from an older checkpoint beside it"):
        checkpoint.load(path)


@pytest.mark.promise("drift-warnings")
def test_drifting_values_cause_a_warning(
    tmp_path: Path,
    poison: Poison,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A reward scale that explodes on its way to the learner, where the rewards stayed small."""
    watch = reporter.ValueWatch
    monkeypatch.setattr(reporter, "ValueWatch", lambda: watch(lasting=20))

    def explode(learner: Learner) -> None:
        objective = learner._objective
        real = objective._targets
        objective._targets = lambda *args: real(*args) + 1e6  # type: ignore[method-assign]

    with contextlib.closing(World(tmp_path, learner__learning_rate=1.0, **FAR)) as world:
        more = feed(world)
        more()
        world.reports()
        # Rewards are 2 at most.
        scale = float(world.trainer._learner.network.value_scale)
        # The report is older than the scale, which moves with each update.
        bound = 2 / (1 - 0.9) + scale * (1.5 + 1.0)
        assert world.metrics["q_bound"] == pytest.approx(bound, rel=0.05)
        assert world.metrics["values_drift"] == 0
        poison.act, poison.once = explode, True
        while not world.metrics["values_drift"]:
            more()
            world.reports(1)
        assert world.metrics["q_max"] > world.metrics["q_bound"]
        (found,) = world.heard(TrainerReport)[-1].findings
    assert found.id == "values_beyond_bound"
    assert "values drift: Q is up to" in found.text


@pytest.mark.promise("drift-warnings")
def test_dead_head_causes_a_warning(
    tmp_path: Path,
    poison: Poison,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watch = reporter.HeadWatch
    monkeypatch.setattr(reporter, "HeadWatch", lambda: watch(lasting=20))

    def kill(learner: Learner) -> None:
        with torch.no_grad():
            learner.network.heads.weight[1:5] = 0  # the four choices of the first head

    with contextlib.closing(World(tmp_path, learner__learning_rate=1e-9)) as world:
        more = feed(world)
        poison.act = kill
        while not world.metrics.get("heads_dead"):
            more()
            world.reports(1)
        found = world.heard(TrainerReport)[-1].findings
    name = world.trainer._spec.discrete[0].name
    assert [each.id for each in found] == [f"head_dead_{name}"]
    assert f"the head {name!r} is dead" in found[0].text


def test_checkpoint_keeps_the_largest_reward(tmp_path: Path) -> None:
    with contextlib.closing(World(tmp_path)) as world:
        feed(world)()
        world.reports()
        path = Path(world.ask(SaveCheckpoint(), CheckpointSaved).path)
    state = checkpoint.load(path)
    assert state["reward_max"] == 2.0
    with contextlib.closing(World(tmp_path, resume=True)) as world:
        world.reports()
        scale = float(world.trainer._learner.network.value_scale)
        assert world.metrics["q_bound"] == pytest.approx(2 / (1 - 0.99) + scale * (1.5 + 1.0))
    del state["reward_max"]
    checkpoint.save(Path(path), state)
    for other in checkpoint.checkpoints(path.parent):
        if other != path:
            other.unlink()
    with contextlib.closing(World(tmp_path, resume=True)) as world:
        feed(world)()
        world.reports()
        assert math.isnan(world.metrics["q_bound"]), "an older run does not know it"

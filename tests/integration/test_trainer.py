from __future__ import annotations

import errno
import fcntl
import itertools
import multiprocessing
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agent import checkpoint, demonstrations, journal, recording
from agent.captured import Tapes
from agent.captured_updates import CapturedUpdates
from agent.checkpoint import CheckpointError
from agent.learner import Learner
from agent.recording import RecordingError
from agent.replay import Replay, StoredRows
from agent.step import FINAL, STEP, StepBlock
from agent.update_budget import NO_LIMIT
from agent.value_scale import EVERY
from config.models import Config
from server.gateway.connection import GOODBYE_S
from server.ipc.expert_messages import Trusted
from server.ipc.heartbeat import LONG_S, ORPHAN_S, Heartbeat, HeartbeatMonitor
from server.ipc.load_messages import RunLoaded
from server.ipc.messages import (
    Changed,
    CheckpointSaved,
    DumpWritten,
    GameDecided,
    Pause,
    ProcessFailed,
    SaveBest,
    SaveCheckpoint,
    SavedBest,
    Stop,
    WriteDump,
)
from server.ipc.recording_messages import RecordingWritten, WriteRecording
from server.trainer import process as trainer_process
from server.trainer import restore
from server.trainer import trainer as trainer_module
from server.trainer.process import _await_game
from server.trainer.task import Task
from server.trainer.trainer import Trainer
from tests.support.recordings import demonstrated
from tests.support.trainer import World, config_with, played, probes, starts
from tests.support.worlds import DQN, EXPERT, PIXELS, SPEC, assert_same_rows

pytestmark = [pytest.mark.usefixtures("no_leaks"), pytest.mark.timeout(240)]


@pytest.fixture
def worlds(tmp_path: Path) -> Iterator[Callable[..., World]]:
    made: list[World] = []

    def make(folder: Path = tmp_path, **more: Any) -> World:
        made.append(World(folder, **more))
        return made[-1]

    yield make
    for world in made:
        world.close()


Make = Callable[..., World]


def test_first_weights_are_published_before_any_step(worlds: Make) -> None:
    world = worlds()
    assert world.slot.version == 1
    out = np.empty(world.slot.size, np.float32)
    assert world.slot.fetch(out) == 1
    np.testing.assert_array_equal(out, world.trainer._learner.policy_vector().numpy())


def test_every_row_of_the_rings_is_stored(worlds: Make) -> None:
    world = worlds(rings=2)
    for start in range(0, 600, 60):
        world.play(played(start, 60, stream=7), ring=0)
        world.play(played(start, 60, stream=9), ring=1)
    row = world.stop()
    assert row["steps_stored"] == row["frames"] == row["buffer_total"] == 1200
    assert (row["buffer_expert"], row["buffer_dqn"]) == (400, 800)
    assert row["buffer_frac_expert"] == pytest.approx(1 / 3)
    assert row["buffer_fill"] == 0.12
    assert [ring.used for ring in world.rings] == [0, 0]
    rows = world.trainer._replay.rows()
    for stream in (7, 9):
        mine = rows.stream == stream
        assert rows.seq[mine].tolist() == list(range(600))
        assert rows.actor[mine].tolist() == played(0, 600).actor.tolist()
        np.testing.assert_array_equal(rows.action[mine], played(0, 600).action)


def test_final_rows_are_stored_but_not_counted_as_steps(worlds: Make) -> None:
    world = worlds()
    block = played(0, 10)
    block.kind[9], block.actor[9], block.action[9], block.reward[9] = FINAL, 0, 0, 0
    world.play(block)
    row = world.stop()
    assert row["steps_stored"] == row["buffer_total"] == 9


def test_learning_starts_at_min_steps_and_keeps_the_replay_ratio(worlds: Make) -> None:
    world = worlds()
    world.play(played(0, 50))
    world.until(lambda: world.metrics.get("steps_stored") == 50, "they are stored")
    assert world.reports()["updates"] == 0
    world.play(played(50, 1))
    assert world.reports()["updates"] == 0
    world.play(played(51, 99))
    world.until(lambda: world.metrics["updates"] == 50, "it has made its updates")
    row = world.reports()
    assert (row["updates"], row["updates_due"]) == (50, 0)
    assert world.reports(3)["updates"] == 50


def test_disabled_training_stores_rows_and_publishes_nothing(worlds: Make) -> None:
    world = worlds(trainer__enabled=False)
    world.play(played(0, 200))
    row = world.reports()
    assert (row["updates"], row["updates_due"]) == (0, 0)
    row = world.stop()
    assert (row["steps_stored"], row["updates"]) == (200, 0)


def test_new_weights_are_published_while_learning(worlds: Make) -> None:
    world = worlds()
    world.play(played(0, 150))
    world.until(lambda: world.slot.version > 1, "there is a second version")
    world.until(lambda: world.metrics.get("updates") == 50, "all updates are made")
    time.sleep(0.05)
    version = world.slot.version
    out = np.empty(world.slot.size, np.float32)
    assert world.slot.fetch(out) == version
    np.testing.assert_array_equal(out, world.trainer._learner.policy_vector().numpy())
    time.sleep(0.05)
    assert world.slot.version == version, "nothing new is published where nothing was learnt"


def test_metrics_describe_the_stored_rows(worlds: Make) -> None:
    world = worlds(metrics__every_s=30.0)
    world.play(played(0, 90))
    row = world.stop()
    assert row["reward_frame_mean_expert"] == 2.0
    assert row["reward_frame_mean_dqn"] == 1.0
    assert row["ring_fill"] == 0


def test_mean_without_rows_is_nan(worlds: Make) -> None:
    world = worlds()
    world.play(played(0, 20, actor=DQN))
    world.until(lambda: world.metrics.get("steps_stored") == 20, "they are stored")
    row = world.reports()
    assert np.isnan(row["reward_frame_mean_expert"])
    assert np.isnan(row["td_err_mean_dqn"])


def test_trainer_lines_show_the_real_counts(worlds: Make) -> None:
    world = worlds(trainer__replay_ratio=4.0)
    world.play(played(0, 90, actor=DQN))
    world.play(played(90, 30, actor=EXPERT))
    world.play(played(120, 240, actor=DQN))
    world.until(lambda: world.metrics.get("updates") == 1240, "all updates are made")
    world.reports()
    batches = [line for line in world.lines if line.startswith("[BATCH]")]
    assert len(batches) == 12
    assert batches[0].startswith("[BATCH] Step 100: ")
    for line in batches:
        words = line.split()
        assert int(words[3]) + int(words[7]) == 16
        assert words[4] == "DQN"
        assert words[8] == "expert"
    buffers = [line for line in world.lines if line.startswith("[BUFFER]")]
    assert len(buffers) == 1
    assert buffers[0].startswith("[BUFFER] Step 1000: ")
    words = buffers[0].replace(",", "").split()
    total, dqn, expert = int(words[3]), int(words[5]), int(words[8])
    assert total == dqn + expert
    assert words[7] == f"({dqn / total:.1%})"
    assert words[10] == f"({expert / total:.1%})"
    assert total <= 360
    if total == 360:
        assert buffers[0] == ("[BUFFER] Step 1000: 360 total, 330 DQN (91.7%), 30 expert (8.3%)")


def test_updates_of_one_launch_are_noted_each_by_its_number_and_all(
    worlds: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer_module, "BURST_S", 0.0)
    monkeypatch.setattr(trainer_module, "BUFFER_LINE_EVERY", 25)

    def captured(_: Any, replay: Replay, learner: Learner, __: Any) -> CapturedUpdates:
        replay.wait_for_nothing()
        return CapturedUpdates(replay, learner, Tapes())

    monkeypatch.setattr(trainer_module, "captured_updates", captured)
    world = worlds(record=True)
    world.play(played(0, 150))
    world.until(lambda: world.metrics.get("updates") == 50, "all updates are made")
    assert any(
        len(each.result) == EVERY for each in world.trainer._captured._begun.values() if each
    )
    world.reports()
    numbers = [line.split(":")[0] for line in world.lines if line.startswith("[BUFFER]")]
    assert numbers == ["[BUFFER] Step 25", "[BUFFER] Step 50"]
    path = tmp_path / "replay.npz"
    world.ask(WriteDump(str(path)), DumpWritten)
    with np.load(path) as file:
        assert len(file["batch_seq"]) == 50 * 16


# Prioritised replay and stacks.


def test_td_errors_become_priorities(worlds: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    world = worlds(replay__prioritized=True, replay__priority_alpha=1.0, learner__batch_size=64)
    step, errors = world.trainer._learner.step, {}

    def noting(batch: Any, *rest: Any, **named: Any) -> Any:
        found = step(batch, *rest, **named)
        errors.update(zip(batch.indices.tolist(), found.tolist(), strict=True))
        return found

    monkeypatch.setattr(world.trainer._learner, "step", noting)
    world.play(played(0, 150))
    world.until(lambda: world.metrics.get("updates") == 50, "all updates are made")
    row = world.reports()
    assert row["priority_max"] >= 1
    replay = world.trainer._replay
    replay.check_valid()
    leaves = replay._priorities._tree.leaves.view(2, -1).amax(0)  # type: ignore[union-attr]
    assert len(errors) > 100
    found = {place: float(leaves[place]) for place in errors}
    assert found == pytest.approx({place: error + 1e-6 for place, error in errors.items()})
    # The last step has no successor yet.
    total = 99 * row["priority_mean_dqn"] + 50 * row["priority_mean_expert"]
    assert total == pytest.approx(float(leaves.sum()), rel=1e-4)


def test_priority_beta_follows_the_frame_count(worlds: Make) -> None:
    world = worlds(
        replay__prioritized=True,
        replay__priority_beta__start=0.2,
        replay__priority_beta__end=0.6,
        replay__priority_beta__frames=400,
    )
    stored = 0
    for frames, beta in ((100, 0.3), (200, 0.4), (600, 0.6)):
        world.play(played(stored, frames - stored))
        stored, updates = frames, (frames - 50) / 2
        world.until(lambda n=updates: world.metrics.get("updates") == n, "all updates are made")
        assert world.trainer._replay.beta == pytest.approx(beta)


def test_frame_stacks_are_learnt_from(worlds: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    world = worlds(replay__frame_stack=3, spec=PIXELS)
    shapes = set()
    step = world.trainer._learner.step

    def noting(batch: Any, *rest: Any, **named: Any) -> Any:
        shapes.add((tuple(batch.states[0].shape), tuple(batch.next_states[0].shape)))
        return step(batch, *rest, **named)

    monkeypatch.setattr(world.trainer._learner, "step", noting)
    block = StepBlock.empty(PIXELS, 100)
    block.seq[:] = np.arange(100)
    block.kind[:], block.actor[:], block.stream[:] = STEP, DQN, 1
    world.play(block)
    world.until(lambda: world.metrics.get("updates") == 25, "all updates are made")
    assert shapes == {((16, 3, 2, 3), (16, 3, 2, 3))}


# Back-pressure.


def test_games_in_lock_step_are_never_further_ahead_than_the_limit(
    worlds: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slow learning and room for all in the rings: what lies there counts too."""
    world = worlds(rings=2, trainer__max_lag_updates=4, trainer__min_steps=20)
    learner = world.trainer._learner
    step = learner.step
    worst = 0.0

    def slowly(batch: Any, *rest: Any, **named: Any) -> None:
        nonlocal worst
        time.sleep(0.005)
        worst = max(worst, (world.answered - 20) * 0.5 - learner.updates)
        step(batch, *rest, **named)

    monkeypatch.setattr(learner, "step", slowly)
    for start in range(0, 200, 10):
        for ring in (0, 1):
            world.play_in_lock_step(played(start, 10, stream=ring + 1), ring)
    assert 3 <= worst <= 4
    assert world.metrics["updates_due"] <= 4
    assert max(ring.used for ring in world.rings) <= 28, "all that is there is taken in"
    world.until(lambda: world.metrics["updates"] == 190, "all updates are made")
    assert world.stop()["steps_stored"] == 400


def test_rows_beyond_the_limit_are_stored_and_their_updates_are_due(
    worlds: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Games in real time do not wait, and their rows do not wait in the ring."""
    world = worlds(trainer__max_lag_updates=4, server__ring_steps=64)
    monkeypatch.setattr(world.trainer._learner, "step", lambda *_, **__: time.sleep(0.005))
    world.play(played(0, 1000))
    world.until(lambda: world.metrics.get("steps_stored") == 1000, "they are stored", 20.0)
    assert world.metrics["updates_due"] > 100
    assert world.slot.allowed < 1000


def test_no_lag_limit_makes_no_game_wait(worlds: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    world = worlds(server__ring_steps=64, trainer__max_lag_updates=None)
    monkeypatch.setattr(world.trainer._learner, "step", lambda *_, **__: time.sleep(0.005))
    begin = time.monotonic()
    world.play_in_lock_step(played(0, 1000))
    assert time.monotonic() - begin < 4.0
    assert world.slot.allowed == NO_LIMIT
    world.until(lambda: world.metrics.get("steps_stored") == 1000, "they are stored")
    assert world.metrics["updates_due"] > 100


def test_paused_training_stores_steps_and_owes_no_updates(worlds: Make) -> None:
    """A small allowance and a small ring: without learning, games must not be made to wait."""
    world = worlds(trainer__max_lag_updates=4, server__ring_steps=32, trainer__min_steps=20)
    world.play_in_lock_step(played(0, 100))
    world.until(lambda: world.metrics.get("updates") == 40, "all updates are made")
    for _ in range(2):  # told twice is told once
        world.pipe.send(Pause(True))
    world.until(lambda: world.reports()["paused"] == 1, "it is paused")
    world.play_in_lock_step(played(100, 200))
    world.until(lambda: world.metrics["steps_stored"] == 300, "they are stored")
    row = world.reports()
    assert (row["updates"], row["updates_due"]) == (40, 0)
    world.pipe.send(Pause(False))
    world.until(lambda: world.reports()["paused"] == 0, "it goes on")
    assert world.reports(5)["updates"] == 40, "what came meanwhile makes no update due"
    assert world.slot.allowed == 300 + 8, "games may be as far ahead as before"
    world.play_in_lock_step(played(300, 20))
    world.until(lambda: world.metrics["updates"] == 50, "it learns from what comes now")
    assert world.reports(5)["updates"] == 50


def test_updates_due_at_a_pause_are_due_afterwards(
    worlds: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = worlds(trainer__min_steps=20, server__ring_steps=1024)
    learns, gate = threading.Event(), threading.Event()
    step = world.trainer._learner.step

    def wait(*given: Any, **named: Any) -> None:
        learns.set()
        gate.wait(10.0)
        step(*given, **named)

    monkeypatch.setattr(world.trainer._learner, "step", wait)
    world.play(played(0, 100))
    assert learns.wait(10.0), "all 100 are stored, and 40 updates are due"
    world.pipe.send(Pause(True))
    gate.set()
    world.until(lambda: world.reports()["paused"] == 1, "it is paused")
    made = world.reports()["updates"]
    world.play(played(100, 100))
    world.until(lambda: world.metrics["steps_stored"] == 200, "they are stored")
    world.pipe.send(Pause(False))
    world.until(lambda: world.metrics["updates"] == 40, "those of before are made")
    assert made <= 40
    assert world.reports(5)["updates"] == 40


def test_pause_before_the_game_is_decided_holds() -> None:
    ours, theirs = multiprocessing.Pipe()
    game = GameDecided(SPEC, ())
    for told, paused in (([], False), ([True], True), ([True, False], False)):
        for on in told:
            ours.send(Pause(on))
        ours.send(game)
        assert _await_game(theirs, config_with(), Heartbeat())[::2] == (game, paused)
    ours.close()
    theirs.close()


def test_lag_limit_below_one_step_still_admits_steps(worlds: Make) -> None:
    """4 updates a step and at most 1 behind: each step must wait, but not for ever."""
    world = worlds(trainer__max_lag_updates=1, trainer__replay_ratio=4.0, trainer__min_steps=10)
    world.play_in_lock_step(played(0, 300))
    world.until(lambda: world.metrics.get("steps_stored") == 300, "they are stored")
    world.until(lambda: world.metrics["updates"] == 4 * 290, "all updates are made")


def test_steps_without_successors_do_not_make_games_wait(worlds: Make) -> None:
    """More games than min_steps: all have sent one step, and none of these can be learnt from."""
    world = worlds(trainer__max_lag_updates=5, trainer__replay_ratio=1.0)
    world.play_in_lock_step(starts(200))
    world.until(lambda: world.metrics.get("steps_stored") == 200, "they are stored")
    assert world.reports()["updates_due"] == 0
    second = starts(200)
    second.seq[:] = 1
    world.play(second)
    world.until(lambda: world.metrics["updates"] == 350, "all updates are made")


# Checkpoints.


def test_checkpoint_is_written_on_request(worlds: Make, tmp_path: Path) -> None:
    world = worlds()
    world.play(played(0, 150))
    world.until(lambda: world.metrics.get("updates") == 50, "all updates are made")
    saved = world.ask(SaveCheckpoint(), CheckpointSaved)
    assert saved.error is None
    state = checkpoint.load(Path(saved.path))
    assert (state["frames"], state["learner"]["updates"]) == (150, 50)
    assert state["version"] == world.slot.version
    assert Path(saved.path) == checkpoint.latest(tmp_path / "checkpoints")


def test_checkpoints_are_written_at_intervals_and_pruned(worlds: Make, tmp_path: Path) -> None:
    world = worlds(checkpoint__every_s=0.05, checkpoint__keep=2, trainer__replay_ratio=1.0)
    firsts = itertools.count(0, 20)

    def have_been_written() -> bool:
        world.play(played(next(firsts), 20))
        time.sleep(0.02)
        return len(world.heard(CheckpointSaved)) >= 3

    world.until(have_been_written, "there were three")
    files = checkpoint.checkpoints(tmp_path / "checkpoints")
    assert 1 <= len(files) <= 2


@pytest.mark.promise("checkpoint-unwritable")
def test_checkpoint_that_cannot_be_written_is_reported_and_training_continues(
    worlds: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = worlds()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save", full)
    saved = world.ask(SaveCheckpoint(), CheckpointSaved)
    assert "No space left on device" in str(saved.error)
    world.play(played(0, 150))
    world.until(lambda: world.metrics.get("updates") == 50, "it goes on")


def evaluated(mean: float) -> SaveBest:
    return SaveBest({"mean": mean, "frames": 150, "returns": [mean], "expert_mean": None})


def test_best_network_is_kept_with_its_score(
    worlds: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = worlds(checkpoint__keep=1)
    world.play(played(0, 150))
    world.until(lambda: world.metrics.get("updates") == 50, "all updates are made")
    vector = world.trainer._learner.policy_vector().numpy()
    saved = world.ask(evaluated(12.5), SavedBest)
    assert saved == SavedBest(str(tmp_path / "checkpoints/best.pt"), 12.5)
    world.play(played(150, 150))
    world.until(lambda: world.metrics.get("updates") == 125, "it learns on")
    world.stop()
    path = checkpoint.best(tmp_path / "checkpoints")
    assert path is not None, "it outlives all others"
    state = checkpoint.load(path)
    assert state["evaluation"] == evaluated(12.5).evaluation
    assert (state["frames"], state["learner"]["updates"]) == (150, 50)

    again = worlds(resume=True)
    assert again.slot.base_frames == 300, "nothing goes on from it by itself"
    again.stop()
    newer = checkpoint.latest(tmp_path / "checkpoints")
    assert newer is not None
    caplog.clear()
    best = worlds(resume=True, best=True)
    assert best.slot.base_frames == 150
    (warning,) = (r.getMessage() for r in caplog.records if r.levelname == "WARNING")
    assert "loaded update 50 at frame 150" in warning
    assert f"renamed to {newer.name}.left" in warning
    # Killed now, it goes on from there all the same, without being told again.
    copy = checkpoint.latest(tmp_path / "checkpoints")
    assert copy is not None
    assert copy.name == checkpoint.file_name(50)
    assert copy.read_bytes() == path.read_bytes()
    out = np.empty(best.slot.size, np.float32)
    best.slot.fetch(out)
    np.testing.assert_array_equal(out, vector)
    best.play(played(0, 10, stream=2))
    best.stop()
    newest = checkpoint.latest(tmp_path / "checkpoints")
    assert newest is not None
    assert checkpoint.load(newest)["frames"] == 160, "newer ones were set aside"


def test_best_network_that_cannot_be_kept_is_reported(
    worlds: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = worlds()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save", full)
    assert "No space left" in str(world.ask(evaluated(1.0), SavedBest).error)


def test_resumed_run_continues_where_it_ended(worlds: Make) -> None:
    first = worlds()
    first.play(played(0, 150))
    first.until(lambda: first.metrics.get("updates") == 50, "all updates are made")
    row = first.stop()
    version = first.slot.version
    vector = first.trainer._learner.policy_vector().numpy()
    assert row["frames"] == 150

    second = worlds(resume=True)
    assert second.slot.version == version + 1
    assert second.slot.base_frames == 150
    out = np.empty(second.slot.size, np.float32)
    second.slot.fetch(out)
    np.testing.assert_array_equal(out, vector)
    row = second.reports()
    assert (row["frames"], row["updates"], row["steps_stored"]) == (150, 50, 0)
    second.play(played(0, 150, stream=2))
    # The replay is there, so that no step need be waited for.
    second.until(lambda: second.metrics["updates"] == 125, "it learns on")
    row = second.stop()
    assert (row["frames"], row["steps_stored"]) == (300, 150)
    assert (row["updates"], row["updates_due"]) == (125, 0)


@pytest.mark.promise("trust-kept")
def test_trust_in_expert_is_the_same_after_a_restart(worlds: Make) -> None:
    """Probes of two gateways; the last one of the network is under way when the trainer ends."""
    first = worlds(rings=2)
    assert first.reports()["expert_trust"] == 1.0
    *ended, under_way = probes(DQN, 4, 9.0)
    for ring, blocks in enumerate((probes(EXPERT, 5, 6.0), ended)):
        first.play(StepBlock.joined(blocks), ring)
        first.until(lambda: not first.trainer._ingest.ring_fill, "they are stored")
    first.play(under_way.rows(0, 2), 1)
    before = first.stop()
    assert (before["probe_return_dqn"], before["probe_return_expert"]) == pytest.approx((9.0, 6.0))
    assert before["expert_trust"] < 0.5

    second = worlds(resume=True, rings=2)
    assert second.reports()["expert_trust"] == before["expert_trust"]
    second.play(under_way.rows(2, 3), 1)
    second.until(lambda: second.metrics["expert_trust"] < before["expert_trust"], "it ends")
    assert second.stop()["imitation_weight"] == second.metrics["expert_trust"]


def test_weight_of_cloning_follows_evaluations_where_wanted(worlds: Make) -> None:
    world = worlds(imitation__decay="evaluation")
    assert world.reports()["imitation_weight"] == 1.0
    world.pipe.send(Trusted(0.25))
    world.until(lambda: world.metrics["imitation_weight"] == 0.25, "it is told so")


def test_resumed_run_without_checkpoint_starts_from_nothing(worlds: Make) -> None:
    world = worlds(resume=True)
    assert (world.slot.version, world.slot.base_frames) == (1, 0)


def test_new_run_ignores_existing_checkpoints(worlds: Make) -> None:
    first = worlds()
    first.play(played(0, 150))
    first.stop()
    assert worlds().slot.base_frames == 0


def test_checkpoint_of_another_game_is_refused(worlds: Make) -> None:
    worlds().stop()
    with pytest.raises(CheckpointError, match="expected a checkpoint of the game"):
        worlds(resume=True, spec=PIXELS)


def test_checkpoint_of_another_network_is_refused(worlds: Make) -> None:
    worlds().stop()
    with pytest.raises(CheckpointError, match=r"learner\.hidden"):
        worlds(resume=True, learner__hidden=[16])


# What the audit asks for.


def test_audit_dump_holds_every_step(worlds: Make, tmp_path: Path) -> None:
    world = worlds()
    world.play(played(0, 150))
    path = tmp_path / "replay.npz"
    # Asked for at once: what is still in the ring belongs to it.
    assert world.ask(WriteDump(str(path)), DumpWritten) == DumpWritten(str(path))
    with np.load(path) as file:
        assert set(file.files) == {f.name for f in fields(StoredRows)}
        assert file["seq"].tolist() == list(range(150))
        assert file["actor"].tolist() == played(0, 150).actor.tolist()


def test_audit_dump_holds_every_batch_if_recorded(worlds: Make, tmp_path: Path) -> None:
    world = worlds(record=True)
    world.play(played(0, 150))
    world.until(lambda: world.metrics.get("updates") == 50, "all updates are made")
    path = tmp_path / "replay.npz"
    world.ask(WriteDump(str(path)), DumpWritten)
    truth = played(0, 150)
    with np.load(path) as file:
        seq = file["batch_seq"]
        assert len(seq) == 50 * 16
        assert (file["batch_stream"] == 1).all()
        np.testing.assert_array_equal(file["batch_actor"], truth.actor[seq])
        np.testing.assert_array_equal(file["batch_action"], truth.action[seq])


def test_audit_dump_without_batches_has_only_steps(worlds: Make, tmp_path: Path) -> None:
    world = worlds(record=True)
    world.play(played(0, 5))
    path = tmp_path / "replay.npz"
    world.ask(WriteDump(str(path)), DumpWritten)
    with np.load(path) as file:
        assert len(file["batch_seq"]) == 0
        assert len(file["seq"]) == 5


# Demonstrations.


def demonstrate(folder: Path, **changes: Any) -> None:
    assert demonstrations.add(folder, "demo", demonstrated(**changes))


def test_demonstrations_are_in_the_replay_but_not_counted_as_frames(
    worlds: Make, tmp_path: Path
) -> None:
    demonstrate(tmp_path, streams=10, n=20)
    world = worlds()
    row = world.reports()
    assert (row["buffer_total"], row["buffer_expert"]) == (200, 200)
    assert (row["frames"], row["steps_stored"], row["updates"]) == (0, 0, 0)
    assert world.slot.base_frames == 0
    world.play(played(0, 50, actor=DQN))
    assert world.reports(3)["updates"] == 0, "they do not count for min_steps"
    world.play(played(50, 100, actor=DQN))
    world.until(lambda: world.metrics["updates"] == 50, "it keeps to the ratio of played steps")
    row = world.stop()
    assert (row["buffer_total"], row["buffer_expert"], row["buffer_dqn"]) == (350, 200, 150)
    assert (row["frames"], row["steps_stored"]) == (150, 150)
    assert np.isnan(row["reward_frame_mean_expert"]), "nobody played as the expert"


def test_batches_contain_demonstrations_and_the_audit_omits_them(
    worlds: Make, tmp_path: Path
) -> None:
    demonstrate(tmp_path, streams=10, n=20)
    world = worlds(record=True, metrics__every_s=30.0)
    world.play(played(0, 150, actor=DQN))
    world.until(lambda: world.trainer._learner.updates == 50, "all updates are made")
    path = tmp_path / "replay.npz"
    world.ask(WriteDump(str(path)), DumpWritten)
    with np.load(path) as file:
        assert file["seq"].tolist() == list(range(150))
        assert (file["stream"] == 1).all()
        assert 0 < len(file["batch_seq"]) < 50 * 16
        assert (file["batch_stream"] == 1).all()
    row = world.stop()
    assert row["batch_n_expert"] > 4
    assert row["batch_n_expert"] + row["batch_n_dqn"] == 16


def test_demonstrations_larger_than_the_replay_are_refused(worlds: Make, tmp_path: Path) -> None:
    demonstrate(tmp_path, streams=10, n=20)
    worlds(replay__capacity_steps=210)
    with pytest.raises(RecordingError, match=r"more than replay\.capacity_steps = 209 rows"):
        worlds(replay__capacity_steps=209)


def test_observation_statistics_count_demonstrations_once(worlds: Make, tmp_path: Path) -> None:
    demonstrate(tmp_path, streams=10, n=20)
    first = worlds(learner__normalize_observations=True)
    assert first.trainer._learner.statistics is not None
    assert (first.trainer._learner.statistics.count == 210).all()
    first.stop()
    demonstrations.add(tmp_path, "later", demonstrated(streams=1, n=9))
    second = worlds(resume=True, learner__normalize_observations=True)
    assert second.trainer._learner.statistics is not None
    assert (second.trainer._learner.statistics.count == 220).all()
    assert second.reports()["buffer_expert"] == 209


def test_pretraining_makes_its_updates_and_ends(worlds: Make, tmp_path: Path) -> None:
    demonstrate(tmp_path, streams=10, n=20)
    world = worlds(rings=0, pretrain_updates=70)
    world.join()
    row = world.metrics
    assert (row["updates"], row["updates_due"], row["frames"]) == (70, 0, 0)
    path = checkpoint.latest(tmp_path / "checkpoints")
    assert path is not None
    state = checkpoint.load(path)
    assert (state["learner"]["updates"], state["frames"]) == (70, 0)
    # More of it, and then a game that goes on from there.
    again = worlds(rings=0, resume=True, pretrain_updates=30)
    again.join()
    assert again.metrics["updates"] == 100
    world = worlds(resume=True)
    assert world.reports()["updates"] == 100
    world.play(played(0, 150))
    world.until(lambda: world.metrics["updates"] == 150, "it learns on")


def test_stopped_pretraining_saves_a_checkpoint(worlds: Make, tmp_path: Path) -> None:
    demonstrate(tmp_path, streams=10, n=20)
    world = worlds(rings=0, pretrain_updates=10**6)
    world.until(lambda: world.metrics.get("updates", 0) > 0, "it learns")
    row = world.stop()
    assert 0 < row["updates"] < 10**6
    path = checkpoint.latest(tmp_path / "checkpoints")
    assert path is not None
    assert checkpoint.load(path)["learner"]["updates"] == row["updates"]


def test_pretraining_without_demonstrations_is_refused(worlds: Make) -> None:
    with pytest.raises(RecordingError, match="has no step to learn from"):
        worlds(rings=0, pretrain_updates=5)


# Recordings.


def test_recording_holds_every_row_however_small_the_replay(worlds: Make, tmp_path: Path) -> None:
    path = tmp_path / "demo.npz"
    world = worlds(recording=path, replay__capacity_steps=64, trainer__enabled=False)
    block = played(0, 1000)
    block.kind[-1], block.actor[-1], block.action[-1], block.reward[-1] = FINAL, 0, 0, 0
    world.play(block)
    # Asked for at once: what is still in the ring belongs to it.
    assert world.ask(WriteRecording(), RecordingWritten) == RecordingWritten()
    assert_same_rows(recording.read(path, spec=SPEC).rows, block)


def test_recording_that_cannot_be_written_is_reported(worlds: Make, tmp_path: Path) -> None:
    world = worlds(recording=tmp_path / "file/demo.npz")
    world.play(played(0, 10))
    (tmp_path / "file").write_text("")
    answer = world.ask(WriteRecording(), RecordingWritten)
    assert "demo.npz" in str(answer.error) or "exists" in str(answer.error)


# The end.


def test_stop_stores_rows_in_the_rings_and_saves(worlds: Make, tmp_path: Path) -> None:
    world = worlds(trainer__replay_ratio=50.0, server__ring_steps=4096)
    for start in range(0, 3000, 1000):
        world.play(played(start, 1000))
    row = world.stop()
    assert row["steps_stored"] == 3000
    state = checkpoint.load(checkpoint.latest(tmp_path / "checkpoints") or tmp_path)
    assert state["frames"] == 3000


def test_stop_stores_rows_beyond_the_lag_limit(worlds: Make) -> None:
    world = worlds(trainer__max_lag_updates=1, trainer__replay_ratio=100.0, server__ring_steps=1024)
    world.rings[0].write(played(0, 1000))
    row = world.stop()
    assert row["steps_stored"] == 1000
    assert row["updates"] < 1000 * 100


def test_trainer_ends_cleanly_when_the_supervisor_is_gone(worlds: Make, tmp_path: Path) -> None:
    world = worlds()
    world.play(played(0, 100))
    world.until(lambda: world.metrics.get("steps_stored") == 100, "they are stored")
    world.pipe.close()
    world.join()
    assert checkpoint.latest(tmp_path / "checkpoints") is not None


def test_trainer_without_supervisor_waits_for_rows_of_gateways(
    worlds: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are still telling their games."""
    assert GOODBYE_S < trainer_module.LINGER_S < ORPHAN_S
    monkeypatch.setattr(trainer_module, "LINGER_S", 6.0)  # for a machine that is busy
    world = worlds()
    world.play(played(0, 100))
    world.until(lambda: world.metrics.get("steps_stored") == 100, "they are stored")
    world.pipe.close()
    world.until(lambda: world.trainer._stopping, "it has noticed")
    time.sleep(0.3)
    world.rings[0].write(played(100, 10))
    world.join()
    assert checkpoint.load(checkpoint.latest(tmp_path / "checkpoints") or tmp_path)["frames"] == 110


def test_long_work_is_announced_to_the_heartbeat(
    worlds: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else who watches the signs of life would take it for hanging."""
    heartbeat, allowed = Heartbeat(), list[tuple[str, float]]()
    heartbeat.beat()
    pulse = HeartbeatMonitor(heartbeat, 0.0)

    def slow(owner: Any, name: str) -> None:
        plain = getattr(owner, name)

        def noting(*args: Any, **more: Any) -> Any:
            allowed.append((name, pulse.allowed_s))
            return plain(*args, **more)

        monkeypatch.setattr(owner, name, noting)

    slow(trainer_module, "make_replay")
    slow(restore, "take_in")
    slow(checkpoint, "save")
    slow(np, "savez")
    world = worlds(heartbeat=heartbeat, resume=True)
    world.play(played(0, 100))
    world.until(lambda: world.metrics.get("steps_stored") == 100, "they are stored")
    for ask, answer in (
        (SaveCheckpoint(), CheckpointSaved),
        (evaluated(1.0), SavedBest),
        (WriteDump(str(tmp_path / "rows.npz")), DumpWritten),
    ):
        world.until(lambda: pulse.allowed_s == 0, "its loop goes round")
        world.ask(ask, answer)
    assert [name for name, _ in allowed] == [
        "make_replay", "take_in", "save", "save", "savez",
    ]  # fmt: skip
    assert {seconds for _, seconds in allowed} == {LONG_S}


# Changes while it runs.


CHANGES: dict[str, Any] = {
    "learner__n_step": 5,
    "learner__gamma": 0.5,
    "learner__learning_rate": 1e-5,
    "learner__target_tau": 0.5,
    "advantage__beta": 0.25,
    "imitation__taken": 0.5,
}


def test_changed_settings_apply_from_the_next_batch(
    worlds: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = worlds()
    learner, replay = world.trainer._learner, world.trainer._replay
    world.play(played(0, 150, actor=DQN))
    world.until(lambda: world.metrics.get("updates") == 50, "all updates are made")
    assert world.metrics["learning_rate"] == 5e-4
    seen: list[Any] = []
    step = learner.step

    def watched(batch: Any, *rest: Any, **named: Any) -> Any:
        seen.append(batch)
        return step(batch, *rest, **named)

    monkeypatch.setattr(learner, "step", watched)
    changed = config_with(**CHANGES)
    world.pipe.send(Changed(changed))
    world.until(lambda: replay.n_step == 5, "it has heard of it")
    world.play(played(150, 150, actor=DQN))
    world.until(lambda: world.metrics["updates"] == 125, "it learns on")
    assert world.reports()["learning_rate"] == 1e-5
    horizons = torch.cat([batch.horizons for batch in seen])
    assert int(horizons.max()) == 5
    discounts = torch.cat([batch.discounts for batch in seen])
    torch.testing.assert_close(discounts, 0.5**horizons)
    assert (learner._config, learner._advantage, learner._imitation) == (
        changed.learner, changed.advantage, changed.imitation,
    )  # fmt: skip


# The process's entry.


class Entry:
    """`main` in a thread, without its signals."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
        monkeypatch.setattr("server.trainer.process.signal.signal", lambda *_: None)
        monkeypatch.setattr("server.trainer.process.log_to_pipe", lambda *_: None)
        self.pipe, self.theirs = multiprocessing.Pipe()
        self.code: Any = None
        args = (config_with(**changes), self.theirs, Heartbeat(), folder, Task())
        self.thread = threading.Thread(target=self._run, args=args, daemon=True)
        self.thread.start()

    def _run(self, *args: Any) -> None:
        try:
            trainer_process.main(*args)
            self.code = 0
        except SystemExit as error:
            self.code = error.code

    def close(self) -> None:
        self.pipe.close()
        self.thread.join(20.0)
        assert not self.thread.is_alive()
        self.theirs.close()


@pytest.fixture
def entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Entry]]:
    made: list[Entry] = []

    def make(**changes: Any) -> Entry:
        made.append(Entry(tmp_path, monkeypatch, **changes))
        return made[-1]

    yield make
    for entry in made:
        entry.close()


def test_requests_before_the_game_is_decided_are_answered(entries: Callable[..., Entry]) -> None:
    entry = entries()
    entry.pipe.send(SaveCheckpoint())
    assert entry.pipe.poll(10.0)
    saved = entry.pipe.recv()
    assert isinstance(saved, CheckpointSaved)
    assert saved.error is not None
    assert "no game" in saved.error
    entry.pipe.send(Stop())
    entry.thread.join(10.0)
    assert entry.code == 0


def test_settings_changed_before_the_game_is_decided_hold(
    entries: Callable[..., Entry], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Config] = []

    class Watched:
        def __init__(self, config: Config, *_: Any, **__: Any) -> None:
            made.append(config)

        def run(self) -> None:
            pass

    monkeypatch.setattr(trainer_process, "Trainer", Watched)
    entry = entries()
    changed = config_with(**CHANGES)
    entry.pipe.send(Changed(changed))
    entry.pipe.send(GameDecided(SPEC, ()))
    entry.thread.join(10.0)
    assert made == [changed]


def test_other_trainer_of_the_run_is_awaited_and_named(
    entries: Callable[..., Entry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One whose supervisor was killed may still write: first there is none beside it."""
    monkeypatch.setattr(trainer_process, "ALONE_S", 0.3)
    other = os.open(tmp_path / "trainer-lock", os.O_WRONLY | os.O_CREAT)
    try:
        fcntl.flock(other, fcntl.LOCK_EX)
        entry = entries()
        entry.pipe.send(GameDecided(SPEC, ()))
        assert entry.pipe.poll(30.0)
        failed = entry.pipe.recv()
        assert isinstance(failed, ProcessFailed)
        assert "another trainer still writes to" in failed.text
        assert failed.passing, "it ends by itself"
        assert f"end the process that has {tmp_path / 'trainer-lock'} open" in failed.text

        monkeypatch.setattr(trainer_process, "ALONE_S", 60.0)
        entry = entries(trainer__min_steps=20)
        entry.pipe.send(GameDecided(SPEC, ()))
        assert not entry.pipe.poll(0.5), "it waits"
        fcntl.flock(other, fcntl.LOCK_UN)
        assert entry.pipe.poll(60.0)
        assert isinstance(entry.pipe.recv(), RunLoaded)
        entry.pipe.send(Stop())
        entry.thread.join(60.0)
        assert entry.code == 0
    finally:
        os.close(other)


@pytest.mark.promise("passing-trouble")
@pytest.mark.parametrize(
    ("error", "passing"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (MemoryError("no room"), True),
        (OSError(errno.EACCES, "Permission denied"), False),
        (CheckpointError("damaged"), False),
    ],
    ids=["full", "memory", "forbidden", "damaged"],
)
def test_failure_says_whether_it_may_be_over_soon(
    error: Exception, passing: bool, entries: Callable[..., Entry], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(trainer_process, "Trainer", fails)
    entry = entries()
    entry.pipe.send(GameDecided(SPEC, ()))
    assert entry.pipe.poll(10.0)
    failed = entry.pipe.recv()
    assert (str(error) in failed.text, failed.passing) == (True, passing)
    entry.thread.join(10.0)


def test_fatal_error_is_sent_to_the_supervisor(entries: Callable[..., Entry]) -> None:
    entry = entries()
    entry.pipe.send(GameDecided(SPEC, ("no-such-memory",)))
    assert entry.pipe.poll(10.0)
    failed = entry.pipe.recv()
    assert isinstance(failed, ProcessFailed)
    assert "no-such-memory" in failed.text
    assert not failed.passing
    entry.thread.join(10.0)
    assert entry.code == 1


# What a restart goes on with.


def as_killed(folder: Path, to: Path) -> Path:
    """The folder as it is now: what a SIGKILL would leave at this moment."""
    shutil.copytree(folder, to, ignore=shutil.ignore_patterns("*.tmp"))
    return to


def columns(world: World) -> list[list[Any]]:
    rows = world.trainer._replay.rows()
    return [np.nan_to_num(getattr(rows, f.name), nan=-1).tolist() for f in fields(rows)]


@pytest.mark.promise("kill-all", "change-capacity")
def test_killed_trainer_loses_no_appended_row(worlds: Make, tmp_path: Path) -> None:
    first = worlds(tmp_path / "run", rings=2)
    for ring, stream in enumerate((1, 2)):
        for start in range(0, 90, 10):
            first.play(played(start, 10, stream), ring)
    first.until(lambda: first.metrics.get("steps_stored") == 180, "all is stored")
    left = as_killed(tmp_path / "run", tmp_path / "left")
    assert not list((left / "checkpoints").glob("*")), "it had not come to a checkpoint"

    second = worlds(left, resume=True)
    assert second.slot.base_frames == 180
    assert columns(second) == columns(first)
    assert second.trainer._replay.actor_composition() == first.trainer._replay.actor_composition()
    second.trainer._replay.check_valid()
    # The streams go on: the last rows get their successors.
    second.play(played(90, 10))
    row = second.stop()
    assert (row["frames"], row["steps_stored"]) == (190, 10)
    third = worlds(left, resume=True, replay__capacity_steps=50)
    assert third.slot.base_frames == 190
    assert third.reports()["buffer_total"] == 50
    assert [column[-50:] for column in columns(second)] == columns(third)
    third.trainer._replay.check_valid()


@pytest.mark.promise("change-capacity")
def test_larger_capacity_restores_more_rows(worlds: Make) -> None:
    first = worlds(replay__capacity_steps=40, trainer__min_steps=5)
    first.play(played(0, 100))
    first.stop()
    second = worlds(resume=True, replay__capacity_steps=1000)
    assert second.reports()["buffer_total"] == 100


def test_damaged_block_is_reported_and_only_its_rows_are_lost(
    worlds: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = worlds()
    for start in range(0, 50, 10):
        first.play(played(start, 10))
        first.until(lambda n=start + 10: first.metrics.get("steps_stored") == n, "it is stored")
    first.stop()
    (path,) = journal.segments(tmp_path / journal.FOLDER)
    data = bytearray(path.read_bytes())
    data[data.index(played(20, 10).seq.tobytes())] ^= 1
    path.write_bytes(data)
    second = worlds(resume=True)
    assert columns(second)[1] == [*range(20), *range(30, 50)]
    assert second.slot.base_frames == 50
    second.trainer._replay.check_valid()
    (line,) = [r.message for r in caplog.records if "are damaged" in r.message]
    assert f"{path}: bytes" in line
    assert "10 rows in them are dropped" in line


def test_priorities_are_restored(worlds: Make) -> None:
    settings = {"replay__prioritized": True, "replay__priority_alpha": 0.6}
    first = worlds(**settings)
    first.play(played(0, 150))
    first.until(lambda: first.metrics.get("updates") == 50, "all updates are made")
    first.stop()
    before = first.trainer._replay.saved_priorities()
    assert len(set(before.priority.tolist())) > 20
    after = worlds(resume=True, **settings).trainer._replay.saved_priorities()
    for was, now in zip(before, after, strict=True):
        np.testing.assert_array_equal(was, now)


@pytest.mark.promise("rows-unwritable")
def test_full_disk_is_reported_and_training_continues(
    worlds: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = worlds()
    world.play(played(0, 10))
    world.until(lambda: world.metrics.get("steps_stored") == 10, "it is stored")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwritev", full)
    for start in range(10, 150, 10):
        world.play(played(start, 10))
    world.until(lambda: world.metrics.get("updates") == 50, "all updates are made")
    assert world.reports()["rows_unkept"] == 140
    (finding,) = world.trainer._ingest.findings
    assert "No space left" in finding.text
    assert finding.cure == "free space on the disk"


def test_observation_statistics_count_each_row_once_over_a_restart(
    worlds: Make, tmp_path: Path
) -> None:
    first = worlds(tmp_path / "run", learner__normalize_observations=True)
    first.play(played(0, 100))
    first.ask(SaveCheckpoint(), CheckpointSaved)
    first.play(played(100, 30))
    first.until(lambda: first.metrics.get("steps_stored") == 130, "all is stored")
    left = as_killed(tmp_path / "run", tmp_path / "left")
    second = worlds(left, resume=True, learner__normalize_observations=True)
    assert second.trainer._learner.statistics is not None
    assert (second.trainer._learner.statistics.count == 130).all()


def test_resume_from_best_restores_its_frame_count_and_keeps_the_rows(worlds: Make) -> None:
    first = worlds()
    first.play(played(0, 60))
    first.until(lambda: first.metrics.get("steps_stored") == 60, "it is stored")
    first.ask(evaluated(1.0), SavedBest)
    first.play(played(60, 60))
    first.stop()
    second = worlds(resume=True, best=True)
    assert second.slot.base_frames == 60
    assert second.reports()["buffer_total"] == 120
    second.play(played(0, 7, stream=2))
    second.stop()
    third = worlds(resume=True)
    assert third.slot.base_frames == 67
    assert third.reports()["buffer_total"] == 127


class Dead(Exception):
    """What ends a trainer here as SIGKILL would: nothing is said and nothing is tidied up."""


def dies(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """End its loop at the next turn."""

    def hear(_: Trainer) -> None:
        raise Dead

    monkeypatch.setattr(Trainer, "_hear", hear)
    world.until_dead()
    monkeypatch.undo()


@pytest.mark.promise("trainer-takeover")
def test_takeover_continues_at_the_frames_of_the_games(
    worlds: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"checkpoint__every_s": 1000.0}
    first = worlds(rings=2, **settings)
    first.play(played(0, 150))
    first.until(lambda: first.metrics.get("updates") == 50, "all updates are made")
    dies(first, monkeypatch)
    first.rings[0].write(played(150, 20))
    version = first.slot.version
    second = worlds(over=first, **settings)
    assert second.slot.name == first.slot.name
    assert second.slot.base_frames == 0
    assert second.slot.version == version + 1
    second.until(lambda: second.metrics.get("steps_stored") == 170, "the rest is stored")
    second.until(lambda: second.metrics["updates"] >= 10, "it learns on")
    row = second.reports()
    assert (row["frames"], row["buffer_total"]) == (170, 170)
    # The replay is there: updates are owed for the 20 new steps, and for no others.
    assert (row["updates"], row["updates_due"]) == (10, 0)
    assert columns(second)[1] == list(range(170))


def test_takeover_before_min_steps_waits_for_the_rest(
    worlds: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = worlds()
    first.play(played(0, 30))
    first.until(lambda: first.metrics.get("steps_stored") == 30, "it is stored")
    dies(first, monkeypatch)
    second = worlds(over=first)
    second.play(played(30, 20))
    assert second.reports()["updates"] == 0
    second.play(played(50, 10))
    second.until(lambda: second.metrics["updates"] == 5, "it learns from 50 steps on")


def test_takeover_after_a_rollback_does_not_roll_back_again(
    worlds: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = worlds()
    first.play(played(0, 60))
    first.until(lambda: first.metrics.get("updates") == 5, "it has learnt")
    first.ask(evaluated(1.0), SavedBest)
    first.play(played(60, 60))
    first.stop()
    second = worlds(resume=True, best=True)
    dies(second, monkeypatch)  # before any row
    third = worlds(resume=True, best=True, over=second)
    assert third.slot.base_frames == 60
    third.play(played(0, 40, stream=2))
    third.until(lambda: third.metrics.get("updates") == 25, "it has learnt")
    assert third.metrics["frames"] == 100
    third.ask(SaveCheckpoint(), CheckpointSaved)
    dies(third, monkeypatch)
    fourth = worlds(resume=True, best=True, over=third)
    row = fourth.reports()
    assert (row["frames"], row["updates"], row["buffer_total"]) == (100, 25, 160)
    assert not list((tmp_path / "checkpoints").glob(f"*25*{checkpoint.LEFT}"))


def test_takeover_without_rows_on_disk_starts_an_empty_replay(
    worlds: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"checkpoint__replay": False}
    first = worlds(**settings)
    first.play(played(0, 90))
    first.until(lambda: first.metrics.get("steps_stored") == 90, "it is stored")
    dies(first, monkeypatch)
    second = worlds(over=first, **settings)
    second.play(played(90, 10))
    second.until(lambda: second.metrics.get("steps_stored") == 100, "it is stored")
    assert second.metrics["buffer_total"] == 10
    assert second.reports()["updates"] == 0


def test_takeover_of_a_recording_is_refused(
    worlds: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = worlds(recording=tmp_path / "demo.npz")
    first.play(played(0, 30))
    first.until(lambda: first.metrics.get("steps_stored") == 30, "it is stored")
    dies(first, monkeypatch)
    with pytest.raises(RecordingError, match="record the rest into another file"):
        worlds(over=first, recording=tmp_path / "demo.npz")
    first.slot.unlink()


def test_rows_on_disk_are_bounded_by_the_replay(
    worlds: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(journal, "SMALLEST_SEGMENT", 50)
    settings = {"replay__capacity_steps": 400, "trainer__enabled": False}
    first = worlds(**settings)
    first.play(played(0, 1000))
    first.stop()
    second = worlds(resume=True, **settings)
    assert second.reports()["buffer_total"] == 400
    for start in range(1000, 3000, 10):
        second.play(played(start, 10))
    second.stop()
    folder = tmp_path / journal.FOLDER
    kept = sum(path.stat().st_size for path in journal.segments(folder))
    row = 3 * 4 + 3 * 4 + 4 + 8 + 4 + 3
    # Blocks had one row at least; a segment more than the replay holds, and one that was begun.
    assert 400 * row < kept < (400 + 2 * 50 + 256) * (row + 64)


def test_rows_are_written_only_if_enabled(worlds: Make, tmp_path: Path) -> None:
    world = worlds(checkpoint__replay=False)
    world.play(played(0, 60))
    world.stop()
    assert not (tmp_path / journal.FOLDER).exists()

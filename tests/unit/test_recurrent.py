"""A network with a memory: its state in play, in rows and files, and in learning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from agent import journal
from agent.checkpoint import CheckpointError
from agent.decision import ActingParams
from agent.factory import make_learner, make_replay
from agent.game_memory import game_bytes, step_bytes
from agent.journal import Journal, Position
from agent.journal_joined import read_joined
from agent.learner import Learner
from agent.past import Past, recall, state_before
from agent.policy import Policy
from agent.recurrent import RecurrentMemory
from agent.replay import Replay
from agent.step import FINAL, STEP, StepBlock, stored_columns
from agent.warm_start import warm_start
from config.load import config_from
from lab.sync_trainer import Newest
from protocol.spaces import Discrete, GameSpec, Observation
from tests.support.frame_loop import World
from tests.support.learner import batch_of, spec_of
from tests.support.tensors import assert_close
from tests.support.worlds import copied, joined

SPEC = GameSpec("past", Observation("float32", (3,)), (Discrete("move", 3),)).checked()
UNITS, BURN_IN, UNROLL = 5, 2, 3
CPU = torch.device("cpu")

SETTINGS: dict[str, Any] = {
    "run.seed": 1,
    "replay.capacity_steps": 2000,
    "trainer.min_steps": 10,
    "learner.hidden": (8,),
    "learner.batch_size": 300,
    "learner.memory": "gru",
    "learner.memory_units": UNITS,
    "learner.memory_burn_in": BURN_IN,
    "learner.memory_unroll": UNROLL,
}


def learner_with(**more: Any) -> Learner:
    return make_learner(config_from(SETTINGS | more), SPEC, CPU)


def played(learner: Learner, turns: int = 60, *, frame_stack: int = 1) -> World:
    """Three games with random observations, of which the expert plays half of the frames; episodes
    end in both ways, and at last the games leave in the middle of one."""
    policy = Policy(SPEC, learner._config, Newest(learner), frame_stack=frame_stack)
    policy.refresh()
    world = World(SPEC, policy=policy, memory=UNITS, frame_stack=frame_stack)
    world.params = ActingParams(expert_ratio=0.5, epsilon=0.2, noise=0.0)
    player, rng = world.player(slots=3), np.random.default_rng(5)
    for turn in range(turns):
        for slot in range(3):
            status = (turn + 5 * slot) % 11 == 10 and 1 + slot % 2
            expert = (1,) if rng.random() < 0.7 else None
            player.frame(rng.standard_normal(3), turn, int(status), expert, slot=slot)
        world.run()
        assert player.error is None
    player.leave()
    world.run()
    return world


def walked(learner: Learner, rows: StepBlock) -> dict[tuple[int, int], Tensor]:
    """The state before each row, by stream and seq, computed one frame after the other."""
    memory = learner.network.memory
    assert memory is not None
    found, state = {}, torch.zeros(1, UNITS)
    for i in np.lexsort((rows.seq, rows.stream)):
        if not rows.seq[i]:
            state = torch.zeros(1, UNITS)
        found[int(rows.stream[i]), int(rows.seq[i])] = state
        with torch.no_grad():
            state = memory(torch.from_numpy(rows.obs[i : i + 1].copy()), state)
        if rows.kind[i] == FINAL or rows.status[i] == 1:
            state = torch.zeros(1, UNITS)
    return found


def test_rows_have_the_states_that_the_network_had_before_them() -> None:
    learner = learner_with()
    rows = joined(played(learner).sink.blocks, SPEC)
    states = walked(learner, rows)
    assert set(rows.actor[rows.kind == STEP].tolist()) == {1, 2}
    for i in range(len(rows)):
        expected = states[int(rows.stream[i]), int(rows.seq[i])][0]
        if rows.kind[i] == FINAL:
            expected = torch.zeros(UNITS)
        np.testing.assert_allclose(rows.state[i], expected, atol=2e-3)
    assert (rows.state[rows.kind == STEP] != 0).any(axis=1).mean() > 0.8


@pytest.mark.parametrize("n_step", [1, 3])
def test_learning_recalls_the_states_of_both_ends_of_windows(n_step: int) -> None:
    """The weights are those of play, so going through the frames again ends where play was."""
    learner = learner_with(**{"learner.n_step": n_step})
    rows = joined(played(learner).sink.blocks, SPEC)
    states, replay = walked(learner, rows), replay_of(rows, n_step)
    batch = replay.sample(300)
    recalled = recall(learner.network, learner.target, batch.past, BURN_IN)
    before = state_before(learner.network, batch.past, slice(None))
    streams, seqs = replay.identify(batch.indices)
    assert recalled.state is not None
    assert recalled.next_online is not None
    assert recalled.next_target is not None
    assert before is not None
    ahead = set()
    for i, (stream, seq) in enumerate(zip(streams.tolist(), seqs.tolist(), strict=True)):
        assert_close(recalled.state[i], states[stream, seq][0], atol=2e-3)
        if batch.discounts[i]:
            end = states[stream, seq + int(batch.horizons[i])][0]
            ahead.add(int(batch.horizons[i]))
            assert_close(recalled.next_online[i], end, atol=2e-3)
            assert_close(recalled.next_target[i], end, atol=2e-3)
    assert ahead == set(range(1, n_step + 1))
    assert_close(before, recalled.state)


def replay_of(rows: StepBlock, n_step: int = 3) -> Replay:
    replay = make_replay(config_from(SETTINGS | {"learner.n_step": n_step}), SPEC, CPU)
    replay.append(rows)
    return replay


def test_memory_goes_on_alone_and_together_alike_and_skips_what_is_not_there() -> None:
    torch.manual_seed(0)
    memory = RecurrentMemory(3, UNITS)
    x, real = torch.randn(7, 4, 3), torch.rand(7, 4) < 0.6
    state = start = torch.rand(4, UNITS) - 0.5
    for each, counts in zip(x, real, strict=True):
        state = torch.where(counts[:, None], memory(each, state), state)
    assert_close(memory.unroll(x, real, start), state, atol=1e-6)
    assert torch.equal(memory.unroll(x, torch.zeros_like(real), start), start)


def test_memory_is_the_gru_of_pytorch() -> None:
    torch.manual_seed(0)
    memory, theirs = RecurrentMemory(3, UNITS), torch.nn.GRUCell(3, UNITS)
    for name, ours in (("ih", memory.read), ("hh", memory.recall)):
        getattr(theirs, f"weight_{name}").data = ours.weight.data
        getattr(theirs, f"bias_{name}").data = ours.bias.data
    x, state = torch.randn(4, 3), torch.randn(4, UNITS)
    assert_close(memory(x, state), theirs(x, state), atol=1e-6)


def test_gradient_flows_through_the_unrolled_frames_alone() -> None:
    learner, steps = learner_with(), BURN_IN + UNROLL
    frames = torch.randn(steps + 3, 2, 3, requires_grad=True)
    real = torch.ones(steps + 3, 2, dtype=torch.bool)
    real[: BURN_IN + 1, 1] = False
    past = Past((frames,), real, torch.zeros(2, UNITS), steps)
    recalled = recall(learner.network, learner.target, past, BURN_IN)
    assert recalled.state is not None
    recalled.state.sum().backward()
    assert frames.grad is not None
    learnt = (frames.grad != 0).any(dim=2)
    expected = torch.zeros(steps + 3, 2, dtype=torch.bool)
    expected[BURN_IN:steps] = True
    expected[BURN_IN, 1] = False
    assert torch.equal(learnt, expected)


@pytest.mark.parametrize(
    "more",
    [
        {"learner.precision": "float32"},
        {"learner.precision": "bfloat16"},
        {"learner.normalize_observations": True},
        {"learner.value": "quantile"},
        {"learner.value": "c51"},
        {"advantage.signal": "reward"},
    ],
)
def test_update_moves_the_weights_of_the_memory(more: dict[str, Any]) -> None:
    learner = learner_with(**more)
    rows = joined(played(learner).sink.blocks, SPEC)
    memory = learner.network.memory
    assert memory is not None
    before = [parameter.clone() for parameter in memory.parameters()]
    for batch in replay_of(rows).sample_several(32, 4).split(32):
        learner.step(batch)
    for parameter, was in zip(memory.parameters(), before, strict=True):
        assert (parameter != was).float().mean() > 0.9
    assert all(number == number for number in learner.agreement().values())
    assert learner.heads()


def test_several_batches_have_the_past_of_their_rows() -> None:
    replay = replay_of(joined(played(learner_with()).sink.blocks, SPEC))
    batches = replay.sample_several(16, 3).split(16)
    for batch in batches:
        past = batch.to("cpu").past
        assert past is not None
        assert past.real.shape == (BURN_IN + UNROLL + 3, 16)
        assert past.frames[0].shape == (BURN_IN + UNROLL + 3, 16, 3)
        assert past.state.shape == (16, UNITS)
        # The row's own frame is among them.
        assert torch.equal(past.frames[0][past.before], batch.states[0])
        assert past.real[past.before].all()


def test_memory_and_stacked_frames_go_together() -> None:
    more = {"replay.frame_stack": 3}
    learner = learner_with(**more)
    rows = joined(played(learner, frame_stack=3).sink.blocks, SPEC)
    replay = make_replay(config_from(SETTINGS | more), SPEC, CPU)
    replay.append(rows)
    batch = replay.sample(300)
    recalled = recall(learner.network, learner.target, batch.past, BURN_IN)
    assert recalled.state is not None
    streams, seqs = replay.identify(batch.indices)
    stored = {
        (int(s), int(q)): torch.from_numpy(state.astype(np.float32))
        for s, q, state in zip(rows.stream, rows.seq, rows.state, strict=True)
    }
    for i, row in enumerate(zip(streams.tolist(), seqs.tolist(), strict=True)):
        assert_close(recalled.state[i], stored[row], atol=2e-3)


def test_network_without_a_memory_has_no_bytes_for_it() -> None:
    more = StepBlock.nbytes(SPEC, 1024, UNITS) - StepBlock.nbytes(SPEC, 1024)
    assert more == 1024 * UNITS * 2
    assert "state" not in stored_columns(SPEC)
    learner = learner_with(**{"learner.memory": "none"})
    assert not [name for name in learner.network.state_dict() if "memory" in name]
    replay = make_replay(config_from(SETTINGS | {"learner.memory": "none"}), SPEC, CPU)
    assert replay_of(StepBlock.empty(SPEC, 0)).nbytes - replay.nbytes == 2000 * (UNITS * 2 + 8)
    world = World(SPEC)
    assert world.frame_loop.table.recurrent.nbytes == world.frame_loop.table.state.nbytes == 0


def kept(folder: Path, memory: int) -> Iterator[StepBlock]:
    return (each.rows for each in read_joined(folder, SPEC, [], memory))


@pytest.mark.parametrize("size", [1, 30])
@pytest.mark.parametrize("memory", [0, UNITS, UNITS + 1])
def test_journal_keeps_states_and_reads_those_of_others_as_zeros(
    tmp_path: Path, size: int, memory: int
) -> None:
    rows = joined(played(learner_with(), 20).sink.blocks, SPEC)
    writer = Journal(tmp_path, SPEC, 1000, Position(), UNITS)
    for start in range(0, len(rows), size):
        writer.append(rows.rows(start, start + size))
    writer.close()
    found = joined([copied(block) for block in kept(tmp_path, memory)], SPEC)
    expected = rows.state if memory == UNITS else np.zeros((len(rows), memory), np.float16)
    np.testing.assert_array_equal(found.state, expected)
    np.testing.assert_array_equal(found.obs, rows.obs)
    assert len(list(journal.read(tmp_path, SPEC, []))) >= 1


@pytest.mark.parametrize("size", [1, 30])
def test_journal_without_states_reads_as_zeros(tmp_path: Path, size: int) -> None:
    rows = played(learner_with(), 20).sink.blocks
    writer = Journal(tmp_path, SPEC, 1000, Position())
    for block in rows:
        for start in range(0, len(block), size):
            writer.append(without_states(block.rows(start, start + size)))
    writer.close()
    replay = replay_of(StepBlock.empty(SPEC, 0))
    for block in kept(tmp_path, UNITS):
        assert block.state.shape == (len(block), UNITS)
        assert not block.state.any()
        replay.append(block)
    assert replay.sample(8).past is not None


def without_states(block: StepBlock) -> StepBlock:
    columns = {name: getattr(block, name) for name in StepBlock.__slots__ if name != "state"}
    return StepBlock.of(columns)


def test_replay_takes_rows_without_states_and_refuses_those_of_another_size() -> None:
    rows = joined(played(learner_with()).sink.blocks, SPEC)
    replay = replay_of(without_states(rows))
    past = replay.sample(50).past
    assert past is not None
    assert not past.state.any()
    columns = {name: getattr(rows, name) for name in StepBlock.__slots__}
    wrong = StepBlock(**columns | {"state": np.zeros((len(rows), UNITS + 1), np.float16)})
    with pytest.raises(ValueError, match="column 'state': expected float16"):
        replay.append(wrong)


def checkpoint_of(learner: Learner) -> dict[str, Any]:
    from server.trainer.checkpointer import spec_text

    return {"spec": spec_text(SPEC), "learner": learner.state_dict()}


@pytest.mark.parametrize("before", ["none", "gru"])
def test_warm_start_of_a_network_with_a_memory_says_what_it_said(before: str) -> None:
    old = learner_with(**{"learner.memory": before, "run.seed": 7})
    new = learner_with()
    said = warm_start(new, SPEC, checkpoint_of(old))
    frames, state = torch.randn(20, 3), torch.rand(20, UNITS) - 0.5
    assert_close(
        new.network.choose(new.network.encode(frames, state=state)),
        old.network.choose(old.network.encode(frames, state=state)),
    )
    q_new = new.network.outputs(new.network.encode(frames, state=state)).q
    q_old = old.network.outputs(old.network.encode(frames, state=state)).q
    assert_close(q_new, q_old, atol=1e-5)
    assert any(each.startswith("memory.read") for each in said.taken) == (before == "gru")


def test_checkpoint_of_another_memory_is_refused_with_what_to_do() -> None:
    old = learner_with(**{"learner.memory": "none"}).state_dict()
    del old["settings"]["learner.memory"], old["settings"]["learner.memory_units"]
    with pytest.raises(CheckpointError, match=r"learner.memory is gru, and was none there"):
        learner_with().load_state_dict(old)
    smaller = learner_with(**{"learner.memory_units": 4}).state_dict()
    with pytest.raises(CheckpointError, match=r"learner.memory_units is 5, and was 4 there"):
        learner_with().load_state_dict(smaller)


def test_memory_of_a_game_counts_the_networks_own() -> None:
    config = config_from(SETTINGS)
    without = config_from(SETTINGS | {"learner.memory": "none"})
    with_it, bare = game_bytes(SPEC, config), game_bytes(SPEC, without)
    assert all(with_it[key] > bare[key] for key in bare)
    replay = make_replay(config, SPEC, CPU)
    assert replay.nbytes / 2000 == pytest.approx(step_bytes(SPEC, config), rel=0.05)


@pytest.mark.parametrize("continuous", ["regression", "gradient", "bins"])
def test_memory_is_learnt_with_every_kind_of_head(continuous: str) -> None:
    spec = spec_of()
    config = config_from(SETTINGS | {"learner.continuous": continuous})
    learner = make_learner(config, spec, CPU)
    batch, steps = batch_of(spec), BURN_IN + UNROLL
    frames = torch.randn(steps + 3, len(batch), *batch.states[0].shape[1:])
    real = torch.ones(frames.shape[:2], dtype=torch.bool)
    past = Past((frames,), real, torch.zeros(len(batch), UNITS), steps)
    assert learner.network.memory is not None
    before = learner.network.memory.recall.weight.clone()
    errors = learner.step(replace(batch, past=past))
    assert errors.isfinite().all()
    assert (learner.network.memory.recall.weight != before).float().mean() > 0.9

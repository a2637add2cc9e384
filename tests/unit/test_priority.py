"""Prioritised replay, one promise at a time. tests/unit/test_replay_properties.py has the model."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from agent.priority import EPSILON, LARGEST, Priorities, importance
from agent.replay import Replay
from protocol.actor import ACTORS, Actor
from tests.support.replay_model import (
    DISCONNECT,
    RUN,
    TERMINATE,
    TRUNCATE,
    Games,
    Model,
    NoWaiting,
    assert_alike,
    block_of,
    chi_square_fits,
    feed,
    make,
    many_rows,
    modes,
)
from tests.support.tensors import assert_close

torch.set_num_threads(1)

DQN, EXPERT = Actor.DQN, Actor.EXPERT
EACH_MODE = pytest.mark.parametrize("mode", modes())


def replay_of_events(mode: str, *events: tuple[str, Actor], **settings: object) -> Replay:
    """A replay of one stream with these events."""
    replay, games = make(mode, 100, **{"priority_alpha": 0.5, **settings}), Games()
    replay.append(block_of([row for event, actor in events for row in games.play(0, event, actor)]))
    return replay


def priorities_by_actor_and_place(replay: Replay) -> dict[tuple[Actor, int], float]:
    """All there are, by actor and place."""
    replay.check_valid()
    assert replay._priorities is not None
    trees = replay._priorities._tree.leaves.view(len(ACTORS), -1).tolist()
    return {
        (who, place): mass
        for who, tree in zip(ACTORS, trees, strict=True)
        for place, mass in enumerate(tree)
        if mass
    }


def update_priorities_at(replay: Replay, errors: dict[int, float]) -> None:
    places = torch.tensor(list(errors), device=replay.device)
    replay.update_priorities(places, torch.tensor(list(errors.values()), device=replay.device))


def sampled_rows_per_batch(replay: Replay, batch_size: int = 4096, batches: int = 20) -> np.ndarray:
    """How often each place was drawn, in rows of a batch."""
    counts = np.zeros(replay.capacity_steps)
    for _ in range(batches):
        places = replay.sample(batch_size).indices.cpu().numpy()
        counts += np.bincount(places, minlength=len(counts))
    return counts / (batches * batch_size)


# -- By hand


@EACH_MODE
def test_priorities_and_importance_equal_hand_computed_values(mode: str) -> None:
    """TD errors 3, 0, 1 and 8 with alpha 1/2: priorities 1.732, 0.001, 1 and 2.828. Their sum is
    5.561, so P is 0.3114, 0.00018, 0.1798 and 0.5086; with beta 1/2 the second, if drawn, has the
    weight 1, and the others the root of 0.00018 / P."""
    replay = replay_of_events(mode, *[(RUN, DQN)] * 5)
    assert priorities_by_actor_and_place(replay) == {(DQN, place): 1.0 for place in range(4)}
    replay.beta = 0.5
    assert replay.sample(8).importance.tolist() == [1.0] * 8
    update_priorities_at(replay, {0: 3.0, 1: -0.0, 2: -1.0, 3: 8.0})
    found = priorities_by_actor_and_place(replay)
    assert list(found) == [(DQN, place) for place in range(4)]
    assert list(found.values()) == pytest.approx([1.7320511, 0.001, 1.0000005, 2.8284273], rel=1e-6)
    shares = sampled_rows_per_batch(replay)[:4]
    assert shares == pytest.approx([0.3114, 0.00018, 0.1798, 0.5086], abs=0.01)

    batch = replay.sample(50_000)
    weights = {place: batch.importance[batch.indices == place] for place in range(4)}
    assert len(weights[1])
    by_hand = [math.sqrt(0.001 / 1.7320511), 1.0, math.sqrt(0.001), math.sqrt(0.001 / 2.8284273)]
    for place in range(4):
        assert weights[place].tolist() == pytest.approx([by_hand[place]] * len(weights[place]))


@EACH_MODE
def test_importance_with_actor_share_equals_hand_computed_values(mode: str) -> None:
    """Half of the batch is the expert's, who has 2 rows of priority 1 and 3; dqn has 4 of 1. So P
    is 1/8 and 3/8 for the expert's and 1/8 for each of dqn's: the weights are 1, 1/3 and 1."""
    replay = replay_of_events(mode, *[(RUN, DQN)] * 4, (RUN, EXPERT), (RUN, EXPERT), (RUN, DQN))
    update_priorities_at(replay, {4: 1 - EPSILON, 5: 9 - EPSILON})
    replay.actor_share = {EXPERT: 0.5}
    assert sampled_rows_per_batch(replay)[:6] == pytest.approx([1 / 8] * 5 + [3 / 8], abs=0.01)
    batch = replay.sample(1000)
    want = torch.where(batch.indices == 5, 1 / 3, 1.0)
    assert_close(batch.importance, want)
    # Without the share P is 1/8 for each but the last.
    replay.actor_share = {}
    assert sampled_rows_per_batch(replay)[:6] == pytest.approx([1 / 8] * 5 + [3 / 8], abs=0.01)
    # With other shares dqn's P is 0.75 / 4, the expert's 0.25 / 4 and 3 * 0.25 / 4.
    replay.actor_share = {DQN: 0.75}
    batch = replay.sample(1000)
    want = torch.tensor([1 / 3] * 4 + [1.0, 1 / 3], device=batch.indices.device)[batch.indices]
    assert_close(batch.importance, want)


@EACH_MODE
def test_importance_with_unassigned_share_includes_all_actors(mode: str) -> None:
    """0.4 of the batch is dqn's, 0.2 the expert's, and 0.4 comes from all: 3 rows of dqn and 1 of
    the expert, all of priority 1. P is 0.4/3 + 0.4/4 for dqn's and 0.2 + 0.4/4 for the expert's."""
    replay = replay_of_events(mode, *[(RUN, DQN)] * 3, (RUN, EXPERT), (RUN, DQN))
    replay.actor_share = {DQN: 0.4, EXPERT: 0.2}
    assert sampled_rows_per_batch(replay)[:4] == pytest.approx([0.7 / 3] * 3 + [0.3], abs=0.01)
    batch = replay.sample(500)
    want = torch.where(batch.actors == EXPERT, 0.7 / 3 / 0.3, 1.0)
    assert_close(batch.importance, want)


# -- Distribution


def wrapped_replay_and_model(mode: str, **settings: object) -> tuple[Replay, Model]:
    """A replay that went round several times, with priorities from 0.1 to 10."""
    model, replay = Model(300, 1.0), make(mode, 300, priority_alpha=1.0, **settings)
    feed(replay, model, many_rows(), (50,))
    places = replay.sample(2000).indices.unique()
    errors = 10 ** np.random.default_rng(0).uniform(-1, 1, len(places)).astype(np.float32)
    replay.update_priorities(places, torch.from_numpy(errors).to(replay.device))
    model.update(places.tolist(), errors.tolist())
    assert_alike(replay, model)
    assert len(model.complete()) < len(model.steps)
    return replay, model


@EACH_MODE
@pytest.mark.parametrize("shares", [{}, {EXPERT: 0.25}, {DQN: 0.5, EXPERT: 0.25}, {DQN: 1.0}])
def test_sampling_frequency_follows_priority(mode: str, shares: dict[Actor, float]) -> None:
    replay, model = wrapped_replay_and_model(mode, actor_share=shares)
    expected = model.expected_rows(shares, 4000)
    rows = np.array([expected.get(id(model.at_place(place)), 0.0) for place in range(300)])
    batches = 50
    counts = sampled_rows_per_batch(replay, 4000, batches) * batches * 4000
    assert not counts[rows == 0].any()
    assert chi_square_fits(counts[rows > 0], batches * rows[rows > 0])


@EACH_MODE
def test_importance_with_beta_1_gives_unbiased_mean(mode: str) -> None:
    replay, model = wrapped_replay_and_model(mode, actor_share={EXPERT: 0.8})
    replay.beta = 1.0
    batch = replay.sample(200_000)
    mean = float((batch.importance * batch.rewards).sum() / batch.importance.sum())
    rewards = np.array([row.reward for row in model.complete()])
    assert mean == pytest.approx(rewards.mean(), abs=0.02)
    assert float(batch.rewards.mean()) != pytest.approx(rewards.mean(), abs=0.02)


@EACH_MODE
def test_alpha_0_gives_uniform_priorities(mode: str) -> None:
    replay = replay_of_events(mode, *[(RUN, DQN)] * 5, priority_alpha=0.0)
    update_priorities_at(replay, {0: 5.0, 1: 1e-9, 2: 1e9, 3: 0.0})
    assert set(priorities_by_actor_and_place(replay).values()) == {1.0}
    assert replay.sample(20).importance.tolist() == [1.0] * 20


def test_beta_0_gives_importance_1() -> None:
    replay, _ = wrapped_replay_and_model("cpu")
    replay.beta = 0.0
    assert replay.beta == 0
    assert replay.sample(100).importance.tolist() == [1.0] * 100


def test_importance_is_scaled_to_maximum_1_per_batch() -> None:
    replay, _ = wrapped_replay_and_model("cpu", actor_share={EXPERT: 0.3})
    for beta in (0.1, 0.7, 1.0):
        replay.beta = beta
        weights = replay.sample(64).importance
        assert float(weights.max()) == 1
        assert 0 < float(weights.min()) < 0.9
        assert weights.dtype == torch.float32


# -- Who has a priority


@EACH_MODE
def test_only_complete_steps_have_priority(mode: str) -> None:
    replay, games = make(mode, 100, priority_alpha=0.5), Games()
    replay.append(block_of(games.play(0, RUN)))
    assert priorities_by_actor_and_place(replay) == {}
    replay.append(block_of(games.play(0, RUN, EXPERT)))
    assert priorities_by_actor_and_place(replay) == {(DQN, 0): 1.0}, "the first has a successor now"
    replay.append(block_of(games.play(0, TERMINATE)))
    # Place 3 is a final row.
    assert priorities_by_actor_and_place(replay) == {(DQN, 0): 1.0, (EXPERT, 1): 1.0, (DQN, 2): 1.0}
    replay.append(block_of([*games.play(0, RUN), *games.play(0, TRUNCATE)]))
    assert (DQN, 5) in priorities_by_actor_and_place(replay)
    replay.append(block_of([*games.play(1, RUN), *games.play(1, DISCONNECT)]))
    assert priorities_by_actor_and_place(replay).keys() == {
        *[(DQN, place) for place in (0, 2, 4, 5, 7)],
        (EXPERT, 1),
    }


@EACH_MODE
def test_new_rows_get_largest_priority_so_far(mode: str) -> None:
    replay, games = make(mode, 100, priority_alpha=0.5), Games()
    replay.append(block_of([row for _ in range(3) for row in games.play(0, RUN)]))
    update_priorities_at(replay, {0: 16 - EPSILON, 1: 0.25})
    update_priorities_at(replay, {0: 1.0})
    # In the same block, and completed by a later one.
    replay.append(block_of([row for _ in range(2) for row in games.play(0, RUN)]))
    assert list(priorities_by_actor_and_place(replay).values()) == pytest.approx(
        [1, 0.5, 4, 4], abs=1e-5
    )
    update_priorities_at(replay, {2: 0.0, 3: 0.0})
    assert replay.priorities()["max"] == 4, "it only grows"
    replay.append(block_of(games.play(0, RUN)))
    assert priorities_by_actor_and_place(replay)[DQN, 4] == 4


@EACH_MODE
def test_overwritten_rows_lose_priority(mode: str) -> None:
    replay, games = make(mode, 6, priority_alpha=0.5), Games()
    replay.append(block_of([row for _ in range(6) for row in games.play(0, RUN, DQN)]))
    update_priorities_at(replay, dict.fromkeys(range(5), 100.0 - EPSILON))
    assert priorities_by_actor_and_place(replay) == {
        (DQN, place): pytest.approx(10) for place in range(5)
    }
    # Another actor's steps on the places 0 and 1, the second of which is not complete yet.
    replay.append(block_of([row for _ in range(2) for row in games.play(1, RUN, EXPERT)]))
    assert priorities_by_actor_and_place(replay).keys() == {
        (EXPERT, 0),
        *[(DQN, place) for place in (2, 3, 4)],
    }
    # A block longer than the replay.
    replay.append(block_of([row for _ in range(20) for row in games.play(2, RUN, EXPERT)]))
    assert len(priorities_by_actor_and_place(replay)) == 5
    assert {who for who, _ in priorities_by_actor_and_place(replay)} == {EXPERT}
    drawn = replay.sample(100)
    assert set(drawn.actors.tolist()) == {EXPERT}


@EACH_MODE
@pytest.mark.parametrize("who", [DQN, EXPERT])
@pytest.mark.parametrize("shares", [{}, {EXPERT: 0.25}, {DQN: 0.5, EXPERT: 0.5}])
def test_sampling_with_one_actor_absent_draws_other_by_priority(
    mode: str, who: Actor, shares: dict[Actor, float]
) -> None:
    replay = replay_of_events(mode, *[(RUN, who)] * 4, actor_share=shares)
    update_priorities_at(replay, {0: 1.0, 1: 4.0, 2: 1.0})
    batch = replay.sample(4000)
    assert batch.actors.tolist() == [who] * 4000
    assert float((batch.indices == 1).float().mean()) == pytest.approx(0.5, abs=0.05)
    assert_close(batch.importance, torch.where(batch.indices == 1, 0.5, 1.0))


@EACH_MODE
def test_sample_before_first_complete_step_raises(mode: str) -> None:
    """One complete step among thousands that are not."""
    replay, games = make(mode, 5000, priority_alpha=0.6, actor_share={EXPERT: 0.5}), Games()
    replay.append(block_of([row for slot in range(3000) for row in games.play(slot, RUN)]))
    assert not replay.can_sample
    with pytest.raises(ValueError, match="nothing to sample"):
        replay.sample(4)
    replay.append(block_of(games.play(1234, RUN)))
    batch = replay.sample(256)
    assert batch.indices.tolist() == [1234] * 256
    assert batch.importance.tolist() == [1.0] * 256
    assert batch.horizons.tolist() == [1] * 256


# -- Errors that are not finite, rows that are gone


@EACH_MODE
@pytest.mark.parametrize("error", [math.nan, math.inf, -math.inf])
def test_update_with_non_finite_td_error_keeps_priority(mode: str, error: float) -> None:
    replay = replay_of_events(mode, *[(RUN, DQN)] * 4)
    update_priorities_at(replay, {0: 9.0, 1: 4.0, 2: 1.0})
    before = priorities_by_actor_and_place(replay)
    update_priorities_at(replay, {0: error, 1: error})
    assert priorities_by_actor_and_place(replay) == before
    assert replay.priorities()["max"] == pytest.approx(3)
    update_priorities_at(replay, {0: error, 2: 16.0})
    assert priorities_by_actor_and_place(replay)[DQN, 2] == pytest.approx(4)
    assert len(set(replay.sample(200).indices.tolist())) == 3


@EACH_MODE
def test_update_with_largest_float32_td_error_is_capped(mode: str) -> None:
    replay = replay_of_events(mode, *[(RUN, DQN)] * 3, priority_alpha=1.0)
    update_priorities_at(replay, {0: 3e38, 1: 0.0})
    assert priorities_by_actor_and_place(replay) == {
        (DQN, 0): LARGEST,
        (DQN, 1): np.float32(EPSILON),
    }
    batch = replay.sample(100)
    assert batch.importance.isfinite().all()
    assert (batch.importance > 0).all()


@EACH_MODE
def test_late_update_of_overwritten_places_skips_incomplete_rows(mode: str) -> None:
    replay, games = make(mode, 4, priority_alpha=0.5), Games()
    replay.append(block_of([row for _ in range(4) for row in games.play(0, RUN, EXPERT)]))
    places = torch.tensor([0, 1, 2], device=replay.device)
    # Place 0 is a step that is not complete, 1 a step of dqn's, 2 a final row.
    rows = [*games.play(1, RUN), *games.play(2, RUN), *games.play(2, DISCONNECT)]
    replay.append(block_of(rows))
    assert priorities_by_actor_and_place(replay) == {(DQN, 1): 1.0}
    replay.update_priorities(places, torch.full((3,), 9.0, device=replay.device))
    assert priorities_by_actor_and_place(replay) == {(DQN, 1): pytest.approx(3)}


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_update_with_td_errors_of_other_dtype_is_accepted(dtype: torch.dtype) -> None:
    replay = replay_of_events("cpu", *[(RUN, DQN)] * 4)
    replay.update_priorities(torch.tensor([1]), torch.tensor([16.0], dtype=dtype))
    assert priorities_by_actor_and_place(replay)[DQN, 1] == pytest.approx(4)


# -- The rest


def test_sample_and_update_do_not_synchronize_with_device() -> None:
    replay, _ = wrapped_replay_and_model("no_wait", actor_share={EXPERT: 0.25}, stacks=[3])
    with NoWaiting() as mode:
        batch = replay.sample(64)
        replay.update_priorities(batch.indices, batch.rewards)
    assert mode.operations > 50
    with pytest.raises(AssertionError, match="waits"), NoWaiting():
        replay.priorities()
    with pytest.raises(AssertionError, match="waits"), NoWaiting():
        batch.rewards[batch.actors == EXPERT]


def test_sample_and_update_repeat_same_device_operations() -> None:
    """So that it can be recorded once and played again: the same operations on the same memory,
    whatever was appended, overwritten and learnt meanwhile, and whatever beta is."""
    replay, _ = wrapped_replay_and_model("no_wait", stacks=[2])
    replay._rows._buffers = (None,)  # as on a device that torch keeps the memory of
    games = Games(seed=4)
    seen = []
    for moment in range(3):
        replay.append(block_of(games.play_at_random(70, odds=0.1)))
        replay.beta = moment / 4
        with Recording() as recording:
            batch = replay.sample(16)
            replay.update_priorities(batch.indices, batch.rewards)
        seen.append(recording.asked)
    assert len(seen[0]) > 50
    assert seen[0] == seen[1] == seen[2]


class Recording(NoWaiting):
    """The operations with their numbers, and where in memory their tensors lie: those that were
    there before."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[object] = []
        self._made: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        def told(value: object) -> object:
            if isinstance(value, torch.Tensor):
                at = value.untyped_storage().data_ptr()
                return ("new" if at in self._made else at, tuple(value.shape))
            if isinstance(value, torch.Generator):
                return "generator"
            return tuple(map(told, value)) if isinstance(value, list | tuple) else value

        self.asked.append((str(func), told(args), told(list((kwargs or {}).items()))))
        out = super().__torch_dispatch__(func, types, args, kwargs)
        known = {v.untyped_storage().data_ptr() for v in args if isinstance(v, torch.Tensor)}
        for value in out if isinstance(out, list | tuple) else [out]:
            if isinstance(value, torch.Tensor):
                at = value.untyped_storage().data_ptr()
                self._made |= {at} - (known - self._made)
        return out


def test_priorities_summary_gives_max_and_mean_per_actor() -> None:
    replay = replay_of_events("cpu", *[(RUN, DQN)] * 3, (RUN, EXPERT), (RUN, DQN))
    update_priorities_at(replay, {0: 1.0, 1: 4.0, 2: 9.0})
    assert replay.priorities() == pytest.approx(
        {"max": 3, "mean_dqn": 2, "mean_expert": 1}, abs=1e-4
    )
    nothing = make("cpu", 10, priority_alpha=0.5).priorities()
    assert nothing["max"] == 1
    assert math.isnan(nothing["mean_dqn"])
    assert all(math.isnan(number) for number in make("cpu", 10).priorities().values())


def test_priorities_need_under_9_5_bytes_per_step() -> None:
    plain = make("cpu", 100_000).nbytes
    assert make("cpu", 100_000, priority_alpha=0.6).nbytes - plain < 9.5 * 100_000


def test_replay_without_priorities_has_importance_1_and_refuses_update() -> None:
    replay = make("cpu", 20)
    replay.append(block_of(Games().play_at_random(20, odds=0)))
    assert replay.sample(10).importance.tolist() == [1.0] * 10
    with pytest.raises(ValueError, match="priority_alpha"):
        replay.update_priorities(torch.tensor([0]), torch.tensor([1.0]))


@pytest.mark.parametrize("shape", [(2,), (3, 1), ()])
def test_update_with_td_errors_of_wrong_shape_raises(shape: tuple[int, ...]) -> None:
    replay = replay_of_events("cpu", *[(RUN, DQN)] * 5)
    with pytest.raises(ValueError, match="expected a TD error for each"):
        replay.update_priorities(torch.tensor([0, 1, 2]), torch.zeros(shape))
    assert set(priorities_by_actor_and_place(replay).values()) == {1.0}


@pytest.mark.parametrize("alpha", [-0.1, 1.1, math.nan])
def test_alpha_out_of_range_raises(alpha: float) -> None:
    with pytest.raises(ValueError, match="priority_alpha: expected 0 to 1"):
        make("cpu", 10, priority_alpha=alpha)


@pytest.mark.parametrize("beta", [-0.1, 1.1, math.nan])
def test_beta_out_of_range_raises(beta: float) -> None:
    replay = make("cpu", 10, priority_alpha=0.5)
    with pytest.raises(ValueError, match="beta: expected 0 to 1"):
        replay.beta = beta
    assert replay.beta == 1


def test_draw_group_of_non_adjacent_actors_raises() -> None:
    made = Priorities(10, 0.5, torch.device("cpu"))
    with pytest.raises(ValueError, match="neighboring"):
        made.draw([((EXPERT, DQN), 4)], torch.Generator())


def test_importance_function_equals_hand_computed_values() -> None:
    weights = importance(torch.tensor([0.1, 0.4, 0.2]), 0.5)
    assert weights.tolist() == pytest.approx([1, 0.5, math.sqrt(0.5)])
    assert importance(torch.tensor([1e-12, 1.0], dtype=torch.float64), 1.0).dtype == torch.float32


@pytest.mark.parametrize("mode", modes())
def test_saved_priorities_are_restored_to_same_rows(mode: str) -> None:
    rows = Games().play_at_random(300)
    before = make(mode, 500, priority_alpha=0.6)
    before.append(block_of(rows[:200]))
    for seed in range(5):
        batch = before.sample(64)
        before.update_priorities(batch.indices, torch.arange(64.0) * (seed + 1))
    saved = before.saved_priorities()
    assert len(saved.stream) == 200
    # Places differ, some rows are gone, and some are new.
    after = make(mode, 500, priority_alpha=0.6)
    after.append(block_of(rows[150:]))
    after.restore_priorities(saved)
    after.check_valid()
    now = after.saved_priorities()
    assert now.largest == saved.largest > 1
    then = dict(zip(zip(saved.stream, saved.seq, strict=True), saved.priority, strict=True))
    compared = 0
    for stream, seq, priority in zip(now.stream, now.seq, now.priority, strict=True):
        if priority > 0:
            # What could not be drawn when it was saved is new, like what came later.
            assert priority == (then.get((stream, seq)) or 1)
            compared += (stream, seq) in then
    assert compared > 20

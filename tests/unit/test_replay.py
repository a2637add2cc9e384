"""The replay, one promise at a time; tests/unit/test_replay_properties.py has a model of it."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from dataclasses import fields

import numpy as np
import pytest
import torch
from torch import Tensor

from agent.factory import make_replay
from agent.replay import Batch, Replay
from agent.step import FINAL, STEP, StepBlock
from config.load import config_from
from protocol.actor import ACTORS, Actor
from protocol.spaces import Continuous, Discrete, GameSpec, Observation
from tests.support.replay_model import (
    DISCONNECT,
    PIXELS,
    RUN,
    SPEC,
    TERMINATE,
    TRUNCATE,
    Games,
    Model,
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


def replay_of_events(
    mode: str, *events: tuple[str, Actor], **settings: object
) -> tuple[Replay, list[float]]:
    """A replay of one stream with these events, and the rewards of its steps."""
    replay, games = make(mode, 100, **settings), Games()
    rows = [row for event, actor in events for row in games.play(0, event, actor)]
    replay.append(block_of(rows))
    return replay, [row.reward for row in rows if row.kind == STEP]


def window_at(replay: Replay, place: int) -> dict[str, float]:
    """The window that starts at a place, and the place that it bootstraps from."""
    batch = replay.sample(400).to("cpu")
    at = int((batch.indices == place).nonzero()[0])
    like = (replay._rows.obs[0].cpu() == batch.next_states[0][at].view(-1)).all(1)
    columns = {f.name: getattr(batch, f.name) for f in fields(Batch)}
    window = {
        name: each[at].tolist()
        for name, each in columns.items()
        if each is not None and not name.endswith("states")
    }
    return {**window, "last": int(like.nonzero()[0])}


# -- Windows


@EACH_MODE
def test_n_step_window_sums_discounted_rewards(mode: str) -> None:
    replay, r = replay_of_events(mode, *[(RUN, DQN)] * 6, n_step=3, gamma=0.5)
    window = window_at(replay, 1)
    assert window["returns"] == pytest.approx(r[1] + 0.5 * r[2] + 0.25 * r[3], abs=1e-6)
    assert (window["horizons"], window["discounts"], window["last"]) == (3, 0.125, 4)
    assert window["rewards"] == np.float32(r[1])


@EACH_MODE
def test_termination_ends_window_with_discount_0(mode: str) -> None:
    replay, r = replay_of_events(
        mode, (RUN, DQN), (TERMINATE, DQN), (RUN, DQN), (RUN, DQN), gamma=0.5
    )
    window = window_at(replay, 0)
    assert window["returns"] == pytest.approx(r[0] + 0.5 * r[1], abs=1e-6)
    assert (window["horizons"], window["discounts"]) == (2, 0)
    assert window_at(replay, 1)["horizons"] == 1


@EACH_MODE
def test_truncation_ends_window_and_bootstraps_from_final_row(mode: str) -> None:
    replay, r = replay_of_events(
        mode, (RUN, DQN), (TRUNCATE, DQN), (RUN, DQN), (RUN, DQN), gamma=0.5
    )
    window = window_at(replay, 0)
    assert window["returns"] == pytest.approx(r[0] + 0.5 * r[1], abs=1e-6)
    assert (window["horizons"], window["discounts"], window["last"]) == (2, 0.25, 2)


@EACH_MODE
def test_disconnect_is_a_truncation(mode: str) -> None:
    replay, r = replay_of_events(
        mode, (RUN, DQN), (RUN, DQN), (DISCONNECT, DQN), (RUN, DQN), gamma=0.5
    )
    window = window_at(replay, 0)
    assert window["returns"] == pytest.approx(r[0] + 0.5 * r[1], abs=1e-6)
    assert (window["horizons"], window["discounts"], window["last"]) == (2, 0.25, 2)


@EACH_MODE
def test_window_up_to_newest_step_bootstraps_from_it(mode: str) -> None:
    replay, r = replay_of_events(mode, (RUN, DQN), (RUN, DQN), (RUN, DQN), gamma=0.5, n_step=5)
    window = window_at(replay, 0)
    assert window["returns"] == pytest.approx(r[0] + 0.5 * r[1], abs=1e-6)
    assert (window["horizons"], window["discounts"], window["last"]) == (2, 0.25, 2)


@EACH_MODE
@pytest.mark.parametrize(("stop", "horizon", "last"), [(True, 2, 2), (False, 4, 4)])
def test_window_at_actor_change_stops_if_configured(
    mode: str, stop: bool, horizon: int, last: int
) -> None:
    events = [(RUN, EXPERT)] * 2 + [(RUN, DQN)] * 4
    replay, r = replay_of_events(mode, *events, n_step=4, gamma=0.5, stop_at_actor_change=stop)
    window = window_at(replay, 0)
    want = sum(0.5**k * r[k] for k in range(horizon))
    assert window["returns"] == pytest.approx(want, abs=1e-6)
    assert (window["horizons"], window["last"], window["actors"]) == (horizon, last, EXPERT)


@pytest.mark.parametrize(
    ("settings", "low", "high"),
    [({}, 11.5, 12.0), ({"replay.stop_at_actor_change": True}, 1.9, 2.1)],
    ids=["as the preset has it", "cut at the actor's change"],
)
def test_preset_tempest_windows_cross_actors(
    settings: dict[str, object], low: float, high: float
) -> None:
    """Mean horizon of 12-step windows where a coin says for each frame who plays: sum of 0.5**k
    where they are cut, and 12 less what ends of episodes cut where they are not."""
    config = config_from({"replay.capacity_steps": 20_000, **settings}, preset="tempest")
    games, rng = Games(), np.random.default_rng(1)
    rows = [
        row
        for k in range(1, 9001)
        for row in games.play(0, RUN if k % 300 else TERMINATE, Actor(rng.integers(1, 3)))
    ]
    replay = make_replay(config, SPEC, torch.device("cpu"))
    replay.append(block_of(rows))
    horizons = torch.cat([replay.sample(1000).horizons for _ in range(20)]).float()
    assert low < float(horizons.mean()) < high
    assert set(ACTORS) == {Actor(int(actor)) for actor in replay.sample(1000).actors}


@EACH_MODE
def test_n_step_and_gamma_changed_live_take_effect(mode: str) -> None:
    replay, r = replay_of_events(mode, *[(RUN, DQN)] * 8, n_step=1, gamma=0.9)
    assert window_at(replay, 0)["returns"] == np.float32(r[0])
    replay.n_step, replay.gamma = 5, 1.0
    window = window_at(replay, 0)
    assert window["returns"] == pytest.approx(sum(r[:5]), abs=1e-5)
    assert (window["horizons"], window["discounts"], window["last"]) == (5, 1, 5)


# -- Frame stacks


def frames_of(replay: Replay, stack: Tensor) -> list[int]:
    """The places whose observations stand in a stack."""
    found = [
        (replay._rows.obs[0].cpu() == frame.view(-1).cpu()).all(1).nonzero().view(-1)
        for frame in stack
    ]
    return [int(places[0]) for places in found]


def stacks_at(replay: Replay, place: int) -> tuple[list[int], list[int]]:
    """Which places a sampled row shows, and which it bootstraps from."""
    batch = replay.sample(400)
    at = int((batch.indices == place).nonzero()[0])
    return frames_of(replay, batch.states[0][at]), frames_of(replay, batch.next_states[0][at])


@EACH_MODE
def test_frame_stack_holds_last_frames_oldest_first(mode: str) -> None:
    replay, _ = replay_of_events(mode, *[(RUN, DQN)] * 7, stacks=[3], n_step=2)
    assert replay.sample(5).states[0].shape == (5, 3, 3, 2)
    assert stacks_at(replay, 3) == ([1, 2, 3], [3, 4, 5])
    # At the start of an episode the first frame is there again and again.
    assert stacks_at(replay, 0) == ([0, 0, 0], [0, 1, 2])
    assert stacks_at(replay, 1) == ([0, 0, 1], [1, 2, 3])


@EACH_MODE
def test_frame_stack_does_not_cross_episode_start(mode: str) -> None:
    events = [(RUN, DQN), (RUN, DQN), (TERMINATE, DQN), (RUN, DQN), (RUN, EXPERT), (RUN, DQN)]
    replay, _ = replay_of_events(mode, *events, stacks=[4], n_step=1)
    # Place 3 is the final row; other actors' frames are seen all the same.
    assert stacks_at(replay, 4) == ([4, 4, 4, 4], [4, 4, 4, 5])
    assert stacks_at(replay, 5) == ([4, 4, 4, 5], [4, 4, 5, 6])


@EACH_MODE
@pytest.mark.parametrize("end", [TRUNCATE, DISCONNECT])
def test_frame_stack_of_bootstrap_observation_at_truncation(mode: str, end: str) -> None:
    replay, _ = replay_of_events(mode, (RUN, DQN), (RUN, DQN), (end, DQN), stacks=[3], n_step=9)
    last = 3 if end == TRUNCATE else 2
    assert stacks_at(replay, 0) == ([0, 0, 0], [last - 2, last - 1, last])


@EACH_MODE
def test_frame_stack_leaves_out_overwritten_frames(mode: str) -> None:
    replay, games = make(mode, 6, stacks=[4], n_step=1), Games()
    for _ in range(8):
        replay.append(block_of(games.play(0, RUN)))
    # The frames 0 and 1 have gone; 2 to 7 stand at the places 2, 3, 4, 5, 0, 1.
    assert stacks_at(replay, 2)[0] == [2, 2, 2, 2]
    assert stacks_at(replay, 4)[0] == [2, 2, 3, 4]
    assert stacks_at(replay, 0)[0] == [3, 4, 5, 0]


def test_frame_stack_stores_each_frame_once() -> None:
    heads = (Discrete("buttons", 4),)
    spec = GameSpec("atari", Observation("uint8", (84, 84)), heads)
    one, four = (make("cpu", 1000, spec, stacks=[k]).nbytes for k in (1, 4))
    assert four - one == 8 * 1000
    assert one < 1000 * (84 * 84 + 100)


def test_frame_stack_0_raises() -> None:
    with pytest.raises(ValueError, match=r"stacks: expected at least 1 for each .* \[0\]"):
        make("cpu", 10, stacks=[0])


# -- What may be sampled


@EACH_MODE
def test_sample_without_complete_step_raises(mode: str) -> None:
    replay, games = make(mode, 10), Games()
    with pytest.raises(ValueError, match="nothing to sample: none of the 0"):
        replay.sample(4)
    replay.append(block_of(games.play(0, RUN)))
    replay.append(block_of(games.play(1, RUN)))
    assert not replay.can_sample
    with pytest.raises(ValueError, match="nothing to sample: none of the 2"):
        replay.sample(4)
    replay.append(block_of(games.play(0, RUN)))
    assert replay.can_sample
    assert replay.sample(4).indices.tolist() == [0, 0, 0, 0]


@EACH_MODE
def test_sample_never_draws_steps_without_successor(mode: str) -> None:
    """Some, so that draws are repeated, and most, so that the complete ones are listed."""
    for lonely in (20, 2000):
        replay, games = make(mode, 5000), Games()
        rows = [row for _ in range(100) for row in games.play(0, RUN)]
        rows += [row for slot in range(1, lonely) for row in games.play(slot, RUN)]
        replay.append(block_of(rows))
        drawn = replay.sample(4000)
        assert set(drawn.indices.tolist()) == set(range(99))
        assert int(drawn.horizons.min()) == 1


def test_append_empty_block_changes_nothing() -> None:
    replay, games = make("cpu", 10), Games()
    replay.append(block_of([]))
    replay.append(block_of(games.play_at_random(5, odds=0)))
    replay.append(block_of([]))
    replay.check_valid()
    assert len(replay) == 5


@EACH_MODE
def test_append_block_larger_than_capacity_matches_model(mode: str) -> None:
    games, model, replay = Games(), Model(16), make(mode, 16)
    feed(replay, model, games.play_at_random(100), (1000,))
    assert_alike(replay, model)


def test_append_when_full_overwrites_oldest_rows() -> None:
    games, model, replay = Games(), Model(10), make("cpu", 10)
    feed(replay, model, games.play_at_random(10, slots=1, odds=0))
    assert replay.rows().seq.tolist() == list(range(10))
    feed(replay, model, games.play_at_random(3, slots=1, odds=0))
    assert replay.rows().seq.tolist() == list(range(3, 13))


# -- Counts


def test_actor_composition_counts_steps_without_final_rows() -> None:
    replay, _ = replay_of_events("cpu", *[(RUN, DQN)] * 3, (TRUNCATE, EXPERT))
    got = replay.actor_composition()
    assert (got.total, got.dqn, got.expert) == (4, 3, 1), "the final row is not counted"
    assert (got.frac_dqn, got.frac_expert) == (0.75, 0.25)
    empty = make("cpu", 10).actor_composition()
    assert (empty.total, empty.frac_dqn, empty.frac_expert) == (0, 0, 0)


@EACH_MODE
def test_actor_composition_after_many_wraps_equals_recount(mode: str) -> None:
    games, replay = Games(seed=1), make(mode, 257)
    for _ in range(40):
        replay.append(block_of(games.play_at_random(int(games.rng.integers(1, 200)), odds=0.3)))
        stored = Counter(replay.rows().actor.tolist())
        got = replay.actor_composition()
        assert (got.total, got.dqn, got.expert) == (stored.total(), stored[DQN], stored[EXPERT])
        replay.check_valid()


def test_replay_memory_is_837_bytes_per_step_of_195_floats() -> None:
    heads = (Discrete("buttons", 4), Continuous("spin", -1, 1, 1))
    spec = GameSpec("arcade", Observation("float32", (195,)), heads)
    replay = make("cpu", 1000, spec)
    kept = [*vars(replay).values(), *vars(replay._rows).values(), *replay._rows.obs]
    held = {v.untyped_storage().nbytes() for v in kept if torch.is_tensor(v)}
    assert 195 * 4 * 1000 in held
    assert replay.nbytes == 837 * 1000 <= 840 * 1000


# -- Distribution


def wrapped_replay_and_model(mode: str, **settings: object) -> tuple[Replay, Model]:
    """A replay that went round several times, of which a part cannot be sampled."""
    model, replay = Model(300), make(mode, 300, **settings)
    feed(replay, model, many_rows(), (50,))
    replay.check_valid()
    assert 0.05 < 1 - len(model.complete()) / len(model.steps) < 0.4
    return replay, model


def sample_counts(replay: Replay, draws: int = 200_000, batch_size: int = 8192) -> np.ndarray:
    counts = np.zeros(replay.capacity_steps, np.int64)
    for _ in range(draws // batch_size):
        places = replay.sample(batch_size).indices.cpu().numpy()
        counts += np.bincount(places, minlength=len(counts))
    return counts


@EACH_MODE
def test_sample_is_uniform_over_complete_steps(mode: str) -> None:
    replay, model = wrapped_replay_and_model(mode)
    counts = sample_counts(replay)
    complete = {id(row) for row in model.complete()}
    where = [place for place in range(300) if id(model.at_place(place)) in complete]
    assert counts.sum() == counts[where].sum()
    assert chi_square_fits(counts[where], counts.sum() / len(where))


def test_chi_square_fits_rejects_skewed_counts() -> None:
    rng = np.random.default_rng(0)
    fair = np.bincount(rng.integers(0, 300, 200_000), minlength=300)
    assert chi_square_fits(fair, 200_000 / 300)
    skewed = np.bincount((300 * rng.random(200_000) ** 1.05).astype(int), minlength=300)
    assert not chi_square_fits(skewed, 200_000 / 300)
    assert not chi_square_fits(np.full(300, 667), 667), "too even to be drawn at random"


@EACH_MODE
@pytest.mark.parametrize("batch_size", [4, 100, 8192])
def test_actor_share_is_exact_in_batch_and_uniform_within_actor(mode: str, batch_size: int) -> None:
    replay, model = wrapped_replay_and_model(mode, actor_share={EXPERT: 0.25})
    counts = sample_counts(replay, 200_000 if batch_size == 8192 else 40 * batch_size, batch_size)
    by_actor = {DQN: [], EXPERT: []}
    complete = {id(row) for row in model.complete()}
    for place in range(300):
        row = model.at_place(place)
        if id(row) in complete:
            by_actor[row.actor].append(counts[place])
        else:
            assert counts[place] == 0
    assert sum(by_actor[EXPERT]) == counts.sum() / 4, "exact, in every batch"
    if batch_size == 8192:
        for of_actor in map(np.array, by_actor.values()):
            assert chi_square_fits(of_actor, of_actor.mean())


@EACH_MODE
@pytest.mark.parametrize(
    ("shares", "want"),
    [
        ({EXPERT: 1.0}, 40),
        ({EXPERT: 0.0}, 0),
        ({EXPERT: 0.26}, 10),
        ({DQN: 0.75, EXPERT: 0.25}, 10),
        ({DQN: 1.0}, 0),
    ],
)
def test_actor_share_is_rounded_to_whole_rows(
    mode: str, shares: dict[Actor, float], want: int
) -> None:
    replay, _ = wrapped_replay_and_model(mode, actor_share=shares)
    for _ in range(5):
        assert int((replay.sample(40).actors == EXPERT).sum()) == want


@EACH_MODE
def test_actor_share_remainder_is_drawn_from_all_actors(mode: str) -> None:
    replay, _ = wrapped_replay_and_model(mode, actor_share={DQN: 0.4, EXPERT: 0.4})
    experts = [int((replay.sample(100).actors == EXPERT).sum()) for _ in range(20)]
    assert all(40 <= n <= 60 for n in experts)
    assert len(set(experts)) > 1


@EACH_MODE
@pytest.mark.parametrize("who", [DQN, EXPERT])
def test_actor_share_of_actor_without_samples_goes_to_other(mode: str, who: Actor) -> None:
    replay, _ = replay_of_events(mode, *[(RUN, who)] * 5, actor_share={EXPERT: 0.25})
    assert replay.sample(40).actors.tolist() == [who] * 40
    # A step that cannot be sampled yet is nothing to sample.
    other = Actor(3 - who)
    replay.append(block_of(Games().play(9, RUN, other)))
    assert replay.actor_composition().frac_expert in (1 / 6, 5 / 6)
    assert replay.sample(40).actors.tolist() == [who] * 40


def test_actor_share_changed_live_takes_effect() -> None:
    replay, _ = wrapped_replay_and_model("cpu")
    replay.actor_share = {EXPERT: 0.5}
    assert int((replay.sample(100).actors == EXPERT).sum()) == 50


def test_sample_is_repeatable_with_seed_only() -> None:
    def draw(seed: int | None) -> list[int]:
        return replay_of_events("cpu", *[(RUN, DQN)] * 50, seed=seed)[0].sample(32).indices.tolist()

    assert draw(3) == draw(3) != draw(4)
    assert draw(None) != draw(None)


# -- Batches


@EACH_MODE
def test_batch_has_documented_shapes_and_dtypes(mode: str) -> None:
    replay, _ = wrapped_replay_and_model(mode)
    batch = replay.sample(8)
    assert len(batch.states) == len(batch.next_states) == 1
    columns = {f.name: getattr(batch, f.name) for f in fields(batch)}
    columns |= {"states": batch.states[0], "next_states": batch.next_states[0]}
    assert (columns.pop("legal"), columns.pop("next_legal")) == (None, None), "no masks"
    assert columns.pop("past") is None, "no memory"
    shapes = {name: tuple(column.shape) for name, column in columns.items()}
    assert shapes == {
        "states": (8, 3, 2),
        "next_states": (8, 3, 2),
        "discrete": (8, 2),
        "continuous": (8, 2),
        "recommended": (8, 4),
        **dict.fromkeys(["rewards", "returns", "discounts", "actors", "horizons"], (8,)),
        **dict.fromkeys(["importance", "indices"], (8,)),
    }
    whole = {name for name, column in columns.items() if column.dtype == torch.int64}
    assert whole == {"discrete", "actors", "horizons", "indices"}
    rest = {columns[name].dtype for name in shapes.keys() - whole}
    assert rest == {torch.float32}
    assert len(batch) == 8
    assert all(column.is_contiguous() for column in columns.values())


@pytest.mark.parametrize(
    ("heads", "discrete", "continuous"),
    [((Discrete("a", 3),), 1, 0), ((Continuous("b", -1.0, 1.0, 3),), 0, 3)],
)
def test_batch_of_game_with_one_kind_of_head_has_empty_other_part(
    heads: tuple, discrete: int, continuous: int
) -> None:
    spec = GameSpec("one", Observation("float32", (2,)), heads)
    games, replay = Games(spec), make("cpu", 50, spec)
    replay.append(block_of(games.play_at_random(30), spec))
    batch = replay.sample(5)
    assert (batch.discrete.shape, batch.continuous.shape) == ((5, discrete), (5, continuous))


@EACH_MODE
def test_uint8_observations_stay_uint8_in_batch(mode: str) -> None:
    games, model, replay = Games(PIXELS), Model(40), make(mode, 40, PIXELS)
    feed(replay, model, games.play_at_random(100))
    batch = replay.sample(8)
    assert batch.states[0].dtype == batch.next_states[0].dtype == torch.uint8
    assert batch.states[0].shape == (8, 4, 5)
    assert_alike(replay, model)


@EACH_MODE
def test_batch_is_not_changed_by_later_samples_and_appends(mode: str) -> None:
    """Neither later samples nor overwriting touch a batch that somebody holds."""
    replay, _ = wrapped_replay_and_model(mode)
    held = [replay.sample(64) for _ in range(6)]
    copies = [copy.deepcopy(batch) for batch in held]
    replay.append(block_of(Games(seed=99).play_at_random(400)))
    for _ in range(10):
        replay.sample(64)
    for batch, before in zip(held, copies, strict=True):
        for f in fields(batch):
            same = getattr(before, f.name)
            assert_close(getattr(batch, f.name), same, rtol=0, atol=0, equal_nan=True, msg=f.name)


def test_append_copies_the_block() -> None:
    """The replay copies: the block's memory is the step ring's."""
    replay, games = make("cpu", 20), Games()
    block = block_of([row for _ in range(10) for row in games.play(0, RUN)])
    replay.append(block)
    before = replay.rows()
    for name in StepBlock.__slots__:
        getattr(block, name)[:] = 0
    replay.check_valid()
    assert np.array_equal(replay.rows().action, before.action)
    assert replay.sample(20).states[0].abs().sum() > 0


# -- Refusals


@pytest.mark.parametrize(
    ("column", "row", "value", "message"),
    [
        ("actor", 3, 0, r"row 3 \(stream 40, seq 3\): a step needs an actor, 1 .* got 0"),
        ("actor", 3, 3, r"row 3 .* got 3; tag every action"),
        ("actor", 3, 255, r"row 3 .* got 255"),
        ("actor", 3, 129, r"row 3 .* got 129"),
        ("actor", 6, 1, r"row 6 \(stream 40, seq 6\): a final row has no action.* got 1"),
        ("actor", 6, 2, r"row 6 .* expected the actor 0, got 2"),
        ("kind", 3, 0, r"row 3 .* expected the kind 1 \(step\) or 2 \(final\), got 0"),
        ("kind", 3, 3, r"row 3 .* got 3"),
        ("kind", 3, FINAL, r"row 3 .* expected the actor 0, got 2"),
        ("kind", 6, STEP, r"row 6 .* a step needs an actor"),
        ("status", 3, 3, r"row 3 .* expected the status 0 .* got 3"),
    ],
)
def test_append_invalid_row_raises_and_stores_nothing(
    column: str, row: int, value: int, message: str
) -> None:
    replay, games = make("cpu", 50), Games()
    replay.append(block_of(games.play_at_random(20, slots=3)))
    rows = [row for _ in range(5) for row in games.play(40, RUN, EXPERT)]
    block = block_of([*rows, *games.play(40, TRUNCATE, EXPERT)])
    assert block.kind.tolist() == [STEP] * 6 + [FINAL]
    getattr(block, column)[row] = value
    before = {name: value.copy() for name, value in stored_columns(replay).items()}
    with pytest.raises(ValueError, match=message):
        replay.append(block)
    for name, value in stored_columns(replay).items():
        np.testing.assert_array_equal(value, before[name], name)
    replay.check_valid()
    replay.append(block_of([*rows, *Games().play(41, RUN)]))
    replay.check_valid()


def stored_columns(replay: Replay) -> dict[str, np.ndarray]:
    kept = vars(replay) | vars(replay._rows)
    kept |= {f"obs.{i}": part for i, part in enumerate(replay._rows.obs)}
    stores = {k: v.numpy() for k, v in kept.items() if torch.is_tensor(v)}
    assert {"obs.0", "actions", "meta", "_stream", "_seq"} <= stores.keys()
    return {**stores, "tags": replay._actors.tags, "appended": np.array(replay._appended)}


@pytest.mark.parametrize(
    ("column", "wrong"),
    [
        ("obs", np.zeros((4, 5), np.float32)),
        ("obs", np.zeros((4, 6), np.uint8)),
        ("obs", np.zeros((4, 6), np.float64)),
        ("obs", np.zeros((3, 6), np.float32)),
        ("action", np.zeros((4, 3), np.float32)),
        ("stream", np.zeros(4, np.int32)),
        ("actor", np.ones(3, np.uint8)),
        ("actor", np.ones(1, np.uint8)),
    ],
)
def test_append_block_of_wrong_shape_or_dtype_raises(column: str, wrong: np.ndarray) -> None:
    block = block_of(Games().play_at_random(4, odds=0))
    object.__setattr__(block, column, wrong)
    replay = make("cpu", 20)
    with pytest.raises(ValueError, match=f"column '{column}': expected"):
        replay.append(block)
    assert len(replay) == 0


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("n_step", 0, "n_step: expected at least 1, got 0"),
        ("gamma", 1.5, "gamma: expected 0 to 1, got 1.5"),
        ("gamma", float("nan"), "gamma: expected 0 to 1"),
        ("actor_share", {EXPERT: 1.5}, "actor_share: expected a share of 0 to 1"),
        ("actor_share", {DQN: -0.1}, "actor_share: expected a share of 0 to 1"),
        ("actor_share", {0: 0.5}, "actor_share: expected a share of 0 to 1 for actors"),
        ("actor_share", {DQN: 0.6, EXPERT: 0.6}, "at most 1 together"),
    ],
)
def test_setting_out_of_range_raises(setting: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make("cpu", 10, **{setting: value})
    replay, _ = wrapped_replay_and_model("cpu")
    setattr(replay, setting, value)
    with pytest.raises(ValueError, match=message):
        replay.sample(4)


@pytest.mark.parametrize("capacity", [0, 1, 2**31])
def test_capacity_out_of_range_raises(capacity: int) -> None:
    with pytest.raises(ValueError, match=f"capacity_steps: expected 2 to .* got {capacity}"):
        make("cpu", capacity)


def test_sample_batch_size_0_raises() -> None:
    replay, _ = wrapped_replay_and_model("cpu")
    with pytest.raises(ValueError, match="batch_size: expected at least 1, got 0"):
        replay.sample(0)


def head_entry(replay: Replay) -> Tensor:
    """The entry at the head of the ring of dqn."""
    return replay._actors._rings[replay._actors._heads[DQN] % replay.capacity_steps, None]


# One byte or counter of the row at place 5, or of the counts, wrong at a time.
CORRUPTIONS: dict[str, Callable[[Replay], object]] = {
    "tag": lambda r: np.bitwise_xor.at(r._actors.tags, 5, 3),
    "complete": lambda r: np.bitwise_xor.at(r._actors.tags, 5, 0x80),
    "count": lambda r: r._actors._complete.update({DQN: r._actors._complete[DQN] + 1}),
    "head": lambda r: r._actors._heads.update({DQN: r._actors._heads[DQN] + 1}),
    "ring": lambda r: head_entry(r).add_(1),
    "actor": lambda r: r._rows.meta.view(torch.uint8)[5, 12].bitwise_xor_(3),
    "status": lambda r: r._rows.meta.view(torch.uint8)[5, 13].fill_(2),
    "kind": lambda r: r._rows.meta.view(torch.uint8)[5, 14].bitwise_xor_(3),
    "next": lambda r: r._rows.meta[5, 0].add_(1),
    "stream": lambda r: r._rows._stream[5].add_(1),
    "seq": lambda r: r._rows._seq.view(torch.int32)[5].add_(1),
    "a link back": lambda r: r._rows._previous[5].add_(1),
    "a link back that is missing": lambda r: r._rows._previous[5].fill_(-1),
    "a link back that should not be": lambda r: r._rows._previous[0].fill_(5),
    "a priority of no row": lambda r: priority_entry(r, DQN, 200).fill_(1),
    "a priority in another's tree": lambda r: priority_entry(
        r, other_actor(actor_at(r, 5)), 5
    ).fill_(1),
    "no priority": lambda r: priority_entry(r, actor_at(r, 5), 5).fill_(0),
}


def actor_at(replay: Replay, place: int) -> Actor:
    return Actor(int(replay._actors.tags[place]) & 0x7F)


def other_actor(who: Actor) -> Actor:
    return Actor(3 - who)


def priority_entry(replay: Replay, who: Actor, place: int) -> Tensor:
    """That of a place in the tree of an actor, without regard for the sums above it."""
    assert replay._priorities is not None
    tree = replay._priorities._tree
    tree.check_valid = lambda: None  # type: ignore[method-assign]
    return tree.leaves[ACTORS.index(who) * tree.stride + place]


@pytest.mark.parametrize("what", CORRUPTIONS)
def test_check_valid_of_corrupted_replay_raises(what: str) -> None:
    replay = make("cpu", 300, priority_alpha=0.5, stacks=[2])
    replay.append(block_of(Games().play_at_random(100, odds=0, slots=2)))
    replay.check_valid()
    CORRUPTIONS[what](replay)
    with pytest.raises(AssertionError):
        replay.check_valid()

"""The replay against a plain model, over games that hypothesis makes up."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import agent.actor_index
import agent.n_step
import agent.replay
import agent.row_store
import agent.sampler
import agent.storage
import agent.sum_tree
from agent.actor_index import ActorIndex
from agent.links import NONE, Links, StreamTable
from agent.priority import Priorities
from agent.row_store import RowStore
from protocol.actor import ACTORS, Actor
from tests.support.replay_model import (
    EVENTS,
    PIXELS,
    RUN,
    SPEC,
    Games,
    Model,
    append,
    assert_alike,
    feed,
    make,
    modes,
)

torch.set_num_threads(1)

EVENT = st.tuples(
    st.integers(0, 3),
    st.one_of(st.just(RUN), st.just(RUN), st.sampled_from(EVENTS)),
    st.sampled_from(ACTORS),
)
QUIET = settings(
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@QUIET
@given(
    events=st.lists(EVENT, min_size=1, max_size=80),
    capacity=st.integers(2, 90),
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    n_step=st.integers(1, 6),
    gamma=st.sampled_from([0.0, 0.5, 0.99, 1.0]),
    stop=st.booleans(),
    stack=st.integers(1, 4),
)
def test_replay_of_random_events_equals_model(
    events: list[tuple[int, str, int]],
    capacity: int,
    sizes: list[int],
    n_step: int,
    gamma: float,
    stop: bool,
    stack: int,
) -> None:
    games, model = Games(), Model(capacity)
    rows = [row for event in events for row in games.play(*event)]
    model.append(rows)
    for mode in modes():
        replay = make(
            mode, capacity, n_step=n_step, gamma=gamma, stop_at_actor_change=stop, stacks=[stack]
        )
        append(replay, rows, sizes)
        assert_alike(replay, model, batch_size=24)


@pytest.mark.parametrize("spec", [SPEC, PIXELS], ids=["float32", "uint8"])
@pytest.mark.parametrize("capacity", [7, 100, 1000])
@pytest.mark.parametrize("odds", [0.02, 0.5])
def test_replay_with_changing_settings_equals_model_repeatedly(
    spec, capacity: int, odds: float
) -> None:
    """Many times round the ring, compared again and again on the way, settings changed too."""
    games, model = Games(spec, seed=capacity), Model(capacity)
    replays = [make(mode, capacity, spec) for mode in modes()]
    for moment in range(8):
        rows = games.play_at_random(capacity // 2 + 11, odds=odds)
        model.append(rows)
        for replay in replays:
            replay.n_step, replay.gamma = 1 + moment % 5, 1 - moment / 50
            replay.stop_at_actor_change = moment % 3 != 1
            append(replay, rows, (3, 64, 1))
            assert_alike(replay, model)


SHARES = st.sampled_from(
    [{}, {Actor.EXPERT: 0.25}, {Actor.DQN: 1.0}, {Actor.DQN: 0.4, Actor.EXPERT: 0.3}]
)
TD_ERROR = st.one_of(
    st.floats(-100, 100), st.sampled_from([0.0, 1e-20, 1e30, math.nan, math.inf, -math.inf])
)


@pytest.mark.parametrize("mode", modes())
@settings(QUIET, max_examples=25)
@given(
    moments=st.lists(
        st.tuples(st.lists(EVENT, max_size=20), st.lists(TD_ERROR, min_size=1, max_size=12)),
        min_size=1,
        max_size=6,
    ),
    capacity=st.integers(2, 90),
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    alpha=st.sampled_from([0.0, 0.6, 1.0]),
    beta=st.sampled_from([0.0, 0.4, 1.0]),
    shares=SHARES,
    top=st.sampled_from([1, 3, 8192]),
)
def test_priorities_of_random_events_equal_model(
    mode: str,
    moments: list[tuple[list[tuple[int, str, int]], list[float]]],
    capacity: int,
    sizes: list[int],
    alpha: float,
    beta: float,
    shares: dict[Actor, float],
    top: int,
) -> None:
    games, model = Games(), Model(capacity, alpha)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(agent.sum_tree, "TOP", top)
        replay = make(mode, capacity, priority_alpha=alpha, actor_share=shares)
    replay.beta = beta
    for events, errors in moments:
        feed(replay, model, [row for event in events for row in games.play(*event)], sizes)
        assert_alike(replay, model, batch_size=24)
        if replay.can_sample:
            places = replay.sample(len(errors)).indices
            # A row that was drawn twice has the same error both times.
            errors = [errors[place % len(errors)] for place in places.tolist()]
            replay.update_priorities(places, torch.tensor(errors))
            model.update(places.tolist(), errors)
            assert_alike(replay, model, batch_size=24)


@pytest.mark.parametrize("mode", modes())
@pytest.mark.parametrize("capacity", [7, 100, 1000])
def test_priorities_after_many_wraps_equal_model(mode: str, capacity: int) -> None:
    games, model = Games(seed=capacity), Model(capacity, 0.6)
    replay, rng = make(mode, capacity, priority_alpha=0.6), np.random.default_rng(1)
    for moment in range(12):
        replay.beta = moment / 12
        replay.actor_share = {Actor.EXPERT: 0.3} if moment % 3 == 1 else {}
        feed(replay, model, games.play_at_random(capacity // 3 + 11, odds=0.1), (3, 64, 1))
        assert_alike(replay, model)
        places = replay.sample(64).indices.unique()
        errors = rng.normal(0, 10.0 ** rng.integers(-3, 3), len(places)).astype(np.float32)
        replay.update_priorities(places, torch.from_numpy(errors).to(places.device))
        model.update(places.tolist(), errors.tolist())
        assert_alike(replay, model)


@settings(QUIET, max_examples=30)
@given(
    events=st.lists(EVENT, min_size=1, max_size=60),
    one=st.lists(st.integers(1, 70), min_size=1, max_size=4),
    other=st.lists(st.integers(1, 70), min_size=1, max_size=4),
    capacity=st.integers(2, 60),
)
def test_replay_is_independent_of_block_sizes(
    events: list[tuple[int, str, int]], one: list[int], other: list[int], capacity: int
) -> None:
    games = Games()
    rows = [row for event in events for row in games.play(*event)]
    batches = []
    for sizes in (one, other):
        replay = make("cpu", capacity)
        feed(replay, Model(capacity), rows, sizes)
        batches.append(replay.sample(20) if replay.can_sample else None)
    a, b = batches
    assert (a is None) == (b is None)
    if a is not None and b is not None:
        for name in ("indices", "returns", "discounts", "horizons", "actors"):
            assert torch.equal(getattr(a, name), getattr(b, name)), name


# -- The comparison above must be able to fail: each of these breaks one thing and sees it told.


def swap_tags(patch: pytest.MonkeyPatch) -> None:
    """The counters and rings are told of the other actor."""
    real = ActorIndex.replace
    swapped = np.array([0, 2, 1], np.uint8)
    patch.setattr(ActorIndex, "replace", lambda self, at, a, c: real(self, at, swapped[a], c))


def swap_one_stored_tag(patch: pytest.MonkeyPatch) -> None:
    """The row is stored with the other actor, now and then, and counted likewise."""
    real = agent.replay.Replay._append

    def append(self, block):
        block.actor[0] = {0: 0, 1: 2, 2: 1}[int(block.actor[0])]
        real(self, block)

    patch.setattr(agent.replay.Replay, "_append", append)


def swap_sampled_tag(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(agent.replay, "actors_of", lambda meta: 3 - agent.n_step.actors_of(meta))


def shift_recommendations(patch: pytest.MonkeyPatch) -> None:
    """Each row has the recommendation of the one before it."""
    real = RowStore.write

    def write(self, block, links, first, oldest):
        block = block.rows(0, len(block))
        object.__setattr__(block, "recommended", np.roll(block.recommended, 1, axis=0))
        real(self, block, links, first, oldest)

    patch.setattr(RowStore, "write", write)


def link_to_the_dead(patch: pytest.MonkeyPatch) -> None:
    """Links are made from rows that were overwritten."""
    real = StreamTable.link
    patch.setattr(StreamTable, "link", lambda self, block, first, _: real(self, block, first, 0))


def link_over_gaps(patch: pytest.MonkeyPatch) -> None:
    real = StreamTable.link

    def link(self, block, first, oldest):
        block = block.rows(0, len(block))
        object.__setattr__(block, "seq", np.ones_like(block.seq).cumsum(dtype=np.uint32))
        return real(self, block, first, oldest)

    patch.setattr(StreamTable, "link", link)


def link_across_episodes(patch: pytest.MonkeyPatch) -> None:
    real = StreamTable.link

    def link(self, block, first, oldest):
        block = block.rows(0, len(block))
        object.__setattr__(block, "status", np.zeros_like(block.status))
        return real(self, block, first, oldest)

    patch.setattr(StreamTable, "link", link)


def forget_streams_between_blocks(patch: pytest.MonkeyPatch) -> None:
    real = StreamTable.link

    def link(self, block, first, oldest):
        self.__init__()
        return real(self, block, first, oldest)

    patch.setattr(StreamTable, "link", link)


def follow_without_looking(patch: pytest.MonkeyPatch) -> None:
    """Windows follow a link that is none: to whatever row stands there."""
    real = agent.replay.follow
    patch.setattr(agent.replay, "follow", lambda *a, **k: real(*a, **{**k, "oldest": -1}))


def ignore_actor_changes(patch: pytest.MonkeyPatch) -> None:
    real = agent.replay.follow
    patch.setattr(
        agent.replay, "follow", lambda *a, **k: real(*a, **{**k, "stop_at_actor_change": False})
    )


def ignore_terminations(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(agent.n_step, "is_terminal", lambda meta: meta[..., 0] < -1)


def sample_incomplete(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(agent.sampler, "incomplete", lambda meta, _: meta[:, 0] < -1)


def forget_to_count_completed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ActorIndex, "mark_complete", lambda *_: None)


def lose_what_goes_round(patch: pytest.MonkeyPatch) -> None:
    """The part of a block behind the end of the ring is not written."""

    def put(store, at, rows):
        fits = min(len(rows), len(store) - at)
        store.numpy()[at : at + fits] = rows[:fits]

    patch.setattr(agent.row_store, "put", put)


def lose_ring_entries(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(agent.actor_index, "put", lambda *_: None)


def forget_the_row_before(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Links, "previous", lambda self, _: np.full(len(self.next), NONE))


def stack_the_dead(patch: pytest.MonkeyPatch) -> None:
    """Frames that were overwritten are shown: whatever stands there."""
    real = agent.row_store.frame_places
    patch.setattr(agent.row_store, "frame_places", lambda *a: real(*a[:3], torch.tensor(0)))


MUTATIONS = [
    swap_tags,
    swap_one_stored_tag,
    swap_sampled_tag,
    shift_recommendations,
    link_to_the_dead,
    link_over_gaps,
    link_across_episodes,
    forget_streams_between_blocks,
    follow_without_looking,
    ignore_actor_changes,
    ignore_terminations,
    sample_incomplete,
    forget_to_count_completed,
    lose_what_goes_round,
    lose_ring_entries,
    forget_the_row_before,
    stack_the_dead,
]


def let_nothing_enter_later(patch: pytest.MonkeyPatch) -> None:
    """Steps that later blocks complete get no priority."""
    patch.setattr(Priorities, "enter", lambda *_: None)


def keep_what_was_overwritten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Priorities, "replace", lambda *_: None)


def swap_trees(patch: pytest.MonkeyPatch) -> None:
    real = Priorities.replace
    patch.setattr(Priorities, "replace", lambda self, at, a: real(self, at, (3 - a) * (a > 0)))


def enter_at_1(patch: pytest.MonkeyPatch) -> None:
    real = Priorities.update

    def update(self, *args):
        real(self, *args)
        self.largest.fill_(1)

    patch.setattr(Priorities, "update", update)
    patch.setattr(Priorities, "check_valid", lambda *_: None)


def forget_what_was_learnt(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Priorities, "update", lambda *_: None)


def weigh_by_priority_alone(patch: pytest.MonkeyPatch) -> None:
    """Importance weights know nothing of shares."""
    real = Priorities.draw

    def draw(self, groups, rng):
        places, _ = real(self, groups, rng)
        leaves = self._tree.leaves.view(len(ACTORS), -1)[:, places]
        return places, leaves.amax(0)

    patch.setattr(Priorities, "draw", draw)


PRIORITY_MUTATIONS = [
    let_nothing_enter_later,
    keep_what_was_overwritten,
    swap_trees,
    enter_at_1,
    forget_what_was_learnt,
    weigh_by_priority_alone,
]


def compare_while_filling() -> None:
    games, model, replay = Games(seed=3), Model(60), make("cpu", 60, stacks=[3])
    for _ in range(10):
        feed(replay, model, games.play_at_random(50, slots=9, odds=0.2), (5, 9))
        assert_alike(replay, model)


def compare_priorities_while_filling() -> None:
    games, model = Games(seed=3), Model(60, 0.6)
    replay = make("cpu", 60, priority_alpha=0.6, actor_share={Actor.EXPERT: 0.25})
    for _ in range(10):
        feed(replay, model, games.play_at_random(25, slots=9, odds=0.1), (5, 9))
        assert_alike(replay, model)
        places = replay.sample(16).indices.unique()
        replay.update_priorities(places, 0.5 * places)
        model.update(places.tolist(), (0.5 * places).tolist())
        assert_alike(replay, model)


def test_model_comparison_of_unchanged_code_passes() -> None:
    compare_while_filling()
    compare_priorities_while_filling()


@pytest.mark.parametrize("break_it", PRIORITY_MUTATIONS, ids=lambda f: f.__name__)
def test_model_comparison_detects_priority_mutation(
    break_it: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    break_it(monkeypatch)
    with pytest.raises(AssertionError):
        compare_priorities_while_filling()


@pytest.mark.parametrize("break_it", MUTATIONS, ids=lambda f: f.__name__)
def test_model_comparison_detects_mutation(
    break_it: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    break_it(monkeypatch)
    with pytest.raises(AssertionError):
        compare_while_filling()

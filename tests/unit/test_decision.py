from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.decision import (
    EVAL,
    EVAL_EXPERT,
    PLAY,
    ROLES,
    TRAIN,
    ActingParams,
    ActionSelector,
    acting_params_at,
    begin_probes,
)
from agent.probes import led_alone
from config.models import Config, ExpertConfig, ImitationConfig
from config.settings.base import FractionSchedule
from protocol.actor import NOBODY, Actor
from protocol.messages import ROLES as WIRE_ROLES
from protocol.spaces import Continuous, Discrete, GameSpec, Observation
from tests.support.strategies import actions, rows_of, specs

F32 = npt.NDArray[np.float32]
OBSERVATION = Observation("float32", (1,))
HYBRID = GameSpec(
    "g",
    OBSERVATION,
    (Discrete("fire", 4), Continuous("aim", -1.0, 3.0, 2), Discrete("move", 7)),
)
DISCRETE = GameSpec("g", OBSERVATION, (Discrete("fire", 4),))
CONTINUOUS = GameSpec("g", OBSERVATION, (Continuous("aim", -1.0, 3.0, 1),))
N = 40_000
OFF = ActingParams(0.0, 0.0, 0.0)


def full(n: int, row: list[float]) -> F32:
    return np.tile(np.array(row, np.float32), (n, 1))


def episode_start_state(n: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """Slots at the beginning of an episode: who leads, and for how long."""
    return np.zeros(n, np.bool_), np.zeros(n, np.int64)


def decide(
    spec: GameSpec,
    greedy: F32,
    params: ActingParams,
    *,
    expert: F32 | None = None,
    roles: Any = TRAIN,
    seed: int = 0,
    decider: ActionSelector | None = None,
) -> tuple[F32, npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """The actions, the tags and what was explored; the arguments stay as they are."""
    n = len(greedy)
    out = greedy.copy()
    if expert is None:
        expert = np.full_like(greedy, np.nan)
    actors, explored = np.full(n, 77, np.uint8), np.full(n, 77, np.uint8)
    given_roles = np.broadcast_to(np.array(roles, np.uint8), n).copy()
    before = expert.copy(), given_roles.copy()
    decider = decider or ActionSelector(spec, np.random.default_rng(seed))
    leads, left = episode_start_state(n)
    by_expert = decider.pick(expert, given_roles, params, leads, left)
    explores = given_roles == TRAIN
    decider.decide(out, expert, by_expert, explores, params, actors, explored, left)
    np.testing.assert_array_equal(expert, before[0])  # what comes in is only read
    np.testing.assert_array_equal(given_roles, before[1])
    return out, actors, explored


def within_five_sigma(share: float, wanted: float, n: int = N) -> bool:
    """Within five standard deviations of a binomial share."""
    return abs(share - wanted) <= 5 * math.sqrt(wanted * (1 - wanted) / n) + 1e-12


def test_roles_equal_wire_protocol_roles() -> None:
    assert tuple(ROLES) == WIRE_ROLES
    assert ROLES == {"train": TRAIN, "eval": EVAL, "eval_expert": EVAL_EXPERT, "play": PLAY}


# Distributions.


@pytest.mark.parametrize("ratio", [0.0, 0.05, 0.5, 1.0])
def test_expert_acts_in_ratio_share_of_advised_frames(ratio: float) -> None:
    expert = full(N, [1, 0, 0, 1])
    expert[::2] = np.nan
    _, actors, _ = decide(HYBRID, full(N, [0, 0, 0, 0]), ActingParams(ratio, 0, 0), expert=expert)
    by_expert = actors == Actor.EXPERT
    assert not by_expert[::2].any()
    assert within_five_sigma(by_expert[1::2].mean(), ratio, N // 2)


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("ratio", [0.0, 0.3])
def test_exploration_share_of_dqn_frames_equals_epsilon(epsilon: float, ratio: float) -> None:
    expert = full(N, [1, 0, 0, 1])
    _, actors, explored = decide(
        HYBRID, full(N, [0, 0, 0, 0]), ActingParams(ratio, epsilon, 0), expert=expert
    )
    dqn = actors == Actor.DQN
    assert within_five_sigma(explored[dqn].mean(), epsilon, int(dqn.sum()))
    assert not explored[~dqn].any()


def test_explored_actions_are_uniform_and_independent_across_heads() -> None:
    out, _, explored = decide(HYBRID, full(N, [0, 0, 0, 0]), ActingParams(0, 1, 0))
    assert explored.all()
    both = np.zeros((4, 7))
    np.add.at(both, (out[:, 0].astype(int), out[:, 3].astype(int)), 1)
    for count in both.ravel():
        assert within_five_sigma(count / N, 1 / 28)


def test_exploration_is_independent_of_expert_draw() -> None:
    # Were the coin used twice, a ratio above epsilon would leave nothing to explore.
    expert = full(N, [1, 0, 0, 1])
    _, actors, explored = decide(
        HYBRID, full(N, [0, 0, 0, 0]), ActingParams(0.5, 0.2, 0), expert=expert
    )
    assert within_five_sigma(explored[actors == Actor.DQN].mean(), 0.2, N // 2)


@pytest.mark.parametrize("noise", [0.05, 0.2])
def test_noise_is_gaussian_scaled_to_half_range(noise: float) -> None:
    out, _, explored = decide(HYBRID, full(N, [2, 1, 1, 3]), ActingParams(0, 0, noise))
    moved = out[:, 1:3] - 1
    scale = noise * 2  # half of the range of [-1, 3]
    assert abs(moved.mean()) < 5 * scale / math.sqrt(2 * N)
    assert moved.std() == pytest.approx(scale, rel=0.03)
    assert (np.abs(moved) < scale).mean() == pytest.approx(0.683, abs=0.01)
    assert np.asarray(np.corrcoef(moved.T))[0, 1] == pytest.approx(0, abs=0.03)
    assert (out[:, [0, 3]] == [2, 3]).all()
    assert not explored.any()  # noise is not a random choice


def test_same_seed_gives_same_actions_and_other_seed_differs() -> None:
    greedy, params = full(500, [0, 0, 0, 0]), ActingParams(0.3, 0.5, 0.2)
    expert = full(500, [1, 2, 2, 1])
    first, again, other = (
        decide(HYBRID, greedy, params, expert=expert, seed=seed)[0] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_selector_accepts_batches_of_varying_size() -> None:
    decider = ActionSelector(HYBRID, np.random.default_rng(0))
    shares = []
    for n in (1, 0, 5000, 3, 10_000, 7000):
        expert = full(n, [1, 0, 0, 1])
        _, actors, _ = decide(
            HYBRID, full(n, [0, 0, 0, 0]), ActingParams(0.5, 0, 0), expert=expert, decider=decider
        )
        if n >= 5000:
            shares.append(within_five_sigma((actors == Actor.EXPERT).mean(), 0.5, n))
    assert shares == [True] * 3


# Roles.

HEAVY = ActingParams(expert_ratio=1.0, epsilon=1.0, noise=0.5)


def test_role_eval_actions_are_greedy() -> None:
    greedy = full(1000, [2, 0.123, -0.9, 6])
    expert = full(1000, [1, 2, 2, 1])
    out, actors, explored = decide(HYBRID, greedy, HEAVY, expert=expert, roles=EVAL)
    np.testing.assert_array_equal(out, greedy)
    assert (actors == Actor.DQN).all()
    assert not explored.any()


def test_role_eval_expert_actions_are_recommendations() -> None:
    expert = full(1000, [1, 2, 2.5, 1])
    params = ActingParams(0.0, 1.0, 0.5)  # even where the expert's share of training is none
    out, actors, explored = decide(
        HYBRID, full(1000, [0, 0, 0, 0]), params, expert=expert, roles=EVAL_EXPERT
    )
    np.testing.assert_array_equal(out, expert)
    assert (actors == Actor.EXPERT).all()
    assert not explored.any()


@pytest.mark.parametrize("role", [TRAIN, EVAL, EVAL_EXPERT])
def test_missing_recommendation_dqn_acts_in_every_role(role: int) -> None:
    expert = full(200, [np.nan, 1, 1, 1])
    out, actors, _ = decide(
        HYBRID, full(200, [0, 0, 0, 0]), ActingParams(1, 0, 0), expert=expert, roles=role
    )
    assert (actors == Actor.DQN).all()
    assert (out == 0).all()


def test_zero_ratio_epsilon_and_noise_actions_are_greedy() -> None:
    greedy = full(200, [2, 0.5, 0.25, 6])
    expert = full(200, [1, 2, 2, 1])
    out, actors, explored = decide(HYBRID, greedy, OFF, expert=expert)
    np.testing.assert_array_equal(out, greedy)
    assert (actors == Actor.DQN).all()
    assert not explored.any()


# Kinds of heads.


def test_continuous_only_game_explores_by_noise_only() -> None:
    out, _, explored = decide(CONTINUOUS, full(500, [1]), ActingParams(0, 1, 0.1))
    assert not explored.any()  # nothing was chosen at random
    assert len(np.unique(out)) > 400


def test_discrete_only_game_ignores_noise() -> None:
    out, _, _ = decide(DISCRETE, full(500, [2]), ActingParams(0, 0, 0.5))
    assert (out == 2).all()


@pytest.mark.parametrize("value", [-1.0, 3.0])
def test_noise_at_bound_is_clipped_and_moves_inwards(value: float) -> None:
    out, _, _ = decide(CONTINUOUS, full(2000, [value]), ActingParams(0, 0, 5.0))
    assert out.min() == -1
    assert out.max() == 3
    # Half of the noise points outwards and stops at the bound, the rest is felt.
    assert 0.45 < (out == value).mean() < 0.75


# What holds for every batch.


@given(st.data())
def test_actor_tag_matches_action_source_for_any_batch(data: st.DataObject) -> None:
    """Each frame's recommendation is unique, so that an expert tag can be checked by it."""
    spec = data.draw(specs())
    n = data.draw(st.integers(1, 12))
    greedy = rows_of(spec, [data.draw(actions(spec))] * n)
    expert = rows_of(spec, [data.draw(actions(spec)) for _ in range(n)])
    # Unique and like no greedy, random or noisy action: outside the heads.
    unique = spec.high[0] + 1000 + np.arange(n, dtype=np.float32) * max(1, abs(spec.high[0]))
    expert[:, 0] = unique
    recommended = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    expert[~recommended, 0] = np.nan
    some_roles = st.lists(st.sampled_from(list(ROLES.values())), min_size=n, max_size=n)
    roles = np.array(data.draw(some_roles), np.uint8)
    share = st.floats(0, 1)
    params = ActingParams(data.draw(share), data.draw(share), data.draw(share))
    check_tags(spec, greedy, expert, roles, params, data.draw(st.integers(0, 9)))


def check_tags(
    spec: GameSpec,
    greedy: F32,
    expert: F32,
    roles: npt.NDArray[np.uint8],
    params: ActingParams,
    seed: int,
) -> None:
    out, actors, explored = decide(spec, greedy, params, expert=expert, roles=roles, seed=seed)
    is_recommendation = (out == expert).all(axis=1)
    np.testing.assert_array_equal(actors == Actor.EXPERT, is_recommendation)
    assert set(actors.tolist()) <= set(Actor)
    assert set(explored.tolist()) <= {0, 1}
    dqn = actors == Actor.DQN
    spec.check_action_rows(out[dqn])  # within the bounds, whole numbers for choices
    assert not explored[~dqn].any()
    untouched = dqn & (roles != TRAIN)
    np.testing.assert_array_equal(out[untouched], greedy[untouched])
    still = dqn & (explored == 0)
    choices = list(spec.discrete_columns)
    np.testing.assert_array_equal(out[still][:, choices], greedy[still][:, choices])
    assert choices or not explored.any()


@pytest.mark.parametrize("lie", ["expert for dqn", "dqn for expert", "action"])
def test_check_tags_wrong_tag_or_action_fails(lie: str, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = ActionSelector.decide

    def lying(self: ActionSelector, greedy: F32, *args: Any) -> None:
        honest(self, greedy, *args)
        actors = args[4]
        if lie == "action":
            greedy[actors == Actor.EXPERT] = 0
        elif lie == "dqn for expert":
            actors[actors == Actor.EXPERT] = Actor.DQN
        else:
            actors[actors == Actor.DQN] = Actor.EXPERT

    greedy, roles = full(100, [0, 0, 0, 0]), np.zeros(100, np.uint8)
    expert = full(100, [1, 2, 2, 1])
    expert[:, 0] = np.arange(10, 110)
    check_tags(HYBRID, greedy, expert, roles, ActingParams(0.5, 0.5, 0.5), 0)
    monkeypatch.setattr(ActionSelector, "decide", lying)
    with pytest.raises(AssertionError):
        check_tags(HYBRID, greedy, expert, roles, ActingParams(0.5, 0.5, 0.5), 0)


def test_decide_leaves_rows_beyond_batch_unchanged() -> None:
    """The gateway's arrays are larger than the batch, which is a view of them."""
    greedy, expert = full(20, [0, 0, 0, 0]), full(20, [1, 1, 1, 1])
    actors, explored = np.full(20, 77, np.uint8), np.full(20, 77, np.uint8)
    decider = ActionSelector(HYBRID, np.random.default_rng(0))
    roles = np.zeros(10, np.uint8)
    leads, left = np.zeros(20, np.bool_), np.full(20, 77)
    left[:10] = 0
    params = replace(HEAVY, unit="segment", segment_frames=5)
    by_expert = decider.pick(expert[:10], roles, params, leads[:10], left[:10])
    decider.decide(
        greedy[:10],
        expert[:10],
        by_expert,
        roles == TRAIN,
        HEAVY,
        actors[:10],
        explored[:10],
        left[:10],
    )
    assert (greedy[:10] == 1).all()
    assert (actors[:10] == Actor.EXPERT).all()
    assert (greedy[10:] == 0).all()
    assert (actors[10:] == 77).all()
    assert (explored[10:] == 77).all()
    assert leads[:10].all()
    assert not leads[10:].any()
    assert left.tolist() == [4] * 10 + [77] * 10


# Segments and episodes: who plays is drawn once for many frames.


class Slots:
    """Some slots, frame after frame, as the gateway keeps them."""

    def __init__(self, n: int, *, role: int = TRAIN, seed: int = 0) -> None:
        self.n = n
        self.decider = ActionSelector(DISCRETE, np.random.default_rng(seed))
        self.roles = np.full(n, role, np.uint8)
        self.leads, self.left = episode_start_state(n)
        self.expert = full(n, [1])

    def play(
        self, params: ActingParams, frames: int, *, advised: bool = True
    ) -> npt.NDArray[np.bool_]:
        """Whether the expert played, [frames, n]."""
        expert = self.expert if advised else np.full_like(self.expert, np.nan)
        return np.array(
            [
                self.decider.pick(expert, self.roles, params, self.leads, self.left)
                for _ in range(frames)
            ]
        )

    def end_episodes(self) -> None:
        self.left[:] = 0


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.5, 1.0])
def test_unit_segment_expert_share_equals_ratio_in_whole_segments(ratio: float) -> None:
    segments, length, slots = 40, 7, 250
    played = Slots(slots).play(ActingParams(ratio, 0, 0, "segment", length), segments * length)
    by_segment = played.reshape(segments, length, slots)
    first = by_segment[:, 0]
    np.testing.assert_array_equal(by_segment, np.broadcast_to(first[:, None], by_segment.shape))
    assert within_five_sigma(first.mean(), ratio, segments * slots)
    assert within_five_sigma(played.mean(), ratio, segments * slots)
    if 0 < ratio < 1:
        # Each is drawn by itself: neither the one before nor the neighbor decides.
        assert within_five_sigma((first[1:] & first[:-1]).mean(), ratio**2, (segments - 1) * slots)
        assert within_five_sigma(
            (first[:, 1:] & first[:, :-1]).mean(), ratio**2, segments * (slots - 1)
        )


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.5, 1.0])
def test_unit_episode_expert_share_equals_ratio_in_whole_episodes(ratio: float) -> None:
    slots, first = Slots(500), []
    for length in range(1, 21):
        played = slots.play(ActingParams(ratio, 0, 0, "episode"), length)
        np.testing.assert_array_equal(played, np.broadcast_to(played[0], played.shape))
        slots.end_episodes()
        first.append(played[0])
    assert within_five_sigma(np.array(first).mean(), ratio, 20 * 500)


def test_new_episode_starts_new_segment() -> None:
    slots, params = Slots(200), ActingParams(0.5, 0, 0, "segment", 10)
    before = slots.play(params, 4)[-1]
    slots.end_episodes()
    after = slots.play(params, 10)
    assert within_five_sigma((after[0] == before).mean(), 0.5, 200)
    assert (after == after[0]).all()
    assert (slots.play(params, 1)[0] != after[0]).any()


def test_segments_advance_independently_per_slot() -> None:
    slots, params = Slots(4), ActingParams(1.0, 0, 0, "segment", 3)
    slots.left[:] = [0, 1, 2, 3]
    slots.leads[:] = False
    assert slots.play(params, 4).astype(int).T.tolist() == [
        [1, 1, 1, 1],
        [0, 1, 1, 1],
        [0, 0, 1, 1],
        [0, 0, 0, 1],
    ]


@pytest.mark.parametrize(("unit", "boundary"), [("segment", 6), ("episode", 100), ("frame", 1)])
@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_ratio_change_takes_effect_at_next_unit_boundary(
    unit: Any, boundary: int, ratio: float
) -> None:
    """With the unit frame that is the next frame."""
    slots = Slots(50)
    assert (slots.play(ActingParams(1 - ratio, 0, 0, unit, 6), 1) == bool(1 - ratio)).all()
    rest = slots.play(ActingParams(ratio, 0, 0, unit, 6), boundary - 1)
    assert (rest == bool(1 - ratio)).all()
    if unit == "episode":
        slots.end_episodes()
    assert (slots.play(ActingParams(ratio, 0, 0, unit, 6), 20) == bool(ratio)).all()


def test_segment_frames_without_recommendation_still_count() -> None:
    slots, params = Slots(30), ActingParams(1.0, 0, 0, "segment", 10)
    assert slots.play(params, 3).all()
    assert not slots.play(params, 4, advised=False).any()
    params = replace(params, expert_ratio=0.0)
    assert slots.play(params, 3).all(), "it is not over yet"
    assert not slots.play(params, 1).any(), "those frames were counted"


@pytest.mark.parametrize("unit", ["frame", "segment", "episode"])
def test_eval_roles_ignore_expert_ratio_in_every_unit(unit: Any) -> None:
    for ratio in (0.0, 0.5, 1.0):
        params = ActingParams(ratio, 0, 0, unit, 5)
        assert not Slots(50, role=EVAL).play(params, 20).any()
        assert Slots(50, role=EVAL_EXPERT).play(params, 20).all()


def test_unit_change_discards_previous_lead() -> None:
    slots = Slots(50)
    slots.play(ActingParams(1.0, 0, 0, "episode"), 5)
    assert not slots.play(ActingParams(0.0, 0, 0, "frame"), 5).any()
    assert not slots.play(ActingParams(0.0, 0, 0, "episode"), 5).any()


# Probes: episodes that one actor plays alone.


def begun(n: int, ratio: float = 0.5, unit: Any = "frame") -> tuple[Slots, Any, ActingParams]:
    """Slots whose first episodes begin, who is to lead each alone, and how is played."""
    slots, params = Slots(n), ActingParams(ratio, 1.0, 0, unit, 10, probes=True)
    streams, first = np.arange(n, dtype=np.int64), np.zeros(n, np.uint32)
    begin_probes(streams, first, slots.expert, slots.leads, slots.left)
    return slots, led_alone(streams, first), params


@pytest.mark.parametrize("unit", ["frame", "segment", "episode"])
def test_probes_are_played_by_one_actor_alone_in_every_unit(unit: Any) -> None:
    slots, leaders, params = begun(200, unit=unit)
    played = slots.play(params, 60)
    assert played[:, leaders == Actor.EXPERT].all()
    assert not played[:, leaders == Actor.DQN].any()
    mixed = played[:, leaders == NOBODY]
    assert 0.35 < mixed.mean() < 0.65
    if unit == "frame":
        assert not mixed.all(0).any()
        assert mixed.any(0).all()
    slots.end_episodes()
    again = slots.play(params, 60)
    assert 0.35 < again[:, leaders == Actor.EXPERT].mean() < 0.65, "over with the episode"


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_probes_end_at_once_where_ratio_leaves_one_actor_nothing(ratio: float) -> None:
    slots, leaders, params = begun(200)
    assert slots.play(params, 5)[:, leaders == Actor.EXPERT].all()
    assert (slots.play(replace(params, expert_ratio=ratio), 5) == bool(ratio)).all()


def test_probes_end_at_once_where_they_are_switched_off() -> None:
    slots, leaders, params = begun(300)
    played = slots.play(replace(params, probes=False), 40)
    for leader in Actor:
        assert 0.35 < played[:, leaders == leader].mean() < 0.65


def test_nothing_is_explored_in_probes_of_network() -> None:
    slots, leaders, params = begun(300)
    by_expert = slots.play(params, 1)[0]
    actions, actors = full(300, [0]), np.zeros(300, np.uint8)
    explored = np.zeros(300, np.uint8)
    slots.decider.decide(
        actions, slots.expert, by_expert, slots.roles == TRAIN, params, actors, explored, slots.left
    )
    assert not explored[leaders == Actor.DQN].any()
    mixed = (leaders == NOBODY) & ~by_expert
    assert explored[mixed].all(), "epsilon is 1"


def test_episode_without_recommendation_at_first_is_no_probe() -> None:
    leads, left = episode_start_state(100)
    streams, first = np.arange(100, dtype=np.int64), np.zeros(100, np.uint32)
    begin_probes(streams, first, np.full((100, 1), np.nan, np.float32), leads, left)
    assert not left.any()


@pytest.mark.parametrize(
    ("decay", "ratio"), [("schedule", 0.3), ("evaluation", 0.2), ("play", 0.15)]
)
def test_ratio_follows_what_settings_say(decay: Any, ratio: float) -> None:
    share = FractionSchedule(start=0.5, end=0.1, frames=100)
    config = Config(
        expert=ExpertConfig(ratio=share, decay=decay), imitation=ImitationConfig(decay="schedule")
    )
    params = acting_params_at(config, 50, evaluated_ratio=0.2, trust=0.25)
    assert params.expert_ratio == pytest.approx(ratio)
    assert params.probes == (decay == "play")

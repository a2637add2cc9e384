"""Every supported space, both ways, and the loop that plays."""

from __future__ import annotations

from collections import OrderedDict
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from understudy_client import Reconnected
from understudy_client.experts import find, weakened
from understudy_client.gym import Episode, EpisodeDiscarded, play, spec_of
from understudy_client.spaces import action_space, bounded
from understudy_client.spec import Continuous, Discrete
from understudy_client.wire import Answer

UNEVEN = spaces.Box(np.zeros(65), np.arange(65) + 1.0, dtype=np.float64)
LOW, HIGH = np.array([-1.0, 0.0]), np.array([1.0, 5.0])


def heads(space: spaces.Space[Any]) -> list[Any]:
    return list(action_space(space).heads)


def test_action_space_converts_each_space_to_heads() -> None:
    assert heads(spaces.Discrete(4)) == [Discrete("action", 4)]
    assert heads(spaces.MultiDiscrete([2, 3])) == [
        Discrete("action[0]", 2),
        Discrete("action[1]", 3),
    ]
    assert heads(spaces.Box(-2, 2, (2, 3))) == [Continuous("action", -2.0, 2.0, 6)]
    assert heads(spaces.Box(LOW, HIGH, dtype=np.float64)) == [
        Continuous("action[0]", -1.0, 1.0, 1),
        Continuous("action[1]", 0.0, 5.0, 1),
    ]
    nested = spaces.Dict(
        OrderedDict(
            move=spaces.Tuple([spaces.Discrete(3, start=-1), spaces.Box(0, 1, ())]),
            fire=spaces.MultiDiscrete([2, 2]),
        )
    )
    assert heads(nested) == [
        Discrete("move.0", 3),
        Continuous("move.1", 0.0, 1.0, 1),
        Discrete("fire[0]", 2),
        Discrete("fire[1]", 2),
    ]


def test_action_example_converts_to_env_and_back_to_wire() -> None:
    space = spaces.Dict(
        OrderedDict(
            main=spaces.Discrete(2, start=5),
            turn=spaces.Box(-1, 1, (2,)),
            gear=spaces.MultiDiscrete([3, 4], start=[1, 2]),
        )
    )
    convert = action_space(space)
    action = convert.to_env([1, [0.5, -0.25], 0, 3])
    assert space.contains(action)
    assert action["main"] == 6
    assert action["turn"].tolist() == [0.5, -0.25]
    assert action["gear"].tolist() == [1, 5]
    assert convert.to_wire(action) == [1, [0.5, -0.25], 0, 3]
    one = action_space(spaces.Box(-1, 1, (1,)))
    assert one.to_env([0.5]).tolist() == one.to_env([[0.5]]).tolist() == [0.5]
    assert one.to_wire([7.0]) == [1.0]
    with pytest.raises(ValueError, match="expected an action of 1 parts"):
        one.to_env([0.5, 0.5])


def simple_spaces() -> st.SearchStrategy[spaces.Space[Any]]:
    sides = st.lists(st.integers(1, 3), max_size=2).map(tuple)
    bounds = st.tuples(st.floats(-100, 99, width=16), st.floats(0.5, 100, width=16))
    return st.one_of(
        st.builds(lambda n, s: spaces.Discrete(n, start=s), st.integers(2, 9), st.integers(-5, 5)),
        st.lists(st.integers(2, 9), min_size=1, max_size=4).map(spaces.MultiDiscrete),
        st.lists(st.integers(2, 9), min_size=2, max_size=2).map(
            lambda n: spaces.MultiDiscrete(np.array([n, n]), start=np.array([[1, 2], [3, 4]]))
        ),
        st.builds(
            lambda b, shape, dtype: spaces.Box(b[0], b[0] + b[1], shape, dtype),
            bounds,
            sides,
            st.sampled_from([np.float32, np.float64]),
        ),
        st.lists(bounds, min_size=2, max_size=3).map(
            lambda b: spaces.Box(
                np.array([low for low, _ in b], np.float32),
                np.array([low + size for low, size in b], np.float32),
            )
        ),
    )


any_space = st.recursive(
    simple_spaces(),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(spaces.Tuple),
        st.dictionaries(st.sampled_from("abcd"), inner, min_size=1, max_size=3).map(spaces.Dict),
    ),
    max_leaves=5,
)


@given(space=any_space, seed=st.integers(0, 1000))
def test_action_of_any_space_wire_round_trip(space: spaces.Space[Any], seed: int) -> None:
    space.seed(seed)
    convert = action_space(space)
    action = space.sample()
    parts = convert.to_wire(action)
    assert len(parts) == len(convert.heads)
    names = [head.name for head in convert.heads]
    assert len(set(names)) == len(names)
    for head, part in zip(convert.heads, parts, strict=True):
        if isinstance(head, Discrete):
            assert type(part) is int
            assert 0 <= part < head.n
        else:
            values: list[Any] = part if isinstance(part, list) else [part]
            assert len(values) == head.size
            assert all(type(v) is float and head.low <= v <= head.high for v in values)
    back = convert.to_env(parts)
    assert space.contains(back)
    flat: Any = spaces.flatten(space, back)
    np.testing.assert_array_equal(flat, spaces.flatten(space, action))


@pytest.mark.parametrize(
    ("space", "found"),
    [
        (spaces.MultiBinary(2), [Discrete("action[0]", 2), Discrete("action[1]", 2)]),
        (spaces.Box(0, 1, (1, 2), np.bool_), [Discrete("action[0]", 2), Discrete("action[1]", 2)]),
        (spaces.Box(-1, 3, (1,), np.int64), [Discrete("action[0]", 5)]),
        (spaces.Box(0, 255, (1,), np.uint8), [Discrete("action[0]", 256)]),
        # Too many to choose from: a number that is rounded.
        (spaces.Box(0, 999, (2,), np.int32), [Continuous("action", 0.0, 999.0, 2)]),
        (spaces.Box(0, 1, (100,), np.int8), [Continuous("action", 0.0, 1.0, 100)]),
        # What has no choice makes no head.
        (spaces.MultiDiscrete([1, 3]), [Discrete("action[1]", 3)]),
        (spaces.Tuple([spaces.Discrete(1), spaces.Discrete(2)]), [Discrete("1", 2)]),
        (
            spaces.Box(np.array([1.0, 0.0]), np.array([1.0, 2.0]), dtype=np.float64),
            [Continuous("action", 0.0, 2.0, 1)],
        ),
    ],
)
def test_action_space_of_another_kind_is_heads_that_round_trip(
    space: spaces.Space[Any], found: list[Any]
) -> None:
    convert = action_space(space)
    assert list(convert.heads) == found
    for seed in range(3):
        space.seed(seed)
        action = space.sample()
        back = convert.to_env(convert.to_wire(action))
        assert space.contains(back)
        np.testing.assert_array_equal(spaces.flatten(space, back), spaces.flatten(space, action))


def test_whole_number_of_many_is_rounded_into_its_bounds() -> None:
    convert = action_space(spaces.Box(-500, 499, (2,), np.int32))
    action = convert.to_env([[12.6, 1e9]])
    assert action.tolist() == [13, 499]
    assert action.dtype == np.int32


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (
            spaces.Tuple([spaces.Text(3)]),
            "action space for '0': expected Discrete.*TransformAction",
        ),
        (spaces.Discrete(1), "expected at least 2 choices somewhere"),
        (spaces.Box(1.0, 1.0, (1,)), "expected at least 2 choices somewhere"),
        (spaces.Box(-np.inf, np.inf, (1,)), "finite bounds.*--action-bounds LOW,HIGH"),
        (spaces.Box(-(2**63), 2**63 - 1, (1,), np.int64), "finite bounds"),
        (spaces.MultiBinary(65), "expected at most 64 heads, got 65.*TransformAction"),
        (
            spaces.Box(np.zeros(65), np.arange(65) + 1.0, dtype=np.float64),
            "at most 64 heads.*RescaleAction",
        ),
    ],
)
def test_unsupported_action_space_raises_naming_it(space: spaces.Space[Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        action_space(space)


def test_bounds_are_those_of_the_space_where_it_has_some() -> None:
    low, high = np.array([-np.inf, 0.0]), np.array([np.inf, np.inf])
    space = spaces.Dict(
        OrderedDict(
            z=spaces.Tuple([spaces.Box(low, high, dtype=np.float64), spaces.Discrete(2)]),
            a=spaces.Box(-3, 3, (1,)),
            n=spaces.Box(-(2**31), 2**31 - 1, (1,), np.int32),
        )
    )
    found = bounded(space, -1, 2)
    assert list(action_space(found).heads) == [
        Continuous("z.0[0]", -1.0, 2.0, 1),
        Continuous("z.0[1]", 0.0, 2.0, 1),
        Discrete("z.1", 2),
        Continuous("a", -3.0, 3.0, 1),
        Discrete("n[0]", 4),
    ]
    assert space.contains(action_space(found).to_env([-1.0, 2.0, 1, 0.5, 3]))


class Counting(gymnasium.Env[Any, Any]):
    """Observations count the steps; an episode ends after 3 or, with an even seed, is cut at 5."""

    observation_space = spaces.Box(-1000, 1000, (), np.float64)
    action_space = spaces.Discrete(2, start=1)

    def __init__(self) -> None:
        self.seeds: list[int | None] = []
        self.actions: list[int] = []

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, Any]:
        self.seeds.append(seed)
        self.steps = 0
        return np.float64(0), {"options": options}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, Any]:
        self.actions.append(int(action))
        self.steps += 1
        even = (self.seeds[-1] or 0) % 2 == 0
        obs = np.float64(self.steps)
        return obs, self.steps / 10, not even and self.steps == 3, even and self.steps == 5, {}


class FakeClient:
    """Answers with the recommendation; loses the connection before the frames in `lost`."""

    def __init__(self, env: Any, lost: tuple[int, ...] = ()) -> None:
        self.spec = spec_of(env)
        self.metrics: list[str] = []
        self.frames: list[Any] = []
        self.lost = lost
        self.took: list[Any] = []

    def act(
        self, obs: Any, reward: float, status: int, expert: Any, took: Any, **more: Any
    ) -> Answer:
        assert not any(each is not None for each in more.values())
        if len(self.frames) in self.lost:
            self.frames.append("lost")
            raise Reconnected(2, "test")
        self.frames.append((obs.tolist(), reward, status, expert))
        self.took.append(took)
        if status:
            return Answer(0, 0, None, 0, 0, False)
        return Answer(0, 0, expert or [0], 2 if expert else 1, 0, False)


def run(lost: tuple[int, ...] = (), **options: Any) -> Any:
    env = Counting()
    client: Any = FakeClient(env, lost)
    done: list[Episode] = []
    play(env, client, on_episode=done.append, **options)
    return SimpleNamespace(env=env, frames=client.frames, took=client.took, done=done)


def test_play_sends_reward_with_next_frame_and_ends_episodes() -> None:
    out = run(episodes=2, seed=7, expert=lambda _, obs: 1 + int(obs) % 2)
    assert out.frames[:5] == [
        ([0.0], 0.0, 0, [0]),
        ([1.0], 0.1, 0, [1]),
        ([2.0], 0.2, 0, [0]),
        ([3.0], 0.3, 1, None),
        ([0.0], 0.0, 0, [0]),
    ]
    assert out.frames[-1] == ([5.0], 0.5, 2, None)
    assert out.env.actions[:3] == [1, 2, 1]
    assert out.env.seeds == [7, 8]
    first, second = out.done
    assert (first.index, first.seed, first.length, first.terminated) == (0, 7, 3, True)
    assert first.return_ == pytest.approx(0.6)
    assert first.actors == {1: 0, 2: 3}
    assert (second.index, second.length, second.terminated) == (1, 5, False)


def test_play_without_expert_takes_seeds_of_a_function() -> None:
    out = run(episodes=2, seed=lambda i: 1 + 10 * i)
    assert out.env.seeds == [1, 11]
    assert all(frame[3] is None for frame in out.frames)
    assert out.done[0].actors == {1: 3, 2: 0}


def test_play_truncates_episode_at_frame_budget() -> None:
    out = run(frames=4, seed=1)
    assert [episode.length for episode in out.done] == [3, 1]
    assert out.frames[-1] == ([1.0], 0.1, 2, None)
    assert len(out.env.actions) == 4


def test_play_reconnect_restarts_episode_with_same_seed() -> None:
    out = run(lost=(2,), episodes=2, seed=1)
    assert out.env.seeds == [1, 1, 2]
    assert out.frames[2:4] == ["lost", ([0.0], 0.0, 0, None)]
    assert [(episode.index, episode.length) for episode in out.done] == [(0, 3), (1, 5)]


def test_play_stop_callback_true_ends_play() -> None:
    words = iter([False, False, True])
    out = run(seed=1, stop=lambda: next(words))
    assert (len(out.frames), out.done) == (2, [])


class Taker:
    """Is at the controls on frames 1 and 2 of each episode; discards the first at its frame 2."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def look(
        self, _env: Any, _obs: Any, episode: Episode, status: int, legal: Any
    ) -> list[Any] | None:
        assert legal is None
        self.seen.append((episode.length, status))
        if len(self.seen) == 3:
            raise EpisodeDiscarded
        return [1] if episode.length in (1, 2) and not status else None


def test_person_s_actions_are_done_and_told_as_took_of_an_expert() -> None:
    person = Taker()
    out = run(episodes=1, seed=7, expert=lambda *_: 1, person=person)
    mine = ([1], 2)
    # The first episode is cut where it is discarded, and does not count.
    assert [frame[2:] for frame in out.frames[:3]] == [(0, [0]), (0, None), (2, None)]
    assert out.took[:3] == [None, None, mine]
    # The script is asked while nobody is at the controls.
    assert [frame[2:] for frame in out.frames[3:]] == [(0, [0]), (0, None), (0, None), (1, None)]
    assert out.took[3:] == [None, None, mine, mine]
    assert person.seen[3:] == [(0, 0), (1, 0), (2, 0), (3, 1)]
    (episode,) = out.done
    assert (episode.index, episode.length, episode.actors) == (0, 3, {1: 0, 2: 3})


def test_find_expert_returns_known_function_or_raises() -> None:
    assert find("CartPole-v1") is None
    assert find("LunarLander-v3", "none") is None
    assert find("CartPole-v1", "builtins:print") is print
    known = find("understudy_client.lunar:LunarLanderHybrid-v3")
    assert known is not None
    assert known is find("LunarLanderHybrid-v3")
    for name, message in [
        ("print", "expected module:function"),
        ("no_such_module:f", "No module named 'no_such_module'"),
        ("builtins:no_such", "no_such"),
        ("builtins:__name__", "expected a function, got str"),
    ]:
        with pytest.raises(ValueError, match=message):
            find("CartPole-v1", name)


def test_weakened_expert_acts_randomly_with_given_probability() -> None:
    env = Counting()

    def actions(probability: float, seed: int) -> list[int]:
        weak = weakened(lambda *_: 9, probability, np.random.default_rng(seed))
        return [int(weak(env, None)) for _ in range(2000)]

    assert set(actions(0.0, 1)) == {9}
    assert set(actions(1.0, 1)) == {1, 2}
    assert actions(0.3, 1) == actions(0.3, 1) != actions(0.3, 2)
    share = 1 - actions(0.3, 1).count(9) / 2000
    assert abs(share - 0.3) < 0.05  # about five standard errors
    with pytest.raises(ValueError, match="probability: expected 0 to 1, got 30"):
        weakened(lambda *_: 9, 30, np.random.default_rng(0))

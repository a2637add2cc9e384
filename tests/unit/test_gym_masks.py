"""Masks of Gymnasium's spaces as flags of heads."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from lab.vector_client import Game
from understudy_client.action_masks import Masks, legal_choices
from understudy_client.environments import make
from understudy_client.experts import weakened
from understudy_client.gym import has_masks, play, spec_of
from understudy_client.observation_spaces import observation_space
from understudy_client.spaces import action_space
from understudy_client.spec import Discrete
from understudy_client.wire import Answer


def flags(*values: int) -> Any:
    return np.array(values, np.int8)


@pytest.mark.parametrize(
    ("space", "mask", "legal"),
    [
        (spaces.Discrete(3, start=5), flags(1, 0, 1), "101"),
        (spaces.Discrete(3), None, "111"),
        (spaces.MultiDiscrete([2, 3]), (flags(0, 1), flags(1, 1, 0)), "01 110"),
        (spaces.MultiDiscrete([2, 3]), flags(0, 1, 1, 1, 0), "01 110"),
        (spaces.MultiDiscrete([[2], [2]]), ((flags(0, 1),), (flags(1, 0),)), "01 10"),
        (spaces.MultiDiscrete([1, 2]), (flags(1), flags(0, 1)), "01"),
        (spaces.MultiBinary(3), flags(0, 1, 2), "10 01 11"),
        (
            spaces.Tuple([spaces.Box(-1, 1, (2,)), spaces.Discrete(2), spaces.MultiBinary(1)]),
            (None, flags(1, 0), None),
            "10 11",
        ),
        (
            spaces.Dict(a=spaces.Discrete(2), b=spaces.Box(0, 2, (1,), np.int8)),
            {"a": flags(0, 1)},
            "01 111",
        ),
        (spaces.Tuple([spaces.Box(1, 1, (1,)), spaces.Discrete(2)]), None, "11"),
    ],
)
def test_mask_of_a_space_is_a_flag_for_each_choice_of_its_heads(
    space: spaces.Space[Any], mask: Any, legal: str
) -> None:
    found = legal_choices(space, mask)
    assert found.dtype == np.bool_
    assert "".join("01"[flag] for flag in found.tolist()) == legal.replace(" ", "")
    heads = [head for head in action_space(space).heads if isinstance(head, Discrete)]
    assert len(found) == sum(head.n for head in heads)


def test_what_gymnasium_samples_with_a_mask_is_legal() -> None:
    space = spaces.Dict(a=spaces.MultiDiscrete([3, 4]), b=spaces.MultiBinary(2))
    space.seed(3)
    mask: Any = {"a": (flags(1, 0, 1), flags(0, 0, 1, 1)), "b": flags(2, 1)}
    legal, actions = legal_choices(space, mask), action_space(space)
    seen = set()
    for _ in range(50):
        parts: Any = actions.to_wire(space.sample(mask=mask))
        offsets = np.cumsum([0, 3, 4, 2])
        assert legal[offsets + parts].all()
        seen.add(tuple(parts))
    assert len(seen) == 2 * 2 * 2


@pytest.mark.parametrize(
    ("space", "mask"),
    [
        (spaces.Discrete(3), flags(1, 0)),
        (spaces.Discrete(3), np.ones(3)),
        (spaces.MultiDiscrete([2, 3]), (flags(0, 1),)),
        (spaces.MultiBinary(2), flags(1)),
        (spaces.Tuple([spaces.Discrete(2)]), ()),
        (spaces.Tuple([spaces.Box(0, 1, (1,)), spaces.Discrete(2)]), (flags(1), None)),
        (spaces.Dict(a=spaces.Discrete(2)), flags(1, 1)),
    ],
)
def test_mask_that_does_not_fit_is_refused_in_words(space: spaces.Space[Any], mask: Any) -> None:
    with pytest.raises(ValueError, match=r"action_mask: expected a mask as "):
        legal_choices(space, mask)


class Gates(gymnasium.Env[Any, Any]):
    """At step t only the choice t mod 3 is legal; the mask is in `info`, or beside the
    observation. An episode has 2 steps, and is truncated."""

    action_space = spaces.Discrete(3)

    def __init__(self, beside: bool = False, silent: bool = False) -> None:
        number = spaces.Box(0, 9, (1,))
        mask = spaces.Box(0, 1, (3,), np.int8)
        self.observation_space = (
            spaces.Dict(observation=number, action_mask=mask) if beside else number
        )
        self.beside, self.silent = beside, silent
        self.taken: list[int] = []

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, Any]:
        super().reset(seed=seed, options=options)
        self.time = 0
        return self._seen()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, Any]:
        self.taken.append(int(action))
        self.time += 1
        obs, info = self._seen()
        return obs, 1.0, False, self.time == 2, info

    def _seen(self) -> tuple[Any, dict[str, Any]]:
        obs, mask = np.array([self.time], np.float32), np.eye(3, dtype=np.int8)[self.time % 3]
        if self.beside:
            return {"observation": obs, "action_mask": mask}, {}
        return obs, {} if self.silent else {"action_mask": mask}


class Spoken(Gates):
    """The same with a method."""

    def __init__(self) -> None:
        super().__init__(silent=True)

    def action_masks(self) -> Any:
        return [np.eye(3, dtype=np.int8)[self.time % 3]]


WAYS = {"info": Gates, "observation": lambda: Gates(beside=True), "method": Spoken}


class FakeClient:
    """Answers with the first legal choice, and keeps what was said of it."""

    def __init__(self, env: Any) -> None:
        self.spec = spec_of(env, masks=has_masks(env))
        self.metrics: list[str] = []
        self.frames: list[tuple[Any, ...]] = []
        self.advice = 0

    def act(
        self, obs: Any, reward: float, status: int, expert: Any, took: Any, *,
        legal: Any = None, metrics: Any,
    ) -> Answer:  # fmt: skip
        assert metrics is None
        assert reward in (0.0, 1.0)
        assert expert is None or legal[expert[0]], "what is recommended is legal"
        self.advice += expert is not None
        flags = None if legal is None else legal.tolist()
        self.frames.append((obs.tolist(), status, flags, took))
        choice = 0 if flags is None else flags.index(True)
        return Answer(0, 0, None if status else [choice], 0 if status else 1, 0, False)


@pytest.mark.parametrize("way", WAYS)
def test_mask_of_each_frame_is_told_wherever_it_stands(way: str) -> None:
    env = WAYS[way]()
    client: Any = FakeClient(env)
    assert client.spec.masks
    assert [each.shape for each in client.spec.observations] == [(1,)]
    play(env, client, episodes=1)
    assert client.frames == [
        ([0], 0, [True, False, False], None),
        ([1], 0, [False, True, False], None),
        ([2], 2, None, None),
    ]
    assert env.taken == [0, 1]


@pytest.mark.parametrize("way", WAYS)
def test_weakened_expert_recommends_legal_choices_alone(way: str) -> None:
    client: Any = FakeClient(WAYS[way]())
    weak = weakened(lambda _env, _obs: 1 / 0, 1.0, np.random.default_rng(0))
    play(WAYS[way](), client, episodes=30, expert=weak)
    assert client.advice == 60


@pytest.mark.parametrize("way", WAYS)
def test_expert_that_wants_it_is_told_what_is_legal(way: str) -> None:
    def expert(_env: Any, _obs: Any, legal: Any) -> int:
        return int(np.argmax(legal))

    expert.wants_legal = True  # type: ignore[attr-defined]
    client: Any = FakeClient(WAYS[way]())
    # Also behind one that is weakened now and then.
    play(WAYS[way](), client, episodes=5, expert=weakened(expert, 0.5, np.random.default_rng(0)))
    assert client.advice == 10


@pytest.mark.parametrize("way", WAYS)
def test_games_without_a_server_have_the_same_masks(way: str) -> None:
    """Those of study, tune and the synchronous trainer."""
    game = Game(WAYS[way](), lambda _env, _obs: 0, seed=1)
    assert game.spec.masks
    assert game.legal().tolist() == [True, False, False]  # type: ignore[union-attr]
    game.act([0])
    assert game.legal().tolist() == [False, True, False]  # type: ignore[union-attr]
    game.act([1])
    assert game.legal() is None, "its last frame"
    assert not Game(Gates(silent=True), None, seed=1).spec.masks


def test_random_action_is_made_legal_head_by_head() -> None:
    space = spaces.Tuple(
        [spaces.Discrete(2), spaces.Box(-1, 1, (1,)), spaces.MultiDiscrete([3, 2])]
    )
    masks = Masks(space, action_space(space), observation_space(spaces.Discrete(2)))
    legal, rng = flags(0, 1, 1, 0, 0, 1, 1), np.random.default_rng(0)
    for seed in range(20):
        space.seed(seed)
        drawn = space.sample()
        one, number, (two, three) = masks.made_legal(legal, drawn, rng)
        assert (int(one), int(two), int(three)) == (1, 0, int(drawn[2][1]))
        assert number == pytest.approx(drawn[1])


def test_game_without_masks_says_nothing_of_them() -> None:
    env = Gates(silent=True)
    client: Any = FakeClient(env)
    assert not client.spec.masks
    play(env, client, episodes=1)
    assert [frame[2] for frame in client.frames] == [None] * 3


def test_what_a_person_wishes_and_is_illegal_is_not_done() -> None:
    told = []

    class Person:
        def look(self, _env: Any, _obs: Any, _episode: Any, _status: int, legal: Any) -> Any:
            told.append(legal)
            return [1]

    env = Gates()
    client: Any = FakeClient(env)
    person: Any = Person()
    play(env, client, episodes=1, person=person)
    assert [None if each is None else each.tolist() for each in told] == [
        [True, False, False], [False, True, False], None,
    ]  # fmt: skip
    # The first time it is illegal: the answer is done.
    assert env.taken == [0, 1]
    assert [frame[3] for frame in client.frames] == [None, None, ([1], 2)]


def test_action_of_several_heads_is_legal_if_each_is() -> None:
    space = spaces.Tuple([spaces.Discrete(2), spaces.Box(-1, 1, (1,)), spaces.Discrete(3)])
    masks = Masks(space, action_space(space), observation_space(spaces.Discrete(2)))
    legal = masks.legal(0, {"action_mask": (flags(1, 0), None, flags(0, 1, 1))})
    assert masks.allows(legal, [0, 0.5, 2])
    assert not masks.allows(legal, [1, 0.5, 2])
    assert not masks.allows(legal, [0, 0.5, 0])


def test_masks_of_taxi_are_found() -> None:
    env = make("Taxi-v4")
    assert has_masks(env)
    assert not has_masks(make("FrozenLake-v1"))
    env.close()

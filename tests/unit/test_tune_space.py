"""What `understudy tune --search` takes, and what it says of the rest."""

from __future__ import annotations

from typing import Any

import pytest

from config.fields import all_settings, flat
from config.load import ConfigError
from config.models import Config
from lab.tune.space import SearchChoices, SearchRange, default_space, parse_space
from protocol.spaces import Continuous, Discrete, GameSpec, Observation
from tests.support.tune import plan

BASE = flat(Config())
MOVE, PUSH = Discrete("move", 3), Continuous("push", 2, -1.0, 1.0)


def spec(*heads: Any) -> GameSpec:
    return GameSpec("g", Observation("float32", (4,)), heads)


def one(word: str) -> Any:
    (dimension,) = parse_space([word], BASE)
    return dimension


@pytest.mark.parametrize(
    ("word", "low", "high", "log"),
    [
        ("learner.learning_rate=1e-4..2e-3:log", 1e-4, 2e-3, True),
        ("learner.gamma=0.9..1", 0.9, 1.0, False),
        ("learner.n_step = 1 .. 8", 1, 8, False),
        ("learner.batch_size=32..512:log", 32, 512, True),
    ],
)
def test_range_has_the_type_of_its_setting(word: str, low: Any, high: Any, log: bool) -> None:
    dimension = one(word)
    assert isinstance(dimension, SearchRange)
    assert (dimension.low, dimension.high, dimension.log) == (low, high, log)
    assert type(dimension.low) is type(dimension.high) is all_settings()[dimension.name].kind
    assert parse_space([str(dimension)], BASE) == (dimension,)


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("learner.batch_size=64,128", (64, 128)),
        ("learner.hidden=[64,64],[256]", ([64, 64], [256])),
        ("imitation.loss=margin, cross_entropy", ("margin", "cross_entropy")),
        ("replay.prioritized=true,false", (True, False)),
        ("replay.actor_share={},{expert=0.5,dqn=0.1}", ({}, {"expert": 0.5, "dqn": 0.1})),
        ("learner.cosine_updates=none,1000", ("none", 1000)),
    ],
)
def test_choices_are_values_of_their_setting(word: str, values: tuple[Any, ...]) -> None:
    dimension = one(word)
    assert isinstance(dimension, SearchChoices)
    assert dimension.ends() == values
    assert parse_space([str(dimension)], BASE) == (dimension,)
    # The setting's own value is recognized, whatever Python makes of it.
    key = dimension.name
    shown = all_settings()[key].plain(BASE[key])
    assert dimension.text(BASE[key]) == (
        dimension.texts[values.index(shown)] if shown in values else None
    )


def test_schedule_by_its_name_is_start_and_end() -> None:
    drawn = plan("imitation.expert=0.1..3").settings({"imitation.expert": 0.5})
    assert drawn == {"imitation.expert.start": 0.5, "imitation.expert.end": 0.5}


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("learner.gamma", "expected KEY=LOW..HIGH"),
        ("=1..2", "expected KEY=LOW..HIGH"),
        ("learner.gama=0.9..1", "no such setting (did you mean learner.gamma?)"),
        ("advantage.normalise=true,false", "is now advantage.normalize; rename it"),
        ("server.port=1..9", "runs in lock step do not read server.*: leave it out"),
        ("run.seed=1..9", "runs in lock step do not read run.*: leave it out"),
        ("trainer.device=cpu,cuda", "do not read this one: leave it out"),
        ("learner.gamma=0.9..1.5", "learner.gamma: expected a number from 0 to 1, got 1.5"),
        ("learner.batch_size=0,64", "learner.batch_size: expected a whole number of at least 1"),
        ("learner.batch_size=64,big", "expected a whole number of at least 1, got 'big'"),
        ("learner.n_step=1..2.5", "expected LOW..HIGH of two whole numbers"),
        ("learner.gamma=1..0.9", "the smaller one first, got '1..0.9'"),
        ("learner.gamma=0.9..0.9", "the smaller one first"),
        ("learner.gamma=0..nan", "of two numbers"),
        ("learner.gamma=0.9..0.95..1", "of two numbers"),
        ("learner.gamma=0..1:log", "the first one above 0, got '0..1:log'"),
        ("learner.gamma=0.9,0.99:log", "expected KEY=LOW..HIGH"),
        ("learner.gamma=0.9", "expected at least two different values, or LOW..HIGH, got '0.9'"),
        ("learner.gamma=0.9,0.90", "expected at least two different values"),
        ("learner.gamma=0.9,,1", "expected at least two different values"),
        ("advantage.weight_min=0.1..200", "the smallest weight must not exceed the largest"),
    ],
)
def test_wrong_search_is_refused_with_what_was_expected(word: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_space([word], BASE)
    assert said in str(error.value)
    assert "--search" in str(error.value)


def test_setting_that_is_searched_twice_is_refused() -> None:
    words = ["imitation.expert=0.1..3", "imitation.expert.end=0.1..3"]
    with pytest.raises(ConfigError, match=r"imitation\.expert\.end is searched twice"):
        parse_space(words, BASE)


@pytest.mark.parametrize("heads", [(MOVE,), (PUSH,), (MOVE, PUSH)])
@pytest.mark.parametrize("taught", [True, False])
def test_default_space_suits_the_game(heads: tuple[Any, ...], taught: bool) -> None:
    words = default_space(spec(*heads), taught=taught, given=["learner.gamma"])
    names = {dimension.name for dimension in parse_space(words, BASE)}
    assert {"learner.learning_rate", "learner.batch_size", "trainer.replay_ratio"} <= names
    assert "learner.gamma" not in names  # the caller has set it
    assert ("exploration.epsilon.start" in names) == (MOVE in heads)
    assert ("exploration.noise.start" in names) == (PUSH in heads)
    assert ("imitation.margin" in names) == (taught and MOVE in heads)
    assert ("expert.ratio.start" in names) == ("imitation.rows" in names) == taught


def test_default_space_has_the_defaults_in_it() -> None:
    words = default_space(spec(MOVE, PUSH), taught=True, given=())
    for each in parse_space(words, BASE):
        value = BASE[each.name]
        there = each.holds(value) if isinstance(each, SearchRange) else each.text(value)
        assert there, f"{each}: the default {value} is not in it"

"""Comparisons that a command line describes: variants, experts, and what is said of wrong ones."""

from __future__ import annotations

from typing import Any

import pytest

from config.load import ConfigError
from lab.study.design import EXPERT, NO_EXPERT, Comparison, jobs
from lab.study.own import AS_GIVEN, own_comparison, parse_variants
from tests.support.spaced import TALKS

PUSH = "tests.support.fake_games:push_right"


def comparison(*variants: str, **changed: Any) -> Comparison:
    given: dict[str, Any] = {
        "env": "CartPole-v1",
        "base": {"learner.hidden": (8,)},
        "variants": variants,
        "expert": PUSH,
        "frames": 100,
        "eval_every": 50,
        "seeds": 1,
    }
    return own_comparison(**(given | changed))


def test_variants_are_read_as_settings_by_key() -> None:
    found = parse_variants(
        [
            "plain",
            "big net:learner.hidden=[32, 32],learner.learning_rate=1e-3",
            'both:advantage.applies_to=["td", "imitation"],replay.prioritized=true',
            "weighed:reward.weights={a=1, b=2}, learner.gamma=0.9",
        ]
    )
    assert found == {
        "plain": ({}, None),
        "big net": ({"learner.hidden": [32, 32], "learner.learning_rate": 1e-3}, None),
        "both": ({"advantage.applies_to": ["td", "imitation"], "replay.prioritized": True}, None),
        "weighed": ({"reward.weights": {"a": 1, "b": 2}, "learner.gamma": 0.9}, None),
    }
    assert parse_variants([]) == {AS_GIVEN: ({}, None)}


def test_schedule_name_sets_start_and_end() -> None:
    ((values, _),) = parse_variants(["half:expert.ratio=0.5"]).values()
    assert values == {"expert.ratio.start": 0.5, "expert.ratio.end": 0.5}


def test_variant_has_a_teacher_of_its_own_or_none() -> None:
    what = comparison("taught", "alone:expert=none,learner.n_step=5", weaken=0.5)
    told = {job.variant: job for job in jobs(what)}
    assert list(told) == [EXPERT, "taught", "alone"]
    assert (told["taught"].options.expert, told["taught"].options.weaken) == (PUSH, 0.5)
    assert (told["alone"].options.expert, told["alone"].options.weaken) == (NO_EXPERT, 0)
    config = told["alone"].config
    assert config is not None
    assert (config.learner.n_step, config.learner.hidden) == (5, (8,))


def test_game_without_an_expert_is_compared_without_measuring_one() -> None:
    assert [job.variant for job in jobs(comparison("a", "b", expert=None))] == ["a", "b"]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("", "expected NAME:KEY=VALUE"),
        (":learner.n_step=5", "expected NAME:KEY=VALUE"),
        ("a|b:learner.n_step=5", "letters, digits, spaces"),
        ("a:learner.n_step", "--variant a: expected NAME:KEY=VALUE"),
        ("a:learner.n_step=", "--variant a: expected NAME:KEY=VALUE"),
        ("a:learner.n_step=5,", "--variant a: expected NAME:KEY=VALUE"),
        ("a:learner.n_step=5,learner.n_step=6", "learner.n_step: set twice"),
        ("a:expert.ratio=0,expert.ratio.end=1", "expert.ratio.end: set twice"),
        ("a:learner.n_steps=5", "no such setting (did you mean learner.n_step?)"),
        ("a:replay.prioritised=true", "replay.prioritised is now replay.prioritized; rename it"),
        ("a:server.port=5", "server.port: expected a setting that learning depends on"),
        ("a:run.seed=5", "run.seed: expected a setting that learning depends on"),
        ("a:learner.gamma=2", "--variant a: learner.gamma: expected"),
        ("a:learner.hidden=[8", "--variant a: learner.hidden: expected"),
        ("a:expert=nowhere:function", "--variant a: expert: expert 'nowhere:function': No module"),
    ],
)
def test_wrong_variant_is_refused_naming_what_was_expected(word: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        comparison(word)
    assert said in str(refused.value)


def test_two_variants_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="--variant a: there are two of this name; rename one"):
        comparison("a", "a:learner.n_step=5")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"env": "NoSuchGame-v1"},
            "--env: expected a Gymnasium environment .* got 'NoSuchGame-v1'",
        ),
        ({"env": "no_such_module:Game-v1"}, "--env: .* got 'no_such_module:Game-v1': .*No module"),
        ({"env": TALKS}, "--env: .*: observation space: expected Box"),
        (
            {"expert": "plain"},
            "--expert: expert 'plain': expected module:function; or none for no expert",
        ),
        ({"expert": "math:nothing"}, "--expert: expert 'math:nothing'"),
        ({"expert": "builtins:len"}, "--expert: expected a function .* TypeError"),
        ({"expert": "tests.unit.test_study_own:wild"}, "--expert: expected a function .*wild: .*7"),
        ({"weaken": 2}, "--weaken: expected a number from 0 to 1, got 2"),
        ({"expert": None, "weaken": 0.3}, "--weaken: expected an expert to weaken"),
    ],
)
def test_wrong_game_or_expert_is_refused_before_anything_is_played(
    changed: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        comparison("a", **changed)


def wild(_env: Any, _obs: Any) -> int:
    """An expert that does what there is not."""
    return 7

"""Comparisons as data, and the jobs that follow from them."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from config.load import ConfigError
from lab.study.checks import Ends, Passes
from lab.study.comparisons import COMPARISONS
from lab.study.comparisons.shared import EARLIER
from lab.study.design import EXPERT, Comparison, Picture, Scene, jobs
from server.monitor.metrics import SERIES
from tests.support.fake_results import SCENE, comparison


def job_keys(what: Comparison, **options: Any) -> list[str]:
    return [job.key for job in jobs(what, **options)]


@pytest.mark.parametrize("what", COMPARISONS, ids=[c.name for c in COMPARISONS])
def test_comparison_settings_and_names_are_valid(what: Comparison) -> None:
    """Their settings exist and fit, and no two runs share a file."""
    wanted = jobs(what, full=True)
    found = [job.key for job in wanted]
    files = {job.key: job.settings for job in wanted}
    assert all(files[job.key] == job.settings for job in wanted)
    shared = [job.key for job in wanted if job.kept_as == job.scene]
    assert len(set(shared)) == len(shared)
    assert all(re.fullmatch(r"[\w.+-]+", key) for key in found)
    assert all(job.options.frames % job.options.eval_every == 0 for job in wanted)
    each = [f"{metric}_dqn" for picture in what.pictures for metric in picture.metrics]
    assert {*each, *what.metrics} <= SERIES.keys()
    assert len({picture.name for picture in what.pictures}) == len(what.pictures)


def test_comparison_names_are_unique() -> None:
    names = [what.name for what in COMPARISONS]
    assert len(set(names)) == len(names)


def test_jobs_has_one_per_scene_variant_and_seed_and_expert() -> None:
    found = [(job.scene, job.variant, job.seed) for job in jobs(comparison())]
    assert found == [
        ("land", EXPERT, 0),
        ("land", "a", 1),
        ("land", "b", 1),
        ("land", "a", 2),
        ("land", "b", 2),
    ]


def test_jobs_full_adds_seeds_and_scenes() -> None:
    other = Scene("other", "Other", "LunarLander-v3", variants=("b",))
    what = comparison(scenes=(SCENE, other), full_only=("other",), seeds_full=3)
    assert len(jobs(what)) == 1 + 4
    assert len(jobs(what, full=True)) == 2 + 3 * 3
    assert len(jobs(what, full=True, seeds=1)) == 2 + 3
    assert set(job_keys(what)) <= set(job_keys(what, full=True))  # what was run counts for more


@pytest.mark.parametrize(
    "changed",
    [
        {"settings": comparison().settings | {"learner.gamma": 0.9}},
        {"preset": "demo"},
        {"frames": 90},
        {"eval_every": 15},
        {"clients": 4},
        {"scenes": (replace(SCENE, weaken=0.5),)},
        {"scenes": (replace(SCENE, env="LunarLanderContinuous-v3"),)},
    ],
)
def test_job_keys_change_with_settings(changed: dict[str, Any]) -> None:
    before = {job.key for job in jobs(comparison()) if job.variant}
    after = {job.key for job in jobs(comparison(**changed)) if job.variant}
    assert len(before) == len(after) == 4
    assert not before & after


def test_scenes_of_one_game_share_runs_without_a_teacher() -> None:
    weak = replace(SCENE, name="weak", weaken=0.5, game="moon")
    what = comparison(scenes=(replace(SCENE, game="moon"), weak), experts={"b": "none"}, seeds=1)
    keys = {(job.scene, job.variant): job.key for job in jobs(what)}
    assert len(keys) == 6
    assert keys["land", "b"] == keys["weak", "b"]
    assert keys["weak", "b"].startswith("moon-b-seed1-")
    assert len(set(keys.values())) == 5


def test_experts_that_students_are_compared_with_are_measured_too() -> None:
    scenes = tuple(replace(SCENE, name=name) for name in ("land", "good", "other"))
    check = Passes("land", "a", None, by=60, of="good")
    what = comparison(check, scenes=scenes, full_only=("good", "other"), seeds=1)
    assert [job.scene for job in jobs(what) if not job.variant] == ["land", "good"]


def test_scene_has_a_preprocessing_that_its_runs_depend_on() -> None:
    what = comparison(scenes=(SCENE, replace(SCENE, preprocess="atari")))
    plain, atari = (
        {job.variant: job for job in jobs(what) if job.seed < 2 and job.options.preprocess == each}
        for each in (None, "atari")
    )
    assert plain.keys() == atari.keys() == {EXPERT, "a", "b"}
    assert all(plain[name].key != atari[name].key for name in plain)


def test_scene_has_frames_of_its_own() -> None:
    what = comparison(scenes=(SCENE, replace(SCENE, name="long", frames=90)))
    assert {job.options.frames for job in jobs(what) if job.scene == "land"} == {60}
    assert {job.options.frames for job in jobs(what) if job.scene == "long"} == {90}


def test_job_keys_change_only_for_changed_variant() -> None:
    before = set(job_keys(comparison()))
    after = set(job_keys(comparison(variants={"a": {}, "b": {"learner.n_step": 4}})))
    assert {key.split("-seed")[0] for key in before - after} == {"land-b"}
    said = comparison(title="Another title", why="Another reason", passing=3.0)
    assert set(job_keys(said)) == before
    assert set(job_keys(comparison(settings=comparison().settings | {"server.port": 1}))) == before


def test_job_key_includes_later_settings_only_if_used() -> None:
    """The digests of results that are kept are those of the time before there were these."""
    (job,) = [j for j in jobs(comparison()) if (j.variant, j.seed) == ("a", 1)]
    config = job.settings["config"]
    assert "plugin" not in config["expert"]
    assert "hold" not in config["expert"]["ratio"]
    assert "cosine_restarts" not in config["learner"]
    assert "tempest" not in config
    then = comparison().settings | EARLIER
    before = set(job_keys(comparison(settings=then)))
    for key, value in {
        "expert.plugin": "a:b",
        "expert.ratio.hold": 5,
        "exploration.epsilon.hold": 5,
        "exploration.noise.hold": 5,
        "replay.priority_beta.hold": 5,
        "imitation.expert.hold": 5,
        "imitation.decay": "play",
        "imitation.rows": "recommended",
        "learner.cosine_restarts": True,
    }.items():
        after = set(job_keys(comparison(settings=then | {key: value})))
        assert len(before & after) == 1, f"{key} is part of what a run depends on"
    older = comparison(settings=then | {"tempest.reply_bytes": 3})
    assert set(job_keys(older)) == before


def test_job_keys_equal_those_of_stored_results() -> None:
    """Digests as they were when the results in the repository were made. Where a new setting
    changes them, all would have to be played again: list it in study_design._LATER."""
    network = {"learner.hidden": [512, 512, 256], "learner.batch_size": 256}
    then = EARLIER | network | {"trainer.replay_ratio": 0.25} | comparison().settings
    assert job_keys(comparison(settings=then)) == [
        "land-expert-fe3151d756b0",
        "land-a-seed1-f9e3f0e1ae79",
        "land-b-seed1-fd907196aa1e",
        "land-a-seed2-e6416c126f30",
        "land-b-seed2-d8e7c2b89f17",
    ]


def test_job_keys_ignore_environment_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    before = job_keys(comparison())
    monkeypatch.setenv("UNDERSTUDY_LEARNER__GAMMA", "0.5")
    assert job_keys(comparison()) == before
    assert comparison().config("b", 7).run.seed == 7
    assert comparison().config("b", 7).learner.n_step == 5


def test_jobs_with_invalid_setting_raises_naming_variant() -> None:
    with pytest.raises(ConfigError, match=r"study tiny, a: learner\.gamma"):
        jobs(comparison(variants={"a": {"learner.gamma": 2.0}}))


@pytest.mark.parametrize(
    "wrong",
    [
        {"scenes": (replace(SCENE, variants=("c",)),)},
        {"full_only": ("nowhere",)},
        {"experts": {"c": "none"}},
        {"pictures": (Picture("x", "x", panels={"p": ("c",)}),)},
        {"checks": (Ends("nowhere", "a", 1.0),)},
        {"checks": (Ends("land", "c", 1.0),)},
    ],
)
def test_comparison_with_unknown_name_raises(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"tiny.*expected names of"):
        comparison(**wrong)

"""agent/warm_start.py: what of a network's weights means the same in another one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from agent.checkpoint import CheckpointError
from agent.learner import Learner
from agent.warm_start import Taken, warm_start
from protocol.spaces import Continuous, Discrete, GameSpec, Head, Observation
from tests.support.learner import HYBRID, batch_of, learner_of, spec_of
from tests.support.tensors import assert_close

FIRE, AIM = HYBRID
B = Observation("float32", (2,), name="b")
NUMBERS = np.random.default_rng(0)


def state_of(learner: Learner, spec: GameSpec) -> dict[str, Any]:
    """As a checkpoint has it; the target network differs from the online one."""
    with torch.no_grad():
        for name, parameter in learner.target.named_parameters():
            if not name.startswith("obs_"):
                parameter.mul_(0.5)
    return {"spec": msgspec.json.encode(spec).decode(), "learner": learner.state_dict()}


def started(
    old: GameSpec, new: GameSpec, before: dict[str, Any] | None = None, **after: Any
) -> tuple[Learner, Learner, Taken]:
    """A learner, one of another run that starts with its weights, and what those took."""
    source = learner_of(old, **(before or {}))
    own = learner_of(new, seed=9, **after)
    return source, own, warm_start(own, new, state_of(source, old))


def observations(spec: GameSpec) -> torch.Tensor:
    return torch.from_numpy(NUMBERS.standard_normal((32, *spec.observations[0].shape), np.float32))


def q_of(learner: Learner, obs: torch.Tensor, choices: slice = slice(None)) -> torch.Tensor:
    """Q less its mean over these choices: what greedy play goes by."""
    with torch.inference_mode():
        q = learner.network(obs).q[:, choices]
    return q - q.mean(1, keepdim=True)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"value": "c51", "atoms": 7},
        {"value": "quantile", "atoms": 5},
        {"continuous": "gradient"},
        {"continuous": "bins", "bins": 5},
        {"normalize_observations": True},
    ],
    ids=["scalar", "c51", "quantile", "gradient", "bins", "normalized"],
)
def test_same_game_and_settings_take_every_weight(settings: dict[str, Any]) -> None:
    spec = spec_of()
    source, own, said = started(spec, spec, settings, **settings)
    assert said.not_taken == []
    for ours, theirs in ((own.network, source.network), (own.target, source.target)):
        for name, tensor in theirs.state_dict().items():
            assert torch.equal(ours.state_dict()[name], tensor), name
    assert own.updates == 0


@pytest.mark.parametrize("normalize", [True, False])
def test_values_mean_the_same_at_another_scale(normalize: bool) -> None:
    """Those of a run whose rewards were divided, in one that has not begun."""
    spec = spec_of()
    source = learner_of(spec, normalize_values=True)
    for i in range(20):
        batch = batch_of(spec, seed=i)
        source.step(replace(batch, returns=batch.returns * 100))
    assert float(source.network.value_scale) > 2
    own = learner_of(spec, seed=9, normalize_values=normalize)
    warm_start(own, spec, state_of(source, spec))
    (states,) = batch_of(spec).states
    before = source.network(states).q
    assert_close(own.network(states).q, before)
    own.step(batch_of(spec))
    assert (own.network(states).q - before).abs().max() < 0.2 * before.abs().max()


def test_pictures_of_the_same_sides_take_every_weight() -> None:
    spec = GameSpec("g", Observation("uint8", (12, 10)), (FIRE,))
    source, own, said = started(spec, spec)
    assert said.not_taken == []
    assert torch.equal(own._vector, source._vector)


def test_pictures_of_other_sides_keep_their_filters_alone() -> None:
    old = GameSpec("g", Observation("uint8", (12, 12)), (FIRE,))
    new = GameSpec("g", Observation("uint8", (16, 12)), (FIRE,))
    source, own, said = started(old, new)
    assert said.taken == ["pictures.layers.0", "pictures.layers.2"]
    assert torch.equal(
        own.network.pictures.layers[0].weight, source.network.pictures.layers[0].weight
    )
    assert any(line.startswith("trunk.0 (what it reads") for line in said.not_taken)


def test_more_numbers_behind_the_old_ones_leave_play_as_it_was() -> None:
    old, new = spec_of(size=6), spec_of(size=8)
    source, own, said = started(old, new)
    assert said.not_taken == []
    assert said.taken[0] == "trunk.0 (2 new inputs begin with weight 0)"
    obs = observations(new)
    assert_close(own.network(obs).q, source.network(obs[:, :6].contiguous()).q)


def test_more_frames_in_an_observation_leave_play_as_it_was() -> None:
    spec = spec_of()
    source = learner_of(spec)
    own = Learner(
        spec, source._config, source._advantage, source._imitation, device="cpu", frame_stack=3
    )
    warm_start(own, spec, state_of(source, spec))
    obs = torch.randn(32, 3, 6)
    assert_close(own.network(obs).q, source.network(obs[:, 2].contiguous()).q)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (spec_of(size=8), spec_of(size=6)),
        (spec_of(), GameSpec("g", Observation("uint8", (6,)), HYBRID)),
        (
            GameSpec("g", Observation("float32", (2, 3)), HYBRID),
            GameSpec("g", Observation("float32", (3, 2)), HYBRID),
        ),
    ],
    ids=["fewer numbers", "another dtype", "other sides"],
)
def test_another_observation_fits_nothing_and_is_refused(old: GameSpec, new: GameSpec) -> None:
    own = learner_of(new)
    before = own._vector.clone()
    with pytest.raises(
        CheckpointError, match=r"nothing of it fits .* trunk\.0 \(it reads .*; there: "
    ):
        warm_start(own, new, state_of(learner_of(old), old))
    assert torch.equal(own._vector, before)


def test_normalized_observations_beside_plain_ones_fit_nothing() -> None:
    spec = spec_of()
    own = learner_of(spec, normalize_observations=True)
    with pytest.raises(CheckpointError, match="nothing of it fits"):
        warm_start(own, spec, state_of(learner_of(spec), spec))


def test_heads_are_taken_by_name_whatever_their_order() -> None:
    one, two, other = Discrete("one", 3), Discrete("two", 2), Discrete("other", 3)
    source, own, said = started(spec_of((one, two)), spec_of((two, other, one)))
    assert said.not_taken == ["head other (it is not there)"]
    assert {"value", "head one", "head two"} <= set(said.taken)
    obs = observations(spec_of())
    assert_close(q_of(own, obs, slice(5, 8)), q_of(source, obs, slice(0, 3)))
    assert_close(q_of(own, obs, slice(0, 2)), q_of(source, obs, slice(3, 5)))


def test_more_choices_keep_the_old_ones_and_fewer_keep_none() -> None:
    few, many = spec_of((Discrete("fire", 3),)), spec_of((Discrete("fire", 5),))
    source, own, said = started(few, many)
    assert said.taken[-1] == "head fire (3 of 5 rows)"
    obs = observations(few)
    assert_close(q_of(own, obs, slice(0, 3)), q_of(source, obs))
    _, _, said = started(many, few)
    (line,) = said.not_taken
    assert line == "head fire (3 choices, scalar; there: 5 choices, scalar)"


def test_numbers_of_another_range_are_not_taken() -> None:
    wide = Continuous("aim", -2.0, 2.0, 1)
    _, _, said = started(spec_of((FIRE, AIM)), spec_of((FIRE, wide)))
    (line,) = said.not_taken
    assert line == "head aim (size 1, from -2 to 2; there: size 1, from -0.9 to 0.9)"
    assert "head fire" in said.taken


def test_head_that_is_gone_is_said() -> None:
    _, _, said = started(spec_of((FIRE, AIM)), spec_of((FIRE,)))
    assert said.not_taken == ["head aim of the old network has no place here"]


def test_another_width_takes_what_is_before_it() -> None:
    source, own, said = started(spec_of(), spec_of(), {"hidden": (16, 8)}, hidden=(16, 12))
    assert said.taken == ["trunk.0"]
    assert said.not_taken[0] == "trunk.1 (12 units; there: 8 units)"
    assert "value (what it reads is not taken)" in said.not_taken
    assert torch.equal(own.network.trunk[0].weight, source.network.trunk[0].weight)


def test_values_of_another_kind_are_not_taken() -> None:
    _, _, said = started(spec_of(), spec_of(), value="c51", atoms=7)
    assert said.taken == ["trunk.0", "trunk.1", "head aim"]
    assert said.not_taken[0] == "value (c51 with 7 atoms from -100 to 100; there: scalar)"
    _, _, said = started(
        spec_of(), spec_of(), {"value": "c51", "atoms": 7, "value_max": 50.0}, value="c51", atoms=7
    )
    assert "value" not in said.taken


def test_value_range_that_an_older_checkpoint_does_not_tell_is_not_guessed() -> None:
    settings = {"value": "c51", "atoms": 7}
    spec = spec_of()
    state = state_of(learner_of(spec, **settings), spec)
    del state["learner"]["settings"]["learner.value_min"]
    said = warm_start(learner_of(spec, **settings), spec, state)
    assert "value" not in said.taken


def test_statistics_of_observations_go_on_and_new_numbers_begin_anew() -> None:
    old, new = spec_of(size=6), spec_of(size=8)
    source, own = (learner_of(s, normalize_observations=True) for s in (old, new))
    source.observe(NUMBERS.normal(5.0, 3.0, (500, 6)))
    said = warm_start(own, new, state_of(source, old))
    assert said.taken[0] == "statistics of the observations"
    assert own.statistics is not None
    assert source.statistics is not None
    np.testing.assert_array_equal(own.statistics.mean[:6], source.statistics.mean)
    obs = observations(new)
    assert_close(own.network(obs).q, source.network(obs[:, :6].contiguous()).q)
    seen = NUMBERS.normal(-2.0, 0.5, (50, 8))
    own.observe(seen)
    np.testing.assert_allclose(own.statistics.mean[6:], seen[:, 6:].mean(0))
    np.testing.assert_allclose(1 / own.statistics.scale[6:], seen[:, 6:].std(0, ddof=1))
    again = learner_of(new, normalize_observations=True)
    again.load_state_dict(own.state_dict())
    assert again.statistics is not None
    np.testing.assert_array_equal(again.statistics.scale, own.statistics.scale)


def test_state_that_is_no_trainers_is_refused() -> None:
    spec = spec_of()
    state = state_of(learner_of(spec), spec)
    del state["learner"]["network"]
    with pytest.raises(CheckpointError, match="expected what a trainer saves"):
        warm_start(learner_of(spec), spec, state)
    heads: tuple[Head, ...] = (Discrete("fire", 9),)
    state = state_of(learner_of(spec), spec) | {
        "spec": msgspec.json.encode(spec_of(heads)).decode()
    }
    with pytest.raises(CheckpointError, match="expected what a trainer saves"):
        warm_start(learner_of(spec), spec, state)


def test_several_observations_keep_their_own_statistics_and_weights() -> None:
    many = Observation("int32", (3,), name="card", kind="choice", n=600)
    old, new = (
        GameSpec("g", (Observation("float32", (n,), name="a"), many, B), (FIRE,)).checked()
        for n in (3, 5)
    )
    source, own = (learner_of(s, normalize_observations=True) for s in (old, new))
    source.statistics.update(NUMBERS.normal([1, 2, 3, 4, 5], 2.0, (300, 5)))  # type: ignore[union-attr]
    said = warm_start(own, new, state_of(source, old))
    assert said.not_taken == []
    assert any(line.endswith(".embedding") for line in said.taken)
    own_means, means = own.statistics.mean, source.statistics.mean  # type: ignore[union-attr]
    np.testing.assert_array_equal(own_means, [*means[:3], 0, 0, *means[3:]])
    source.set_statistics(source.statistics.get_state())  # type: ignore[union-attr]
    a, cards, b = torch.randn(8, 5), torch.randint(0, 600, (8, 3)), torch.randn(8, 2)
    ours = own.network(a, cards, b).q
    torch.testing.assert_close(ours, source.network(a[:, :3].contiguous(), cards, b).q)

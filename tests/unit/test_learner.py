"""The step against the same step in plain autograd, and promises against code that breaks them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, parameters_to_vector

from agent import advantage, checkpoint, objective
from agent import learner as module
from agent.advantage import advantage_weights
from agent.checkpoint import CheckpointError
from agent.gradients import ActorGradients
from agent.learner import Learner
from agent.networks import QNetwork
from agent.replay import Batch
from agent.values import ScalarValues
from protocol.actor import Actor
from protocol.spaces import GameSpec, Head, Observation
from tests.support.learner import (
    DQN,
    EXPERT,
    HYBRID,
    SEVERAL,
    SIZE,
    NoReadBack,
    batch_of,
    learner_of,
    spec_of,
)
from tests.support.tensors import DispatchMode, assert_close


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


class AutogradReference:
    """The same learner as a textbook has it: autograd, one loss, torch's own clipping, and Adam
    (Kingma and Ba, 2015, algorithm 1)."""

    def __init__(self, learner: Learner, spec: GameSpec) -> None:
        self.spec, self.c, self.a = spec, learner._config, learner._advantage
        self.net, self.target = QNetwork(spec, self.c), QNetwork(spec, self.c)
        self.net.load_state_dict(learner.network.state_dict())
        self.target.load_state_dict(learner.target.state_dict())
        # Not torch.optim.Adam: making one imports torch's compiler, a second and more.
        self.moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in self.net.parameters()]
        self.updates = 0

    def loss(self, batch: Batch, only: int | None = None) -> Tensor:
        """The loss of the batch, or the part of it that one actor's rows have."""
        n, rows = len(batch), torch.arange(len(batch))
        out = self.net(batch.states[0])
        with torch.no_grad():
            ahead, chooser = self.target(batch.next_states[0]), self.net(batch.next_states[0])
        sizes = [head.n for head in self.spec.discrete]
        if sizes:
            pairs = zip(chooser.q.split(sizes, 1), ahead.q.split(sizes, 1), strict=True)
            future = sum(judge[rows, pick.argmax(1)] for pick, judge in pairs) / len(sizes)
            y = batch.returns + batch.discounts * future
            td = [
                q[rows, choice] - y
                for q, choice in zip(out.q.split(sizes, 1), batch.discrete.T, strict=True)
            ]
        else:
            td = [out.value - (batch.returns + batch.discounts * ahead.value)]
        huber = sum(
            F.huber_loss(e, torch.zeros(n), reduction="none", delta=self.c.huber_delta) for e in td
        ) / len(td)
        columns = list(self.spec.continuous_columns)
        half = torch.tensor(self.spec.high[columns] - self.spec.low[columns]) / 2
        square = ((out.continuous - batch.continuous) / half).square().sum(1) / max(len(columns), 1)

        a = self.a
        w = advantage_weights(
            batch.rewards, batch.actors, beta=a.beta, clip=a.clip, mode=a.mode,
            weight_min=a.weight_min, weight_max=a.weight_max,
        )  # fmt: skip
        if a.normalize:
            for actor in (DQN, EXPERT):
                w[batch.actors == actor] /= w[batch.actors == actor].mean()
        factor = torch.ones(n)
        for name, value in a.actor_factor.items():
            factor[batch.actors == Actor[name.upper()]] = value
        huber = huber * (w if "td" in a.applies_to else 1)
        square = square * (w if "continuous" in a.applies_to else 1)
        row = factor * (huber + self.c.continuous_weight * square)
        return (row if only is None else row[batch.actors == only]).sum() / n

    def gradient(self, batch: Batch, only: int | None = None) -> Tensor:
        parts = torch.autograd.grad(self.loss(batch, only), list(self.net.parameters()))
        return parameters_to_vector(parts)

    def step(self, batch: Batch) -> None:
        self.net.zero_grad()
        self.loss(batch).backward()
        clip_grad_norm_(self.net.parameters(), self.c.grad_clip_norm)
        self.updates += 1
        with torch.no_grad():
            for p, (mean, square) in zip(self.net.parameters(), self.moments, strict=True):
                mean += (1 - 0.9) * (p.grad - mean)
                square += (1 - 0.999) * (p.grad.square() - square)
                root = (square / (1 - 0.999**self.updates)).sqrt() + self.c.adam_eps
                p -= self.c.learning_rate * mean / (1 - 0.9**self.updates) / root
            for t, p in zip(self.target.parameters(), self.net.parameters(), strict=True):
                if self.c.target == "soft":
                    t += self.c.target_tau * (p - t)
                elif self.updates % self.c.target_every == 0:
                    t.copy_(p)


def parameters_of(network: nn.Module) -> Tensor:
    return parameters_to_vector(network.parameters()).detach().clone()


def max_parameter_difference(spec: GameSpec, learner: Learner, steps: int = 5) -> float:
    """How far learner and reference are apart after some steps, online or target network."""
    # As if they had parted for long: otherwise it would matter little which of them is asked.
    noise = torch.randn(len(learner._target_vector), generator=torch.Generator().manual_seed(9))
    learner._target_vector += 0.3 * noise
    reference = AutogradReference(learner, spec)
    start = parameters_of(learner.network)
    for i in range(steps):
        batch = batch_of(spec, seed=i)
        learner.step(batch)
        reference.step(batch)
    assert (parameters_of(learner.network) - start).abs().max() > 0.01
    online = (parameters_of(learner.network) - parameters_of(reference.net)).abs().max()
    target = (parameters_of(learner.target) - parameters_of(reference.target)).abs().max()
    return float(max(online, target))


@pytest.mark.parametrize(
    ("actions", "advantage", "settings"),
    [
        (HYBRID, {}, {}),
        (HYBRID, {"mode": "global"}, {"target": "hard", "target_every": 2}),
        (HYBRID, {"applies_to": ("td", "continuous"), "normalize": True}, {"huber_delta": 0.3}),
        (HYBRID, {"mode": "off", "actor_factor": {"dqn": 0.5, "expert": 2.0}}, {}),
        (HYBRID, {"applies_to": ("td",)}, {"grad_clip_norm": 0.1, "continuous_weight": 0.25}),
        (HYBRID[:1], {"applies_to": ("td",)}, {"target": "hard", "target_every": 3}),
        (HYBRID[:1], {}, {}),
        (HYBRID[1:], {}, {"grad_norm_every": 1}),
        (SEVERAL, {"actor_factor": {"expert": 0.0}}, {"grad_norm_every": 1, "hidden": (16,)}),
        (SEVERAL, {"applies_to": ("td", "continuous")}, {"adam_eps": 1e-3}),
    ],
)
def test_step_matches_autograd_reference(
    actions: tuple[Head, ...], advantage: dict[str, Any], settings: dict[str, Any]
) -> None:
    spec = spec_of(actions)
    assert max_parameter_difference(spec, learner_of(spec, advantage=advantage, **settings)) < 2e-4


def shuffled(rewards: Tensor, actors: Tensor, **settings: Any) -> Tensor:
    return advantage_weights(rewards, actors, **settings).roll(1)


def of_the_other(rewards: Tensor, actors: Tensor, **settings: Any) -> Tensor:
    """Each row scored with the other actor's mean and deviation."""
    z = torch.empty_like(rewards)
    for actor in (DQN, EXPERT):
        other = rewards[actors != actor]
        z[actors == actor] = (rewards[actors == actor] - other.mean()) / other.std()
    return (settings["beta"] * z.clamp(-3, 3)).exp()


def together(rewards: Tensor, actors: Tensor, **settings: Any) -> Tensor:
    return advantage_weights(rewards, actors, **(settings | {"mode": "global"}))


def never(*_: Any) -> None:
    """No update at all."""


def at_once(target: list[Tensor], online: list[Tensor], _tau: float) -> None:
    """A target network that is the online network."""
    target[0].copy_(online[0])


def plain_dqn(value: Tensor, *_: Any) -> Tensor:
    """The target network chooses by itself."""
    return value.amax(1, keepdim=True)


def unending(_values: ScalarValues, r: Tensor, _discount: Tensor, z: Tensor) -> Tensor:
    """Terminal rows bootstrap too."""
    return (r + 0.97 * z.mean(1))[:, None]


def unclipped(norm: Tensor, _max_norm: float) -> Tensor:
    return torch.ones_like(norm)


@pytest.mark.parametrize(
    ("where", "name", "wrong"),
    [
        (advantage, "advantage_weights", shuffled),
        (advantage, "advantage_weights", of_the_other),
        (advantage, "advantage_weights", together),
        (module, "soft_update", never),
        (module, "soft_update", at_once),
        (objective, "double_dqn", plain_dqn),
        (ScalarValues, "targets", unending),
        (module, "shortening", unclipped),
    ],
)
def test_autograd_comparison_with_broken_part_finds_difference(
    where: Any, name: str, wrong: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of()
    monkeypatch.setattr(where, name, wrong)
    learner = learner_of(spec, grad_clip_norm=0.5, target_tau=0.1)
    assert max_parameter_difference(spec, learner) > 1e-3


def test_step_in_chunks_gives_same_gradient_and_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_of(SEVERAL)
    found = []
    for rows in (1000, 7):
        monkeypatch.setattr(module, "CPU_ROWS", rows)
        learner = learner_of(spec, grad_norm_every=1)
        learner.step(batch_of(spec))
        found.append((learner._gradients.total.clone(), learner.metrics()))
    assert_close(found[0][0], found[1][0], rtol=1e-4, atol=1e-6)
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-4)


class MatmulCounter(DispatchMode):
    """Counts the multiplications of all matrix products."""

    def __init__(self) -> None:
        super().__init__()
        self.multiplications = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__.partition(".")[0]
        if name in ("linear", "matmul", "mm", "addmm", "addmm_"):
            left, right = args[1:] if name.startswith("addmm") else args[:2]
            columns = right.shape[0] if name == "linear" else right.shape[1:].numel()
            self.multiplications += left.numel() * columns
        else:
            assert not any(other in name for other in ("mm", "mv", "conv", "dot"))
        return func(*args, **(kwargs or {}))


def test_step_costs_three_forward_passes_and_one_backward() -> None:
    """And the backward pass without the gradient of the observations."""
    spec = spec_of(size=40)
    hidden = (64, 48)
    widths = (40, *hidden, 1 + 4 + 1)
    layers = [a * b for a, b in pairwise(widths)]
    rows, expected = 32, {}
    expected["plain"] = rows * (3 * sum(layers) + sum(layers) + sum(layers[1:]))
    expected["norms"] = expected["plain"] + rows * (sum(layers) + sum(layers[1:]))
    learner = learner_of(spec, hidden=hidden, grad_norm_every=2)
    for case in ("norms", "plain"):
        with MatmulCounter() as products:
            learner.step(batch_of(spec, rows))
        # Beside them only the heads' small products and the sums of the metrics.
        assert expected[case] <= products.multiplications <= expected[case] * 1.02, case


def test_metrics_match_values_computed_from_batch() -> None:
    spec = spec_of(SEVERAL)
    learner = learner_of(spec, grad_norm_every=1)
    reference, batch = AutogradReference(learner, spec), batch_of(spec)
    with torch.no_grad():
        out, ahead = reference.net(batch.states[0]), reference.target(batch.next_states[0])
        chooser = reference.net(batch.next_states[0])
    rows, sizes = torch.arange(64), [3, 5]
    pairs = zip(chooser.q.split(sizes, 1), ahead.q.split(sizes, 1), strict=True)
    future = sum(judge[rows, pick.argmax(1)] for pick, judge in pairs) / 2
    q = torch.stack(
        [part[rows, c] for part, c in zip(out.q.split(sizes, 1), batch.discrete.T, strict=True)], 1
    )
    td = (q - (batch.returns + batch.discounts * future)[:, None]).abs().mean(1)
    weights = advantage_weights(batch.rewards, batch.actors)
    expected = {"loss": reference.loss(batch).item(), "td_err_mean": td.mean().item()}
    expected["grad_norm"] = reference.gradient(batch).norm().item()
    for name, actor in (("dqn", DQN), ("expert", EXPERT)):
        own = batch.actors == actor
        w = weights[own]
        expected |= {
            f"batch_n_{name}": own.sum().item(),
            f"td_err_mean_{name}": td[own].mean().item(),
            f"q_mean_{name}": q[own].mean().item(),
            f"reward_mean_{name}": batch.rewards[own].mean().item(),
            f"weight_mean_{name}": w.mean().item(),
            f"weight_ess_{name}": (w.sum() ** 2 / (len(w) * (w * w).sum())).item(),
            f"grad_norm_{name}": reference.gradient(batch, actor).norm().item(),
        }
    learner.step(batch)
    found = learner.metrics()
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-4)
    assert found["batch_frac_dqn"] == pytest.approx((batch.actors == DQN).float().mean().item())


def test_metrics_with_swapped_actor_tags_are_swapped() -> None:
    spec = spec_of()
    batch = batch_of(spec)
    found = []
    for one in (batch, replace(batch, actors=3 - batch.actors)):
        learner = learner_of(spec)
        learner.step(one)
        found.append(learner.metrics())
    for name in ("batch_n", "td_err_mean", "q_mean", "reward_mean", "weight_mean", "grad_norm"):
        dqn, expert = found[0][f"{name}_dqn"], found[0][f"{name}_expert"]
        assert dqn != pytest.approx(expert, rel=1e-3), name
        assert found[1][f"{name}_expert"] == pytest.approx(dqn, rel=1e-4), name


def test_grad_norms_every_kth_update_do_not_change_step() -> None:
    spec = spec_of()
    batch = batch_of(spec)
    rare, often = learner_of(spec, grad_norm_every=3), learner_of(spec, grad_norm_every=1)
    norms = []
    for _ in range(4):
        rare.step(batch)
        often.step(batch)
        norms.append(rare.metrics()["grad_norm_dqn"])
    assert norms[0] == norms[1] == norms[2] != norms[3]
    assert_close(parameters_of(rare.network), parameters_of(often.network), rtol=1e-4, atol=1e-4)


def test_actor_factor_zero_removes_actor_from_gradient() -> None:
    spec = spec_of()
    batch = batch_of(spec)
    expert = (batch.actors == EXPERT)[:, None]
    other = replace(
        batch,
        states=(torch.where(expert, batch.states[0] * 5, batch.states[0]),),
        continuous=torch.where(expert, -batch.continuous, batch.continuous),
        returns=torch.where(expert[:, 0], batch.returns + 100, batch.returns),
    )
    after = []
    for one in (batch, other):
        learner = learner_of(
            spec, grad_norm_every=1, advantage={"actor_factor": {"expert": 0.0}, "mode": "off"}
        )
        learner.step(one)
        assert learner.metrics()["grad_norm_expert"] == 0
        assert learner.metrics()["grad_norm_dqn"] > 0
        after.append(parameters_of(learner.network))
    assert_close(after[0], after[1], rtol=0, atol=1e-7)
    learner = learner_of(spec, advantage={"mode": "off"})
    learner.step(other)
    assert (parameters_of(learner.network) - after[1]).abs().max() > 1e-3


def test_advantage_per_actor_keeps_weight_of_dqn_rows() -> None:
    """The worked example: rewards near 0.3 and 0.8. How much of the regression's gradient is the
    student's, beside what its three rows in four would give it?"""
    spec = spec_of(HYBRID[1:])
    batch = batch_of(spec, 800)
    student = torch.arange(800) < 600
    scores = torch.randn(800, generator=torch.Generator().manual_seed(5))
    batch = replace(
        batch,
        actors=torch.where(student, DQN, EXPERT),
        rewards=torch.where(student, 0.3, 0.8) + 0.12 * scores,
        returns=torch.zeros(800),
        discounts=torch.zeros(800),
        # Both play alike, so that only the weights tell them apart.
        continuous=torch.full((800, 1), 0.5),
    )
    ratio = {}
    for mode in ("off", "per_actor", "global"):
        learner = learner_of(spec, advantage={"mode": mode}, grad_norm_every=1)
        learner.step(batch)
        found = learner.metrics()
        ratio[mode] = found["weight_mean_dqn"] / found["weight_mean_expert"]
        ratio[mode + " gradient"] = found["grad_norm_dqn"] / found["grad_norm_expert"]
    assert ratio["off"] == 1
    assert ratio["per_actor"] == pytest.approx(1, rel=0.5)
    assert ratio["global"] < 0.12
    assert ratio["off gradient"] == pytest.approx(3, rel=0.3)
    assert ratio["per_actor gradient"] > 1.5
    assert ratio["global gradient"] < 0.5


def test_step_does_not_synchronize_with_device(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_of(SEVERAL)
    learner = learner_of(spec, grad_norm_every=2, advantage={"normalize": True})
    batch = batch_of(spec)
    learner.step(batch)
    with NoReadBack() as mode:
        learner.step(batch)
        learner.step(batch)
    assert mode.operations > 100
    norm = ActorGradients.norm
    monkeypatch.setattr(ActorGradients, "norm", lambda self: torch.tensor(norm(self).item()))
    with pytest.raises(AssertionError, match="waits"), NoReadBack():
        learner.step(batch)


def test_step_on_batch_of_one_actor_has_nan_metrics_for_other() -> None:
    spec = spec_of()
    batch = replace(batch_of(spec), actors=torch.full((64,), EXPERT))
    learner = learner_of(spec)
    learner.step(batch)
    found = learner.metrics()
    assert found["batch_frac_dqn"] == 0
    assert math.isnan(found["td_err_mean_dqn"])
    assert math.isnan(found["grad_norm_dqn"])
    assert parameters_of(learner.network).isfinite().all()


def test_step_on_uint8_observations_has_positive_loss() -> None:
    spec = GameSpec("p", Observation("uint8", (4, 4)), HYBRID)
    batch = batch_of(spec)
    states = torch.randint(0, 256, (2, 64, 4, 4), dtype=torch.uint8)
    learner = learner_of(spec)
    learner.step(replace(batch, states=(states[0],), next_states=(states[1],)))
    assert learner.metrics()["loss"] > 0


def test_learner_finds_best_choice_and_imitates_better_actions() -> None:
    """One state. Choice 2 pays; the student's actions near 0.6 pay more than those near -0.2."""
    spec = spec_of()
    g = torch.Generator().manual_seed(3)
    learner = learner_of(spec, learning_rate=3e-3, advantage={"beta": 3.0})
    plain = learner_of(spec, learning_rate=3e-3, advantage={"mode": "off"})
    state = torch.ones(1, SIZE)
    for i in range(150):
        batch = batch_of(spec, 64, seed=i)
        good = torch.rand(64, generator=g) < 0.5
        batch = replace(
            batch,
            states=(state.expand(64, SIZE),),
            discounts=torch.zeros(64),
            returns=(batch.discrete[:, 0] == 2).float(),
            actors=torch.full((64,), DQN),
            rewards=good.float(),
            continuous=torch.where(good, 0.6, -0.2)[:, None],
        )
        learner.step(batch)
        plain.step(batch)
    choice, aim = learner.network.greedy(state)[0].tolist()
    assert choice == 2
    assert aim == pytest.approx(0.6, abs=0.05)
    assert plain.network.greedy(state)[0, 1].item() == pytest.approx(0.2, abs=0.1)
    with torch.inference_mode():
        assert learner.network(state).q[0].tolist() == pytest.approx([0, 0, 1, 0], abs=0.1)


@pytest.mark.parametrize("settings", [{"target": "soft", "target_tau": 0.5}, {"target": "hard"}])
def test_learner_loaded_from_checkpoint_continues_identically(
    tmp_path: Any, settings: dict[str, Any]
) -> None:
    spec = spec_of(SEVERAL)
    settings |= {"target_every": 4}
    first = learner_of(spec, **settings)
    for i in range(3):
        first.step(batch_of(spec, seed=i))
    path = tmp_path / "update.pt"
    checkpoint.save(path, first.state_dict())
    second = learner_of(spec, seed=99, **settings)
    second.load_state_dict(checkpoint.load(path))
    assert second.updates == 3
    for i in range(3, 6):
        first.step(batch_of(spec, seed=i))
        second.step(batch_of(spec, seed=i))
    assert torch.equal(parameters_of(first.network), parameters_of(second.network))
    assert torch.equal(parameters_of(first.target), parameters_of(second.target))


def test_state_dict_is_a_copy_without_settings() -> None:
    spec = spec_of()
    learner = learner_of(spec)
    untouched = learner.state_dict()
    assert untouched["adam"] == {}
    learner.step(batch_of(spec))
    state = learner.state_dict()
    kept = {name: tensor.clone() for name, tensor in state["network"].items()}
    learner.step(batch_of(spec))
    assert all(torch.equal(state["network"][name], tensor) for name, tensor in kept.items())
    slow = learner_of(spec, learning_rate=1e-9)
    slow.load_state_dict(state)
    before = parameters_of(slow.network)
    slow.step(batch_of(spec))
    assert (parameters_of(slow.network) - before).abs().max() < 1e-7
    slow.load_state_dict(untouched)
    assert slow.updates == 0


def test_load_state_dict_of_other_network_shape_raises() -> None:
    other = learner_of(spec_of(), hidden=(32, 8)).state_dict()
    with pytest.raises(CheckpointError, match=r"hidden is \[16, 8\], and was \[32, 8\] there"):
        learner_of(spec_of()).load_state_dict(other)


def test_policy_vector_is_copy_of_network_parameters() -> None:
    spec = spec_of()
    learner = learner_of(spec)
    before = learner.policy_vector()
    assert torch.equal(before, parameters_of(learner.network))
    learner.step(batch_of(spec))
    assert torch.equal(learner.policy_vector(), parameters_of(learner.network))
    assert not torch.equal(before, learner.policy_vector())


def test_seed_fixes_initial_weights_and_leaves_global_rng() -> None:
    spec = spec_of()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, same, other = (learner_of(spec, seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(one.policy_vector(), same.policy_vector())
    assert not torch.equal(one.policy_vector(), other.policy_vector())
    assert torch.equal(parameters_of(one.target), one.policy_vector())


def test_batch_lines_every_100_steps_give_actor_shares() -> None:
    spec = spec_of()
    batch = batch_of(spec, 4)
    learner = learner_of(spec)
    for _ in range(99):
        learner.step(replace(batch, actors=torch.tensor([DQN] * 4)))
    assert learner.batch_lines() == []
    learner.step(replace(batch, actors=torch.tensor([EXPERT, DQN, EXPERT, EXPERT])))
    assert learner.batch_lines() == ["[BATCH] Step 100: 1 DQN (25.0%) / 3 expert (75.0%)"]


def test_step_with_overflowing_batch_is_skipped_and_reported() -> None:
    spec = spec_of()
    learner = learner_of(spec)
    good, wild = batch_of(spec), batch_of(spec)
    wild.states[0][3] = 3e38
    before = parameters_of(learner.network)
    learner.step(wild)
    assert torch.equal(parameters_of(learner.network), before)
    assert not math.isfinite(learner.metrics()["grad_norm"])
    learner.step(good)
    assert parameters_of(learner.network).isfinite().all()
    assert not torch.equal(parameters_of(learner.network), before)
    assert math.isfinite(learner.metrics()["grad_norm"])


def test_same_settings_again_leave_captured_updates_valid_and_others_do_not() -> None:
    learner = learner_of(spec_of())
    given = learner._config, learner._advantage, learner._imitation
    before = learner.configured
    learner.configure(*(each.model_copy(deep=True) for each in given))
    assert learner.configured == before
    others = (
        given[0].model_copy(update={"learning_rate": 0.5}),
        given[1].model_copy(update={"mode": "off"}),
        given[2].model_copy(update={"taken": 0.7}),
    )
    for i, other in enumerate(others):
        learner.configure(*given[:i], other, *given[i + 1 :])
        assert learner.configured == before + 1 + i

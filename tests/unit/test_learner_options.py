"""Each option of the learner: its gradient against autograd over a loss written out in full."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from agent.advantage import advantage_weights
from agent.learner import Learner
from agent.losses import POLICY_SCALE
from agent.networks import QNetwork
from agent.replay import Batch
from config.models import AdvantageConfig, ImitationConfig, LearnerConfig, Schedule
from protocol.actor import Actor
from protocol.spaces import Continuous, Discrete, GameSpec, Head, Observation
from tests.support.learner import HYBRID, NO_CLONING, SEVERAL, NoReadBack, batch_of, spec_of
from tests.support.tensors import assert_close

CLONING = Schedule(start=2.0, end=0.0, frames=100)
EXPERT = int(Actor.EXPERT)


def learner_of(
    spec: GameSpec,
    learner: dict[str, Any] | None = None,
    advantage: dict[str, Any] | None = None,
    imitation: dict[str, Any] | None = None,
) -> Learner:
    settings = {"hidden": (16, 8), "grad_clip_norm": 1e9, "normalize_values": False}
    settings |= learner or {}
    made = Learner(
        spec,
        LearnerConfig(**settings),
        AdvantageConfig(**({"mode": "off"} | (advantage or {}))),
        ImitationConfig(**({"expert": NO_CLONING.expert} | (imitation or {}))),
        device="cpu",
        seed=1,
    )
    noise = torch.Generator().manual_seed(9)
    for flat in (made._target_vector, made._vector.data):
        flat += 0.3 * torch.randn(len(flat), generator=noise)
    return made


def autograd_gradient(
    spec: GameSpec, learner: Learner, loss: Callable[[QNetwork, QNetwork], Tensor]
) -> Tensor:
    """That of the mean of `loss(online, target)` over rows, by autograd."""
    online, target = QNetwork(spec, learner._config), QNetwork(spec, learner._config)
    online.load_state_dict(learner.network.state_dict())
    target.load_state_dict(learner.target.state_dict())
    parameters = list(online.parameters())
    parts = torch.autograd.grad(loss(online, target).mean(), parameters)
    return parameters_to_vector(parts)


def check_gradient(
    spec: GameSpec,
    loss: Callable[[Batch, QNetwork, QNetwork], Tensor],
    *,
    cloning: float | None = None,
    batch: Batch | None = None,
    **settings: dict[str, Any],
) -> Learner:
    """The gradient of a step is that of `loss`, which gives a number for each row."""
    learner = learner_of(spec, **settings)
    batch = batch or batch_of(spec)
    expected = autograd_gradient(spec, learner, lambda online, target: loss(batch, online, target))
    kept: list[Tensor] = []
    gradients = learner._gradients
    norm = gradients.norm

    def keep() -> Tensor:
        kept.append(gradients.total.clone())
        return norm()

    gradients.norm = keep  # type: ignore[method-assign]
    learner.step(batch, cloning)
    assert expected.abs().max() > 1e-3
    assert_close(kept[0], expected, rtol=1e-3, atol=1e-5)
    return learner


def q_of_choice(q: Tensor, batch: Batch) -> Tensor:
    return q[torch.arange(len(batch)), batch.discrete[:, 0]]


def double_dqn_target(batch: Batch, online: QNetwork, target: QNetwork) -> Tensor:
    """The target of a game with one discrete head."""
    with torch.no_grad():
        choice = online(batch.next_states[0]).q.argmax(1, keepdim=True)
        future = target(batch.next_states[0]).q.gather(1, choice)[:, 0]
    return batch.returns + batch.discounts * future


def td_loss(batch: Batch, online: QNetwork, target: QNetwork) -> Tensor:
    q = q_of_choice(online(batch.states[0]).q, batch)
    return F.huber_loss(q, double_dqn_target(batch, online, target), reduction="none")


DISCRETE: tuple[Head, ...] = (Discrete("fire", 4),)


def test_gradient_with_importance_weights_matches_autograd() -> None:
    spec = spec_of(DISCRETE)
    batch = batch_of(spec)
    batch = replace(batch, importance=torch.linspace(0.1, 1, len(batch)))

    def loss(batch: Batch, online: QNetwork, target: QNetwork) -> Tensor:
        return batch.importance * td_loss(batch, online, target)

    learner = check_gradient(spec, loss, batch=batch)
    assert learner.updates == 1


def test_step_returns_td_error_of_each_row() -> None:
    spec = spec_of(DISCRETE)
    learner, batch = learner_of(spec), batch_of(spec)
    with torch.no_grad():
        wanted = double_dqn_target(batch, learner.network, learner.target)
        expected = (wanted - q_of_choice(learner.network(batch.states[0]).q, batch)).abs()
    assert_close(learner.step(batch), expected, rtol=1e-4, atol=1e-5)


def cloning_loss(batch: Batch, online: QNetwork) -> Tensor:
    """Cross entropy with the expert's choice, on its rows alone."""
    entropy = F.cross_entropy(
        online(batch.states[0]).q / 0.5, batch.discrete[:, 0], reduction="none"
    )
    return entropy * (batch.actors == EXPERT)


@pytest.mark.parametrize(("given", "weight"), [(None, 2.0), (0.5, 0.5), (0.0, 0.0)])
def test_cloning_cross_entropy_has_weight_given_or_that_of_begin(
    given: float | None, weight: float
) -> None:
    def loss(batch: Batch, online: QNetwork, target: QNetwork) -> Tensor:
        return td_loss(batch, online, target) + weight * cloning_loss(batch, online)

    check_gradient(
        spec_of(DISCRETE),
        loss,
        cloning=given,
        imitation={
            "expert": CLONING,
            "rows": "expert",
            "loss": "cross_entropy",
            "temperature": 0.5,
        },
    )


def test_cloning_with_margin_also_trains_continuous_heads() -> None:
    spec = spec_of(HYBRID)

    def loss(batch: Batch, online: QNetwork, target: QNetwork) -> Tensor:
        out = online(batch.states[0])
        margin = torch.full_like(out.q, 0.3).scatter(1, batch.discrete, 0.0)
        above = (out.q + margin).amax(1) - q_of_choice(out.q, batch)
        off = ((out.continuous - batch.continuous)[:, 0] / 0.9) ** 2
        cloned = 2.0 * (batch.actors == EXPERT)
        return td_loss(batch, online, target) + off + cloned * (above + off)

    check_gradient(spec, loss, imitation={"expert": CLONING, "margin": 0.3})


def test_imitation_of_taken_actions_is_weighted_by_return_advantage() -> None:
    def loss(batch: Batch, online: QNetwork, target: QNetwork) -> Tensor:
        weights = advantage_weights(batch.returns, batch.actors, beta=0.7)
        q = online(batch.states[0]).q
        entropy = F.cross_entropy(q, batch.discrete[:, 0], reduction="none")
        return td_loss(batch, online, target) + 0.25 * weights * entropy

    check_gradient(
        spec_of(DISCRETE),
        loss,
        imitation={"taken": 0.25},
        advantage={"mode": "per_actor", "signal": "return", "beta": 0.7},
    )


def test_critic_advantage_of_discrete_action_is_q_minus_max_q() -> None:
    """Q(s, a) - V(s), V that of the best choice."""

    def loss(batch: Batch, online: QNetwork, target: QNetwork) -> Tensor:
        q = online(batch.states[0]).q
        advantage = (q_of_choice(q, batch) - q.amax(1)).detach()
        weights = advantage_weights(advantage, batch.actors)
        entropy = F.cross_entropy(q, batch.discrete[:, 0], reduction="none")
        return td_loss(batch, online, target) + weights * entropy

    advantage = {"mode": "per_actor", "signal": "critic"}
    check_gradient(spec_of(DISCRETE), loss, imitation={"taken": 1.0}, advantage=advantage)


def test_critic_advantage_of_continuous_action_is_target_minus_max_q() -> None:
    """Q does not see it: what it led to stands for its worth."""

    def loss(batch: Batch, online: QNetwork, target: QNetwork) -> Tensor:
        out, wanted = online(batch.states[0]), double_dqn_target(batch, online, target)
        weights = advantage_weights((wanted - out.q.amax(1)).detach(), batch.actors)
        off = ((out.continuous - batch.continuous)[:, 0] / 0.9) ** 2
        return td_loss(batch, online, target) + weights * off

    check_gradient(spec_of(HYBRID), loss, advantage={"mode": "per_actor", "signal": "critic"})


def test_continuous_bins_are_trained_as_discrete_branches() -> None:
    spec = spec_of((Discrete("fire", 3), Continuous("aim", -1.0, 1.0, 2)))
    batch = batch_of(spec)
    # 5 bins: -1, -0.5, 0, 0.5, 1.
    nearest = (batch.continuous * 2).round().long() + 2
    taken = torch.cat((batch.discrete, nearest), 1)

    def loss(batch: Batch, online: QNetwork, target: QNetwork) -> Tensor:
        def heads(network: QNetwork, obs: Tensor) -> tuple[Tensor, ...]:
            return network(obs).q.split([3, 5, 5], 1)

        with torch.no_grad():
            ahead = heads(target, batch.next_states[0])
            picks = [q.argmax(1, keepdim=True) for q in heads(online, batch.next_states[0])]
            future = torch.cat([q.gather(1, i) for q, i in zip(ahead, picks, strict=True)], 1)
        wanted = batch.returns + batch.discounts * future.mean(1)
        q = heads(online, batch.states[0])
        of = [head.gather(1, taken[:, i : i + 1])[:, 0] for i, head in enumerate(q)]
        return sum(F.huber_loss(each, wanted, reduction="none") for each in of) / 3  # type: ignore[return-value]

    learner = check_gradient(spec, loss, learner={"continuous": "bins", "bins": 5}, batch=batch)
    network = learner.network
    out = network(batch.states[0])
    best = torch.stack([q.argmax(1) for q in out.q.split([3, 5, 5], 1)], 1)
    assert_close(out.continuous, best[:, 1:] * 0.5 - 1)
    rows = network.greedy(batch.states[0])
    assert_close(rows, torch.cat((best[:, :1].float(), out.continuous), 1))


def test_policy_gradient_raises_q_without_changing_critic() -> None:
    """Game with one continuous head: the critic learns by TD at the actions taken, the policy by
    the gradient of Q by its action."""
    spec = spec_of((Continuous("aim", -2.0, 2.0, 1),))

    def loss(batch: Batch, online: QNetwork, target: QNetwork) -> Tensor:
        def worth(network: QNetwork, obs: Tensor, squashed: Tensor, frozen: bool = False) -> Tensor:
            return network.head_outputs(network.encode(obs), squashed, frozen=frozen)[:, 0]

        def chosen(network: QNetwork, obs: Tensor) -> Tensor:
            x = network.encode(obs)
            for layer in network.policy[:-1]:
                x = torch.relu(layer(x))
            return torch.tanh(network.policy[-1](x))

        with torch.no_grad():
            next_action = chosen(target, batch.next_states[0])
            future = worth(target, batch.next_states[0], next_action)
            wanted = batch.returns + batch.discounts * future
        td = F.huber_loss(
            worth(online, batch.states[0], batch.continuous / 2), wanted, reduction="none"
        )
        climbed = worth(online, batch.states[0], chosen(online, batch.states[0]), frozen=True)
        return td - climbed / (climbed.detach().abs().mean() + POLICY_SCALE)

    learner = check_gradient(spec, loss, learner={"continuous": "gradient"})
    learner.step(batch_of(spec))
    shares = learner.metrics()
    assert shares["grad_share_dqn"] + shares["grad_share_expert"] == pytest.approx(1)


@pytest.mark.parametrize("value", ["c51", "quantile"])
def test_distributional_loss_gradient_matches_autograd(value: str) -> None:
    spec = spec_of(DISCRETE)
    settings = {"value": value, "atoms": 7, "value_min": -3.0, "value_max": 3.0}

    def loss(batch: Batch, online: QNetwork, target: QNetwork) -> Tensor:
        rows = torch.arange(len(batch))

        def z(network: QNetwork, obs: Tensor) -> Tensor:
            x = network.encode(obs)
            for layer in network.trunk:
                x = torch.relu(layer(x))
            x = network.heads(x).view(len(obs), 5, 7)
            return x[:, :1] + x[:, 1:] - x[:, 1:].mean(1, keepdim=True)

        with torch.no_grad():
            choice = online(batch.next_states[0]).q.argmax(1)
            ahead = z(target, batch.next_states[0])[rows, choice][:, None]
            wanted = online.values.targets(batch.returns, batch.discounts, ahead)
        taken = z(online, batch.states[0])[rows, batch.discrete[:, 0]]
        return online.values.loss(taken[:, None], wanted)[0][:, 0]

    check_gradient(spec, loss, learner=settings)


@pytest.mark.parametrize("value", ["scalar", "c51", "quantile"])
@pytest.mark.parametrize("continuous", ["regression", "gradient", "bins"])
@pytest.mark.parametrize("actions", [HYBRID, SEVERAL, HYBRID[:1], HYBRID[1:]])
def test_step_with_all_options_does_not_synchronize_and_plays(
    value: str, continuous: str, actions: tuple[Head, ...]
) -> None:
    spec = spec_of(actions)
    learner = learner_of(
        spec,
        learner={"value": value, "continuous": continuous, "normalize_observations": True},
        advantage={
            "mode": "per_actor",
            "signal": "critic",
            "applies_to": ("continuous", "imitation", "td"),
        },
        imitation={"expert": CLONING, "taken": 1.0},
    )
    batch = batch_of(spec)
    learner.observe(batch.states[0].numpy())
    before = learner.policy_vector()
    with NoReadBack():
        for _ in range(2):
            errors = learner.step(batch)
    assert errors.shape == (len(batch),)
    assert errors.isfinite().all()
    assert (learner.policy_vector() - before).abs().max() > 1e-5
    rows = learner.network.greedy(batch.states[0]).numpy()
    spec.check_action_rows(rows)
    assert all(np.isfinite(v) for k, v in learner.metrics().items())


def test_configure_between_steps_takes_effect() -> None:
    spec = spec_of(HYBRID)
    batch = batch_of(spec)
    learner = learner_of(spec)
    learner.step(batch)
    config = learner._config.model_copy(update={"learning_rate": 1e-9})
    on = AdvantageConfig(applies_to=("td",), actor_factor={"expert": 0.0})
    learner.configure(config, on, ImitationConfig())
    before = learner.policy_vector()
    learner.metrics()
    learner.step(batch)
    assert (learner.policy_vector() - before).abs().max() < 1e-7
    found = learner.metrics()
    assert found["weight_ess_dqn"] < 0.9
    assert found["learning_rate"] == 1e-9


def test_observation_normalization_gives_zero_mean_unit_deviation() -> None:
    spec = spec_of(DISCRETE)
    learner = learner_of(spec, learner={"normalize_observations": True})
    batch = batch_of(spec)
    rng = np.random.default_rng(0)
    seen = rng.normal(5, [1, 2, 3, 4, 5, 6], (500, 6)).astype(np.float32)
    learner.observe(seen[:100])
    learner.observe(seen[100:])
    shown = learner.network.encode(torch.from_numpy(seen))
    assert shown.mean(0).tolist() == pytest.approx([0] * 6, abs=1e-4)
    assert shown.std(0).tolist() == pytest.approx([1] * 6, rel=1e-3)
    far = torch.full((1, 6), 1e6)
    assert learner.network.encode(far).tolist() == [[10.0] * 6]
    # It travels with the policy, is not trained, and is in the state.
    learner.step(batch)
    assert_close(learner.network.obs_mean.detach(), torch.tensor(seen.mean(0)))
    assert torch.equal(learner.policy_vector()[:6], learner.network.obs_mean.detach())
    assert torch.equal(learner.target.obs_scale, learner.network.obs_scale)
    other = learner_of(spec, learner={"normalize_observations": True})
    other.load_state_dict(learner.state_dict())
    assert other.statistics is not None
    assert (other.statistics.count == 500).all()
    assert torch.equal(other.network.obs_mean, learner.network.obs_mean)


def test_bfloat16_batches_pass_through_bfloat16_copies_of_both_networks() -> None:
    learner = learner_of(spec_of(HYBRID), learner={"precision": "bfloat16"})
    for network in (learner._objective._online, learner._objective._target):
        assert {p.dtype for p in network.parameters()} == {torch.bfloat16}
    for network in (learner.network, learner.target):
        assert {p.dtype for p in network.parameters()} == {torch.float32}
    online, target = learner._objective._online, learner._objective._target
    for half, whole in ((online, learner.network), (target, learner.target)):
        learner.step(batch_of(learner._spec))
        for each in learner._bfloat16_copies:
            each.refresh()
        for one, other in zip(half.parameters(), whole.parameters(), strict=True):
            assert torch.equal(one, other.to(torch.bfloat16))


def test_bfloat16_steps_stay_near_float32() -> None:
    spec = spec_of(HYBRID)
    vectors = []
    for precision in ("float32", "bfloat16"):
        learner = learner_of(spec, learner={"precision": precision, "learning_rate": 1e-2})
        start = learner.policy_vector()
        for i in range(3):
            learner.step(batch_of(spec, seed=i))
        vectors.append(learner.policy_vector())
    moved, apart = (vectors[0] - start).abs(), (vectors[0] - vectors[1]).abs()
    assert 0 < apart.mean() < 0.2 * moved.mean()
    assert learner.policy_vector().dtype == torch.float32


@pytest.mark.parametrize(
    ("shape", "frames"), [((12, 10), 1), ((40, 44), 4), ((3, 12, 12), 2), ((12, 12, 3), 2)]
)
def test_network_for_image_observations_has_convolutions(
    shape: tuple[int, ...], frames: int
) -> None:
    spec = GameSpec("p", Observation("uint8", shape), DISCRETE).checked()
    network = QNetwork(spec, LearnerConfig(hidden=(8,)), frame_stack=frames)
    assert network.looks[0].through == "convolutions"
    stacked = (6, frames, *shape) if frames > 1 else (6, *shape)
    obs = torch.randint(0, 256, stacked, dtype=torch.uint8)
    out = network(obs)
    assert out.q.shape == (6, 4)
    # Flat, as a gateway has it, is the same; so are colors first and last.
    assert_close(network(obs.flatten(1)).q, out.q)
    if shape[-1] == 3:
        first = GameSpec("p", Observation("uint8", (3, 12, 12)), DISCRETE).checked()
        other = QNetwork(first, LearnerConfig(hidden=(8,)), frame_stack=frames)
        other.load_state_dict(network.state_dict())
        assert_close(other(obs.movedim(-1, 2)).q, out.q)


@pytest.mark.parametrize(
    ("dtype", "shape", "trunk"),
    [
        ("float32", (12, 12), "auto"),
        ("uint8", (12, 12), "linear"),
        ("uint8", (4, 12), "auto"),
        ("uint8", (144,), "auto"),
        ("uint8", (9, 12, 12), "auto"),
    ],
)
def test_network_for_other_observations_has_no_convolutions(
    dtype: str, shape: tuple[int, ...], trunk: Any
) -> None:
    spec = GameSpec("p", Observation(dtype, shape), DISCRETE).checked()
    network = QNetwork(spec, LearnerConfig(hidden=(8,), trunk=trunk))
    assert network.looks[0].through == "layers"


def test_convolutional_network_learns_choice_from_images() -> None:
    """Which half is bright says which choice pays."""
    spec = GameSpec("p", Observation("uint8", (10, 10)), (Discrete("side", 2),)).checked()
    learner = Learner(
        spec, LearnerConfig(hidden=(16,), learning_rate=1e-3), AdvantageConfig(), NO_CLONING,
        device="cpu", seed=1,
    )  # fmt: skip
    g = torch.Generator().manual_seed(1)

    def pictures(n: int) -> tuple[Tensor, Tensor]:
        right = torch.randint(0, 2, (n,), generator=g)
        noise = torch.randint(0, 120, (n, 10, 10), generator=g)
        half = torch.stack([torch.arange(10) < 5, torch.arange(10) >= 5]).long() * 120
        return right, (noise + half[right][:, None, :]).to(torch.uint8)

    for i in range(150):
        right, obs = pictures(64)
        batch = batch_of(spec_of((Discrete("side", 2),)), 64, seed=i)
        paid = (batch.discrete[:, 0] == right).float()
        batch = replace(
            batch, states=(obs,), next_states=(obs,), returns=paid, discounts=torch.zeros(64)
        )
        learner.step(batch)
    right, obs = pictures(200)
    assert (learner.network.greedy(obs)[:, 0] == right).float().mean() > 0.95

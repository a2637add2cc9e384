"""What masks do to choices, targets and losses, against the same written out over legal ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from agent.agreement import agreement
from agent.batch import Batch
from agent.heads import head_numbers
from agent.legal import masked, unpacked
from agent.legal_choices import made_legal, random_legal
from agent.networks import QNetwork
from agent.replay import Replay
from agent.row_losses import LossCoefficients
from agent.step import StepBlock
from agent.targets import take_columns
from config.models import LearnerConfig
from protocol import masks
from protocol.spaces import Continuous, Discrete
from tests.support.learner import NoReadBack, batch_of, learner_of, spec_of
from tests.support.masked import MASKED, mask

ROWS = 64
HEADS = (Discrete("row", 3), Continuous("push", -1.0, 1.0, 1), Discrete("column", 7))
SPEC = spec_of(HEADS)
SIZES = (3, 7)
VALUES: list[dict[str, Any]] = [
    {},
    {"value": "c51", "value_min": -9.0, "value_max": 9.0, "atoms": 11},
    {"value": "quantile", "atoms": 5},
    {"continuous": "gradient"},
    {"continuous": "bins", "bins": 3},
]


def random_masks(n: int, seed: int) -> Tensor:
    """Of each head one choice at least is legal, bool [n, 10]."""
    g = torch.Generator().manual_seed(seed)
    legal = torch.rand(n, 10, generator=g) < 0.4
    legal[torch.arange(n), torch.randint(3, (n,), generator=g)] = True
    legal[torch.arange(n), 3 + torch.randint(7, (n,), generator=g)] = True
    return legal


def masked_batch() -> Batch:
    """Random rows, the choices taken among the legal ones."""
    batch = batch_of(SPEC, ROWS)
    legal = random_masks(ROWS, 1)
    g = torch.Generator().manual_seed(3)
    draw = torch.rand(ROWS, 10, generator=g).masked_fill(~legal, -1)
    taken = torch.stack([draw[:, :3].argmax(1), draw[:, 3:].argmax(1)], 1)
    return replace(batch, discrete=taken, legal=legal, next_legal=random_masks(ROWS, 2))


def best_legal(q: Tensor, legal: Tensor) -> list[int]:
    """The best legal choice of each head, of one row."""
    out, start = [], 0
    for size in SIZES:
        of_head = {c: float(q[start + c]) for c in range(size) if legal[start + c]}
        out.append(max(of_head, key=lambda c: of_head[c]))
        start += size
    return out


def test_unpacked_bits_are_those_that_were_packed() -> None:
    legal = random_masks(50, 0)
    packed = torch.from_numpy(masks.packed(legal.numpy()))
    assert packed.shape == (50, 2)
    assert torch.equal(unpacked(packed, 10), legal)


def test_masked_values_without_a_mask_are_the_same() -> None:
    q = torch.randn(3, 10)
    assert masked(q, None) is q


def test_masked_values_of_bins_behind_the_heads_stay() -> None:
    q = torch.randn(2, 13)
    got = masked(q, torch.zeros(2, 10, dtype=torch.bool))
    assert torch.isinf(got[:, :10]).all()
    assert torch.equal(got[:, 10:], q[:, 10:])


def test_random_legal_choices_are_equally_likely_and_legal() -> None:
    legal = np.tile(mask((0, 2), (1, 3, 6)), (6000, 1))
    drawn = random_legal(legal, slice(3, 10), np.random.default_rng(0))
    counts = np.bincount(drawn, minlength=7)
    assert counts[[0, 2, 4, 5]].sum() == 0
    assert (np.abs(counts[[1, 3, 6]] - 2000) < 200).all()


def test_made_legal_changes_only_what_is_not() -> None:
    rows = np.array([[0, 0.5, 1], [1, 0.5, 6], [2, 0.5, 0]], np.float32)
    legal = np.tile(mask((0, 2), (1, 6)), (3, 1))
    made_legal(rows, legal, MASKED.discrete_columns, MASKED.choice_columns)
    assert rows.tolist() == [[0, 0.5, 1], [0, 0.5, 6], [2, 0.5, 1]]


@pytest.mark.parametrize("settings", VALUES)
def test_greedy_choices_are_the_best_legal_ones(settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = QNetwork(SPEC, LearnerConfig(hidden=(8,), **settings))
    states, legal = torch.randn(ROWS, 6), random_masks(ROWS, 4)
    rows, free, q = (
        network.greedy(states, legal=legal),
        network.greedy(states),
        network(states).q.detach(),
    )
    assert rows[:, [0, 2]].tolist() == [best_legal(q[i], legal[i]) for i in range(ROWS)]
    assert torch.equal(rows[:, 1], free[:, 1]), "what is continuous has no mask"
    assert not torch.equal(rows, free)
    assert torch.equal(network.greedy(states, legal=torch.ones(ROWS, 10, dtype=torch.bool)), free)


@pytest.mark.parametrize("settings", VALUES)
def test_targets_bootstrap_from_legal_choices_of_the_next_state(settings: dict[str, Any]) -> None:
    learner, batch = learner_of(SPEC, **settings), masked_batch()
    learner._target_vector += 0.3 * torch.randn(learner._target_vector.shape)
    assert batch.next_legal is not None
    online, target = learner.network, learner.target
    with NoReadBack():
        got = learner._objective.forward(batch).target
    with torch.no_grad():
        x, y = (network.encode(*batch.next_states) for network in (online, target))
        q = online(*batch.next_states).q
        params = target.value_params(
            target.head_outputs(y, target.act(y) if target.follows_gradient else None)
        )
        chosen = torch.tensor([best_legal(q[i], batch.next_legal[i]) for i in range(ROWS)])
        columns = chosen + torch.tensor([0, 3])
        if online.bins:
            of_all = online.values.q(online.value_params(online.head_outputs(x)))
            bins = of_all[:, 10:].argmax(1, keepdim=True)
            columns = torch.cat((columns, 10 + bins), 1)
        taken = take_columns(params, columns)
        wanted = online.values.targets(batch.returns, batch.discounts, taken)
    torch.testing.assert_close(got, wanted)
    free = learner._objective.forward(replace(batch, next_legal=None)).target
    assert not torch.allclose(got, free)


@pytest.mark.parametrize("loss", ["margin", "cross_entropy"])
def test_imitation_compares_with_legal_choices_alone(loss: str) -> None:
    """The loss of a row is that over its legal choices, written out; so is its gradient."""
    settings = {"expert": {"start": 2.0, "end": 2.0, "frames": 1}, "loss": loss, "taken": 0.7}
    learner, batch = learner_of(SPEC, imitation=settings), masked_batch()
    assert batch.legal is not None
    q = torch.randn(ROWS, 10, requires_grad=True)
    weight = torch.rand(ROWS)
    losses = learner._objective._losses
    shown = losses.wanted(batch, weight, 1.0)
    assert shown.cloning is not None
    coefficients = LossCoefficients(weight, None, weight, None)
    got = losses._imitation_loss(q, shown, coefficients, batch.legal)
    assert got is not None
    imitation = learner._imitation
    wanted = []
    for i in range(ROWS):
        heads = []
        for k, (start, size) in enumerate(((0, 3), (3, 7))):
            legal = batch.legal[i, start : start + size].nonzero()[:, 0]
            of_head = q[i, start : start + size][legal]
            place = (legal == batch.discrete[i, k]).nonzero()[0, 0]
            entropy = -(of_head / imitation.temperature).log_softmax(0)[place]
            cloned = entropy
            if loss == "margin":
                raised = of_head + imitation.margin * (torch.arange(len(legal)) != place)
                cloned = raised.max() - of_head[place]
            heads.append(entropy * weight[i] + cloned * shown.cloning[i])
        wanted.append(sum(heads) / 2)
    expected = torch.stack(wanted)  # type: ignore[arg-type]
    torch.testing.assert_close(got[0], expected)
    torch.testing.assert_close(got[1], torch.autograd.grad(expected.sum(), q)[0])
    assert not got[1][~batch.legal].any()


@pytest.mark.parametrize("settings", VALUES)
def test_step_on_masks_stays_finite_and_waits_for_no_device(settings: dict[str, Any]) -> None:
    imitation = {"expert": {"start": 2.0, "end": 2.0, "frames": 1}, "taken": 0.5}
    learner = learner_of(
        SPEC, imitation=imitation, advantage={"signal": "critic", "mode": "per_actor"}, **settings
    )
    batch = masked_batch()
    # Where a mask says that nothing is legal, as none should, no number is lost either.
    batch = replace(batch, legal=batch.legal.clone())  # type: ignore[union-attr]
    batch.legal[0] = False  # type: ignore[index]
    before = learner.policy_vector()
    with NoReadBack():
        errors = learner.step(batch)
    assert torch.isfinite(errors).all()
    assert not learner.skipped_in_a_row()
    assert not torch.equal(learner.policy_vector(), before)


def test_step_with_everything_legal_is_that_without_masks() -> None:
    imitation = {"expert": {"start": 2.0, "end": 2.0, "frames": 1}, "taken": 0.5}
    batch, everything = masked_batch(), torch.ones(ROWS, 10, dtype=torch.bool)
    vectors = []
    for legal in (everything, None):
        learner = learner_of(SPEC, imitation=imitation)
        learner.step(replace(batch, legal=legal, next_legal=legal))
        vectors.append(learner.policy_vector())
    assert torch.equal(*vectors)


def test_agreement_and_health_see_what_would_be_chosen() -> None:
    """Recommended is what the network would do among legal choices: it agrees throughout."""
    torch.manual_seed(0)
    network = QNetwork(SPEC, LearnerConfig(hidden=(8,)))
    legal = torch.from_numpy(np.tile(mask((1,), (5,)), (ROWS, 1)))
    batch = replace(masked_batch(), legal=legal)
    batch = replace(batch, recommended=network.greedy(*batch.states, legal=legal))
    assert set(agreement(network, SPEC, batch).values()) == {1.0}
    assert min(agreement(network, SPEC, replace(batch, legal=None)).values()) < 1.0
    gradients = {name: torch.zeros_like(p) for name, p in network.named_parameters()}
    row, column, _ = head_numbers(network, SPEC, batch, gradients)
    assert (row.share, column.share) == (1.0, 1.0)


def test_replay_gives_the_masks_of_both_ends_of_a_window() -> None:
    replay = Replay(MASKED, 50, n_step=2, gamma=0.9, seed=0)
    block = StepBlock.empty(MASKED, 9)
    block.obs[:] = np.arange(9)[:, None]
    block.stream[:], block.seq[:], block.kind[:] = 7, np.arange(9), 1
    block.actor[:] = 1
    block.kind[8], block.actor[8] = 2, 0
    legal = random_masks(9, 5).numpy()
    block.legal[:] = masks.packed(legal)
    replay.append(block)
    batch = replay.sample(40)
    assert batch.legal is not None
    assert batch.next_legal is not None
    for end, found in ((batch.states, batch.legal), (batch.next_states, batch.next_legal)):
        np.testing.assert_array_equal(found.numpy(), legal[end[0][:, 0].long().numpy()])
    assert batch.to("cpu").legal is batch.legal


def test_replay_of_a_game_without_masks_has_none() -> None:
    replay = Replay(SPEC, 50, n_step=1, gamma=0.9)
    block = StepBlock.empty(SPEC, 4)
    block.seq[:], block.kind[:], block.actor[:] = np.arange(4), 1, 1
    replay.append(block)
    assert replay.sample(2).legal is None

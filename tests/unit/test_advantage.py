"""The weights against the golden vectors, their properties, and the ways to get them wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from agent.advantage import advantage_weights, normalize_weights
from tests.support.tensors import DispatchMode, assert_close

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "advantage.json").read_text())["cases"]
PARAMETERS = {"lo": "weight_min", "hi": "weight_max"}
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
DQN, EXPERT = 1, 2


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", GOLDEN, ids=[case["name"] for case in GOLDEN])
def test_advantage_weights_equal_golden_vectors(case: dict[str, Any], device: str) -> None:
    rewards = torch.tensor(case["rewards"], dtype=torch.float32, device=device)
    actors = torch.tensor(case["actors"], device=device)
    parameters = {PARAMETERS.get(name, name): value for name, value in case["params"].items()}
    weights = advantage_weights(rewards, actors, **parameters)
    expected = torch.tensor(case["weights"], dtype=torch.float32, device=device)
    assert weights.dtype == torch.float32
    assert_close(weights, expected, atol=1e-4, rtol=1e-5)


def test_golden_vectors_cover_cases_and_distinguish_modes() -> None:
    assert len(GOLDEN) >= 10
    case = next(case for case in GOLDEN if case["params"].get("mode") == "global")
    apart = advantage_weights(torch.tensor(case["rewards"]), torch.tensor(case["actors"]))
    assert (apart - torch.tensor(case["weights"])).abs().max() > 1


def worked_example() -> tuple[Tensor, Tensor, int]:
    """6,000 dqn rows around 0.3 and 2,000 expert rows around 0.8, standard deviation 0.12."""
    scores = torch.linspace(-1.7320, 1.7320, 2000)  # uniform: mean 0, standard deviation 1
    dqn, expert = 0.3 + 0.12 * scores.repeat(3), 0.8 + 0.12 * scores
    actors = torch.tensor([DQN] * 6000 + [EXPERT] * 2000)
    return torch.cat((dqn, expert)), actors, 6000


def weight_at(reward: float, weights: Tensor, rewards: Tensor, rows: slice) -> float:
    return float(weights[rows][(rewards[rows] - reward).abs().argmin()])


def test_worked_example_weights_equal_documented_figures() -> None:
    """The figures of docs/learning.md: together the student is drowned out, apart it is not."""
    rewards, actors, n = worked_example()
    together = advantage_weights(rewards, actors, mode="global")
    assert weight_at(0.3, together, rewards, slice(n)) == pytest.approx(0.47, abs=0.01)
    assert weight_at(0.8, together, rewards, slice(n, None)) == pytest.approx(9.5, rel=0.05)
    apart = advantage_weights(rewards, actors)
    for rows, high, low in ((slice(n), 0.5, 0.1), (slice(n, None), 1.0, 0.6)):
        assert weight_at(high, apart, rewards, rows) == pytest.approx(12.2, rel=0.03)
        assert weight_at(low, apart, rewards, rows) == pytest.approx(0.082, rel=0.03)


rewards_and_actors = st.lists(
    st.tuples(st.floats(-10, 10, width=32), st.sampled_from([DQN, EXPERT])), min_size=4, max_size=40
).filter(
    # Differences large enough that shifting does not round them away.
    lambda rows: all(
        len({round(r, 1) for r, a in rows if a == actor}) > 1 for actor in (DQN, EXPERT)
    )
)


@settings(max_examples=60, deadline=None)
@given(rewards_and_actors, st.floats(-20, 20), st.floats(0.5, 4))
def test_per_actor_mode_other_actor_rescaled_weights_unchanged(
    rows: list[tuple[float, int]], shift: float, scale: float
) -> None:
    rewards = torch.tensor([r for r, _ in rows])
    actors = torch.tensor([a for _, a in rows])
    other = torch.where(actors == EXPERT, rewards * scale + shift, rewards)
    before, after = advantage_weights(rewards, actors), advantage_weights(other, actors)
    dqn = actors == DQN
    # Sums are taken in row order within an actor, so nothing at all may change.
    assert torch.equal(before[dqn], after[dqn])
    # And nothing much for the other, whose scores stay the same.
    assert_close(before, after, rtol=1e-2, atol=1e-3)


def test_global_mode_other_actor_rescaled_weights_change() -> None:
    rewards, actors, n = worked_example()
    other = torch.where(actors == EXPERT, rewards * 2 + 1, rewards)
    change = [advantage_weights(r, actors, mode="global")[:n] for r in (rewards, other)]
    assert (change[0] - change[1]).abs().mean() > 0.1


@settings(max_examples=60, deadline=None)
@given(rewards_and_actors, st.randoms(use_true_random=False))
def test_rows_permuted_weights_permuted_equally(rows: list[tuple[float, int]], random: Any) -> None:
    rewards = torch.tensor([r for r, _ in rows])
    actors = torch.tensor([a for _, a in rows])
    order = list(range(len(rows)))
    random.shuffle(order)
    expected = advantage_weights(rewards, actors)[order]
    shuffled = advantage_weights(rewards[order], actors[order])
    assert_close(shuffled, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("names", [(0, 1, 2), (-7, 2**40, 3), (255, 9, -(2**62))])
def test_arbitrary_integer_actors_form_separate_groups(names: tuple[int, int, int]) -> None:
    rewards = torch.randn(300, generator=torch.manual_seed(1))
    which = torch.randint(0, 3, (300,), generator=torch.manual_seed(2))
    weights = advantage_weights(rewards, torch.tensor(names)[which])
    for group in range(3):
        rows = which == group
        assert_close(weights[rows], advantage_weights(rewards[rows], None))


def test_other_integer_and_reward_dtypes_give_equal_weights() -> None:
    rewards, actors, _ = worked_example()
    expected = advantage_weights(rewards, actors)
    for dtype in (torch.uint8, torch.int32):
        assert torch.equal(advantage_weights(rewards, actors.to(dtype)), expected)
    assert torch.equal(advantage_weights(rewards.double(), actors), expected)
    whole = advantage_weights(torch.tensor([1, 2, 3]), None)
    assert whole.dtype == torch.float32
    assert whole[0] < whole[1] < whole[2]


def test_actors_none_treats_all_rows_as_one_group() -> None:
    rewards = torch.randn(50, generator=torch.manual_seed(3))
    one = advantage_weights(rewards, torch.full((50,), EXPERT))
    assert torch.equal(advantage_weights(rewards, None), one)
    mixed = torch.tensor([DQN, EXPERT] * 25)
    assert torch.equal(advantage_weights(rewards, mixed, mode="global"), one)


@pytest.mark.parametrize("n", [2, 8192, 65_536])
@pytest.mark.parametrize("value", [0.1, 0.3, -1234.567, 1e-30, 0.0])
def test_constant_rewards_give_weight_one(n: int, value: float) -> None:
    actors = torch.tensor([DQN, EXPERT]).repeat(n // 2)
    rewards = torch.full((n,), value) * actors  # another constant for each actor
    assert torch.equal(advantage_weights(rewards, actors), torch.ones(n))


def test_single_pass_float32_mean_leaves_residual() -> None:
    """Why there are two passes: what the first one leaves is not zero."""
    rewards = torch.full((8192,), 0.1)
    naive = torch.zeros(1).index_add_(0, torch.zeros(8192, dtype=torch.int64), rewards) / 8192
    assert (rewards - naive).abs().max() > 1e-7


def test_small_differences_on_large_offset_weights_exact() -> None:
    rewards = torch.tensor([1000.0, 1000.0, 1000.01, 1000.02])
    weights = advantage_weights(rewards, None)
    exact = rewards.double()
    z = (exact - exact.mean()) / exact.std()
    assert_close(weights, (1.5 * z).exp().float(), rtol=1e-3, atol=1e-5)


def test_one_row_gives_weight_one_and_no_rows_give_empty() -> None:
    rewards, actors = torch.tensor([5.0, 1.0, 2.0]), torch.tensor([EXPERT, DQN, DQN])
    assert advantage_weights(rewards, actors)[0] == 1
    # Weight 1 whatever the limits: there was nothing to compare it with.
    assert advantage_weights(rewards, actors, weight_min=2.0)[0] == 1
    assert advantage_weights(rewards[:0], actors[:0]).shape == (0,)


def test_weight_limits_and_clip_bound_the_weights() -> None:
    rewards = torch.randn(1000, generator=torch.manual_seed(4))
    weights = advantage_weights(rewards, None, beta=10, weight_min=0.5, weight_max=7)
    assert weights.min() == 0.5
    assert weights.max() == 7
    narrow = advantage_weights(rewards, None, clip=1.0)
    assert narrow.max() == pytest.approx(2.718281828**1.5, rel=1e-5)
    assert narrow.min() == pytest.approx(2.718281828**-1.5, rel=1e-5)


def test_mode_off_gives_weight_one() -> None:
    rewards, actors, _ = worked_example()
    assert torch.equal(advantage_weights(rewards, actors, mode="off"), torch.ones(8000))


def test_weights_leave_inputs_unchanged_and_carry_no_gradient() -> None:
    rewards, actors, _ = worked_example()
    before = rewards.clone(), actors.clone()
    weights = advantage_weights(rewards.requires_grad_(), actors)
    assert not weights.requires_grad
    assert torch.equal(rewards, before[0])
    assert torch.equal(actors, before[1])


@pytest.mark.parametrize(
    ("rewards", "actors", "mode", "said"),
    [
        ([1.0, 2.0], [1, 2], "per_agent", "per_actor, global, off, got 'per_agent'"),
        ([1.0, 2.0], [1, 2, 2], "per_actor", r"each of 2 rows, got torch.int64 \[3\]"),
        ([1.0, 2.0], [1.0, 2.0], "per_actor", r"got torch.float32 \[2\]"),
        ([[1.0], [2.0]], [1, 2], "per_actor", r"got \[2, 1\]"),
    ],
)
def test_invalid_arguments_raise_value_error(
    rewards: Any, actors: Any, mode: Any, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        advantage_weights(torch.tensor(rewards), torch.tensor(actors), mode=mode)


def test_normalized_weights_have_mean_one_per_actor() -> None:
    rewards, actors, n = worked_example()
    weights = advantage_weights(rewards, actors)
    assert weights[:n].mean() > 1.5
    normal = normalize_weights(weights, actors)
    assert_close(normal[:n].mean(), torch.tensor(1.0))
    assert_close(normal[n:].mean(), torch.tensor(1.0))
    ratio = normal[:n] / weights[:n]
    assert_close(ratio, ratio[0].expand(n))
    assert_close(normalize_weights(weights, None).mean(), torch.tensor(1.0))


class ForbidDeviceSync(DispatchMode):
    """Fails where a number is fetched from the device, or a shape depends on one."""

    FORBIDDEN = ("_local_scalar_dense", "nonzero", "unique", "masked_select", "equal.default")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert not any(name in str(func) for name in self.FORBIDDEN), f"{func} waits for the device"
        return func(*args, **(kwargs or {}))


def test_advantage_weights_run_without_device_synchronization() -> None:
    rewards, actors, _ = worked_example()
    with ForbidDeviceSync():
        normalize_weights(advantage_weights(rewards, actors), actors)
    with pytest.raises(AssertionError, match="waits"), ForbidDeviceSync():
        rewards.max().item()


def test_operation_count_independent_of_number_of_actors() -> None:
    class Count(DispatchMode):
        n = 0

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            self.n += 1
            return func(*args, **(kwargs or {}))

    rewards = torch.randn(64)
    counts = []
    for actors in (torch.ones(64, dtype=torch.int64), torch.arange(64)):
        with Count() as count:
            advantage_weights(rewards, actors)
        counts.append(count.n)
    assert counts[0] == counts[1] > 10

"""The sum tree: exact draws, no drift, no waiting. What it is for: test_priority.py."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import agent.sum_tree
from agent.sum_tree import FAN_OUT, SumTree
from tests.support.replay_model import NoWaiting, chi_square_fits

torch.set_num_threads(1)

CPU = torch.device("cpu")
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
EACH_DEVICE = pytest.mark.parametrize("device", DEVICES)

SHAPES = [(5, 8192), (5, 1), (16, 1), (17, 1), (300, 2), (300, 40), (5000, 3)]
"""Leaves and the largest top: trees of no level below the top up to three."""


@pytest.fixture(params=SHAPES, ids=lambda shape: "{}-{}".format(*shape))
def size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    leaves, top = request.param
    monkeypatch.setattr(agent.sum_tree, "TOP", top)
    return int(leaves)


def generator(device: str = "cpu", seed: int = 1) -> torch.Generator:
    made = torch.Generator(device)
    made.manual_seed(seed)
    return made


def masses_of(n: int, seed: int = 0) -> Tensor:
    """Masses of several orders of magnitude, a third of them 0."""
    rng = np.random.default_rng(seed)
    masses = rng.exponential(1.0, n) * 10.0 ** rng.integers(-2, 2, n)
    return torch.from_numpy(masses * (rng.random(n) < 2 / 3)).float()


def test_tree_shapes_cover_depths_0_to_3(monkeypatch: pytest.MonkeyPatch) -> None:
    depths = []
    for leaves, top in SHAPES:
        monkeypatch.setattr(agent.sum_tree, "TOP", top)
        tree = SumTree(2, leaves, CPU)
        depths.append(len(tree._levels) - 1)
        assert tree.stride >= leaves
        assert len(tree._levels[-1]) <= 2 * top
    assert sorted(set(depths)) == [0, 1, 2, 3]


@EACH_DEVICE
def test_draw_frequency_is_proportional_to_mass(size: int, device: str) -> None:
    tree = SumTree(3, size, torch.device(device))
    for number in range(3):
        tree.fill(number * tree.stride, masses_of(size, number).to(device))
    masses, rng = tree.leaves.cpu().double().numpy(), generator(device)
    for trees in (range(3), range(2), range(1, 2), range(2, 3)):
        n = 100_000
        leaves, drawn = tree.draw(trees, n, rng)
        assert torch.equal(drawn, tree.leaves[leaves])
        counts = np.bincount(leaves.cpu().numpy(), minlength=len(masses))
        there = slice(trees.start * tree.stride, trees.stop * tree.stride)
        assert counts[there].sum() == n, "drawn from other trees"
        expected = n * masses[there] / masses[there].sum()
        counts = counts[there]
        assert not counts[expected == 0].any(), "drawn without a mass"
        # The rare ones together, as the chi-square distribution wants it.
        rare = expected < 10
        counts = np.append(counts[~rare], counts[rare].sum())
        expected = np.append(expected[~rare], expected[rare].sum())
        kept = expected > 0
        if kept.sum() > 1:
            assert chi_square_fits(counts[kept], expected[kept])


def test_draw_with_single_nonzero_leaf_always_gives_it(size: int) -> None:
    tree = SumTree(2, size, CPU)
    for leaf in (0, size - 1, tree.stride, tree.stride + size // 2):
        tree.set(torch.tensor([leaf]), torch.tensor([1e-6]))
        for trees in (range(2), range(leaf // tree.stride, leaf // tree.stride + 1)):
            leaves, masses = tree.draw(trees, 50, generator())
            assert leaves.tolist() == [leaf] * 50
            assert masses.tolist() == [np.float32(1e-6)] * 50
        tree.set(torch.tensor([leaf]), torch.tensor([0.0]))


@pytest.fixture
def extreme_random_numbers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Throws as high and as low as they get, where rounding errors tell; and 1, which is what
    rounding can make of the highest on the way down."""
    ends = [0.0, 2.0**-53, 1 - 2.0**-52, 1 - 2.0**-53, 1.0]
    extremes = torch.tensor(ends, dtype=torch.float64)
    throws = lambda n, _: extremes.repeat(-(-n // 5))[:n]  # noqa: E731
    monkeypatch.setattr(agent.sum_tree, "_throws", throws)
    yield
    monkeypatch.undo()


@pytest.mark.usefixtures("extreme_random_numbers")
def test_draw_at_extreme_random_numbers_gives_leaf_with_mass(size: int) -> None:
    """With numbers that are not sums of a few powers of two, at the ends of many trees."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        tree = SumTree(2, size, CPU)
        leaves = torch.from_numpy(rng.choice(2 * tree.stride, min(size, 9), replace=False))
        tree.set(leaves, torch.from_numpy(rng.random(len(leaves))).float())
        drawn, masses = tree.draw(range(2), 5, generator())
        assert bool((masses > 0).all())
        assert torch.equal(masses, tree.leaves[drawn])


def test_throws_rise_and_are_uniform() -> None:
    throws = agent.sum_tree._throws(100_000, generator())
    assert bool((throws.diff() >= 0).all())
    assert 0 <= float(throws[0]) <= float(throws[-1]) <= 1
    counts = torch.histc(throws.float(), 20, 0, 1).numpy()
    assert chi_square_fits(counts, np.full(20, 5000.0))
    # Each by itself: how many are below a half varies as the binomial distribution wants it.
    many = torch.stack([agent.sum_tree._throws(100, generator(seed=k)) for k in range(400)])
    below = (many < 0.5).sum(1).double()
    assert float(below.var()) == pytest.approx(25, rel=0.3)


def test_draw_of_leaf_without_mass_is_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What rounding does once in 1e15 draws, done to every other one."""
    tree = SumTree(1, 40, CPU)
    tree.set(torch.tensor([7, 11]), torch.tensor([1.0, 3.0]))
    real = agent.sum_tree._first_above

    def beside(sums: Tensor, left: Tensor) -> Tensor:
        found = real(sums, left)
        found[::2] = 3
        return found

    monkeypatch.setattr(agent.sum_tree, "_first_above", beside)
    leaves, masses = tree.draw(range(1), 100, generator())
    assert set(leaves.tolist()) == {7, 11}
    assert torch.equal(masses, tree.leaves[leaves])


CHANGE = st.one_of(
    st.tuples(st.just("set"), st.lists(st.integers(0, 10**6), min_size=1, max_size=9)),
    st.tuples(st.just("fill"), st.tuples(st.integers(0, 10**6), st.integers(1, 400))),
)


@settings(max_examples=60, deadline=None)
@given(changes=st.lists(CHANGE, max_size=12), shape=st.sampled_from(SHAPES), seed=st.integers(0, 9))
def test_set_and_fill_equal_plain_array(
    changes: list[tuple[str, object]], shape: tuple[int, int], seed: int
) -> None:
    leaves, top = shape
    rng = np.random.default_rng(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(agent.sum_tree, "TOP", top)
        tree = SumTree(2, leaves, CPU)
    plain = np.zeros(2 * tree.stride, np.float32)
    for kind, where in changes:
        if kind == "set":
            at = np.unique(np.array(where) % len(plain))
            masses = rng.exponential(1.0, len(at)).astype(np.float32)
            plain[at] = masses
            tree.set(torch.from_numpy(at), torch.from_numpy(masses))
        else:
            first, n = where  # type: ignore[misc]
            first %= len(plain)
            masses = rng.exponential(1.0, min(n, len(plain) - first)).astype(np.float32)
            plain[first : first + len(masses)] = masses
            tree.fill(first, torch.from_numpy(masses))
        assert np.array_equal(tree.leaves.numpy(), plain)
        tree.check_valid()
    sums = plain.reshape(2, -1).sum(1, dtype=np.float64)
    np.testing.assert_allclose(tree.totals().numpy(), sums, rtol=1e-13)


def test_set_with_repeated_leaf_counts_it_once(size: int) -> None:
    tree = SumTree(1, size, CPU)
    tree.set(torch.tensor([2, 2, 2]), torch.tensor([5.0, 5.0, 5.0]))
    tree.check_valid()
    assert float(tree.totals()) == 5


def test_totals_after_many_changes_do_not_drift() -> None:
    """Masses of 1e9 come and go a hundred thousand times; what is left is what is there."""
    tree, rng = SumTree(1, 4096, CPU), np.random.default_rng(0)
    tree.fill(0, torch.full((4096,), 1e-6))
    before = float(tree.totals())
    for _ in range(200):
        at = torch.from_numpy(rng.integers(0, 4096, 500))
        tree.set(at, torch.from_numpy(rng.random(500) * 1e9).float())
        tree.set(at, torch.full((500,), 1e-6))
    assert float(tree.totals()) == before
    tree.check_valid()


def test_tree_of_ten_million_leaves_needs_little_memory() -> None:
    tree = SumTree(2, 10_000_000, CPU)
    assert tree.nbytes < 2 * 10_000_000 * (4 + 8 / (FAN_OUT - 1) + 0.01)
    at = torch.tensor([0, 9_999_999, tree.stride + 5_000_000])
    tree.set(at, torch.tensor([1.0, 2.0, 1.0]))
    leaves, _ = tree.draw(range(2), 4000, generator())
    counts = [int((leaves == leaf).sum()) for leaf in at.tolist()]
    assert sum(counts) == 4000
    assert counts == [pytest.approx(n, abs=200) for n in (1000, 2000, 1000)]


def test_tree_operations_do_not_synchronize_with_device() -> None:
    tree, rng = SumTree(2, 200_000, CPU), generator()
    masses = masses_of(1000)
    with NoWaiting() as mode:
        tree.fill(7, masses)
        leaves, drawn = tree.draw(range(1), 64, rng)
        tree.set(leaves, drawn * 2)
        tree.totals()
    assert mode.operations > 30


CORRUPTIONS = {
    "a leaf": lambda tree: tree.leaves[700].add_(1),
    "a sum": lambda tree: tree._levels[1][40].mul_(1 + 1e-12),
    "a sum higher up": lambda tree: tree._levels[2][2].add_(1e-9),
    "a mass below 0": lambda tree: tree.set(torch.tensor([3]), torch.tensor([-1.0])),
    "a mass of NaN": lambda tree: tree.set(torch.tensor([3]), torch.tensor([torch.nan])),
}


@pytest.mark.parametrize("what", CORRUPTIONS)
def test_check_valid_of_corrupted_tree_raises(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent.sum_tree, "TOP", 4)
    tree = SumTree(2, 800, CPU)
    tree.fill(0, masses_of(2 * tree.stride))
    tree.check_valid()
    CORRUPTIONS[what](tree)
    with pytest.raises(AssertionError):
        tree.check_valid()

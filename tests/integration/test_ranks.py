"""Two learners that share each step, connected by gloo, become what one learner becomes that has
all rows and draws the same."""

from __future__ import annotations

import multiprocessing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed

from agent.collective import Gloo, RanksDiffer, check_same
from config.load import config_from
from lab.bench import ranks, shards
from lab.bench.shards import CASES, RanksWorld, learn_alone, learn_as_rank
from server.cluster.scaling_cost import costs

pytestmark = pytest.mark.timeout(120)


TIMEOUT_S = 15.0

as_ranks = partial(ranks.as_ranks, timeout_s=TIMEOUT_S)


def assert_same_end(case: str, found: list[tuple[Any, torch.Tensor, Any]]) -> None:
    """`found`: of each rank, what it began as, its parameters in the end, and what it drew."""
    firsts, vectors, drawn = (list(column) for column in zip(*found, strict=True))
    assert torch.equal(*vectors), "the ranks differ"
    alone = learn_alone(CASES[case], firsts[0], drawn)
    away = float((vectors[0] - alone.learner.policy_vector()).abs().max())
    assert away < 1e-6, f"the ranks are {away} away from one learner with all rows"
    sizes = {tuple(len(of[update][0]) for of in drawn) for update in range(shards.UPDATES)}
    assert (shards.BATCH, 0) in sizes, "a rank without rows learns, too"
    assert len(sizes) > 3
    assert {sum(pair) for pair in sizes} == {shards.BATCH}


@pytest.mark.parametrize("case", CASES)
def test_ranks_become_what_one_learner_becomes(case: str) -> None:
    assert_same_end(case, as_ranks(lambda ranks: outcome(learn_as_rank(CASES[case], ranks))))


def test_gradients_in_bfloat16_leave_the_ranks_the_same_and_near_one_learner() -> None:
    case = CASES["uniform"]
    found = as_ranks(lambda ranks: outcome(learn_as_rank(case, ranks)), gradients=torch.bfloat16)
    firsts, vectors, drawn = (list(column) for column in zip(*found, strict=True))
    assert torch.equal(*vectors), "the ranks differ"
    alone = learn_alone(case, firsts[0], drawn)
    away = float((vectors[0] - alone.learner.policy_vector()).abs().max())
    assert 1e-6 < away < 0.05, "rounded, and no more than that"


def test_costs_of_a_second_learner_are_measured_at_all_ranks() -> None:
    config = config_from(
        {"learner.hidden": [16], "learner.batch_size": 32, "trainer.device": "cpu"}
    )
    for found in as_ranks(lambda ranks: costs(config, shards.SPEC, ranks, repeats=2)):
        assert found.parameters > 16 * 6
        assert (found.rows, found.learners) == (32, 2)
        assert 0 < found.sum_s < found.shared_s
        assert 0 < found.gather_s < found.shared_s
        assert found.alone_s > 0


def outcome(world: RanksWorld) -> tuple[Any, torch.Tensor, Any]:
    return world.first, world.learner.policy_vector(), world.drawn


def _in_process(rank: int, case: str, folder: Path) -> None:
    torch.set_num_threads(1)
    store = distributed.FileStore(str(folder / "store"), 2)
    gloo = Gloo(store, rank, 2, timeout_s=TIMEOUT_S, interface="lo")
    world = learn_as_rank(CASES[case], gloo)
    torch.save(outcome(world), folder / f"{rank}.pt")


def test_ranks_in_two_processes_become_what_one_learner_becomes(tmp_path: Path) -> None:
    case = "shares"
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=_in_process, args=(rank, case, tmp_path)) for rank in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in range(2)]
    assert_same_end(case, found)


def test_ranks_that_differ_are_told_of() -> None:
    def work(ranks: Gloo) -> None:
        check_same(ranks, torch.ones(5))
        check_same(ranks, torch.ones(5) + 1e-7 * ranks.rank)

    for error in as_ranks(work, returned=RanksDiffer):
        assert isinstance(error, RanksDiffer)
        assert "expected the same parameters at all 2 learners" in str(error)

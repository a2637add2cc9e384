"""Bench of several learners: how far two that make each update together, each with rows of its own,
end from one learner that learns from the same rows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import distributed

from agent.collective import Gloo
from lab.bench.shards import CASES, UPDATES, RanksCase, learn_alone, learn_as_rank

GOAL = 1e-6
"""Between parameters after UPDATES, where gradients are added up in float32."""

MEASURED = ("uniform", "prioritized", "shares", "normalized observations")


def measure() -> Iterator[dict[str, Any]]:
    """A row for each way to learn, and one for gradients in bfloat16, which has no goal."""
    for name in MEASURED:
        far = difference(CASES[name])
        yield _row(name, "float32", far) | {"goal": GOAL, "ok": far < GOAL}
    yield _row("uniform", "bfloat16", difference(CASES["uniform"], torch.bfloat16))


def difference(case: RanksCase, gradients: torch.dtype = torch.float32) -> float:
    """The largest between a parameter of two learners and one of the one that learnt from what they
    drew. Errors: RuntimeError where the two differ."""
    found = as_ranks(lambda ranks: learn_as_rank(case, ranks), gradients=gradients)
    vectors = [world.learner.policy_vector() for world in found]
    if not torch.equal(vectors[0], vectors[1]):
        raise RuntimeError("expected two learners with the same parameters, got others")
    alone = learn_alone(case, found[0].first, [world.drawn for world in found])
    return float((vectors[0] - alone.learner.policy_vector()).abs().max())


def as_ranks(
    work: Callable[[Gloo], Any],
    *,
    size: int = 2,
    gradients: torch.dtype = torch.float32,
    timeout_s: float = 60.0,
    returned: type[Exception] | tuple[()] = (),
) -> list[Any]:
    """What work(collective) returns at each rank, each in a thread of its own. `returned`: errors
    of `work` that are returned in its place. Errors: all others of `work`."""
    made: Any = distributed
    store = made.HashStore()
    found: list[Any] = [None] * size

    def run(rank: int) -> None:
        try:
            ranks = Gloo(
                store, rank, size, timeout_s=timeout_s, interface="lo", gradients=gradients
            )
            found[rank] = work(ranks)
        except Exception as error:
            found[rank] = error

    threads = [threading.Thread(target=run, args=(rank,), daemon=True) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # One that fails lets the others wait in vain: what they say then is not the reason.
    failed = [each for each in found if isinstance(each, Exception)]
    for each in sorted(failed, key=lambda error: "imed out" in str(error)):
        if not isinstance(each, returned):
            raise each
    return found


def _row(how: str, gradients: str, far: float) -> dict[str, Any]:
    return {
        "case": "cluster",
        "what": "parameters",
        "learners": 2,
        "how": how,
        "allreduce": gradients,
        "updates": UPDATES,
        "largest_difference": float(f"{far:.2g}"),
    }

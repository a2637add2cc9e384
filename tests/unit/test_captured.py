"""What can be captured, and that a tape runs as the function did."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from agent.captured import NotCapturable, Tape
from tests.support.cases import for_each


def test_tape_run_again_reads_and_writes_the_same_memory() -> None:
    x, total = torch.ones(4), torch.zeros(4)

    def add() -> Tensor:
        part = x.view(2, 2)[1]
        total[2:] += part * 3
        return total.sum() * 2

    tape = Tape(add)
    result = tape.result
    x.copy_(torch.tensor([0.0, 0.0, 5.0, 7.0]))
    tape.run()
    assert total.tolist() == [0, 0, 3 + 15, 3 + 21]
    assert result.item() == 84
    assert tape.result is result


def test_tape_run_again_draws_other_numbers() -> None:
    rng = torch.Generator().manual_seed(1)
    tape = Tape(lambda: torch.rand(3, generator=rng) + 1)
    drawn = [tape.result.tolist()]
    tape.run()
    drawn.append(tape.result.tolist())
    again = torch.Generator().manual_seed(1)
    assert drawn == [(torch.rand(3, generator=again) + 1).tolist() for _ in range(2)]


def test_tape_of_a_gradient_runs_with_the_newest_parameters() -> None:
    weight, x = torch.ones(3, requires_grad=True), torch.arange(3.0)

    def step() -> Tensor:
        (gradient,) = torch.autograd.grad((weight * x).square().sum(), [weight])
        with torch.no_grad():
            weight.sub_(0.1 * gradient)
        return gradient

    tape = Tape(step)
    by_hand, gradients = torch.ones(3), []
    for _ in range(3):
        gradients.append(2 * by_hand * x * x)
        by_hand = by_hand - 0.1 * gradients[-1]
    assert torch.allclose(tape.result, gradients[0])
    for gradient in gradients[1:]:
        tape.run()
        assert torch.allclose(tape.result, gradient)
    assert torch.allclose(weight, by_hand)


X = torch.arange(4.0)
WAITING: dict[str, Callable[[], object]] = {
    "asks for a value": lambda: float(X.sum()),
    "asks whether": lambda: bool((X > 1).any()),
    "asks where": lambda: (X > 1).nonzero(),
    "indexes with a mask": lambda: X[X > 1],
    "writes where a mask is set": lambda: X.clone().__setitem__(X > 1, torch.zeros(2)),
    "selects": lambda: torch.masked_select(X, X > 1),
    "finds what differs": lambda: X.unique(),
    "takes numbers of the host": lambda: X + torch.tensor([1.0, 2.0, 3.0, 4.0]),
    "compares": lambda: torch.equal(X, X),
}


@for_each(WAITING)
def test_function_that_waits_for_the_device_is_refused(name: str) -> None:
    with pytest.raises(NotCapturable):
        Tape(WAITING[name])

"""agent/adam.py: steps that are skipped, and state; tests/integration/test_adam_of_torch.py has its
numbers."""

from __future__ import annotations

import torch

from agent.adam import Adam

N = 10_007
"""An odd size, so that vectorized kernels have a remainder."""

ONE = torch.ones(())


def test_skipped_nan_gradient_leaves_parameters_and_state_unchanged() -> None:
    vector = torch.ones(N)
    adam = Adam(vector, lr=0.1, eps=1e-8)
    adam.step(torch.ones(N), ONE, torch.zeros(()))
    before = [vector.clone(), *(tensor.clone() for tensor in adam.state_dict().values())]
    adam.step(torch.full((N,), torch.nan), ONE, torch.ones(()))
    for old, new in zip(before, [vector, *adam.state_dict().values()], strict=True):
        assert torch.equal(old, new)


def test_gradient_is_divided_by_scale_in_its_own_memory() -> None:
    vector, other = torch.zeros(N), torch.zeros(N)
    g = torch.Generator().manual_seed(1)
    gradients = [torch.randn(N, generator=g) for _ in range(3)]
    scaled, plain = Adam(vector, lr=0.1, eps=1e-8), Adam(other, lr=0.1, eps=1e-8)
    for gradient in gradients:
        times_four = 4 * gradient
        scaled.step(times_four, torch.tensor(4.0), torch.zeros(()))
        plain.step(gradient, ONE, torch.zeros(()))
        assert torch.equal(times_four, gradient)
    assert torch.equal(vector, other)


def test_load_empty_state_resets_optimizer() -> None:
    vector, other = torch.zeros(3), torch.zeros(3)
    adam = Adam(vector, lr=0.1, eps=1e-8)
    assert adam.state_dict() == {}
    adam.step(torch.ones(3), ONE, torch.zeros(()))
    adam.load_state_dict({})
    assert adam.state_dict() == {}
    vector.zero_()
    adam.step(torch.full((3,), 2.0), ONE, torch.zeros(()))
    fresh = Adam(other, lr=0.1, eps=1e-8)
    fresh.step(torch.full((3,), 2.0), ONE, torch.zeros(()))
    assert torch.equal(vector, other)

"""agent/adam.py has the numbers and the state of torch's own: making that one imports torch's
compiler, which takes longer than most unit tests."""

from __future__ import annotations

import torch

from agent.adam import Adam

N = 10_007
"""An odd size, so that vectorized kernels have a remainder."""

ONE = torch.ones(())


def _torch_adam(vector: torch.Tensor, lr: float, eps: float) -> torch.optim.Adam:
    return torch.optim.Adam([vector], lr=lr, eps=eps, fused=True)


def _gradients(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(N, generator=generator) * 10.0 ** (i % 5 - 3) for i in range(count)]


def test_steps_with_changing_lr_and_skips_equal_torch_bitwise() -> None:
    first = torch.randn(N, generator=torch.Generator().manual_seed(4))
    ours, theirs = first.clone(), torch.nn.Parameter(first.clone())
    adam, reference = Adam(ours, lr=1e-3, eps=1.5e-4), _torch_adam(theirs, 1e-3, 1.5e-4)
    for i, gradient in enumerate(_gradients(40)):
        skip = torch.tensor(float(i in (0, 7, 8)))
        reference.param_groups[0]["lr"] = 1e-3 / (i + 1)
        adam.set_rate(1e-3 / (i + 1))
        adam.step(gradient, ONE, skip)
        theirs.grad, reference.found_inf = gradient, skip  # type: ignore[attr-defined]
        reference.step()
        assert torch.equal(ours, theirs.detach())
        state = reference.state_dict()["state"][0]
        assert list(adam.state_dict()) == list(state)
        for name, tensor in adam.state_dict().items():
            assert tensor.dtype == state[name].dtype
            assert torch.equal(tensor, state[name]), name
    assert adam.state_dict()["step"] == 37


def test_torch_adam_state_loaded_continues_bitwise_equal() -> None:
    first = torch.randn(N, generator=torch.Generator().manual_seed(4))
    theirs = torch.nn.Parameter(first.clone())
    reference = _torch_adam(theirs, 1e-2, 1e-8)
    *before, last = _gradients(6)
    for gradient in before:
        theirs.grad = gradient
        reference.step()
    ours = theirs.detach().clone()
    adam = Adam(ours, lr=1e-2, eps=1e-8)
    saved = reference.state_dict()["state"][0]
    adam.load_state_dict(saved)
    kept = {name: tensor.clone() for name, tensor in saved.items()}
    adam.step(last, ONE, torch.zeros(()))
    assert all(torch.equal(saved[name], tensor) for name, tensor in kept.items()), "not a copy"
    theirs.grad = last
    reference.step()
    assert torch.equal(ours, theirs.detach())

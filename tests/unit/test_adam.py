"""agent/adam.py: torch's own numbers and state, without torch's compiler."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from agent.adam import Adam

N = 10_007
"""An odd size, so that vectorized kernels have a remainder."""


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
        adam.lr = reference.param_groups[0]["lr"] = 1e-3 / (i + 1)
        adam.step(gradient, skip)
        theirs.grad, reference.found_inf = gradient, skip  # type: ignore[attr-defined]
        reference.step()
        assert torch.equal(ours, theirs.detach())
        state = reference.state_dict()["state"][0]
        assert list(adam.state_dict()) == list(state)
        for name, tensor in adam.state_dict().items():
            assert tensor.dtype == state[name].dtype
            assert torch.equal(tensor, state[name]), name
    assert adam.state_dict()["step"] == 37


def test_skipped_nan_gradient_leaves_parameters_and_state_unchanged() -> None:
    vector = torch.ones(N)
    adam = Adam(vector, lr=0.1, eps=1e-8)
    adam.step(torch.ones(N), torch.zeros(()))
    before = [vector.clone(), *(tensor.clone() for tensor in adam.state_dict().values())]
    adam.step(torch.full((N,), torch.nan), torch.ones(()))
    for old, new in zip(before, [vector, *adam.state_dict().values()], strict=True):
        assert torch.equal(old, new)


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
    adam.step(last, torch.zeros(()))
    assert all(torch.equal(saved[name], tensor) for name, tensor in kept.items()), "not a copy"
    theirs.grad = last
    reference.step()
    assert torch.equal(ours, theirs.detach())


def test_load_empty_state_resets_optimizer() -> None:
    vector, other = torch.zeros(3), torch.zeros(3)
    adam = Adam(vector, lr=0.1, eps=1e-8)
    assert adam.state_dict() == {}
    adam.step(torch.ones(3), torch.zeros(()))
    adam.load_state_dict({})
    assert adam.state_dict() == {}
    vector.zero_()
    adam.step(torch.full((3,), 2.0), torch.zeros(()))
    fresh = Adam(other, lr=0.1, eps=1e-8)
    fresh.step(torch.full((3,), 2.0), torch.zeros(()))
    assert torch.equal(vector, other)


_TRAINER = """
import sys
import server.trainer.process
import torch
from pathlib import Path
from agent import checkpoint
from agent.evidence import Evidence
from agent.factory import make_learner, make_replay
from agent.step import STEP, StepBlock
from agent.training_step import learn_once, take_in
from config.models import Config
from protocol.spaces import Continuous, Discrete, GameSpec, Observation

heads = (Discrete("a", 2), Continuous("c", -1.0, 1.0, 1))
spec = GameSpec("g", Observation("float32", (3,)), heads)
config = Config.model_validate({"learner": {"hidden": [8], "batch_size": 4}})
device = torch.device("cpu")
replay, learner = make_replay(config, spec, device), make_learner(config, spec, device)
block = StepBlock.empty(spec, 8)
block.kind[:], block.actor[:], block.seq[:] = STEP, 1, range(8)
evidence = Evidence()
take_in(block, replay, learner, evidence)
learn_once(config, replay, learner, device, 8, evidence)
learner.metrics(), learner.heads()
checkpoint.save(Path(sys.argv[1]), {"learner": learner.state_dict()})
learner.load_state_dict(checkpoint.load(Path(sys.argv[1]))["learner"])
learn_once(config, replay, learner, device, 8, evidence)
print(*(name for name in ("torch._dynamo", "torch._inductor", "sympy") if name in sys.modules))
"""


def test_trainer_learn_and_save_imports_no_torch_compiler(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.mktemp("compiler") / "x.pt"
    command = [sys.executable, "-c", _TRAINER, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []

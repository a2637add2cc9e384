"""What a GPU must do as the cpu does. A test has a form for the cpu, with the same code, where the
cpu can fail it."""

from __future__ import annotations

import gc
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from agent import checkpoint
from agent.device import Download, LaunchesAhead, synchronize, uploaded
from agent.learner import Learner
from server.run.events import process_ids, read_events
from tests.support.captured import CPU, DEVICES, CapturedWorld
from tests.support.captured import spec_of as captured_spec
from tests.support.learner import HYBRID, batch_of, learner_of, spec_of
from tests.support.serve import SMALL, Serve, play

UPDATES = 100


def learner_on(device: str, seed: int = 1) -> Learner:
    plain = learner_of(
        spec_of(HYBRID), hidden=(32, 32), learning_rate=1e-3, normalize_values=True, imitation={}
    )
    made = Learner(
        spec_of(HYBRID), plain._config, plain._advantage, plain._imitation, device=device, seed=seed
    )
    made._rows_at_a_time = None  # as on a GPU
    return made


def learn(learner: Learner, updates: range) -> None:
    for seed in updates:
        learner.step(batch_of(spec_of(HYBRID), seed=seed).to(learner._vector.device))


def apart(one: Learner, other: Learner, start: torch.Tensor) -> float:
    """How far two networks are from each other, of how far they have come."""
    first, second = one.policy_vector(), other.policy_vector()
    return float((first - second).norm() / (first - start).norm())


@pytest.mark.parametrize("device", DEVICES)
def test_hundred_updates_equal_those_of_the_cpu_in_parts(device: str) -> None:
    """On the cpu rows pass in parts, on a GPU all at once: the same but for rounding."""
    reference, learner = learner_on(CPU), learner_on(device)
    reference._rows_at_a_time = 16
    start = reference.policy_vector()
    assert torch.equal(start, learner.policy_vector())
    for each in (reference, learner):
        learn(each, range(UPDATES))
    assert apart(reference, learner, start) < 0.01
    expected = reference.metrics()
    assert learner.metrics() == pytest.approx(expected, rel=0.02, abs=1e-3, nan_ok=True)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("back", [False, True])
def test_learner_resumes_on_another_device(tmp_path: Path, device: str, back: bool) -> None:
    first, second = (device, CPU) if back else (CPU, device)
    whole, begun = learner_on(first), learner_on(first)
    start = whole.policy_vector()
    learn(whole, range(40))
    learn(begun, range(20))
    checkpoint.save(tmp_path / "c.pt", {"learner": begun.state_dict()})
    resumed = learner_on(second, seed=2)
    resumed.load_state_dict(checkpoint.load(tmp_path / "c.pt")["learner"])
    learn(resumed, range(20, 40))
    assert resumed.updates == 40
    assert apart(whole, resumed, start) < 0.01


def bytes_held(device: str) -> int:
    """By tensors on the device."""
    gc.collect()
    synchronize(device)
    if device != CPU:
        return torch.cuda.memory_allocated(device)
    found = [each for each in gc.get_objects() if type(each) in (torch.Tensor, torch.nn.Parameter)]
    storages = {each.untyped_storage()._cdata: each.untyped_storage() for each in found}
    return sum(each.nbytes() for each in storages.values())


@pytest.mark.parametrize("device", DEVICES)
def test_memory_stays_flat_while_it_learns(device: str) -> None:
    world = CapturedWorld(captured_spec(), device, replay__prioritized=True)
    world.play(600)  # full
    held = []
    for _ in range(3):
        for _ in range(4):
            world.learn(20)
            world.play(20)
            world.learner.policy_on_its_way()
        world.learner.metrics()
        held.append(bytes_held(device))
    assert world.captured.problem is None
    assert held[2] <= held[1] + 4096, f"grew from {held[1]} to {held[2]} bytes"


@pytest.mark.parametrize("device", DEVICES)
def test_upload_keeps_what_the_array_was(device: str) -> None:
    rows = torch.arange(6.0).view(2, 3).numpy().copy()
    there = uploaded(rows, torch.device(device)).clone()
    rows[:] = 0
    assert there.tolist() == [[0, 1, 2], [3, 4, 5]]
    rows.setflags(write=False)
    assert uploaded(rows, torch.device(device)).sum().item() == 0


@pytest.mark.parametrize("device", DEVICES)
def test_download_has_what_the_tensor_was(device: str) -> None:
    tensor = torch.arange(5.0, device=device)
    coming = Download(tensor)
    tensor.zero_()
    assert coming.wait().tolist() == [0, 1, 2, 3, 4]
    assert coming.arrived
    assert coming.wait().device.type == "cpu"


@pytest.mark.parametrize("device", DEVICES[1:])  # on the cpu nothing is ahead of anything
def test_host_is_a_few_launches_ahead_at_most(device: str) -> None:
    """tests/unit/test_device.py asks the same of a stand-in."""
    ahead = LaunchesAhead(torch.device(device), most=2)
    for _ in range(5):
        ahead.mark()
        assert 1 <= len(ahead._marks) <= 2


def until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 100
    while not true():
        assert time.monotonic() < deadline, f"{what}: it did not come"
        time.sleep(0.05)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("device", DEVICES)
def test_killed_trainer_learns_on_in_a_new_process(
    tmp_path: Path, serve: Callable[..., Serve], device: str
) -> None:
    settings = tmp_path / "u.toml"
    settings.write_text(SMALL.replace('device = "cpu"', f'device = "{device}"'))
    run = tmp_path / "run"
    # A process with a cuda context cannot be forked: there the command starts by itself.
    server = serve("--run", str(run), "--config", str(settings), typed=device != CPU)
    with server.client() as client:
        play(client, 60)
        trainer = process_ids(read_events(run))["trainer"]
        os.kill(trainer, signal.SIGKILL)
        until(lambda: process_ids(read_events(run))["trainer"] != trainer, "another trainer")
    with server.client() as client:
        before = play(client, 20)

    def newer() -> bool:
        with server.client() as again:
            return play(again, 10) > before

    until(newer, "new weights")
    log = (run / "understudy.log").read_text()
    assert "the replay has" in log
    assert "the trainer has failed" not in log

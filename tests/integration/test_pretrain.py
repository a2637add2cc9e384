"""`understudy pretrain`: a network that has only seen demonstrations plays."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from agent import checkpoint, demonstrations, recording
from agent.networks import QNetwork
from agent.recording import Recording
from agent.step import FINAL, STEP, StepBlock
from config.load import config_of_run
from protocol.actor import Actor
from protocol.spaces import Continuous, Discrete, GameSpec, Observation
from server import cli
from tests.support.commands import in_this_process
from tests.support.preloaded import Understudy
from tests.support.processes import descendants, end
from tests.support.running import Running

pytestmark = pytest.mark.timeout(300)

ROOT = Path(__file__).parents[2]

REACH = GameSpec(
    "reach",
    Observation("float32", (2,)),
    (Discrete("move", 3), Continuous("haste", 0.0, 1.0, 1)),
).checked()
"""A dot is to reach a goal: left, stay or right, and how fast."""

TICKS = 20


def expert(at: float, goal: float) -> tuple[int, float]:
    """Straight there; slower when it is near."""
    away = goal - at
    return (0 if away < -0.05 else 2 if away > 0.05 else 1), min(abs(away) / 0.2, 1.0)


def play(act: Any, seed: int) -> tuple[list[tuple[npt.NDArray[np.float32], Any, float]], float]:
    """One episode: (observation, action, reward) of each step, and the return."""
    rng = np.random.default_rng(seed)
    at, goal = rng.uniform(-1, 1, 2)
    steps, total = [], 0.0
    for _ in range(TICKS):
        action = act(at, goal)
        obs = np.array([at, goal], np.float32)
        at += 0.2 * (action[0] - 1) * action[1]
        steps.append((obs, action, -abs(goal - at)))
        total -= abs(goal - at)
    return steps, total


def demonstration(episodes: int) -> Recording:
    block = StepBlock.empty(REACH, episodes * (TICKS + 1))
    i = 0
    for number in range(episodes):
        steps, _ = play(expert, number)
        for seq, (obs, action, reward) in enumerate(steps):
            block.obs[i], block.action[i], block.reward[i] = obs, action, reward
            block.stream[i], block.seq[i] = number, seq
            block.actor[i], block.kind[i] = Actor.EXPERT, STEP
            block.status[i] = 2 if seq == TICKS - 1 else 0
            i += 1
        block.obs[i], block.stream[i], block.seq[i] = steps[-1][0], number, TICKS
        block.kind[i] = FINAL
        i += 1
    return Recording(REACH, block, (1.0,))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of the game with 30 episodes of its expert, and a network to clone it."""
    recording.write(tmp_path / "demo.npz", demonstration(30))
    done = cli.main(
        [
            "import", str(tmp_path / "demo.npz"), "--run", str(tmp_path / "run"),
            "--learner.hidden", "[32, 32]", "--learner.batch_size", "64", "--seed", "3",
            "--learner.learning_rate", "0.003", "--trainer.threads", "1", "--port", "0",
            "--trainer.device", "cpu", "--replay.capacity_steps", "5000",
            "--trainer.publish_every_s", "10", "--metrics.every_s", "0.2",
        ]
    )  # fmt: skip
    assert done == 0
    return tmp_path / "run"


def pretrain(*options: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return Understudy("pretrain", *options, stdout=pipe, stderr=pipe, text=True)


def rows(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def network_of(run: Path, path: Path) -> QNetwork:
    learner = config_of_run(run).learner
    network = QNetwork(REACH, learner)
    network.load_state_dict(checkpoint.load(path)["learner"]["network"])
    return network


def mean_return(network: QNetwork) -> float:
    def act(at: float, goal: float) -> tuple[int, float]:
        move, haste = network.greedy(torch.tensor([[at, goal]], dtype=torch.float32))[0].tolist()
        return int(move), haste

    return float(np.mean([play(act, 1000 + seed)[1] for seed in range(30)]))


def test_pretrained_network_plays_and_the_run_resumes(run: Path) -> None:
    code, out, errors = in_this_process(
        "pretrain", "--run", str(run), "--updates", "600", "--imitation.expert.start", "1.0"
    )
    assert (code, errors) == (0, "")
    path = checkpoint.latest(run / "checkpoints")
    assert path is not None
    assert f"600 updates made; checkpoint {path}" in out
    assert f"understudy serve --resume {run}" in out
    state = checkpoint.load(path)
    assert (state["learner"]["updates"], state["frames"]) == (600, 0)

    # It has never played a frame, and plays nearly as well as what it has seen.
    teacher = float(np.mean([play(expert, 1000 + seed)[1] for seed in range(30)]))
    nobody = mean_return(QNetwork(REACH, config_of_run(run).learner))
    student = mean_return(network_of(run, path))
    assert nobody < teacher - 5, "the game is too easy to tell anything"
    assert student > teacher - 0.2 * (teacher - nobody)

    # Its numbers are the run's.
    last = rows(run)[-1]
    assert (last["updates"], last["frames"], last["buffer_expert"]) == (600, 0, 600)
    assert any(row["loss_imitation"] for row in rows(run))
    settings = config_of_run(run)
    assert settings.imitation.expert.start == 1.0, "what was given is the run's from now on"
    assert "600 demonstrated steps from demo-" in (run / "understudy.log").read_text()

    # And the server goes on from there, at frame 0, with the demonstrations in its replay.
    with Running(run, resume=True, config=config_of_run(run)) as server:
        server.until(lambda: server.row.get("policy_version"), "it has a network", 120.0)
    last = rows(run)[-1]
    assert (last["updates"], last["frames"], last["buffer_expert"]) == (600, 0, 600)
    assert last["policy_version"] > state["version"]
    assert last["transitions_dropped"] == 0


def test_pretrain_interrupted_saves_what_was_learnt(run: Path) -> None:
    process = pretrain("--run", str(run), "--updates", "1000000")
    try:
        deadline = time.monotonic() + 120
        while not (run / "metrics.jsonl").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=100)
    finally:
        for pid in descendants(process.pid):
            end(pid)
        if process.poll() is None:
            process.kill()
    assert (process.returncode, errors) == (0, "")
    path = checkpoint.latest(run / "checkpoints")
    assert path is not None
    updates = checkpoint.load(path)["learner"]["updates"]
    assert 0 < updates < 1_000_000
    assert rows(run)[-1]["updates"] == updates
    assert f"{updates:,} updates made; checkpoint {path}" in out


def test_pretrain_with_a_killed_trainer_exits_with_an_error(run: Path) -> None:
    process = pretrain("--run", str(run), "--updates", "1000000")
    try:
        deadline = time.monotonic() + 120
        while not (run / "metrics.jsonl").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        (trainer,) = descendants(process.pid)
        os.kill(trainer, signal.SIGKILL)
        _, errors = process.communicate(timeout=100)
    finally:
        if process.poll() is None:
            process.kill()
    assert process.returncode == 1
    assert errors.startswith("understudy pretrain: the trainer ended by itself; see ")


def test_pretrain_that_cannot_write_metrics_reports_it_and_continues(run: Path) -> None:
    (run / "metrics.jsonl").mkdir()
    code, _, errors = in_this_process("pretrain", "--run", str(run), "--updates", "40")
    assert code == 0, errors
    said = (run / "understudy.log").read_text()
    assert said.count("could not write") == 1
    assert "Is a directory" in said
    assert checkpoint.latest(run / "checkpoints") is not None


def test_pretrain_refuses_unsuitable_runs(run: Path, tmp_path: Path) -> None:
    for options, message in (
        ([], "expected --run DIR"),
        (["--run", str(tmp_path / "none")], "there is no such folder"),
        (["--run", str(tmp_path)], "expected a run's folder"),
        (["--run", str(run), "--learner.hidden", "x"], "learner.hidden"),
        (["--run", str(run), "--trainer.device", "cuda:99"], "trainer.device is 'cuda:99'"),
    ):
        code, _, errors = in_this_process("pretrain", "--updates", "5", *options)
        assert code == 2
        assert message in errors
    (path,) = demonstrations.files(run)
    path.unlink()
    code, _, errors = in_this_process("pretrain", "--updates", "5", "--run", str(run))
    assert code == 2
    assert "has no demonstrations; put some there with `understudy import" in errors
    # Found in the trainer's process: a damaged file.
    path.write_text("not a recording")
    code, _, errors = in_this_process("pretrain", "--updates", "5", "--run", str(run))
    assert code == 1
    assert re.fullmatch(r"understudy pretrain: trainer: .*correct or remove it\n", errors), errors

"""Bench against the DQN of Stable-Baselines3, in the same run: an update, and a whole game.

It is not among the requirements (see INSTALL), and imported only where it is measured.

**update.** What each does for one update, the sampling of its batch from a replay of as many rows
included: theirs is `DQN.train`, ours `agent.training_step.learn` with default settings. Once with
one update due, and once with DUE, as in a game whose frames make several due: theirs draws a batch
for each, ours draws them together. Ours does more in it: double DQN, dueling heads, n-step windows,
values that are normalized, cloning, and weights and metrics by actor. What is not done in each
update (norms by actor, the scale of values, sums for metrics) is in it by its share.

**game.** LunarLander-v3, eight games in a process each, one update for every four frames, the same
hidden layers and batch, on the cpu; nobody recommends actions. Theirs is `DQN.learn` with a
SubprocVecEnv, which updates between two frames. Ours is the server with games that connect over
TCP, which wait when the trainer owes more than a few updates; once in each precision, of which
theirs has one. The clock starts when both learn.
"""

from __future__ import annotations

import contextlib
import importlib.util
import multiprocessing
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from statistics import median
from typing import Any

import gymnasium
import numpy as np
import torch

from agent.evidence import Evidence
from agent.factory import make_learner, make_replay
from agent.malloc_tuning import keep_freed_memory
from agent.training_step import learn
from config.models import Config
from lab.bench.learner import Precision
from lab.bench.replay import fill
from lab.load.process import LoadProcess
from lab.supervised import supervised
from protocol.spaces import Discrete, GameSpec, Observation
from server.play.game_messages import GameOptions
from server.play.games import Games
from server.supervisor.supervisor import Supervisor

Row = dict[str, Any]

UPDATES: tuple[dict[str, Any], ...] = (
    {"inputs": 195, "hidden": [512, 512, 256], "choices": 44, "batch_size": 768},
    {"inputs": 8, "hidden": [512, 512, 256], "choices": 4, "batch_size": 128},
    {"inputs": 8, "hidden": [256, 256], "choices": 4, "batch_size": 128},
    {"inputs": 8, "hidden": [128, 128], "choices": 4, "batch_size": 128},
)

DUE = 8
"""Updates that are due at a time, in the second measurement."""

TIMED = 40
"""Updates that are timed together: a multiple of those after which something more is done."""

STORED = 50_000
"""Rows in both replays."""

INSTALL = ".venv/bin/python -m pip install -c constraints.txt stable-baselines3"

ENV = "LunarLander-v3"
GAMES = 8
HIDDEN = [512, 512, 256]
"""The network of the serving bench."""
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
BATCH = 128
FRAMES_PER_UPDATE = 4
WARM_UP = 2000
"""Frames before the clock starts: both have begun to learn by then."""
LEARN_FROM = 1000

LAG = 50
"""Updates that ours may be behind. Theirs is never behind; of ours two hundred frames are on their
way, so that neither side waits for the other, and no more than that, so that the clock sees an
update for every four frames."""

_SPAWN = multiprocessing.get_context("spawn")


def missing() -> str | None:
    """What to do where Stable-Baselines3 is not installed; None where it is."""
    if importlib.util.find_spec("stable_baselines3") is not None:
        return None
    return (
        "the cases update and game are measured beside stable-baselines3, which is not installed; "
        f"install it: {INSTALL}"
    )


def measure_updates(rounds: int = 3) -> Iterator[Row]:
    """Two rows for each of UPDATES, medians of interleaved rounds and of their ratios, on one
    thread, in its processor time: other work on the machine counts less. Each has a process of its
    own: ours does for its memory what the trainer does."""
    for shape in UPDATES:
        with (
            LoadProcess(updates_process, True, shape) as theirs,
            LoadProcess(updates_process, False, shape) as ours,
        ):
            for due in (1, DUE):
                both = (theirs, ours)
                for each in both:
                    each.ask(due)
                found = [[each.ask(due) for each in both] for _ in range(rounds)]
                theirs_s, ours_s = (median(column) for column in zip(*found, strict=True))
                yield {
                    "case": "update",
                    **shape,
                    "due": due,
                    "ms": round(ours_s * 1e3, 3),
                    "sb3_ms": round(theirs_s * 1e3, 3),
                    "updates_of_sb3": round(median(its / mine for its, mine in found), 3),
                }


def updates_process(pipe: Pipe, theirs: bool, shape: dict[str, Any]) -> None:
    """A process's entry: told how many updates are due at a time, it answers with the seconds of
    processor time of one."""
    torch.set_num_threads(1)
    if not theirs:
        keep_freed_memory()
    updates = (their_updates if theirs else our_updates)(**shape)
    with contextlib.suppress(EOFError):
        while True:
            pipe.send(_processor_s(updates, pipe.recv()))


def _processor_s(updates: Callable[[int], object], due: int) -> float:
    """Of one of TIMED updates, so many due at a time."""
    begun = time.process_time()
    for _ in range(TIMED // due):
        updates(due)
    return (time.process_time() - begun) / TIMED


def our_updates(
    inputs: int, hidden: list[int], choices: int, batch_size: int
) -> Callable[[int], object]:
    """So many updates of ours."""
    spec = GameSpec("bench", Observation("float32", (inputs,)), (Discrete("choice", choices),))
    values = {"hidden": hidden, "batch_size": batch_size}
    config = Config.model_validate(
        {"learner": values, "replay": {"capacity_steps": STORED}, "run": {"seed": 1}}
    )
    device = torch.device("cpu")
    replay, learner = make_replay(config, spec, device), make_learner(config, spec, device)
    fill(replay, 1000, GAMES)
    evidence = Evidence()

    def update(due: int) -> None:
        for _ in learn(config, replay, learner, device, STORED, evidence, due):
            pass

    return update


class Blank(gymnasium.Env[Any, Any]):
    """Has the spaces of the bench, and is never played."""

    def __init__(self, inputs: int, choices: int) -> None:
        self.observation_space = gymnasium.spaces.Box(-10.0, 10.0, (inputs,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(choices)


def their_updates(
    inputs: int, hidden: list[int], choices: int, batch_size: int
) -> Callable[[int], object]:
    """So many updates of theirs."""
    from stable_baselines3 import DQN
    from stable_baselines3.common.logger import Logger

    model = DQN(
        "MlpPolicy",
        Blank(inputs, choices),
        buffer_size=STORED,
        policy_kwargs={"net_arch": hidden},
        device="cpu",
        seed=1,
    )
    model.set_logger(Logger(None, []))
    rng = np.random.default_rng(0)
    buffer = model.replay_buffer
    assert buffer is not None
    shape = (STORED, 1, inputs)
    buffer.observations[:] = rng.standard_normal(shape)
    buffer.next_observations[:] = rng.standard_normal(shape)
    buffer.actions[:] = rng.integers(choices, size=(STORED, 1, 1))
    buffer.rewards[:] = rng.standard_normal((STORED, 1))
    buffer.full = True
    return lambda due: model.train(due, batch_size)


@dataclass(frozen=True)
class GameSpeed:
    """What a round of a game measured."""

    frames_per_s: float
    updates_per_frame: float


def measure_game(
    frames: int, rounds: int, show: Callable[[str], None], clients: int = GAMES
) -> Iterator[Row]:
    """Rounds of theirs and ours in turns, a row for each precision of ours: medians, the ratio
    within a round."""
    theirs: list[GameSpeed] = []
    ours: dict[Precision, list[GameSpeed]] = {precision: [] for precision in PRECISIONS}
    for number in range(rounds):
        show(f"game, round {number + 1} of {rounds}: Stable-Baselines3")
        theirs.append(their_game(frames, clients))
        for precision in PRECISIONS:
            show(f"game, round {number + 1} of {rounds}: understudy, {precision}")
            ours[precision].append(our_game(frames, clients, precision))
    for precision, played in ours.items():
        rounds_of_both = zip(played, theirs, strict=True)
        ratios = [mine.frames_per_s / its.frames_per_s for mine, its in rounds_of_both]
        yield {
            "case": "game",
            "env": ENV,
            "clients": clients,
            "hidden": HIDDEN,
            "batch_size": BATCH,
            "precision": precision,
            "frames": frames,
            "fps": round(median(each.frames_per_s for each in played)),
            "sb3_fps": round(median(each.frames_per_s for each in theirs)),
            "fps_of_sb3": round(median(ratios), 3),
            "updates_per_frame": round(median(each.updates_per_frame for each in played), 3),
            "sb3_updates_per_frame": round(median(each.updates_per_frame for each in theirs), 3),
        }


def our_game(
    frames: int,
    clients: int,
    precision: Precision,
    *,
    device: str = "cpu",
    warm_up: int = WARM_UP,
) -> GameSpeed:
    """The server and its games, as `understudy serve` and `understudy play` would run them.
    `warm_up`: frames before the clock starts."""
    learn_from = min(LEARN_FROM, warm_up // 2)
    values = {
        "run.seed": 1,
        "server.port": 0,
        "supervision.max_restarts": 0,
        "learner.hidden": HIDDEN,
        "learner.batch_size": BATCH,
        "learner.precision": precision,
        "trainer.device": device,
        "trainer.threads": 1,
        "trainer.replay_ratio": 1 / FRAMES_PER_UPDATE,
        "trainer.min_steps": learn_from,
        "trainer.max_lag_updates": LAG,
    }
    with supervised(values) as supervisor:
        host = supervisor.config.server.host
        games = Games(GameOptions(ENV, host, supervisor.port, expert="none", seed=1))
        with games:
            games.start(clients)
            begun = _reach(supervisor, games, warm_up)
            ended = _reach(supervisor, games, begun[1] + frames)
    made = supervisor.row["updates"] / (supervisor.row["steps_stored"] - learn_from)
    return GameSpeed((ended[1] - begun[1]) / (ended[0] - begun[0]), made)


def _reach(supervisor: Supervisor, games: Games, steps: int) -> tuple[float, int]:
    """Wait for so many steps; the time, and how many they are."""
    while (reached := supervisor.steps) < steps:
        supervisor.poll(0.02)
        if games.failures:
            raise RuntimeError(games.failures[0].message)
    return time.perf_counter(), reached


def their_game(frames: int, clients: int) -> GameSpeed:
    """Theirs, in a process of its own: it sets torch's threads and starts others."""
    ours, theirs = _SPAWN.Pipe()
    process = _SPAWN.Process(target=_their_game, args=(theirs, frames, clients))
    process.start()
    theirs.close()
    try:
        played = ours.recv()
    except EOFError:
        raise RuntimeError("Stable-Baselines3 ended before its time") from None
    finally:
        process.join()
    assert isinstance(played, GameSpeed)
    return played


def _their_game(pipe: Pipe, frames: int, clients: int) -> None:
    from stable_baselines3 import DQN
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import SubprocVecEnv

    class Clock(BaseCallback):  # type: ignore[misc]  # not typed where it is not installed
        """Notes the time and the updates made at the beginning and at the end."""

        def __init__(self) -> None:
            super().__init__()
            self.marks: list[tuple[float, int, int]] = []

        def _on_step(self) -> bool:
            due = WARM_UP if not self.marks else self.marks[0][1] + frames
            if self.num_timesteps >= due:
                updates = self.model._n_updates
                self.marks.append((time.perf_counter(), self.num_timesteps, updates))
            return len(self.marks) < 2

    torch.set_num_threads(1)
    env = make_vec_env(ENV, clients, seed=1, vec_env_cls=SubprocVecEnv)
    model = DQN(
        "MlpPolicy",
        env,
        batch_size=BATCH,
        learning_starts=LEARN_FROM,
        # A step of all games, then the updates that it brings.
        train_freq=1,
        gradient_steps=max(1, clients // FRAMES_PER_UPDATE),
        policy_kwargs={"net_arch": HIDDEN},
        device="cpu",
        seed=1,
    )
    clock = Clock()
    model.learn(10**9, callback=clock)
    env.close()
    (t0, n0, u0), (t1, n1, u1) = clock.marks
    pipe.send(GameSpeed((n1 - n0) / (t1 - t0), (u1 - u0) / (n1 - n0)))

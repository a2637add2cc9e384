"""A whole run in one process and in lock step: what experiments are made with.

The code is that of the server: turns (`server.gateway.frame_loop`), replay, learner and policy.
What is left out is what lies between them: sockets, shared memory, and time. All games send their
frames, one turn answers them, the updates that are due are made, and the next turn is played with
the new weights. So a run depends on its settings and its seed alone, to the bit, and costs what its
computations do.

    VectorClient ──FRAMES──▶ FrameLoop ──StepBlock──▶ Replay ──Batch──▶ Learner
       ▲                       │  ▲                                       │
       └───────ACTIONS─────────┘  └── Policy ◀──── Newest ◀───weights─────┘
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from agent.decision import ActingParams, acting_params_at
from agent.device import resolve_device
from agent.evidence import Evidence
from agent.factory import make_learner, make_replay
from agent.handover import expert_ratio
from agent.learner import Learner
from agent.policy import Policy
from agent.replay import Replay
from agent.step import StepBlock
from agent.training_step import learn, take_in
from agent.trust import Trust
from agent.update_budget import updates_due
from config.models import Config
from lab.vector_client import Game, VectorClient
from protocol.actor import ACTORS, NAMES
from protocol.messages import Role
from protocol.streams import stream_number
from server.gateway.expert_plugin import ExpertPlugin
from server.gateway.frame_loop import FrameLoop
from understudy_client.env_options import EnvOptions
from understudy_client.environments import make
from understudy_client.experts import find, returns, weakened
from understudy_client.gym import Expert

EVAL_SLOTS = 20
"""Evaluation games played at a time."""


@dataclass(frozen=True)
class SyncTrainerOptions:
    """What is played, how long, and when it is evaluated."""

    env: str
    frames: int
    """Stored steps until the run ends."""
    clients: int = 8
    """Games that train."""
    weaken: float = 0.0
    """The share of the expert's actions that are replaced by random ones."""
    expert: str | None = None
    """`module:function`, "none", or None for the environment's known expert."""
    eval_every: int = 2000
    """Stored steps between two evaluations. The last one is at the end of the run."""
    eval_episodes: int = 20
    final_episodes: int | None = None
    """Episodes of the evaluation at the end, where there are to be more of them."""
    eval_seed: int = 1_000_000
    """Evaluation episode i is reset with eval_seed + i, at every evaluation."""
    preprocess: str | None = None
    """What is put around the environment, "atari" or nothing."""
    seconds: float | None = None
    """The run also ends, with an evaluation, when it has taken this long."""


@dataclass(frozen=True)
class EvaluationPoint:
    """The network alone, without exploration, after so much training."""

    frames: int
    """Stored steps of training that it had, rounded down to the interval: up to a turn more."""
    returns: tuple[float, ...]
    """Of the episodes, in the order of their seeds."""
    seconds: float
    """Since the run began, evaluations included."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Of training since the evaluation before: those of the learner, `episode_return_mean`,
    `reward_frame_mean_*`, `frames` stored exactly, `updates`, and the like."""

    @property
    def mean(self) -> float:
        """The mean return."""
        return statistics.fmean(self.returns)


def run(
    config: Config,
    options: SyncTrainerOptions,
    on_evaluation: Callable[[EvaluationPoint], None] | None = None,
) -> list[EvaluationPoint]:
    """Train from scratch as configured; all evaluations.

    Errors: ValueError for options that make no sense, and what the parts raise.
    """
    with one_thread(), SyncTrainer(config, options) as trainer:
        found = []
        for evaluation in trainer.evaluations():
            found.append(evaluation)
            if on_evaluation is not None:
                on_evaluation(evaluation)
        return found


def evaluate_expert(options: SyncTrainerOptions, episodes: int | None = None) -> list[float]:
    """Returns of the expert alone, weakened as it is in training, on the seeds of the last
    evaluation, or so many of them."""
    episodes = episodes or options.final_episodes or options.eval_episodes
    expert = _expert(options, (options.eval_seed,))
    if expert is None:
        raise ValueError(f"{options.env} has no expert to evaluate; name one as module:function")
    return returns(options.env, expert, episodes, options.eval_seed, _making(options))


class SyncTrainer:
    """The parts of a run, and the loop over its turns."""

    def __init__(self, config: Config, options: SyncTrainerOptions) -> None:
        for name in ("frames", "clients", "eval_every", "eval_episodes"):
            if getattr(options, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(options, name)}")
        self.config, self.options = config, options
        seed, clients = config.run.seed, options.clients
        games = [
            Game(
                make(options.env, _making(options)),
                _expert(options, None if seed is None else (seed, k)),
                seed=None if seed is None else seed + k,
                stride=clients,
            )
            for k in range(clients)
        ]
        self.spec = games[0].spec
        self._device = resolve_device(config.trainer.device, "trainer.device")
        self.replay = make_replay(config, self.spec, self._device)
        self.learner = make_learner(config, self.spec, self._device)
        self.evidence = Evidence()
        self.sink = ReplaySink(self.replay, self.learner, self.evidence)
        self.policy = Policy(
            self.spec,
            config.learner,
            Newest(self.learner),
            frame_stack=config.replay.frame_stack,
        )
        self.frame_loop = self._make_frame_loop(0, clients)
        self.players = self._join(self.frame_loop, games, "train")
        self._teacher = self._floor = math.nan
        self._taught: Sequence[float] = ()
        """Returns of the expert, where evaluations are asked for."""
        self._trust = Trust()
        self._ratio = config.expert.ratio.start
        self._final_episodes = options.final_episodes or options.eval_episodes
        slots = range(min(EVAL_SLOTS, max(options.eval_episodes, self._final_episodes)))
        self._eval_envs = [make(options.env, _making(options)) for _ in slots]

    def __enter__(self) -> SyncTrainer:
        return self

    def __exit__(self, *_: object) -> None:
        for env in (*(game.env for game in self.players.games), *self._eval_envs):
            env.close()

    def evaluations(self) -> Iterator[EvaluationPoint]:
        """Train to the end, pausing for evaluations."""
        options, began = self.options, time.monotonic()
        if "evaluation" in (self.config.expert.decay, self.config.imitation.decay):
            self._taught = evaluate_expert(options, options.eval_episodes)
            self._teacher = statistics.fmean(self._taught)
            self._floor = statistics.fmean(self.evaluate(options.eval_episodes))
        until = math.inf if options.seconds is None else began + options.seconds
        due = min(options.eval_every, options.frames)
        while True:
            self.play()
            self.learn()
            late = time.monotonic() >= until
            if self.sink.stored < due and not late:
                continue
            metrics = self._metrics()
            last = late or due == options.frames
            played = self.evaluate(self._final_episodes if last else options.eval_episodes)
            self._hand_over(played)
            frames = min(due, self.sink.stored)
            yield EvaluationPoint(frames, played, time.monotonic() - began, metrics)
            if last:
                return
            due = min(due + options.eval_every, options.frames)

    def _hand_over(self, played: Sequence[float]) -> None:
        """The expert's ratio and the trust in it by evaluations."""
        student = statistics.fmean(played)
        ratio = self.config.expert.ratio
        self._ratio = expert_ratio(ratio.start, ratio.end, student, self._teacher, self._floor)
        self._trust.compare(played, self._taught)
        self.evidence.evaluated = self._trust.value

    def play(self) -> None:
        """A turn of all training games."""
        self.policy.refresh()
        self.frame_loop.add_frames(self.players, self.players.frames())
        self.frame_loop.run()
        self.players.act()

    def learn(self) -> None:
        """The updates that are due."""
        trainer = self.config.trainer
        if not trainer.enabled or not self.replay.can_sample:
            return
        frames = self.sink.stored
        due = updates_due(trainer, frames, self.learner.updates)
        made = learn(
            self.config, self.replay, self.learner, self._device, frames, self.evidence, due
        )
        for _ in made:
            pass

    def evaluate(self, episodes: int) -> tuple[float, ...]:
        """Returns of the network alone. Training does not notice: the random numbers are others,
        and nothing is stored."""
        self.policy.refresh()
        slots = min(episodes, len(self._eval_envs))
        games = [
            Game(
                env,
                None,
                seed=self.options.eval_seed + k,
                stride=slots,
                episodes=len(range(k, episodes, slots)),
            )
            for k, env in enumerate(self._eval_envs[:slots])
        ]
        loop = self._make_frame_loop(1, slots)
        players = self._join(loop, games, "eval")
        while not players.over:
            loop.add_frames(players, players.frames())
            loop.run()
            players.act()
        return tuple(games[i % slots].returns[i // slots] for i in range(episodes))

    def _make_frame_loop(self, stream: int, slots: int) -> FrameLoop:
        """One for so many games, with random numbers of its own."""
        seed = self.config.run.seed
        rng = np.random.Generator(np.random.SFC64(None if seed is None else [seed, stream]))
        return FrameLoop(
            self.spec,
            self.config.reward,
            self.policy,
            self.sink,
            self._acting_params,
            rng,
            most_slots=slots,
            frame_stack=self.config.replay.frame_stack,
            memory=self.config.learner.state_size,
            expert=ExpertPlugin.load(self.config.expert.plugin, self.spec),
        )

    def _join(self, loop: FrameLoop, games: Sequence[Game], role: Role) -> VectorClient:
        players = VectorClient(self.spec, games)
        players.rows = loop.join([stream_number(1, k) for k in range(len(games))], role)
        return players

    def _acting_params(self) -> ActingParams:
        """How frames are played now."""
        trust = self.evidence.trust
        return acting_params_at(self.config, self.sink.stored, self._ratio, trust)

    def _metrics(self) -> dict[str, float]:
        """What was measured since the last call."""
        episodes = [episode.episode_return for episode in self.frame_loop.episodes.take()]
        composition = self.replay.actor_composition()
        found = self.learner.metrics() | {
            "frames": float(self.sink.stored),
            "updates": float(self.learner.updates),
            "episodes": float(len(episodes)),
            "episode_return_mean": statistics.fmean(episodes) if episodes else math.nan,
            "expert_ratio": self._acting_params().expert_ratio,
            "buffer_frac_dqn": composition.frac_dqn,
            "buffer_frac_expert": composition.frac_expert,
        }
        found |= self.evidence.metrics(self.config.imitation, self.sink.stored)
        return found | self.sink.reward_means()


class ReplaySink:
    """Where steps go: straight into the replay."""

    free = 2**31
    """There is always room."""
    answered = 0
    """What the frame loop says of itself; nobody asks."""

    def __init__(self, replay: Replay, learner: Learner, evidence: Evidence) -> None:
        self.stored = 0
        """Steps, final rows not counted."""
        self._replay, self._learner, self._evidence = replay, learner, evidence
        self._sums, self._counts = np.zeros(3), np.zeros(3)

    def write(self, block: StepBlock) -> None:
        """Store rows."""
        take_in(block, self._replay, self._learner, self._evidence)
        self._sums += np.bincount(block.actor, block.reward, minlength=3)
        counts = np.bincount(block.actor, minlength=3)
        self._counts += counts
        self.stored += int(counts[ACTORS[0] :].sum())  # final rows are nobody's

    def reward_means(self) -> dict[str, float]:
        """`reward_frame_mean_*` of the steps since the last call."""
        with np.errstate(invalid="ignore"):
            means = (self._sums / self._counts).tolist()
        self._sums[:], self._counts[:] = 0, 0
        return {f"reward_frame_mean_{NAMES[actor]}": means[actor] for actor in ACTORS}


class Newest:
    """The learner's own weights, as a source for the policy."""

    def __init__(self, learner: Learner) -> None:
        self._learner = learner

    @property
    def version(self) -> int:
        return self._learner.updates + 1

    def fetch(self, out: npt.NDArray[np.float32]) -> int:
        """Copy them."""
        out[:] = self._learner.policy_vector().numpy()
        return self.version


def _making(options: SyncTrainerOptions) -> EnvOptions:
    return EnvOptions(atari=options.preprocess == "atari")


def _expert(options: SyncTrainerOptions, seed: Sequence[int] | None) -> Expert | None:
    """The expert of one game."""
    expert = find(options.env, options.expert)
    if expert is None or not options.weaken:
        return expert
    return weakened(expert, options.weaken, np.random.default_rng(seed))


@contextmanager
def one_thread() -> Iterator[None]:
    """Have torch compute in one thread meanwhile: more would change sums, and take the cores of
    other runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)

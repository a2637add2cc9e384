"""The trainer process: drains the rings into the replay, learns, publishes weights, reports.

One loop, read from top to bottom. It is the only process with the replay and the optimiser; the
gateways never wait for it unless a ring is full.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import math
import os
import signal
import time
from collections.abc import Collection
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from agent import checkpoint, journal, recording
from agent.checkpoint import CheckpointError
from agent.device import resolve_device
from agent.files import written_whole
from agent.health import HeadWatch, ValueWatch, value_bound
from agent.journal import JournalError
from agent.learner import Learner
from agent.recording import Recorder, RecordingError
from agent.replay import Batch, Replay
from agent.schedules import scheduled
from agent.step import STEP, StepBlock
from config.models import Config, TrainerConfig
from protocol.actor import ACTORS, NAMES, Actor
from protocol.spaces import GameSpec
from server import demonstrations
from server.control import (
    Changed,
    Checkpoint,
    Dump,
    Dumped,
    Ending,
    Failed,
    GameDecided,
    Pause,
    Ready,
    Record,
    Recorded,
    SaveBest,
    Saved,
    SavedBest,
    Stop,
    TrainerReport,
)
from server.demonstrations import reward_weights
from server.disk import Writes
from server.heart import Heart
from server.keeping import Keeper, TakenIn, already_kept
from server.keeping import take_in as take_in_journal
from server.logs import log_to_pipe
from server.recovery import NumbersWentBad, Recovery
from server.ring import StepRing
from server.weights import WeightSlot, weights_name

log = logging.getLogger("trainer")

DRAIN_STEPS = 4096
"""Rows appended at a time: large enough to be quick, small enough to stay in the cache."""

BURST_S = 0.02
"""How long it learns before it looks at the rings again; they hold more than a burst brings."""

IDLE_S = 0.001

LINGER_S = 3.0
"""How long gateways without a supervisor may take to hand over what they have: more than they give
their games to read why (server.connection), less than server.heart allows."""

ALONE_S = 30.0
"""How long another trainer may still have the run: one whose supervisor was killed."""

BUFFER_LINE_EVERY = 1000

_TOLD = (CheckpointError, JournalError, RecordingError, MemoryError, RuntimeError, OSError)
"""Errors that end the process with a message of their own."""


class BatchRecord:
    """What the learner was given, kept for the audit: the rows of every batch, as sampled."""

    def __init__(self, replay: Replay, spec: GameSpec) -> None:
        self._replay = replay
        self._spec = spec
        self._parts: list[tuple[np.ndarray[Any, Any], ...]] = []

    def add(self, batch: Batch) -> None:
        """Remember a batch: for each row which frame it is, and how it is tagged in the batch.
        Demonstrations are no frames of a game that plays, and are left out."""
        stream, seq = self._replay.identify(batch.indices)
        action = np.empty((len(stream), self._spec.action_width), np.float32)
        action[:, list(self._spec.discrete_columns)] = batch.discrete.cpu().numpy()
        action[:, list(self._spec.continuous_columns)] = batch.continuous.cpu().numpy()
        actors = batch.actors.cpu().numpy().astype(np.uint8)
        played = stream >= 0
        self._parts.append((stream[played], seq[played], actors[played], action[played]))

    def columns(self) -> tuple[np.ndarray[Any, Any], ...]:
        """stream, seq, actor, action of all rows."""
        if not self._parts:
            return tuple(np.empty(0) for _ in range(4))
        return tuple(np.concatenate(column) for column in zip(*self._parts, strict=True))


class Trainer:
    """The replay, the learner, and the loop between the rings and the weight slot."""

    def __init__(
        self,
        config: Config,
        game: GameDecided,
        pipe: Pipe,
        folder: Path,
        *,
        resume: bool,
        record: bool,
        best: bool = False,
        keep_rows: bool = False,
        pretrain_updates: int = 0,
        paused: bool = False,
        heart: Heart | None = None,
    ) -> None:
        """`record`: keep every batch, for the audit. `best`: resume from the checkpoint that
        evaluated best, and put newer ones away. `keep_rows`: every row, for a recording.
        `pretrain_updates`: make so many updates from the demonstrations, and end. `paused`: learn
        nothing until told to."""
        self._config = config
        self._pipe = pipe
        self._heart = heart or Heart()
        self._heart.busy()
        self._folder = folder / "checkpoints"
        self._spec = game.spec
        device = self._device = resolve_device(config.trainer.device, "trainer.device")
        self._replay = make_replay(config, game.spec, device)
        self._learner = make_learner(config, game.spec, device)
        self._reward_max = 0.0
        """The largest reward by magnitude of the run; NaN where it is not known."""
        self._writes = Writes(log, "training goes on")
        self._recovery = Recovery(config.health, self._folder, spec_text(game.spec))
        self._values, self._heads = ValueWatch(), HeadWatch()
        vector = self._learner.policy_vector().numpy()
        # Its name is that of what it belongs to. So a trainer that takes over from one that died
        # finds it, and knows by it that the run goes on: in the rings, and in what was kept.
        slot_name = weights_name(game.rings[0]) if game.rings else None
        takes_over = slot_name is not None and WeightSlot.is_left(slot_name, len(vector))
        if takes_over:
            resume, best = True, False
        if takes_over and keep_rows:
            raise RecordingError("the rows before the trainer died are lost; record again")
        saved_frames = version = 0
        known_rows = 0.0
        known: list[str] = []
        from_file = checkpoint.best if best else checkpoint.latest
        if resume and (path := from_file(self._folder)):
            state = checkpoint.load(path, spec=spec_text(game.spec))
            self._learner.load_state_dict(state["learner"])
            if best:
                checkpoint.go_back(self._folder, self._learner.updates)
            saved_frames, version = int(state["frames"]), int(state["version"])
            self._reward_max = float(state.get("reward_max", math.nan))
            known = state.get("demonstrations", known)
            known_rows = math.inf if state.get("rows") is None else state["rows"]
            log.info("resumed from %s at frame %d", path, saved_frames)
        self._demonstrations = self._take_in_demonstrations(folder, known)
        kept = TakenIn()
        self._keeper: Keeper | None = None
        if config.checkpoint.replay and not pretrain_updates:
            rows = folder / journal.FOLDER
            if resume:
                kept = take_in_journal(rows, self._replay, self._learner, known_rows)
            self._keeper = Keeper(rows, game.spec, config.replay.capacity_steps, kept.at, resume)
        if pretrain_updates and not self._replay.can_sample:
            raise RecordingError(
                f"{folder / demonstrations.FOLDER} holds no step to learn from; import more"
            )
        self._rings = [
            StepRing.attach(name, game.spec, config.server.ring_steps) for name in game.rings
        ]
        self._stored = 0
        """Steps appended since this start of the server."""
        if takes_over:
            assert slot_name is not None
            for ring in self._rings:
                ring.release(already_kept(ring, kept.last))
            self._stored = sum(ring.steps_read for ring in self._rings)
            self._slot = WeightSlot.attach(slot_name, len(vector))
            self._base_frames = self._slot.base_frames
        else:
            # The rows know better than the checkpoint how far the run was, unless it goes back.
            self._base_frames = saved_frames if best else max(saved_frames, kept.at.steps)
            self._slot = WeightSlot.create(len(vector), version, slot_name)
            self._slot.base_frames = self._base_frames
        if self._keeper:
            self._keeper.at(self._base_frames + self._stored)
        self._slot.publish(self._learner.policy_vector().numpy(), self._slot.version + 1)
        self._record = BatchRecord(self._replay, game.spec) if record else None
        self._recorder: Recorder | None = None
        if keep_rows:
            self._recorder = Recorder(game.spec, reward_weights(game.spec, config.reward))
        self._pretrain = pretrain_updates
        # A replay that is there already need not be waited for; updates are owed for new steps.
        self._not_owed = self._stored - min(kept.steps, config.trainer.min_steps)
        """Steps appended since this start of the server that make no update due."""
        self._first_update = self._learner.updates
        self._published_updates = self._learner.updates
        now = time.monotonic()
        self._next_publish = now
        self._next_report = now + config.metrics.every_s
        self._next_checkpoint = now + config.checkpoint.every_s
        self._reported_at, self._reported_updates = now, self._learner.updates
        self._reward_sum, self._reward_n = np.zeros(3), np.zeros(3)
        self._lines: list[str] = []
        self._paused = False
        self._owed = 0
        """Updates that were due when it was paused."""
        self._forgiven = 0
        """Updates that became due while it was paused, and are not made."""
        if paused:
            self._pause(True)
        self._ending = False
        """No game plays any more: only what is left in the rings is taken in."""
        self._stopping = False
        self._linger_until = 0.0
        self._tell(Ready(self._slot.name, len(vector), self._base_frames))

    def run(self) -> None:
        """Until the supervisor says stop, and everything in the rings is in the replay."""
        while True:
            self._heart.beat()
            self._hear()
            moved = self._drain()
            if self._stopping and not moved and time.monotonic() >= self._linger_until:
                break
            learned = 0 if self._ending else self._learn()
            now = time.monotonic()
            if now >= self._next_publish and self._learner.updates != self._published_updates:
                self._publish(now)
            if now >= self._next_report:
                self._report(now)
            if now >= self._next_checkpoint:
                self._save()
            if self._pretrain and not self._due():
                break
            if not moved and not learned:
                time.sleep(IDLE_S)
        self._publish(time.monotonic())
        self._report(time.monotonic())
        self._save()
        if self._keeper:
            self._keeper.close()
        for ring in self._rings:
            ring.close()
        self._slot.close()
        self._slot.unlink()

    def _take_in_demonstrations(self, folder: Path, known: Collection[str]) -> list[str]:
        """Put the run's demonstrations into the replay; the names of their files.

        They are not frames of this run: schedules and the replay ratio do not count them. `known`:
        files whose observations the learner's statistics hold already.
        """
        names, rows = [], 0
        for name, block in demonstrations.blocks(folder, self._spec, self._config.reward):
            rows += len(block)
            if rows > self._replay.capacity_steps:
                raise RecordingError(
                    f"{folder / demonstrations.FOLDER} holds more than replay.capacity_steps = "
                    f"{self._replay.capacity_steps} rows; raise it, or remove files"
                )
            self._replay.append(block)
            self._note_rewards(block.reward)
            if name not in known:
                self._learner.observe(block.obs)
            names.append(name)
        if names:
            log.info("%d demonstrated steps from %s", len(self._replay), ", ".join(names))
        return names

    def _hear(self) -> None:
        try:
            while self._pipe.poll():
                message = self._pipe.recv()
                if isinstance(message, Ending | Stop):
                    self._ending = True
                    self._stopping = isinstance(message, Stop)
                elif isinstance(message, Checkpoint):
                    self._save()
                elif isinstance(message, Pause):
                    self._pause(message.on)
                elif isinstance(message, SaveBest):
                    self._save_best(message.evaluation)
                elif isinstance(message, Changed):
                    self._change(message.config)
                elif isinstance(message, Dump):
                    self._dump(message.path)
                elif isinstance(message, Record):
                    self._write_recording(message.path)
        except (EOFError, OSError):  # the supervisor is gone
            self._orphaned()

    def _pause(self, on: bool) -> None:
        """Learn no more, or go on. What was stored while it was paused makes no update due: else
        the games would have to wait, or a day's updates be made at once."""
        if on == self._paused:
            return
        if on:
            self._owed, self._paused = self._due(), True
        else:
            self._paused = False
            self._forgiven += self._due() - self._owed

    def _change(self, config: Config) -> None:
        """These settings hold from the next batch on."""
        self._config = config
        self._replay.n_step, self._replay.gamma = config.learner.n_step, config.learner.gamma
        self._learner.configure(config.learner, config.advantage, config.imitation)

    def _tell(self, message: Any) -> None:
        """Say something to the supervisor; without one, come to an end in order."""
        try:
            self._pipe.send(message)
        except OSError:
            self._orphaned()

    def _orphaned(self) -> None:
        """Nobody says when the gateways have ended: take in for a while what they leave."""
        if not self._stopping:
            self._ending = self._stopping = True
            self._linger_until = time.monotonic() + LINGER_S

    def _drain(self) -> int:
        """Move what the rings hold into the replay; how many rows that were."""
        moved = 0
        for ring in self._rings:
            for _ in range(max(1, ring.capacity // DRAIN_STEPS)):
                block = ring.read(min(DRAIN_STEPS, self._room()))
                if block is None:
                    break
                take_in(block, self._replay, self._learner)
                if self._keeper:
                    self._keeper.keep(block)
                if self._recorder:
                    self._recorder.add(block)
                steps = block.kind == STEP
                self._stored += int(np.count_nonzero(steps))
                self._note_rewards(block.reward)
                self._reward_sum += np.bincount(block.actor, block.reward, minlength=3)
                self._reward_n += np.bincount(block.actor, minlength=3)
                moved += len(block)
                ring.release(len(block))
        return moved

    def _note_rewards(self, rewards: np.ndarray[Any, Any]) -> None:
        if len(rewards):
            self._reward_max = max(self._reward_max, float(np.abs(rewards).max()))

    def _room(self) -> int:
        """Rows that may be taken in before more updates are due than the configuration allows;
        what is left in the rings then makes the games wait."""
        limit = self._config.trainer.max_lag_updates
        if limit is None or self._ending:
            return DRAIN_STEPS
        # Rounded up: a single step may bring more updates than the limit, and must come in.
        return max(0, math.ceil((limit - self._due()) / self._config.trainer.replay_ratio))

    def _due(self) -> int:
        """Updates that the replay ratio allows and that have not been made. None while there is
        nothing to learn from: as long as that is so, games must not be made to wait for it."""
        if self._pretrain:
            return self._first_update + self._pretrain - self._learner.updates
        trainer = self._config.trainer
        if not trainer.enabled or self._paused or not self._replay.can_sample:
            return 0
        made = self._learner.updates - self._first_update
        return updates_due(trainer, self._stored - self._not_owed, made + self._forgiven)

    def _learn(self) -> int:
        due = self._due()
        if due <= 0:
            return 0
        until = time.monotonic() + BURST_S
        frames = self._base_frames + self._stored
        for made in range(1, due + 1):
            batch = learn_once(self._config, self._replay, self._learner, self._device, frames)
            if self._record:
                self._record.add(batch)
            if self._learner.updates % BUFFER_LINE_EVERY == 0:
                self._lines.append(self._buffer_line())
            if time.monotonic() >= until:
                return made
        return due

    def _publish(self, now: float) -> None:
        vector = self._learner.policy_vector().numpy()
        # A policy of NaN would play nonsense: the gateways keep the last good one.
        if np.isfinite(vector).all():
            self._slot.publish(vector, self._slot.version + 1)
        self._published_updates = self._learner.updates
        self._next_publish = now + self._config.trainer.publish_every_s

    def _report(self, now: float) -> None:
        learner, composition = self._learner, self._replay.actor_composition()
        seconds = max(now - self._reported_at, 1e-9)
        rate = (learner.updates - self._reported_updates) / seconds
        metrics = learner.metrics() | {
            "frames": float(self._base_frames + self._stored),
            "steps_stored": float(self._stored),
            "updates": float(learner.updates),
            "updates_per_s": rate,
            "samples_per_s": rate * self._config.learner.batch_size,
            "updates_due": float(max(0, self._due())),
            "buffer_total": float(composition.total),
            "buffer_dqn": float(composition.dqn),
            "buffer_expert": float(composition.expert),
            "buffer_frac_dqn": composition.frac_dqn,
            "buffer_frac_expert": composition.frac_expert,
            "buffer_fill": composition.total / self._config.replay.capacity_steps,
            **{f"priority_{name}": value for name, value in self._replay.priorities().items()},
            "rows_unkept": float(self._keeper.unkept if self._keeper else 0),
            "paused": float(self._paused),
            "checkpoints_failed": float(self._writes.failed),
            "ring_fill": max((ring.used / ring.capacity for ring in self._rings), default=0.0),
        }
        for actor in ACTORS:
            n = self._reward_n[actor]
            mean = self._reward_sum[actor] / n if n else float("nan")
            metrics[f"reward_frame_mean_{NAMES[actor]}"] = float(mean)
        self._reward_sum[:], self._reward_n[:] = 0, 0
        self._reported_at, self._reported_updates = now, learner.updates
        self._next_report = now + self._config.metrics.every_s
        lines = [*learner.batch_lines(), *self._lines]
        self._lines.clear()
        self._tell(TrainerReport(metrics | self._watch(metrics), lines))
        if self._recovery.wanted(metrics["updates_skipped_in_a_row"]):
            self._go_back()

    def _watch(self, metrics: dict[str, float]) -> dict[str, float]:
        """Warn of values that drift and of heads that are dead; what the metrics say of it."""
        learner, config = self._learner, self._config
        bound = value_bound(self._reward_max, config.learner, config.imitation)
        found = self._values.look(learner.updates, metrics["q_max"], bound)
        if not math.isnan(metrics["q_max"]):
            found += self._heads.look(learner.updates, learner.heads())
        for warning in found:
            log.warning("%s", warning)
        return {
            "q_bound": bound,
            "values_drift": float(self._values.drifting),
            "heads_dead": float(self._heads.dead),
            "went_back": float(self._recovery.times),
            "learning_rate_factor": learner.rate_factor,
        }

    def _go_back(self) -> None:
        """Numbers have gone bad. Errors: NumbersWentBad."""
        learner = self._learner
        before = learner.updates
        self._recovery.go_back(
            learner, lambda: make_learner(self._config, self._spec, self._device).state_dict()
        )
        # The updates that are due do not become more by that.
        back = learner.updates - before
        self._first_update += back
        self._reported_updates += back
        self._values.went_back(learner.updates)
        self._heads.went_back()
        self._publish(time.monotonic())

    def _buffer_line(self) -> str:
        c = self._replay.actor_composition()
        return (
            f"[BUFFER] Step {self._learner.updates}: {c.total} total, "
            f"{c.dqn} DQN ({c.frac_dqn:.1%}), {c.expert} expert ({c.frac_expert:.1%})"
        )

    def _save(self) -> None:
        self._heart.busy()
        self._next_checkpoint = time.monotonic() + self._config.checkpoint.every_s
        path = self._folder / checkpoint.file_name(self._learner.updates)
        settings = self._config.checkpoint
        if error := self._written(path, self._state()):
            self._tell(Saved(str(path), error))
            return
        with self._writes.tried(f"{self._folder} (old checkpoints, deleting them)"):
            checkpoint.prune(self._folder, settings.keep, settings.keep_every_updates)
        if self._keeper and self._replay.prioritised:
            with self._writes.tried("the priorities of the replay's rows"):
                self._keeper.keep_priorities(self._replay.saved_priorities())
        log.info("checkpoint %s", path)
        self._tell(Saved(str(path)))

    def _save_best(self, evaluation: dict[str, Any]) -> None:
        self._heart.busy()
        path = self._folder / checkpoint.BEST
        if error := self._written(path, self._state() | {"evaluation": evaluation}):
            self._tell(SavedBest(str(path), evaluation["mean"], error))
            return
        log.info("checkpoint %s: evaluated at %.1f", path, evaluation["mean"])
        self._tell(SavedBest(str(path), evaluation["mean"]))

    def _written(self, path: Path, state: dict[str, Any]) -> str | None:
        """Write a checkpoint; why that could not be, if so."""
        with self._writes.tried(f"checkpoints in {self._folder}", CheckpointError) as errors:
            checkpoint.save(path, state)
        return errors[0] if errors else None

    def _state(self) -> dict[str, Any]:
        return {
            "spec": spec_text(self._spec),
            "learner": self._learner.state_dict(),
            "frames": self._base_frames + self._stored,
            "rows": self._keeper.rows if self._keeper else None,
            "version": self._slot.version,
            "demonstrations": self._demonstrations,
            # NaN is no number to save, and neither is what is not known.
            **({} if math.isnan(self._reward_max) else {"reward_max": self._reward_max}),
        }

    def _dump(self, path: str) -> None:
        """Write what the replay holds, and what the recorded batches held, for the audit, which is
        about games that play: without the demonstrations."""
        self._heart.busy()
        self._drain()
        rows = self._replay.rows()
        played = rows.stream >= 0
        stored = {
            "stream": rows.stream[played],
            "seq": rows.seq[played],
            "actor": rows.actor[played],
            "action": rows.action[played],
        }
        if self._record:
            names = ("batch_stream", "batch_seq", "batch_actor", "batch_action")
            stored |= dict(zip(names, self._record.columns(), strict=True))
        with written_whole(Path(path)) as file:
            np.savez(file, **stored)  # type: ignore[arg-type]
        self._tell(Dumped(path))

    def _write_recording(self, path: str) -> None:
        """Write every row that came in."""
        assert self._recorder is not None
        self._heart.busy(3600.0)
        while self._drain():
            pass
        try:
            recording.write(Path(path), self._recorder.recording())
        except (OSError, RecordingError) as error:
            self._tell(Recorded(path, str(error)))
        else:
            self._tell(Recorded(path))


def updates_due(settings: TrainerConfig, stored: int, made: int) -> int:
    """Updates that are to be made now, after `stored` steps and `made` updates."""
    over = stored - settings.min_steps
    return int(over * settings.replay_ratio) - made if over >= 0 else 0


def make_replay(config: Config, spec: GameSpec, device: torch.device) -> Replay:
    """An empty replay as configured; on `device`, the trainer's, unless told otherwise."""
    store = config.replay.device
    return Replay(
        spec,
        config.replay.capacity_steps,
        n_step=config.learner.n_step,
        gamma=config.learner.gamma,
        device=device if store == "auto" else resolve_device(store, "replay.device"),
        stop_at_actor_change=config.replay.stop_at_actor_change,
        actor_share={Actor[k.upper()]: v for k, v in config.replay.actor_share.items()},
        priority_alpha=config.replay.priority_alpha if config.replay.prioritised else None,
        frame_stack=config.replay.frame_stack,
        seed=config.run.seed,
    )


def make_learner(config: Config, spec: GameSpec, device: torch.device) -> Learner:
    """A learner at its first weights, as configured."""
    return Learner(
        spec,
        config.learner,
        config.advantage,
        config.imitation,
        device=device,
        seed=config.run.seed,
        frame_stack=config.replay.frame_stack,
    )


def take_in(block: StepBlock, replay: Replay, learner: Learner) -> None:
    """Store rows, and let the learner see what was observed."""
    replay.append(block)
    learner.observe(block.obs)


def learn_once(
    config: Config, replay: Replay, learner: Learner, device: torch.device, frames: int
) -> Batch:
    """One update at `frames` stored steps of the run; the batch that it was made from."""
    replay.beta = scheduled(config.replay.priority_beta, frames)
    batch = replay.sample(config.learner.batch_size)
    td_errors = learner.step(batch.to(device), frames)
    if replay.prioritised:
        replay.update_priorities(batch.indices, td_errors)
    return batch


def spec_text(spec: GameSpec) -> str:
    """The spec as JSON, as it is kept in a run's folder and in its checkpoints."""
    return msgspec.json.encode(spec).decode()


def _await_game(
    pipe: Pipe, config: Config, heart: Heart
) -> tuple[GameDecided | None, Config, bool]:
    """What the run is about (None if it is to end before there is a game), the configuration, which
    may change meanwhile, and whether training was paused."""
    paused = False
    while True:
        while not pipe.poll(1.0):
            heart.beat()
        message = pipe.recv()
        if isinstance(message, GameDecided):
            return message, config, paused
        if isinstance(message, Stop):
            return None, config, paused
        if isinstance(message, Pause):
            paused = message.on
        if isinstance(message, Changed):
            config = message.config
        if isinstance(message, Checkpoint):
            pipe.send(Saved("", "there is no game yet, so there is nothing to save"))


def _have_alone(folder: Path, heart: Heart) -> None:
    """Wait until no other trainer writes to the run. The system lets go of the lock when this
    process ends, however. Errors: RuntimeError, OSError."""
    file = os.open(folder / "trainer-lock", os.O_WRONLY | os.O_CREAT, 0o600)
    deadline = time.monotonic() + ALONE_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"another trainer still writes to {folder}; find the process that has "
                    f"{folder / 'trainer-lock'} open and end it"
                ) from None
            heart.beat()
            time.sleep(0.1)
        else:
            return


def main(
    config: Config,
    pipe: Pipe,
    heart: Heart,
    folder: Path,
    resume: bool,
    record: bool,
    best: bool = False,
    keep_rows: bool = False,
    pretrain_updates: int = 0,
) -> None:
    """The process's entry: wait for the game, then train it. Signals are the supervisor's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    log_to_pipe(pipe, "trainer")
    log.info("process %d", os.getpid())
    try:
        os.nice(config.trainer.nice)
        if config.trainer.threads:
            torch.set_num_threads(config.trainer.threads)
        game, config, paused = _await_game(pipe, config, heart)
        if game:
            _have_alone(folder, heart)
            Trainer(
                config,
                game,
                pipe,
                folder,
                resume=resume,
                record=record,
                best=best,
                keep_rows=keep_rows,
                pretrain_updates=pretrain_updates,
                paused=paused,
                heart=heart,
            ).run()
    except EOFError:  # the supervisor is gone
        return
    except Exception as error:
        log.exception("the trainer ends")
        if isinstance(error, _TOLD):
            with contextlib.suppress(OSError):
                pipe.send(Failed(f"trainer: {error}", final=isinstance(error, NumbersWentBad)))
        raise SystemExit(1) from error

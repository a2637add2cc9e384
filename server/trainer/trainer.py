"""The trainer: drains the rings into the replay, learns, publishes weights, reports.

One loop, read from top to bottom. Its process alone has the replay and the optimizer; the gateways
never wait for it unless a ring is full.
"""

from __future__ import annotations

import time
from dataclasses import replace
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

from agent import demonstrations
from agent.batch import Batch
from agent.captured_updates import captured_updates
from agent.checkpoint import spec_text
from agent.collective import ALONE, Collective
from agent.device import resolve_device
from agent.evidence import Evidence
from agent.factory import make_learner, make_replay
from agent.recorder import Recorder
from agent.recording import RecordingError
from agent.rollback import Rollback
from agent.training_step import learn
from agent.update_budget import UpdateBudget
from config.models import Config
from server.ipc.expert_messages import Trusted
from server.ipc.heartbeat import Heartbeat
from server.ipc.messages import (
    TRAINER,
    Changed,
    DumpWritten,
    Ending,
    GameDecided,
    Pause,
    Ready,
    RolledBack,
    SaveBest,
    SaveCheckpoint,
    Settle,
    Settled,
    Stop,
    WriteDump,
)
from server.ipc.step_ring import StepRing
from server.ipc.weight_slot import WeightSlot, weights_name
from server.run.audit_dump import BatchRecord, write_dump
from server.trainer.checkpointer import Checkpointer, Progress
from server.trainer.ingest import Ingest
from server.trainer.load_progress import LoadProgress
from server.trainer.recording_requests import Request, answered
from server.trainer.reporter import Reporter
from server.trainer.restore import restore
from server.trainer.shard_folders import taken_over
from server.trainer.task import Task
from server.trainer.weight_publisher import WeightPublisher

BURST_S = 0.02
"""How long it learns before it looks at the rings again; they hold more than a burst brings."""

IDLE_S = 0.001

HEALTH_S = 0.25
"""How often it asks the learner whether updates are skipped, which waits for the device."""

LINGER_S = 3.0
"""How long gateways without a supervisor may take to hand over what they have: more than they give
their games to read why (server.gateway.connection), less than server.ipc.heartbeat allows."""

BUFFER_LINE_EVERY = 1000


class Trainer:
    """The replay, the learner, and the loop between the rings and the weight slot."""

    def __init__(
        self,
        config: Config,
        game: GameDecided,
        pipe: Pipe,
        folder: Path,
        task: Task,
        *,
        paused: bool = False,
        heartbeat: Heartbeat | None = None,
        collective: Collective = ALONE,
    ) -> None:
        """`paused`: learn nothing until told to. `collective`: of several learners."""
        self._config = config
        self._pipe = pipe
        self._heartbeat = heartbeat or Heartbeat()
        progress = self._progress_of_load = LoadProgress(pipe, self._heartbeat)
        spec = self._spec = game.spec
        self._device = resolve_device(config.trainer.device, "trainer.device")
        replay = self._replay = make_replay(config, spec, self._device, collective)
        learner = self._learner = make_learner(config, spec, self._device, collective)
        self._captured = captured_updates(config, replay, learner, self._device)
        evidence = self._evidence = Evidence()
        vector = learner.policy_vector().numpy()
        # Its name is that of what it belongs to. So a trainer that takes over from one that died
        # finds it, and knows by it that the run goes on: in the rings, and in what was kept.
        slot_name = weights_name(game.rings[0]) if game.rings else None
        takes_over = slot_name is not None and WeightSlot.is_left(slot_name, len(vector))
        if takes_over:
            task = replace(task, resume=True, best=False, init_from=None)
        if takes_over and task.recording:
            raise RecordingError(
                f"the trainer died; episodes that had ended before are in {task.recording}; record "
                "the rest into another file"
            )
        keep = config.checkpoint.replay and not task.pretrain_updates
        past = restore(
            folder, config, replay, learner, evidence, progress,
            resume=task.resume, best=task.best, keep=keep, init_from=task.init_from,
            first=not collective.rank, others=taken_over(folder, collective.rank, collective.size),
        )  # fmt: skip
        self._past, self._folder = past, folder
        self._demonstrations, self._journal_writer = past.demonstrations, past.journal_writer
        if task.pretrain_updates and not replay.can_sample:
            raise RecordingError(
                f"{folder / demonstrations.FOLDER} has no step to learn from; import more"
            )
        self._recorder: Recorder | None = None
        if task.recording:
            weights = demonstrations.reward_weights(spec, config.reward)
            self._recorder = Recorder(task.recording, spec, weights)
        memory = config.learner.state_size
        rings = [
            StepRing.attach(name, spec, config.server.ring_steps, memory) for name in game.rings
        ]
        self._ingest = Ingest(
            rings, replay, learner, evidence, past.rewards, past.journal_writer, self._recorder,
            past.kept.sources,
        )  # fmt: skip
        if takes_over:
            assert slot_name is not None
            self._ingest.take_over(past.kept.sources)
            self._slot = WeightSlot.attach(slot_name, len(vector))
            self._base_frames = self._slot.base_frames
        else:
            self._base_frames = past.frames
            version = max(past.version, game.version)
            self._slot = WeightSlot.create(len(vector), version, slot_name)
            self._slot.base_frames = self._base_frames
        if self._journal_writer:
            self._journal_writer.at(self._frames - past.kept.of_others)
        self._weights = WeightPublisher(self._slot, learner)
        self._record = BatchRecord(replay, spec) if task.record else None
        # A replay that is there already need not be waited for; updates are owed for new steps.
        not_owed = self._ingest.stored - min(past.kept.steps, config.trainer.min_steps)
        self._budget = UpdateBudget(
            config.trainer, replay, learner, not_owed, task.pretrain_updates
        )
        self._pretrains = task.pretrain_updates > 0
        if paused:
            self._budget.pause(True, self._ingest.answered)
        self._pace_games()
        saved = folder / "checkpoints"
        self._checkpointer = Checkpointer(
            saved, config.checkpoint, spec, replay, learner, self._journal_writer
        )
        self._rollback = Rollback(config.health, saved, spec_text(spec))
        now = time.monotonic()
        self._reporter = Reporter(
            replay, learner, evidence, self._ingest, self._budget, self._checkpointer,
            self._rollback, now,
        )  # fmt: skip
        self._checked_updates = learner.updates
        self._next_health = now
        self._next_report = now + config.metrics.every_s
        self._next_checkpoint = now + config.checkpoint.every_s
        self._ending = False
        """No game plays any more: only what is left in the rings is taken in."""
        self._stopping = False
        self._linger_until = 0.0
        self._told_early: list[Any] = []

    def await_begin(self) -> bool:
        """Say that all is loaded, and wait until the start is accepted; False where the trainer is
        to end instead. What else it is told meanwhile it does once it has begun."""
        return self._progress_of_load.await_begin(self._told_early)

    def begin(self) -> None:
        """The start is accepted: from now on the run's folder changes. Errors: OSError."""
        self._past.begin(self._folder, self._learner.updates)
        if self._past.warm:
            # Whatever happens to the run before its next checkpoint, it goes on from these weights.
            self._save()
        self._tell(Ready(self._slot.name, self._slot.size, self._base_frames))
        for message in self._told_early:
            self._handle(message)

    def run(self) -> None:
        """Until the supervisor says stop, and everything in the rings is in the replay."""
        while True:
            self._heartbeat.beat()
            self._hear()
            moved = self._drain()
            if self._stopping and not moved and time.monotonic() >= self._linger_until:
                break
            self._pace_games()
            learned = 0 if self._ending else self._learn()
            now = time.monotonic()
            # Before each report too: that begins to count anew.
            if now >= min(self._next_health, self._next_report):
                self._check_health(now)
            self._weights.publish_if_due(self._config.trainer.publish_every_s)
            if now >= self._next_report:
                self._report(now)
            if now >= self._next_checkpoint:
                self._save()
            if self._pretrains and not self._due:
                break
            if not moved and not learned:
                time.sleep(IDLE_S)
        self._check_health(time.monotonic())
        self._weights.publish(0.0)
        self._report(time.monotonic())
        self._save()
        self.close()

    def close(self) -> None:
        """Let go of files and shared memory."""
        if self._journal_writer:
            self._journal_writer.close()
        self._ingest.close()
        self._slot.close()
        self._slot.unlink()

    @property
    def _frames(self) -> int:
        """Stored steps of the whole run."""
        return self._base_frames + self._ingest.stored

    @property
    def _due(self) -> int:
        """Updates to be made now."""
        return self._budget.due(self._ingest.stored, self._answered)

    @property
    def _answered(self) -> int:
        """Frames answered for training since this start."""
        return self._ingest.answered

    def _pace_games(self) -> None:
        """Say how far games in lock step may play. After each update: they need not wait for a
        burst, and never play further than the configured ratio lets them."""
        self._slot.allowed = self._budget.allowed(self._ingest.seen)

    def _hear(self) -> None:
        try:
            while self._pipe.poll():
                self._handle(self._pipe.recv())
        except (EOFError, OSError):  # the supervisor is gone
            self._orphaned()

    def _handle(self, message: Any) -> None:
        if isinstance(message, Ending | Stop):
            self._ending = True
            self._stopping = isinstance(message, Stop)
        elif isinstance(message, SaveCheckpoint):
            self._save()
        elif isinstance(message, Pause):
            self._budget.pause(message.on, self._answered)
            self._pace_games()  # at once: games play on until it says how far
        elif isinstance(message, SaveBest):
            self._heartbeat.busy()
            self._tell(self._checkpointer.save_best(self._progress(), message.evaluation))
        elif isinstance(message, Trusted):
            self._evidence.evaluated = message.trust
        elif isinstance(message, Settle):
            self._settle()
        elif isinstance(message, Changed):
            self._change(message.config)
        elif isinstance(message, WriteDump):
            self._dump(message.path)
        elif isinstance(message, Request):
            self._on_recording(message)

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

    def _change(self, config: Config) -> None:
        """These settings hold from the next batch on."""
        since = self._next_checkpoint - self._config.checkpoint.every_s
        self._next_checkpoint = since + config.checkpoint.every_s
        self._checkpointer.settings = config.checkpoint
        self._config = config
        self._budget.change(config.trainer, self._answered)
        self._pace_games()
        self._replay.n_step, self._replay.gamma = config.learner.n_step, config.learner.gamma
        self._learner.configure(config.learner, config.advantage, config.imitation)

    def _drain(self) -> int:
        """Move what the rings hold into the replay; how many rows that were."""
        return self._ingest.drain()

    def _learn(self) -> int:
        """Make updates that are due, for a burst; how many that were."""
        due = self._due
        if due <= 0:
            return 0
        until = time.monotonic() + BURST_S
        made, first = 0, self._learner.updates + 1
        for batch in learn(
            self._config, self._replay, self._learner, self._device, self._frames, self._evidence,
            due, self._captured,
        ):  # fmt: skip
            self._pace_games()
            self._note(batch, first + made)
            made += 1
            # Never amid those of one launch, which are all made already.
            if first + made > self._learner.updates and time.monotonic() >= until:
                break
        return made

    def _note(self, batch: Batch, number: int) -> None:
        """The update of this number was made from these rows."""
        if self._record:
            self._record.add(batch)
        if number % BUFFER_LINE_EVERY == 0:
            self._reporter.add_buffer_line(number)

    def _report(self, now: float) -> None:
        report = self._reporter.report(self._config, self._frames, now)
        self._next_report = now + self._config.metrics.every_s
        self._tell(report)

    def _check_health(self, now: float) -> None:
        """Roll back if too many updates in a row were skipped. Errors: NumbersWentBad."""
        self._next_health = now + HEALTH_S
        if self._learner.updates != self._checked_updates:
            self._checked_updates = self._learner.updates
            if self._rollback.wanted(self._learner.skipped_in_a_row()):
                self._roll_back()

    def _roll_back(self) -> None:
        """Numbers have gone bad. Errors: NumbersWentBad."""
        before = self._learner.updates
        self._rollback.roll_back(
            self._learner, lambda: make_learner(self._config, self._spec, self._device).state_dict()
        )
        back = self._learner.updates - before
        self._budget.rolled_back(back)
        self._reporter.rolled_back(back)
        self._checked_updates = self._learner.updates
        self._tell(RolledBack(self._learner.updates, self._rollback.times))
        self._weights.publish(self._config.trainer.publish_every_s)

    def _settle(self) -> None:
        """Answer whether anything is still on its way into the weights that games play with."""
        self._drain()
        settled = not self._ingest.ring_fill and self._due <= 0
        if settled:
            now = time.monotonic()
            self._check_health(now)
            self._weights.publish_if_changed(self._config.trainer.publish_every_s)
            self._report(now)
        self._tell(Settled(TRAINER, settled))

    def _save(self) -> None:
        self._heartbeat.busy()
        self._next_checkpoint = time.monotonic() + self._config.checkpoint.every_s
        self._tell(self._checkpointer.save(self._progress()))

    def _progress(self) -> Progress:
        return Progress(
            frames=self._frames,
            rows=self._journal_writer.rows if self._journal_writer else None,
            version=self._weights.version,
            demonstrations=self._demonstrations,
            reward_max=self._ingest.rewards.largest,
        )

    def _dump(self, path: str) -> None:
        """Write what the audit asks for."""
        self._heartbeat.busy()
        self._drain()
        write_dump(Path(path), self._replay, self._record)
        self._tell(DumpWritten(path))

    def _on_recording(self, request: Request) -> None:
        """Take in what is left, then do it."""
        assert self._recorder is not None
        self._heartbeat.busy(3600.0)
        while self._drain():
            pass
        self._tell(answered(self._recorder, request))

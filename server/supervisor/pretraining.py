"""Pretraining: a trainer without gateways or games, which learns from a run's demonstrations."""

from __future__ import annotations

import logging
import multiprocessing.connection
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from agent import demonstrations
from config.load import ConfigError
from config.models import Config
from config.passing import is_passing
from protocol.spaces import GameSpec
from server.ipc.load_messages import Loading, RunLoaded
from server.ipc.messages import (
    CheckpointSaved,
    LogLine,
    ProcessFailed,
    Ready,
    Stop,
    TrainerReport,
)
from server.monitor.collector import MetricsCollector
from server.monitor.warnings import Warnings
from server.run.directory import RunDirectory
from server.run.disk import Writes
from server.run.events import EventLog
from server.run.logs import logged, relay
from server.run.metrics_log import plain
from server.supervisor.game_choice import known_game
from server.supervisor.processes import Processes
from server.trainer.task import Task

log = logging.getLogger("pretrain")


@contextmanager
def pretraining(config: Config, updates: int) -> Iterator[Pretraining]:
    """A started trainer that makes so many updates and a checkpoint, and ends; whoever uses it
    polls it. At the end of the context it is told to stop, and has saved. Where the trainer refuses
    to start, the run's folder stays as it was. Errors: ConfigError where the run has no
    demonstrations."""
    folder = RunDirectory.open(config, resume=True)
    run = None
    try:
        with logged(folder.log, form=config.server.log_format) as log_file:
            folder.when_accepted(log_file.begin)
            spec = known_game(folder, config.run.game)
            if spec is None or not demonstrations.files(folder.path):
                raise ConfigError(
                    f"{folder.path} has no demonstrations; put some there with `understudy import "
                    f"SOURCE --run {folder.path}`"
                )
            run = Pretraining(config, folder, spec, updates)
            try:
                run.start()
                yield run
            finally:
                run.close()
    finally:
        if run is None or not run.ready:
            folder.refused()
        folder.close()


class Pretraining:
    """The trainer's process, and what it has reported."""

    def __init__(self, config: Config, folder: RunDirectory, spec: GameSpec, updates: int) -> None:
        self.folder = folder
        self.ready = False
        """The trainer has begun: nothing refuses the start any more."""
        self.made = 0
        """Updates."""
        self.last: dict[str, float] = {}
        """The newest metrics that were numbers."""
        self.saved = ""
        """The newest checkpoint."""
        self.passing = False
        """What made it fail may be over soon."""
        self._failure = ""
        self._config = config
        self._spec = spec
        self._updates = updates
        self._stopping = False
        self._exit_code: int | None = None
        self._collector = MetricsCollector()
        self._warnings = Warnings(config.metrics.every_s)
        self._writes = Writes(log, "training continues")
        task = Task(resume=True, pretrain_updates=updates)
        events = EventLog(folder.events, self._writes)
        folder.when_accepted(events.begin)
        self._processes = Processes(config, folder, task, events, lambda _: None)

    def start(self) -> None:
        """Start the trainer. Errors: OSError."""
        self._processes.start()
        self._processes.decide(self._spec)

    @property
    def over(self) -> bool:
        """The trainer has ended."""
        return not self._processes.trainer.alive

    @property
    def failure(self) -> str:
        """Once it is over: why it did not end as it should, with a checkpoint; else empty."""
        if self._failure or (self.saved and self._exit_code == 0):
            return self._failure
        if self._stopping and not self.ready:
            return "stopped before it began; the run is as it was"
        if self.ready:
            return f"the trainer ended by itself; see {self.folder.log}"
        lines = " | ".join(self._processes.trainer.lines)
        return f"the trainer ended by itself; its last log lines: {lines}"

    def request_stop(self) -> None:
        """Have the trainer save and end. Again has no effect."""
        if not self._stopping:
            self._stopping = True
            self._processes.trainer.send(Stop())

    def poll(self, timeout_s: float = 0.1) -> None:
        """Take in what the trainer sends, for at most so long."""
        pipes, ends = self._processes.waitables
        ready = multiprocessing.connection.wait([*pipes, *ends], timeout_s)
        trainer = self._processes.trainer
        for message in trainer.messages():
            self._handle(message)
        if any(each in ends for each in ready):
            self._exit_code = trainer.reap()

    def close(self) -> None:
        """Stop, however long saving takes, and let go of everything."""
        self.request_stop()
        while not self.over:
            self.poll()
        self._processes.close()

    def _handle(self, message: Any) -> None:
        match message:
            case Loading():
                pass
            case RunLoaded():
                self._accept()
            case Ready():
                self.ready = True
            case TrainerReport():
                self._on_report(message)
            case LogLine():
                relay(message)
            case CheckpointSaved():
                self.saved = message.path
                if message.error:
                    self._failure = f"cannot write {message.path}: {message.error}"
            case ProcessFailed():
                self._failure, self.passing = message.text, message.passing

    def _accept(self) -> None:
        """All is loaded, and fits: the run's folder may change."""
        try:
            self.folder.accept(self._config)
        except ConfigError as error:
            self._failure, self.passing = str(error), is_passing(error)
            self.request_stop()
        else:
            self._processes.begin()

    def _on_report(self, report: TrainerReport) -> None:
        self._collector.trainer(report.metrics)
        self._warnings.note(*report.findings)
        row = self._collector.row()
        with self._writes.tried(str(self.folder.metrics)):
            self.folder.rows.add(plain(row))
        for line in report.lines:
            log.info("%s", line)
        self.last |= {name: value for name, value in row.items() if value == value}
        self.made = self._updates - int(row["updates_due"])

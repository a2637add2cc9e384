"""Rows of metrics: one each interval, published to files, TensorBoard and the status."""

from __future__ import annotations

import logging
import math
import time
from collections import deque

from config.models import Config
from server.ipc.messages import GATEWAY, TRAINER, GatewayReport, TrainerReport
from server.monitor.clients import Clients
from server.monitor.collector import MetricsCollector
from server.monitor.metric import labeled
from server.monitor.metrics import OF_GATEWAYS, PROCESS
from server.monitor.newest_numbers import NewestNumbers
from server.monitor.report_age import ReportAges, degraded, late_findings
from server.monitor.status_publisher import StatusPublisher
from server.monitor.tensorboard import TensorBoardWriter
from server.monitor.watches import CONFIG_IDS, ClockWatch, PaceWatch, SampleWatch, config_findings
from server.run.directory import RunDirectory
from server.run.disk import Writes, free_bytes
from server.run.evaluation import Evaluation
from server.run.logs import LogFile
from server.run.metrics_log import plain
from server.run.repeats import RELAYED
from server.supervisor.processes import Processes

log = logging.getLogger("supervisor")

_TENSORBOARD = "TensorBoard's event files"

NEWEST_LINES = 100


class MetricsPublisher:
    """Makes rows of what the collector has, and sees to it that they are found."""

    def __init__(
        self,
        config: Config,
        folder: RunDirectory,
        collector: MetricsCollector,
        clients: Clients,
        status: StatusPublisher,
        writes: Writes,
    ) -> None:
        """`writes`: logs and counts what could not be written."""
        self.row: dict[str, float] = {}
        """The newest; empty until the first interval has passed."""
        self.ended = False
        """The processes end in order: what they say last is what there is to tell."""
        self._ages = ReportAges(config.metrics.every_s)
        self._numbers = NewestNumbers()
        self.lines: deque[str] = deque(maxlen=NEWEST_LINES)
        """The newest [BATCH] and [BUFFER] lines."""
        self._folder = folder
        self._collector = collector
        self._clients = clients
        self._status = status
        self._writes = writes
        self._samples = SampleWatch()
        self._clock = ClockWatch()
        self._pace = PaceWatch()
        self._next = 0.0
        self._tensorboard: TensorBoardWriter | None = None
        if config.metrics.tensorboard:
            self._tensorboard = TensorBoardWriter(folder.path / "tensorboard")

    def add_trainer_report(self, report: TrainerReport) -> None:
        """Take in what the trainer measured, and log its lines."""
        self._collector.trainer(report.metrics)
        self._ages.heard(TRAINER, time.monotonic())
        self._status.warnings.note(*report.findings, *self._samples.look(report.metrics))
        for line in report.lines:
            self.lines.append(line)
            log.info("%s", line, extra={RELAYED: True})

    def add_gateway_report(self, report: GatewayReport) -> list[Evaluation]:
        """Take in what a gateway counted; the evaluations that ended with it."""
        self._ages.heard(f"{GATEWAY}-{report.index}", time.monotonic())
        self._status.warnings.note(*report.findings)
        self._status.failures.add(report.failures)
        self._clients.report(report)
        return self._collector.gateway(report)

    def wait(self, every_s: float) -> None:
        """The next row is due after this interval."""
        self._next = time.monotonic() + every_s

    @property
    def last(self) -> dict[str, float]:
        """For each metric the newest value that was a number."""
        return self._numbers.last

    @property
    def due(self) -> bool:
        """An interval has passed."""
        return time.monotonic() >= self._next

    def publish(self, processes: Processes, base_frames: int | None, *, keep: bool) -> None:
        """Make a row of what the processes have told, and publish it. `base_frames`: stored frames
        before this start; None while that is not known. `keep`: write it to files too."""
        now = time.monotonic()
        for child in processes.gateways:
            if child.retired and not child.alive:
                self._ages.forget(child.name)
        self._collector.lost = processes.lost
        self._look()
        self.row = row = self._collector.row(processes.step_counts, base_frames)
        late, left_out = self._leave_out_old(row, now)
        status, warnings = self._status.status, self._status.warnings
        warnings.note(*self._pace.look(row, status.config.trainer, now))
        warnings.note(*late_findings(late, processes.attentive))
        if status.evaluating and any(name.startswith(GATEWAY) for name in late):
            self._status.update(evaluation_note=f"evaluation: {degraded(late)}")
        row["ring_fill"] = processes.ring_fill
        row["lessons_begun"] = float(status.config.lessons.begun)
        row["warnings"] = float(len(warnings.holding()))
        row["writes_failed"] = float(self._writes.failed + LogFile.failed)
        row["disk_free_bytes"] = free_bytes(self._folder.path)
        self._numbers.add(
            row,
            now,
            of_trainer=self._collector.of_trainer,
            late=left_out,
            forget_after_s=math.inf if self.ended else self._ages.old_after_s,
        )
        if keep:
            self._write(row)
        self._status.update(nodes=processes.nodes)
        games = self._clients.rows(now, late)
        self._status.add_row(row, self.last, self._collector.turns, games, degraded(late))

    def _leave_out_old(
        self, row: dict[str, float], now: float
    ) -> tuple[dict[str, float], set[str]]:
        """What was said of now some time ago is no number any more: the processes that are late
        with their reports, each with the age of the newest, s, and the names of those numbers.
        Counters keep what was counted."""
        ages = {kind: self._ages.age_s(kind, now) for kind in (GATEWAY, TRAINER)}
        row |= labeled("report_age_s", PROCESS, ages)
        if self.ended:
            return {}, set()
        told = {GATEWAY: set(OF_GATEWAYS), TRAINER: self._collector.of_trainer}
        left_out = set().union(*(told[kind] for kind in self._ages.kinds_late(now)))
        row |= dict.fromkeys(left_out, math.nan)
        return self._ages.late(now), left_out

    def _write(self, row: dict[str, float]) -> None:
        with self._writes.tried(str(self._folder.metrics)):
            self._folder.rows.add(plain(row))
        if self._tensorboard is not None:
            with self._writes.tried(_TENSORBOARD):
                self._tensorboard.add(row)

    def _look(self) -> None:
        """Note what holds by the disk, the clock and the configuration."""
        note, status = self._status.warnings.note, self._status.status
        note(*self._writes.findings)
        note(*self._clock.look(time.time(), time.monotonic()))
        unwise = config_findings(status.config, status.spec)
        note(*unwise)
        self._status.warnings.over(*(CONFIG_IDS - {found.id for found in unwise}))

    def close(self) -> None:
        """Write what TensorBoard's files still lack. Again has no effect."""
        if self._tensorboard is not None:
            with self._writes.tried(_TENSORBOARD):
                self._tensorboard.close()
            self._tensorboard = None

"""Rows of metrics: one each interval, published to files, TensorBoard and the status."""

from __future__ import annotations

import logging
import math
import time
from collections import deque

from config.models import Config
from server.ipc.inflight import InFlight, StepCounts
from server.ipc.messages import GatewayReport, TrainerReport
from server.monitor.clients import Clients
from server.monitor.collector import MetricsCollector
from server.monitor.status_publisher import StatusPublisher
from server.monitor.tensorboard import TensorBoardWriter
from server.monitor.watches import CONFIG_IDS, ClockWatch, PaceWatch, SampleWatch, config_findings
from server.run.directory import RunDirectory
from server.run.disk import Writes, free_bytes
from server.run.evaluation import Evaluation
from server.run.logs import LogFile
from server.run.metrics_log import plain

log = logging.getLogger("supervisor")

_ALWAYS_THERE = ("loss", "td_err_mean", "q_mean", "grad_norm")
"""Metrics that every update has: where they are NaN, that is news and not the lack of any."""

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
        self.last: dict[str, float] = {}
        """For each metric the newest value that was a number: a mean over no rows is none."""
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
        self._status.warnings.note(*report.findings, *self._samples.look(report.metrics))
        for line in report.lines:
            self.lines.append(line)
            log.info("%s", line)

    def add_gateway_report(self, report: GatewayReport) -> list[Evaluation]:
        """Take in what a gateway counted; the evaluations that ended with it."""
        self._status.warnings.note(*report.findings)
        self._status.failures.add(report.failures)
        self._clients.report(report)
        return self._collector.gateway(report)

    def wait(self, every_s: float) -> None:
        """The next row is due after this interval."""
        self._next = time.monotonic() + every_s

    @property
    def due(self) -> bool:
        """An interval has passed."""
        return time.monotonic() >= self._next

    def publish(
        self, lost: InFlight, steps: StepCounts, base_frames: int | None, *, keep: bool
    ) -> None:
        """Make a row and publish it. `lost`: steps and frames that were in flight in processes that
        died. `steps`: since the start. `base_frames`: stored frames before it; None while that is
        not known. `keep`: write it to files too."""
        self._collector.lost = lost
        self._look()
        self.row = row = self._collector.row(steps, base_frames)
        trainer = self._status.status.config.trainer
        self._status.warnings.note(*self._pace.look(row, trainer, time.monotonic()))
        row["warnings"] = float(len(self._status.warnings.holding()))
        row["writes_failed"] = float(self._writes.failed + LogFile.failed)
        row["disk_free_bytes"] = free_bytes(self._folder.path)
        learnt = row.get("updates_per_s", 0.0) > 0
        self.last |= {
            name: value
            for name, value in row.items()
            if not math.isnan(value) or (learnt and name in _ALWAYS_THERE)
        }
        if keep:
            self._write(row)
        games = self._clients.rows(time.monotonic())
        self._status.add_row(row, self.last, self._collector.turns, games)

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

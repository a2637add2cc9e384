"""Publishes the status: the supervisor's loop tells it what has changed, other threads read.

Each change makes a new snapshot (`server.monitor.status`) and puts it in place of the old one with
one assignment.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from config.models import Config
from server.monitor.collector import TurnHistogram
from server.monitor.earlier_rows import with_current_names
from server.monitor.failures import Failures
from server.monitor.game_metrics import is_game_metric
from server.monitor.status import COLUMNS, Status
from server.monitor.warnings import Warnings
from server.run.directory import RunDirectory
from server.run.evaluation import Evaluation
from server.run.history import KEPT, History, newest_lines

RESTARTS, REASON = 20, 400
"""Restarts of processes that are kept, and letters of the reason of each."""

EVALUATIONS = 500
VALUE = 300
"""Letters of a changed value that are shown."""

CHANGES = 1000
"""The newest that are shown."""


class StatusPublisher:
    """Has the newest status. For one thread, except for `status`, which any may read."""

    def __init__(
        self, config: Config, folder: RunDirectory, evaluated: Iterable[Evaluation] = ()
    ) -> None:
        """`evaluated`: the run's newest evaluations so far, the oldest first."""
        evaluated = tuple(evaluated)
        self.warnings = Warnings(config.metrics.every_s)
        """What is worth a warning and holds now; any thread may use it."""
        self.failures = Failures()
        """Connections that ended in an error; for the thread of this."""
        rows = [with_current_names(row) for row in folder.rows.sample()]
        of_game = dict.fromkeys(name for row in rows for name in row if is_game_metric(name))
        self._history = History((*COLUMNS, *of_game), rows)
        self.status = Status(
            config=config,
            folder=folder.path,
            launch=folder.launch,
            started=time.time(),
            looped_at=time.monotonic(),
            port=config.server.port,
            evaluation=evaluated[-1].line() if evaluated else None,
            evaluations=tuple(_brief(one) for one in evaluated[-EVALUATIONS:]),
            changes=tuple(map(_short, newest_lines(folder.changes, CHANGES))),
            starts=tuple(newest_lines(folder.starts, CHANGES)),
            past=tuple(self._history.rows(KEPT)),
            columns=tuple(self._history.columns),
        )
        """Replaced, never changed."""

    def update(self, **fields: Any) -> None:
        """These fields of the status have these values now."""
        self.status = replace(self.status, **fields)

    def beat(self) -> None:
        """The loop has come round."""
        self.update(looped_at=time.monotonic())

    def add_row(
        self,
        row: dict[str, float],
        last: dict[str, float],
        turns: TurnHistogram,
        games: list[dict[str, Any]],
        degraded: str = "",
    ) -> None:
        """A new row of metrics, for each metric the newest number, the times of turns, who plays,
        and which processes do not report."""
        self._history.widen(filter(is_game_metric, row))
        self._history.add(row)
        past = tuple(self._history.rows(KEPT))
        self.update(
            row=dict(row),
            last=dict(last),
            turns=turns,
            games=tuple(games),
            degraded=degraded,
            past=past,
            columns=tuple(self._history.columns),
            warnings=tuple(self.warnings.holding()),
            failures=self.failures.rows(),
        )

    def add_evaluation(self, evaluation: Evaluation) -> None:
        """An evaluation has ended."""
        brief = (*self.status.evaluations, _brief(evaluation))
        self.update(evaluation=evaluation.line(), evaluations=brief[-EVALUATIONS:])

    def add_changes(self, records: list[dict[str, Any]]) -> None:
        """Lines of changes.jsonl."""
        self.update(changes=(*self.status.changes, *map(_short, records))[-CHANGES:])

    def add_restart(self, name: str, text: str) -> None:
        """A process is started again, for this reason."""
        one = {"time": time.time(), "name": name, "text": text[:REASON]}
        self.update(restarts=(*self.status.restarts, one)[-RESTARTS:])

    def add_start(self, record: dict[str, Any]) -> None:
        """A line of starts.jsonl."""
        self.update(starts=(*self.status.starts, record))


def _short(record: dict[str, Any]) -> dict[str, Any]:
    """A line of changes.jsonl with a beginning alone of a long value: this one is for people, and
    everybody who looks is sent all of them."""
    short = dict(record)
    for end in ("from", "to"):
        if isinstance(short.get(end), str | list | dict):
            value = short[end]
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            if len(text) > VALUE:
                short[end] = f"{text[:VALUE]}…"
    return short


def _brief(one: Evaluation) -> dict[str, Any]:
    """An evaluation without the returns of its episodes."""
    return {
        "time": one.time,
        "frames": one.frames,
        "mean": one.mean,
        "episodes": one.played,
        "expert_mean": one.expert_mean,
        "expert_episodes": one.expert_played,
        "partial": one.partial,
        "expert_partial": one.expert_partial,
        "text": one.text(),
    }

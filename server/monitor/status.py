"""What a server shows of itself: snapshots that its loop leaves for other threads to read.

The supervisor's loop writes, the thread that serves HTTP reads, and neither waits for the other:
whatever is shown is replaced as a whole and never changed in place.
"""

from __future__ import annotations

import importlib.metadata
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from config.changes import CHANGEABLE
from config.fields import all_settings, flat
from config.models import Config
from protocol.spaces import GameSpec
from server.monitor.metrics import METRICS
from server.monitor.start_hint import StartHint, start_hint
from server.run.directory import RunDirectory
from server.run.evaluations import Evaluation
from server.run.history import History, newest_lines

log = logging.getLogger("supervisor")

RESTARTS, REASON = 20, 400
"""Restarts of processes that are kept, and letters of why each had to be."""

ALIVE_S = 10.0
"""A loop that has not come round for longer is not alive: a checkpoint or a long comparison of
the demo may hold it for some seconds."""

EVALUATIONS = 500
CHANGES = 1000
"""The newest that are shown."""


class Status:
    """Everything that HTTP shows."""

    def __init__(
        self, config: Config, folder: RunDirectory, evaluated: Sequence[Evaluation] = ()
    ) -> None:
        """`evaluated`: the run's evaluations so far, the oldest first."""
        self.config = config
        self.folder = folder
        self.port = config.server.port
        """Where games connect."""
        self.preset: str | None = None
        self.device = ""
        """Where training runs."""
        self.paused = False
        self.evaluating = False
        self.ready = False
        """Games can play."""
        self.ended = ""
        """Which process has ended by itself, or that the server is stopping; empty while all is
        well."""
        self.spec: GameSpec | None = None
        self.row: dict[str, float] = {}
        self.last: dict[str, float] = {}
        self.games: list[dict[str, Any]] = []
        self.evaluations = [_brief(one) for one in evaluated[-EVALUATIONS:]]
        self.newest_evaluation = evaluated[-1].line() if evaluated else None
        self.changes = newest_lines(folder.changes, CHANGES)
        self.starts = newest_lines(folder.starts, CHANGES)
        self.restarts: list[dict[str, Any]] = []
        """The newest: `time`, `name` of the process, `text` that says why it had to be."""
        self.started = time.time()
        self.history = History(["time", *(name for name in METRICS if name != "time")],
                               folder.rows.sample())  # fmt: skip
        self._beat = time.monotonic()

    # What the supervisor calls.

    def beat(self) -> None:
        """The loop has come round."""
        self._beat = time.monotonic()

    def show(
        self, row: dict[str, float], last: dict[str, float], games: list[dict[str, Any]]
    ) -> None:
        """A new row of metrics."""
        self.row, self.last, self.games = row, dict(last), games
        self.history.add(row)

    def evaluated(self, evaluation: Evaluation) -> None:
        """An evaluation has ended."""
        self.newest_evaluation = evaluation.line()
        self.evaluations = [*self.evaluations, _brief(evaluation)][-EVALUATIONS:]

    def changed(self, records: list[dict[str, Any]]) -> None:
        """Lines of changes.jsonl."""
        self.changes = [*self.changes, *records][-CHANGES:]

    def restarted(self, name: str, text: str) -> None:
        """A process is started again, because of this."""
        one = {"time": time.time(), "name": name, "text": text[:REASON]}
        self.restarts = [*self.restarts, one][-RESTARTS:]

    def began(self, record: dict[str, Any]) -> None:
        """A line of starts.jsonl."""
        self.starts = [*self.starts, record]

    # What HTTP calls.

    @property
    def problem(self) -> str:
        """What keeps the server from being healthy; empty where nothing does."""
        if self.ended:
            return self.ended
        silent = time.monotonic() - self._beat
        return f"the supervisor's loop stands still for {silent:.0f} s" if silent > ALIVE_S else ""

    @property
    def unready(self) -> str:
        """What keeps games from playing; empty where nothing does."""
        return self.problem or ("" if self.ready else "the gateways are starting")

    @property
    def start_hint(self) -> StartHint:
        """How to start a game of this run."""
        game = self.spec.game if self.spec else None
        return start_hint(game, self.config.server.host, self.port)

    def state(self) -> dict[str, Any]:
        """The answer of /api/state, but for what HTTP itself knows."""
        spec = self.spec
        return {
            "run": {
                "name": self.folder.path.resolve().name,
                "folder": str(self.folder.path),
                "game": spec.game if spec else None,
                "spec": msgspec.to_builtins(spec) if spec else None,
                "invitation": self.start_hint._asdict(),
                "started": self.started,
                "launch": self.folder.launch,
                "frames": self.row.get("frames"),
                "device": self.device,
                "version": VERSION,
                "preset": self.preset,
            },
            "time": time.time(),
            "row": {name: self.row.get(name) for name in METRICS},
            "last": {name: self.last.get(name) for name in METRICS},
            "paused": self.paused,
            "evaluating": self.evaluating,
            "settings": live_settings(self.config),
            "game_settings": self.config.server.settings,
            "restarts": self.restarts,
            "evaluation": self.newest_evaluation,
            "evaluations": self.evaluations,
        }

    def past(self, points: int) -> dict[str, Any]:
        """The answer of /api/history."""
        return {
            "columns": self.history.columns,
            "rows": self.history.rows(points),
            "starts": self.starts,
            "changes": self.changes,
        }


def live_settings(config: Config) -> dict[str, Any]:
    """The settings that can be changed while a run runs, and their values."""
    known = all_settings()
    return {
        key: known[key].plain(value)
        for key, value in flat(config).items()
        if any(key == each or key.startswith(each + ".") for each in CHANGEABLE)
    }


def _version() -> str:
    try:
        return importlib.metadata.version("understudy")
    except importlib.metadata.PackageNotFoundError:  # run from a folder, never installed
        return ""


VERSION = _version()


def _brief(one: Evaluation) -> dict[str, Any]:
    """An evaluation without its single returns."""
    return {
        "time": one.time,
        "frames": one.frames,
        "mean": one.mean,
        "episodes": len(one.returns),
        "expert_mean": one.expert_mean,
        "expert_episodes": len(one.expert_returns),
        "partial": one.partial,
    }


def dashboard() -> Path:
    """The folder of the pages."""
    return Path(__file__).parents[1] / "web" / "dashboard"

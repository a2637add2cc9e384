"""What a server shows of itself: one frozen snapshot, which its loop replaces as a whole.

`server.monitor.status_publisher` makes them, in the supervisor's loop. Readers (HTTP in its own
thread, tests) take one reference and see one moment: no lock, and nobody waits. Nothing is decided
by a snapshot: it repeats what the supervisor, the trainer and the gateways know.
"""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from config.fields import all_settings, flat
from config.models import Config
from protocol.spaces import GameSpec
from server.ipc.messages import GATEWAY
from server.monitor.collector import TurnHistogram
from server.monitor.game_metrics import is_game_metric
from server.monitor.metrics import SERIES
from server.monitor.start_hint import StartHint, start_hint
from server.run.history import spread

ALIVE_S = 10.0
"""A loop that has not come round for longer is reported as hanging. A checkpoint, or a long
comparison in the demo, may hold it for some seconds."""

COLUMNS = ("time", *(name for name in SERIES if name != "time"))
"""Of the rows of `Status.past`, before what the game names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """One snapshot. Nothing that it refers to changes either."""

    config: Config
    folder: Path
    """The run's."""
    launch: int
    """1 for the first start of the run, 2 where it was resumed once, and so on."""
    started: float
    """When the server was started, seconds since 1970."""
    looped_at: float
    """When the supervisor's loop last came round, by `time.monotonic`."""
    port: int
    """Where games connect."""
    tempest_port: int | None = None
    """Where older clients for Tempest connect; None where they cannot."""
    websocket_port: int | None = None
    """Where games in browsers connect; None where they cannot."""
    preset: str | None = None
    device: str = ""
    """Where training runs."""
    spec: GameSpec | None = None
    """Of the run's game; None before there is one."""
    ready: bool = False
    """Games can play: one that is known would be welcomed, or a HELLO taken up."""
    loading: str = ""
    """That a run is being loaded, and how far; else empty."""
    paused: bool = False
    evaluating: bool = False
    evaluation_note: str = ""
    """How far an evaluation is and for whom it waits, or that nobody has begun one; else empty."""
    ended: str = ""
    """Why the server has given up, or that it is stopping; else empty. A process that is being
    restarted does not count."""
    degraded: str = ""
    """Which processes have not reported for three intervals; else empty. They may be wanted again
    at any moment, or are killed and restarted: the server as a whole is healthy."""
    row: Mapping[str, float] = field(default_factory=dict)
    """The newest metrics."""
    last: Mapping[str, float] = field(default_factory=dict)
    """For each metric the newest value that was a number."""
    turns: TurnHistogram = field(default_factory=TurnHistogram)
    games: Sequence[Mapping[str, Any]] = ()
    """A row for each connection (`server.monitor.clients`)."""
    failures: tuple[Mapping[str, Any], ...] = ()
    """Connections that ended in an error, by whose (`server.monitor.failures`)."""
    evaluation: Mapping[str, Any] | None = None
    """The newest evaluation, with the return of each episode."""
    evaluations: tuple[Mapping[str, Any], ...] = ()
    """The newest, the oldest first, without those."""
    changes: tuple[Mapping[str, Any], ...] = ()
    """The newest lines of changes.jsonl."""
    starts: tuple[Mapping[str, Any], ...] = ()
    """Lines of starts.jsonl."""
    restarts: tuple[Mapping[str, Any], ...] = ()
    """The newest: `time`, `name` of the process, `text` with the reason."""
    nodes: Sequence[Mapping[str, Any]] = ()
    """Of a cluster, a row for each gateway node and learner: `name`, `host`, `answers` (whether it
    does), and of a gateway node `port`, `unacknowledged` rows, and `weights_age_s`."""
    warnings: tuple[Mapping[str, Any], ...] = ()
    """What holds (`server.monitor.warnings`)."""
    columns: tuple[str, ...] = COLUMNS
    """Of `past`."""
    past: tuple[Sequence[Any], ...] = ()
    """Rows of metrics over all of the run's time, values in the order of `columns`. An older one
    may lack the last: metrics that the game named later."""

    @property
    def problem(self) -> str:
        """Why the server is not healthy; empty if it is."""
        if self.ended:
            return self.ended
        silent = time.monotonic() - self.looped_at
        return f"the supervisor's loop has not run for {silent:.0f} s" if silent > ALIVE_S else ""

    @property
    def unready(self) -> str:
        """Why games cannot play; empty if they can."""
        if self.problem or not self.ready:
            return self.problem or self.loading or "the gateways are starting"
        return self.degraded if GATEWAY in self.degraded else ""

    @property
    def gateway_nodes(self) -> tuple[tuple[str, int], ...]:
        """Host and port of each of a cluster's, as far as they are known; none on one machine."""
        return tuple((node["host"], node["port"]) for node in self.nodes if "port" in node)

    @property
    def start_hint(self) -> StartHint:
        """How to start a game of this run."""
        game = self.spec.game if self.spec else self.config.run.game
        config, older = self.config, self.tempest_port
        tempest = None if older is None else (config.tempest.host, older)
        return start_hint(game, config.server.host, self.port, tempest)

    @property
    def name(self) -> str:
        """Of the run."""
        return self.folder.resolve().name

    def state(self) -> dict[str, Any]:
        """The answer of /api/state, but for what HTTP itself knows."""
        spec = self.spec
        return {
            "run": {
                "name": self.name,
                "folder": str(self.folder),
                "game": spec.game if spec else None,
                "spec": msgspec.to_builtins(spec) if spec else None,
                "start_hint": self.start_hint._asdict(),
                "started": self.started,
                "launch": self.launch,
                "frames": self.row.get("frames"),
                "device": self.device,
                "version": VERSION,
                "preset": self.preset,
                "websocket_port": self.websocket_port,
            },
            "time": time.time(),
            "row": _shown(self.row),
            "last": _shown(self.last),
            "degraded": self.degraded,
            "loading": self.loading,
            "paused": self.paused,
            "evaluating": self.evaluating,
            "evaluation_note": self.evaluation_note,
            "settings": live_settings(self.config),
            "game_settings": self.config.server.settings,
            "nodes": self.nodes,
            "warnings": self.warnings,
            "restarts": self.restarts,
            "evaluation": self.evaluation,
            "evaluations": self.evaluations,
        }

    def history(self, points: int) -> dict[str, Any]:
        """The answer of /api/history: at most so many rows."""
        return {
            "columns": self.columns,
            "rows": spread(self.past, points),
            "starts": self.starts,
            "changes": self.changes,
        }


def _shown(numbers: Mapping[str, float]) -> dict[str, float | None]:
    """Of each metric its number, if there is one; of those that the game names what there are."""
    of_game = {name: value for name, value in numbers.items() if is_game_metric(name)}
    return {name: numbers.get(name) for name in SERIES} | of_game


def live_settings(config: Config) -> dict[str, Any]:
    """The settings that can be changed while a run runs, and their values."""
    known = all_settings()
    return {key: known[key].plain(value) for key, value in flat(config).items() if known[key].live}


def _version() -> str:
    try:
        return importlib.metadata.version("understudy")
    except importlib.metadata.PackageNotFoundError:  # run from a folder, never installed
        return ""


VERSION = _version()

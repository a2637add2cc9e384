"""What an operator can do to a run while it runs, whoever asks: the command line, the terminal, the
dashboard. Every change is recorded, with who made it, before it is made.

    {"set": {"expert.ratio": 0.2}}   ->  {"changes": [{"key": ..., "from": ..., "to": ...}, ...]}
    {"games": {"start_level": 3}}    ->  the same, of server.settings: what games are told
    {"pause": true}  {"pause": false}   {"checkpoint": true}   {"evaluate": true}
                                     ->  {"ok": true, "text": "what happened"}
    {"drain": "1"}                   ->  the same, and "done", of a gateway node of a cluster
    anything that cannot be done     ->  {"error": "what is wrong, and what to do"}

All of it happens in the supervisor's own loop.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

from config.changes import Change, changed, games_told
from config.load import ConfigError
from config.models import Config
from server.control.mailbox import NOT_NOW, Answer
from server.control.memory_check import check_memory
from server.gateway import expert_plugin
from server.ipc.messages import CheckpointSaved, Evaluate, Joined
from server.monitor.status_publisher import StatusPublisher
from server.run.directory import RunDirectory, append_lines
from server.run.history import newest_lines

log = logging.getLogger("supervisor")

FORMS = (
    '{"set": {KEY: VALUE, ...}}, {"games": {NAME: VALUE, ...}}, {"pause": true or false}, '
    '{"checkpoint": true}, {"evaluate": true} or {"drain": NODE}'
)


REMOTE = "http"
"""Who asks from elsewhere."""

NAMED = 5
"""Clients that an answer names; of more it has the number."""

CODE = ("expert.plugin",)
"""Settings that name code: a control token, which travels, is not enough for those."""


class CheckpointWriter(Protocol):
    """What controls need of the trainer."""

    def request_checkpoint(self) -> None:
        """Have a checkpoint written; `Controller.saved` is called when it is, or cannot be."""


class ControlledServer(Protocol):
    """What controls need of the supervisor."""

    folder: RunDirectory
    publisher: StatusPublisher
    """Is told what has been changed."""

    @property
    def config(self) -> Config: ...

    @property
    def frames(self) -> int | None: ...

    @property
    def training_games(self) -> Sequence[Joined]:
        """Connections with the role train."""

    @property
    def paused(self) -> bool:
        """Whether training is paused."""

    def pause(self, on: bool) -> None:
        """Pause training, or resume it."""

    def adopt(self, config: Config) -> None:
        """Go on with another configuration, and tell all processes."""

    def evaluate(self, request: Evaluate) -> None:
        """Have games asked to evaluate."""

    def drain(self, node: str) -> Answer:
        """As Processes.drain."""

    @property
    def trainer(self) -> CheckpointWriter: ...


class Controller:
    """Carries out requests."""

    def __init__(self, server: ControlledServer) -> None:
        self._server = server
        self._saving: list[tuple[str, Future[Answer]]] = []
        """Who waits for a checkpoint."""
        self._closed = False

    def handle(self, request: Any, who: str) -> Answer | Future[Answer]:
        """The answer to a request. `who`: cli, terminal or http."""
        if self._closed:
            return NOT_NOW
        try:
            match request:
                case {"set": dict(values)} if len(request) == 1:
                    return _answer(self.change(values, who))
                case {"games": dict(values)} if len(request) == 1:
                    return _answer(self.tell_games(values, who))
                case {"pause": bool(on)} if len(request) == 1:
                    return self.pause(on, who)
                case {"checkpoint": True} if len(request) == 1:
                    return self.checkpoint(who)
                case {"evaluate": True} if len(request) == 1:
                    return self.evaluate(who)
                case {"drain": str(node)} if len(request) == 1:
                    return self._server.drain(node)
        except ConfigError as error:
            return {"error": str(error)}
        except Exception:  # whatever is asked for: games go on
            log.exception("a request by %s failed", who)
            return {"error": "the request failed; the server's log has the reason"}
        return {"error": f"expected {FORMS}, got another request"}

    def change(self, values: Mapping[str, Any], who: str) -> list[Change]:
        """Change settings (`config.changes`): all of them, or an error and none. Returns what was
        changed; what has its value already is not among that. Errors: ConfigError."""
        if who == REMOTE and (named := [key for key in values if key in CODE]):
            raise ConfigError(
                f"{named[0]}: this setting names code that the server runs; change it on the "
                "server's machine with `understudy set`"
            )
        return self._adopt(*changed(self._server.config, values), who)

    def tell_games(self, values: Mapping[str, Any], who: str) -> list[Change]:
        """Settings for the games, beside those that they have been told. Errors: ConfigError."""
        return self._adopt(*games_told(self._server.config, values), who)

    def begin_lesson(self, number: int, settings: Mapping[str, Any]) -> None:
        """The lesson of this number begins (`lessons.plan`): games are told its settings, and the
        run goes on with it. Errors: ConfigError."""
        config, changes = games_told(self._server.config, settings)
        counted = config.lessons.model_copy(update={"begun": number})
        change = Change("lessons.begun", config.lessons.begun, number)
        config = config.model_copy(update={"lessons": counted})
        self._adopt(config, [*changes, change], f"lesson {number}")

    def pause(self, on: bool, who: str) -> Answer:
        """Stop learning, or go on. Games play, and are stored, all the while."""
        if not self._server.config.trainer.enabled:
            return {"error": "this run does not train: trainer.enabled is false"}
        before = self._server.paused
        if on == before:
            return {"ok": True, "text": f"training is {'paused' if on else 'running'} already"}
        self._record([{"key": "paused", "from": before, "to": on}], who)
        self._server.pause(on)
        text = "training is paused; games play on" if on else "training resumed"
        log.info("%s (%s)", text, who)
        return {"ok": True, "text": text}

    def checkpoint(self, who: str) -> Future[Answer]:
        """Have a checkpoint written now; the answer comes when it is."""
        future: Future[Answer] = Future()
        self._saving.append((who, future))
        self._server.trainer.request_checkpoint()
        return future

    def saved(self, message: CheckpointSaved) -> None:
        """The trainer has written a checkpoint, or could not."""
        waiting, self._saving = self._saving, []
        for who, future in waiting:
            if message.error is not None:
                future.set_result({"error": f"no checkpoint: {message.error}"})
                continue
            try:
                self._record([{"key": "checkpoint", "from": None, "to": message.path}], who)
            except ConfigError as error:
                log.error("%s", error)
            future.set_result({"ok": True, "text": f"checkpoint written: {message.path}"})

    def evaluate(self, who: str) -> Answer:
        """Ask the games to evaluate now: it is they who can (see protocol/SPEC.md, SETTINGS)."""
        games = self._server.training_games
        able = [game for game in games if game.evaluates]
        if not games:
            return {
                "error": "no training game is connected, and it is games that evaluate; "
                f"{self._server.publisher.status.start_hint}"
            }
        if not able:
            return {
                "error": f"no connected client can evaluate: {_named(games)} did not say so when "
                "connecting. `understudy play` can, and so can a client that sends `evaluates` in "
                "HELLO and answers `understudy.evaluate`; docs/evaluating.md shows how. Or start "
                "games with the role eval"
            }
        # Larger than all before, of earlier starts too, also where the clock was put back.
        number = max(time.time_ns() // 1_000_000, 1 + self._newest_evaluate())
        self._record([{"key": "evaluate", "from": None, "to": number}], who)
        self._server.evaluate(Evaluate(number))
        text = f"asked to evaluate: {_named(able)}"
        log.info("%s (%s)", text, who)
        return {"ok": True, "text": text}

    def _newest_evaluate(self) -> int:
        """The largest number that games were asked with, in this start or an earlier one."""
        records = newest_lines(self._server.folder.changes)
        return max((one["to"] for one in records if one["key"] == "evaluate"), default=0)

    def open(self) -> None:
        """Requests are carried out from now on."""
        self._closed = False

    def close(self) -> None:
        """Nothing can be done, until it is opened."""
        self._closed = True
        waiting, self._saving = self._saving, []
        for _, future in waiting:
            future.set_result(NOT_NOW)

    def _adopt(self, config: Config, changes: list[Change], who: str) -> list[Change]:
        """The run goes on with this configuration, `--resume` too."""
        server = self._server
        if not changes:
            return []
        expert_plugin.check(config)
        before = server.config
        check_memory(server.publisher.status.spec, before, config)
        records = self._with_time(
            [{"key": c.key, "from": c.old, "to": c.new} for c in changes], who
        )
        try:
            server.folder.keep_changes(before, config, records)
        except OSError as error:
            raise ConfigError(
                f"the change cannot be recorded in {server.folder.path}, so nothing was changed: "
                f"{error}"
            ) from None
        server.publisher.add_changes(records)
        server.adopt(config)
        for change in changes:
            log.info("changed %s (%s)", change, who)
        return changes

    def _record(self, entries: list[dict[str, Any]], who: str) -> None:
        """Add to changes.jsonl. Errors: ConfigError where that is impossible."""
        records = self._with_time(entries, who)
        try:
            append_lines(self._server.folder.changes, records)
        except OSError as error:
            raise ConfigError(
                f"it cannot be recorded in {self._server.folder.path}, so it was not done: {error}"
            ) from None
        self._server.publisher.add_changes(records)

    def _with_time(self, entries: list[dict[str, Any]], who: str) -> list[dict[str, Any]]:
        now = {"time": time.time(), "frames": self._server.frames, "who": who}
        return [now | entry for entry in entries]


def _answer(changes: list[Change]) -> Answer:
    return {"changes": [{"key": c.key, "from": c.old, "to": c.new} for c in changes]}


def _named(games: Sequence[Joined]) -> str:
    """Clients with name and address, as text."""
    names = [f"{game.client} ({game.peer}, session {game.session})" for game in games[:NAMED]]
    more = len(games) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")

"""The folder of a run: what is in it, and whether it may be used.

config.toml     the effective configuration (no secrets)
game.json       the spec of the game, once there is one
run.json        how often the run was started
starts.jsonl    when, and at which frame
checkpoints/    see agent.checkpoint
demonstrations/ recordings of experts that the replay starts with
metrics.jsonl   one row of numbers for each interval; older ones beside it (server.run.metrics_log)
evaluations.jsonl  what games of evaluation found (server.run.evaluation)
changes.jsonl   settings that were changed while it ran
understudy.log  what the processes had to say
events.jsonl    what happened to the processes, for programs (server.run.events)
summary.json    the last numbers, when the run ended
in-flight       what the gateways have answered for (server.ipc.inflight)
shared-memory   the names of what the server has of that (server.ipc.shared_memory)
control.sock    where a running server hears `understudy set` (server.control.unix_socket)
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import shutil
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from agent.files import append_whole, written_whole
from config.load import EFFECTIVE, ConfigError, InUse, to_toml
from config.models import Config
from protocol.errors import RemoteError
from protocol.spaces import GameSpec
from server.run.evaluation import Evaluation
from server.run.metrics_log import MetricsLog

log = logging.getLogger("supervisor")

_MARK = "run.json"
_GAME = "game.json"
RUNS = Path("runs")


class RunDirectory:
    """An open run folder. Nothing else writes into it but the processes of this server."""

    def __init__(self, path: Path, launch: int, lock: int, made: bool = False) -> None:
        """`made`: the folder was not there before."""
        self.path = path
        self._lock: int | None = lock
        self._made = made
        self.launch = launch
        """1 at the first start of the run, then one more at each; makes session numbers unique."""
        self.metrics = path / "metrics.jsonl"
        self.rows = MetricsLog(self.metrics)
        self.evaluations = path / "evaluations.jsonl"
        self.changes = path / "changes.jsonl"
        self.starts = path / "starts.jsonl"
        self.log = path / "understudy.log"
        self.events = path / "events.jsonl"
        self.summary = path / "summary.json"
        self.checkpoints = path / "checkpoints"

    @staticmethod
    def open(config: Config, *, resume: bool, label: str = "run") -> RunDirectory:
        """Make the run's folder, or with `resume` take up an existing one.

        Errors: config.load.ConfigError that says what is wrong with the folder.
        """
        lock: int | None = None
        path = config.run.dir or RUNS / f"{datetime.now():%Y%m%d-%H%M%S}-{label}"
        mark, made = path / _MARK, not path.exists()
        try:
            if resume:
                launch = json.loads(mark.read_text())["launches"] + 1
            elif (path / _GAME).exists():
                raise ConfigError(
                    f"run.dir: {path} holds a run; continue it with `--resume {path}`, or choose a "
                    "new folder"
                )
            elif mark.exists():
                launch = 1  # a start that failed, or that no game came to: nothing to go on from
            elif path.exists() and (not path.is_dir() or any(path.iterdir())):
                raise ConfigError(
                    f"run.dir: expected a new or empty folder, {path} holds something else; choose "
                    "another"
                )
            else:
                launch = 1
            _make_private(path)
            (path / "checkpoints").mkdir(exist_ok=True)
            lock = _lock(path)  # the last thing that can be refused
            write_effective(config, path)
            with written_whole(mark) as file:
                file.write(json.dumps({"launches": launch}).encode() + b"\n")
        except OSError as error:
            if lock is not None:
                os.close(lock)
            raise ConfigError(f"run.dir: cannot use {path}: {error}") from None
        except (ValueError, KeyError, TypeError):
            raise ConfigError(f"run.dir: {mark} is damaged; expected {{'launches': N}}") from None
        return RunDirectory(path, launch, lock, made)

    @staticmethod
    def exists(path: Path) -> bool:
        """Whether a run was ever started or made here."""
        return (path / _MARK).exists()

    @staticmethod
    def take(path: Path) -> RunDirectory:
        """A run's folder as it is, for something that is no start of the run. Errors: ConfigError
        where somebody else has it."""
        try:
            launch = json.loads((path / _MARK).read_text())["launches"]
            return RunDirectory(path, launch, _lock(path))
        except OSError as error:
            raise ConfigError(f"run.dir: cannot use {path}: {error}") from None
        except (ValueError, KeyError, TypeError):
            raise ConfigError(f"run.dir: {path / _MARK} is damaged; choose another run") from None

    def close(self) -> None:
        """Let other servers have the folder. Again has no effect."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def refused(self) -> None:
        """This start has come to nothing: leave no folder of a run that never was."""
        self.close()
        if self._made:
            shutil.rmtree(self.path, ignore_errors=True)

    def game(self) -> GameSpec | None:
        """The run's game, None if none has come yet. Errors: ConfigError for a damaged file."""
        return game_of(self.path)

    def evaluated(self) -> list[Evaluation]:
        """The evaluations so far, the oldest first. A line that cannot be read is passed over: of
        the last one there may be but a part."""
        if not self.evaluations.exists():
            return []
        found = []
        for number, line in enumerate(self.evaluations.read_bytes().splitlines(), 1):
            try:
                found.append(msgspec.json.decode(line, type=Evaluation))
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                log.warning("%s, line %d: %s; passed over", self.evaluations, number, error)
        return found

    def keep_changes(self, before: Config, after: Config, records: list[dict[str, Any]]) -> None:
        """The run goes on with another configuration: write that, and what was changed. Errors:
        OSError, with the configuration as it was."""
        try:
            write_effective(after, self.path)
            append_lines(self.changes, records)
        except OSError:
            with contextlib.suppress(OSError):
                write_effective(before, self.path)
            raise

    def keep_game(self, spec: GameSpec) -> None:
        """Write down which game this run is about. Errors: OSError."""
        with written_whole(self.path / _GAME) as file:
            file.write(msgspec.json.format(msgspec.json.encode(spec)))


def write_effective(config: Config, folder: Path) -> Path:
    """Write the effective configuration into a run's folder, for `--resume`, in place of the one
    that is there: the old one or the new one is complete at any time. Files in it have their whole
    paths: whoever resumes the run may stand elsewhere. Returns the path. Errors: OSError, with the
    old one as it was."""
    path = folder / EFFECTIVE
    text = "# The configuration that this run goes on with. Secrets are not saved.\n\n"
    with written_whole(path) as file:
        file.write((text + to_toml(config, absolute=True)).encode())
    return path


def game_of(path: Path) -> GameSpec | None:
    """The game of the run in this folder, None if there is none. Errors: ConfigError for a damaged
    file."""
    file = path / _GAME
    if not file.exists():
        return None
    try:
        return msgspec.json.decode(file.read_bytes(), type=GameSpec).checked()
    except (msgspec.DecodeError, RemoteError) as error:
        raise ConfigError(f"run.dir: {file} is damaged: {error}; choose another run") from None


def append_lines(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """Add records to a file of JSON lines, at once, each on a line of its own whatever the file
    ends with. Errors: OSError."""
    append_whole(path, "".join(json.dumps(record) + "\n" for record in records).encode())


def _make_private(path: Path) -> None:
    """Make the folder its owner's alone, where there is none. One that is there stays as it is:
    somebody may have opened it on purpose. Errors: OSError."""
    if path.is_dir():
        if path.stat().st_mode & 0o077:
            log.warning("%s is readable by other users; run chmod 700 on it", path)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=0o700)


def _lock(path: Path) -> int:
    """Keep other servers out of the folder. The system lets go when this process ends, however."""
    file = os.open(path / "lock", os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        raise InUse(
            f"run.dir: {path} is in use by another server; stop it first, or choose another folder"
        ) from None
    return file

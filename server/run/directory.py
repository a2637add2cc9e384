"""The folder of a run: what is in it, and whether it may be used.

config.toml     the effective configuration (no secrets)
game.json       the spec of the game, once there is one
run.json        how often the run was started, what the last start was told that is not saved, and
                the checkpoint of another run whose weights it began with
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
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from agent.files import append_whole, written_whole
from config.load import EFFECTIVE, ConfigError, InUse, to_toml, unsaved_in
from config.models import Config
from protocol.errors import RemoteError
from protocol.spaces import GameSpec
from server.run.before import FolderBefore
from server.run.disk import reason
from server.run.evaluation import Evaluation, read_evaluations
from server.run.metrics_log import MetricsLog

log = logging.getLogger("supervisor")

_MARK = "run.json"
_GAME = "game.json"
LOCK = "lock"
_LOOK_S = 0.2
"""Longer than anybody holds the lock who only looks whether a server has the folder."""
RUNS = Path("runs")


class RunDirectory:
    """An open run folder. Nothing else writes into it but the processes of this server.

    Opening it changes nothing in it. What a start writes it writes when it is accepted (`accept`),
    after all that can refuse it; a start that is refused leaves the folder as it was (`refused`).
    """

    def __init__(
        self,
        path: Path,
        launch: int,
        lock: int,
        before: FolderBefore,
        made: Iterable[Path] = (),
    ) -> None:
        """`before`: the folder before this start. `made`: folders that were not there before, the
        outermost first."""
        self.path = path
        self._lock: int | None = lock
        self._before = before
        self._made = list(made)
        self._waiting: list[Callable[[], None]] = []
        self.accepted = False
        """The start is: from now on it may write."""
        self.init_from: str | None = init_from_of(path)
        """The checkpoint of another run whose weights this one began with. A new run's start puts
        it here; `accept` writes it down."""
        self.told: list[str] = _told(path)
        """Keys of settings that a run does not save and that its last start was told: a token, say.
        Whoever starts it anew puts its own here; `accept` writes them down."""
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
        """Take a new folder for a run, or with `resume` an existing run's; it stays as it is until
        the start is accepted.

        Errors: config.load.ConfigError that says what is wrong with the folder.
        """
        path = config.run.dir or RUNS / f"{datetime.now():%Y%m%d-%H%M%S}-{label}"
        _launch(path, resume)  # so that no lock is left where there is no run
        made = [each for each in (*reversed(path.parents), path) if not each.exists()]
        try:
            _make_private(path)
            return RunDirectory._taken(path, resume, made)
        except BaseException as error:
            _remove_made(made)
            if isinstance(error, OSError):
                raise ConfigError(f"run.dir: cannot use {path}: {error}") from None
            raise

    def when_accepted(self, write: Callable[[], None]) -> None:
        """Have this called when the start is accepted: it writes what was held back."""
        self._waiting.append(write)

    def accept(self, config: Config) -> None:
        """Nothing refuses this start any more: write down what the run goes on with, and what was
        held back. Again has no effect. Errors: ConfigError, with the folder as it was."""
        if self.accepted:
            return
        known = {"launches": self.launch, "told": self.told}
        began = {} if self.init_from is None else {"init_from": self.init_from}
        mark = json.dumps(known | began).encode() + b"\n"
        try:
            with ExitStack() as both:
                # Both are on the disk before one of them takes its name.
                for path, data in ((self.path / EFFECTIVE, _text(config)), (self._mark, mark)):
                    file = both.enter_context(written_whole(path))
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                self.checkpoints.mkdir(exist_ok=True)
                append_whole(self.log, b"")
        except OSError as error:
            self._before.restore()
            raise ConfigError(f"run.dir: cannot use {self.path}: {reason(error)}") from None
        self.accepted = True
        for write in self._waiting:
            write()

    @staticmethod
    def exists(path: Path) -> bool:
        """Whether a run was ever started or made here."""
        return (path / _MARK).exists()

    @staticmethod
    def take(path: Path) -> RunDirectory:
        """A run's folder as it is, for something that is no start of the run. Errors: ConfigError
        where somebody else has it."""
        try:
            return RunDirectory._taken(path, resume=True)
        except OSError as error:
            raise ConfigError(f"run.dir: cannot use {path}: {error}") from None

    @staticmethod
    def _taken(path: Path, resume: bool, made: Iterable[Path] = ()) -> RunDirectory:
        """A folder that nobody else has, as it was before. Errors: OSError, ConfigError."""
        lock, new = _lock(path)
        before = FolderBefore(path, but=(LOCK,) if new else ())
        try:
            return RunDirectory(path, _launch(path, resume), lock, before, made)
        except BaseException:
            before.restore()
            os.close(lock)
            raise

    @property
    def _mark(self) -> Path:
        return self.path / _MARK

    def close(self) -> None:
        """Let other servers have the folder. Again has no effect."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def refused(self) -> None:
        """This start has come to nothing: leave the folder as it was, and none where none was.
        Instead of `close`; again has no effect."""
        if self._lock is None:
            return
        if self._made:
            shutil.rmtree(self.path, ignore_errors=True)
            _remove_made(self._made)
        else:
            self._before.restore()
        self.close()  # the last thing, so that nobody else has it meanwhile

    def game(self) -> GameSpec | None:
        """The run's game, None if none has come yet. Errors: ConfigError for a damaged file."""
        return game_of(self.path)

    def evaluated(self) -> Iterator[Evaluation]:
        """The evaluations so far, the oldest first, read as they are asked for. A line that cannot
        be read is passed over: of the last one there may be but a part."""
        return read_evaluations(self.evaluations)

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
    with written_whole(path) as file:
        file.write(_text(config))
    return path


def _text(config: Config) -> bytes:
    """The effective configuration as it is in a file."""
    text = "# The configuration that this run goes on with. Secrets are not saved.\n\n"
    return (text + to_toml(config, absolute=True)).encode()


def game_of(path: Path) -> GameSpec | None:
    """The game of the run in this folder, None if there is none. Errors: ConfigError for a damaged
    file, or one that cannot be read."""
    file = path / _GAME
    if not file.exists():
        return None
    try:
        return msgspec.json.decode(file.read_bytes(), type=GameSpec).checked()
    except OSError as error:
        raise unreadable(error) from error
    except (msgspec.DecodeError, RemoteError) as error:
        raise ConfigError(f"run.dir: {file} is damaged: {error}; choose another run") from None


def unreadable(error: OSError) -> ConfigError:
    """What to say of a run's file that cannot be read."""
    return ConfigError(
        f"run.dir: cannot read {error.filename}: {error.strerror}; the user who starts a run must "
        "be able to read and write all of its files"
    )


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


def _remove_made(made: Iterable[Path]) -> None:
    """Remove folders that were made, the outermost first among these, where nothing is in them."""
    for path in reversed(list(made)):
        with contextlib.suppress(OSError):
            path.rmdir()


def _launch(path: Path, resume: bool) -> int:
    """The number of a start in this folder. Errors: ConfigError where there can be none."""
    mark = path / _MARK
    try:
        if resume:
            return int(json.loads(mark.read_text())["launches"]) + 1
        if (path / _GAME).exists():
            raise ConfigError(
                f"run.dir: {path} holds a run; continue it with `--resume {path}`, or choose a "
                "new folder"
            )
        # With a mark it is a start that no game came to: nothing to go on from.
        if path.exists() and not mark.exists() and _holds_something(path):
            raise ConfigError(
                f"run.dir: expected a new or empty folder, {path} holds something else; choose "
                "another"
            )
    except OSError as error:
        raise ConfigError(f"run.dir: cannot use {path}: {error}") from None
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"run.dir: {mark} is damaged; expected {{'launches': N}}") from None
    return 1


def init_from_of(path: Path) -> str | None:
    """`RunDirectory.init_from` of the run in this folder."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        found = json.loads((path / _MARK).read_text()).get("init_from")
        return None if found is None else str(found)
    return None


def _told(path: Path) -> list[str]:
    """`RunDirectory.told` of the run in this folder; an older version saved some of them."""
    mark, told = path / _MARK, list[str]()
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        told = [str(key) for key in json.loads(mark.read_text()).get("told", [])]
    if (path / EFFECTIVE).exists():
        with contextlib.suppress(ConfigError):
            told += unsaved_in(path)
    return told


def _holds_something(path: Path) -> bool:
    """Whether this is no folder, or one with more in it than the lock of a server that starts."""
    return not path.is_dir() or any(each.name != LOCK for each in path.iterdir())


def _lock(path: Path) -> tuple[int, bool]:
    """Keep other servers out of the folder, until the file that is returned is closed, or this
    process ends, however; and whether the file is new. Errors: OSError, InUse."""
    name = path / LOCK
    new = not name.exists()
    file = os.open(name, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        _take(file)
        # A server that was refused just now has removed the file that it made.
        there = name.exists() and os.path.samestat(os.fstat(file), name.stat())
    except BlockingIOError:
        there = False
    if not there:
        os.close(file)
        raise InUse(
            f"run.dir: {path} is in use by another server; stop it first, or choose another folder"
        )
    return file, new


def _take(file: int) -> None:
    """Lock an open file, for this process alone. Errors: OSError; BlockingIOError where another one
    keeps it."""
    until = time.monotonic() + _LOOK_S
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                raise
        time.sleep(_LOOK_S / 20)

"""The trainer's process: waits for the game and until it has the run alone, trains, and says why it
ends."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import signal
import time
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

from agent.checkpoint import CheckpointError
from agent.device import free_memory, use_threads
from agent.game_memory import fitted
from agent.journal import JournalError
from agent.looks import looks
from agent.malloc_tuning import keep_freed_memory
from agent.recording import RecordingError
from agent.rollback import NumbersWentBad
from agent.warm_start import NothingFits
from config.models import Config
from config.passing import is_passing
from server.ipc.heartbeat import Heartbeat
from server.ipc.messages import (
    TRAINER,
    Changed,
    CheckpointSaved,
    GameDecided,
    Pause,
    ProcessFailed,
    Ranks,
    SaveCheckpoint,
    Settle,
    Settled,
    Stop,
)
from server.run.logs import log_to_pipe
from server.trainer import device_memory, first_words
from server.trainer.shard_folders import folder_of
from server.trainer.task import Task
from server.trainer.trainer import Trainer

log = logging.getLogger("trainer")

ALONE_S = 30.0
"""How long another trainer may still have the run: one whose supervisor was killed."""

_TOLD = (CheckpointError, JournalError, RecordingError, MemoryError, RuntimeError, OSError)
"""Errors that end the process with a message of their own."""

_NO_MEMORY = ("allocate memory", "out of memory", "bad_alloc", "ALLOC_FAILED")
"""What torch's RuntimeErrors say where there is no more of it, on the host or on a device."""


def main(
    config: Config,
    pipe: Pipe,
    heartbeat: Heartbeat,
    folder: Path,
    task: Task,
) -> None:
    """The process's entry: wait for the game, then train it. Signals are the supervisor's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    log_to_pipe(pipe, "trainer")
    log.info("process %d", os.getpid())
    try:
        os.nice(config.trainer.nice)
        use_threads(config.trainer.threads, config.server.gateways)
        keep_freed_memory()
        game, config, paused = _await_game(pipe, config, heartbeat)
        if game:
            asked, config = config, fitted(game.spec, config, free_memory)
            device_memory.check(game.spec, config)
            first_words.say_looks(looks(game.spec, config.learner, config.replay.frame_stack))
            first_words.say_capacity(game.spec, asked, config)
            options: dict[str, Any] = {"paused": paused, "heartbeat": heartbeat}
            if game.ranks is None:
                _have_alone(folder, heartbeat)
                trainer = Trainer(config, game, pipe, folder, task, **options)
            else:
                trainer = _ranked(game.ranks, config, game, pipe, folder, task, options)
            if game.accepted or trainer.await_begin():
                trainer.begin()
                trainer.run()
            else:
                trainer.close()
    except EOFError:  # the supervisor is gone
        return
    except Exception as error:
        log.exception("the trainer has failed")
        if isinstance(error, _TOLD):
            final, cause = isinstance(error, NumbersWentBad), _cause(error)
            text = _short(error) if cause == "memory" else str(error)
            with contextlib.suppress(OSError):
                # Memory may be there later, whoever says that there is none.
                passing = cause == "memory" or is_passing(error)
                told = ProcessFailed(f"trainer: {text}", final, cause, passing)
                pipe.send(told)
        raise SystemExit(1) from error


def _ranked(
    ranks: Ranks,
    config: Config,
    game: GameDecided,
    pipe: Pipe,
    run: Path,
    task: Task,
    options: dict[str, Any],
) -> Trainer:
    """One trainer of several, once the others are there. Errors: RuntimeError, OSError."""
    from server.trainer.ranked_trainer import RankedTrainer
    from server.trainer.ranks import Meeting

    folder = folder_of(run, ranks.rank)
    _have_alone(folder, options["heartbeat"])
    meeting = Meeting(ranks, options["heartbeat"])
    return RankedTrainer(ranks, config, game, pipe, folder, task, meeting=meeting, **options)


def _short(error: Exception) -> str:
    """What it says in its first line: torch goes on with where in its source it was."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def _cause(error: Exception) -> str:
    """See ProcessFailed."""
    if isinstance(error, MemoryError):
        return "memory"
    if isinstance(error, NothingFits):
        return "weights"
    if isinstance(error, RuntimeError) and any(word in str(error) for word in _NO_MEMORY):
        return "memory"
    if isinstance(error, OSError):
        return "memory" if error.errno == errno.ENOMEM else "system"
    return ""


def _await_game(
    pipe: Pipe, config: Config, heartbeat: Heartbeat
) -> tuple[GameDecided | None, Config, bool]:
    """What the run is about (None if it is to end before there is a game), the configuration, which
    may change meanwhile, and whether training was paused."""
    paused = False
    while True:
        while not pipe.poll(1.0):
            heartbeat.beat()
        message = pipe.recv()
        if isinstance(message, GameDecided):
            return message, config, paused
        if isinstance(message, Stop):
            return None, config, paused
        if isinstance(message, Pause):
            paused = message.on
        if isinstance(message, Changed):
            config = message.config
        if isinstance(message, Settle):
            pipe.send(Settled(TRAINER, True))
        if isinstance(message, SaveCheckpoint):
            pipe.send(CheckpointSaved("", "no game has connected yet, so there is nothing to save"))


def _have_alone(folder: Path, heartbeat: Heartbeat) -> None:
    """Wait until no other trainer writes to the run. The system lets go of the lock when this
    process ends, however. Errors: RuntimeError, OSError."""
    file = os.open(folder / "trainer-lock", os.O_WRONLY | os.O_CREAT, 0o600)
    deadline = time.monotonic() + ALONE_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"another trainer still writes to {folder}; end the process that has "
                    f"{folder / 'trainer-lock'} open"
                ) from None
            heartbeat.beat()
            time.sleep(0.1)
        else:
            return

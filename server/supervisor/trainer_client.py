"""Requests to the trainer, and its answers: checkpoints, dumps, recordings."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from server.ipc.messages import (
    CheckpointSaved,
    DumpWritten,
    SaveCheckpoint,
    WriteDump,
)
from server.ipc.recording_messages import (
    EpisodeKnown,
    JudgeEpisode,
    RecordingWritten,
    WriteRecording,
)
from server.supervisor.child import Child, ChildDied

log = logging.getLogger("supervisor")

SAVE_EVERY_S = 30.0
"""Checkpoints that clients ask for are at least so far apart, however often they do."""

Answer = TypeVar("Answer", CheckpointSaved, DumpWritten, RecordingWritten, EpisodeKnown)

ANSWERS = (DumpWritten, RecordingWritten, EpisodeKnown)
"""Those that are answers alone: a checkpoint may be due by itself."""


class TrainerClient:
    """Sends requests to the trainer and waits for the answers."""

    def __init__(
        self,
        trainer: Child,
        poll: Callable[[float], None],
        on_saved: Callable[[CheckpointSaved], None],
        log_file: Path,
    ) -> None:
        """`poll`: the supervisor's loop for so many seconds, which hands over answers (`answer`).
        `on_saved`: called with what became of a checkpoint that was asked for, or was due."""
        self._trainer = trainer
        self._poll = poll
        self._on_saved = on_saved
        self._log_file = log_file
        self._answers: deque[Any] = deque(maxlen=100)
        self._save_wanted = False
        self._next_save = 0.0

    # Requests.

    def checkpoint(self, timeout_s: float = 60.0) -> CheckpointSaved:
        """Have a checkpoint written now, and wait for it."""
        return self._ask(SaveCheckpoint(), CheckpointSaved, timeout_s)

    def dump(self, path: str, timeout_s: float = 600.0) -> None:
        """Have what the replay holds written to `path` (.npz), and wait for it."""
        self._ask(WriteDump(path), DumpWritten, timeout_s)

    def finish_recording(self, timeout_s: float = 3600.0) -> RecordingWritten:
        """Have the recording finished, with all rows that came in, and wait for it. With
        `Task.recording` only, and best when the games have ended, so that nothing is on its way."""
        return self._ask(WriteRecording(), RecordingWritten, timeout_s)

    def judge(self, stream: int, word: str) -> None:
        """Have an episode that is recorded, and in play, marked or discarded when it ends, and wait
        until that is known. `word`: of agent.recorder."""
        self._ask(JudgeEpisode(stream, word), EpisodeKnown, 60.0)

    def request_checkpoint(self) -> None:
        """Have a checkpoint written; `on_saved` is called when it is, or cannot be."""
        self._trainer.send(SaveCheckpoint())
        if not self._trainer.alive:
            self._on_saved(CheckpointSaved("", "the trainer is restarting; try again"))

    def want_checkpoint(self) -> None:
        """A client asks for one: have it written soon."""
        self._save_wanted = True

    def request_wanted(self) -> None:
        """Have a checkpoint written that a client asked for, unless there has just been one."""
        now = time.monotonic()
        if self._save_wanted and now >= self._next_save:
            self._save_wanted, self._next_save = False, now + SAVE_EVERY_S
            log.info("a client asked for a checkpoint")
            self._trainer.send(SaveCheckpoint())

    # Answers.

    def answer(self, message: Any) -> None:
        """The trainer has answered."""
        if isinstance(message, CheckpointSaved):
            self._on_saved(message)
        self._answers.append(message)

    def lost(self) -> None:
        """The trainer has died: no answer will come."""
        self._on_saved(CheckpointSaved("", "the trainer has died; try again"))

    def _ask(self, message: Any, kind: type[Answer], timeout_s: float) -> Answer:
        """Errors: ChildDied, TimeoutError."""
        self._answers.clear()  # checkpoints that nobody asked for
        self._trainer.send(message)
        asked = self._trainer.process
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            self._poll(0.05)
            if not self._trainer.alive or self._trainer.process is not asked:
                raise ChildDied(f"the trainer ended before its answer; see {self._log_file}")
            for answer in self._answers:
                if isinstance(answer, kind):
                    self._answers.remove(answer)
                    return answer
        raise TimeoutError(f"expected the trainer to answer {message} within {timeout_s:g} s")

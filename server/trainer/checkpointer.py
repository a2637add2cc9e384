"""What a checkpoint holds beside the learner, and how the trainer writes one."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent import checkpoint
from agent.checkpoint import CheckpointError, spec_text
from agent.learner import Learner
from agent.replay import Replay
from config.models import CheckpointConfig
from protocol.spaces import GameSpec
from server.ipc.messages import CheckpointSaved, SavedBest
from server.run.disk import Writes
from server.trainer.replay_journal import JournalWriter

log = logging.getLogger("trainer")


@dataclass(frozen=True)
class Progress:
    """How far a run is; as made without arguments, at its begin."""

    frames: int = 0
    """Stored steps of the whole run."""
    rows: int | None = 0
    """Rows that the run has had, all of them known to the learner; None where none is kept."""
    version: int = 0
    """Of the weights."""
    demonstrations: list[str] = field(default_factory=list)
    """Files whose observations the learner's statistics hold."""
    reward_max: float = 0.0
    """The largest reward by magnitude; NaN where it is not known."""

    @staticmethod
    def from_state(state: dict[str, Any]) -> Progress:
        """As a checkpoint has it; older ones have less."""
        return Progress(
            int(state["frames"]),
            state.get("rows"),
            int(state["version"]),
            state.get("demonstrations", []),
            float(state.get("reward_max", math.nan)),
        )

    def to_state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "frames": self.frames,
            "rows": self.rows,
            "version": self.version,
            "demonstrations": self.demonstrations,
            # NaN is no number to save, and neither is what is not known.
            **({} if math.isnan(self.reward_max) else {"reward_max": self.reward_max}),
        }


class Checkpointer:
    """Writes checkpoints. One that cannot be written is said, and training goes on."""

    def __init__(
        self,
        folder: Path,
        settings: CheckpointConfig,
        spec: GameSpec,
        replay: Replay,
        learner: Learner,
        journal_writer: JournalWriter | None,
    ) -> None:
        """`folder`: of the checkpoints. `journal_writer`: gets the priorities of the rows."""
        self._folder = folder
        self.settings = settings
        """May be exchanged: they hold from the next checkpoint on."""
        self._spec = spec
        self._replay = replay
        self._learner = learner
        self._journal_writer = journal_writer
        self._writes = Writes(log, "training continues")

    @property
    def failed(self) -> int:
        """How often something could not be written."""
        return self._writes.failed

    def save(self, progress: Progress) -> CheckpointSaved:
        """Write the next checkpoint, and delete old ones."""
        path = self._folder / checkpoint.file_name(self._learner.updates)
        settings = self.settings
        if error := self._written(path, self._state(progress)):
            return CheckpointSaved(str(path), error)
        with self._writes.tried(f"{self._folder} (old checkpoints, deleting them)"):
            checkpoint.prune(self._folder, settings.keep, settings.keep_every_updates)
        self.save_priorities()
        log.info("checkpoint %s", path)
        return CheckpointSaved(str(path))

    def save_priorities(self) -> None:
        """Write how the rows are to be drawn, where that is by priority."""
        if self._journal_writer and self._replay.prioritized:
            with self._writes.tried("the priorities of the replay's rows"):
                self._journal_writer.keep_priorities(self._replay.saved_priorities())

    def save_best(self, progress: Progress, evaluation: dict[str, Any]) -> SavedBest:
        """Write the checkpoint that evaluated best, over the one that did before."""
        path = self._folder / checkpoint.BEST
        if error := self._written(path, self._state(progress) | {"evaluation": evaluation}):
            return SavedBest(str(path), evaluation["mean"], error)
        log.info("checkpoint %s: evaluated at %.1f", path, evaluation["mean"])
        return SavedBest(str(path), evaluation["mean"])

    def _written(self, path: Path, state: dict[str, Any]) -> str | None:
        """Write a checkpoint; why that could not be, if so."""
        with self._writes.tried(f"checkpoints in {self._folder}", CheckpointError) as errors:
            checkpoint.save(path, state)
        return errors[0] if errors else None

    def _state(self, progress: Progress) -> dict[str, Any]:
        learner = self._learner.state_dict()
        return {"spec": spec_text(self._spec), "learner": learner, **progress.to_state()}

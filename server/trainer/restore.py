"""What a trainer begins with: the checkpoint, the demonstrations and the replay's rows in the run's
folder."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent import checkpoint, demonstrations, journal
from agent.checkpoint import CheckpointError, spec_text
from agent.evidence import Evidence
from agent.learner import Learner
from agent.recording import RecordingError
from agent.replay import Replay
from agent.warm_start import warm_start
from config.models import Config, RewardConfig
from server.trainer.checkpointer import Progress
from server.trainer.ingest import Rewards
from server.trainer.replay_journal import JournalWriter, TakenIn, take_in

log = logging.getLogger("trainer")


@dataclass(frozen=True)
class Restored:
    """What was there."""

    frames: int
    """Stored steps of the run so far."""
    version: int
    """Of the weights."""
    demonstrations: list[str]
    """Files that are in the replay."""
    kept: TakenIn
    """The replay's rows."""
    journal_writer: JournalWriter | None
    """Where those that come are kept, if they are."""
    rewards: Rewards
    """The largest so far."""
    best: Path | None = None
    """The checkpoint that evaluated best, if the run goes back to it."""
    warm: bool = False
    """The weights are another run's, and in none of this run's checkpoints."""

    def begin(self, folder: Path, updates: int) -> None:
        """The start is accepted: now the run's folder may change, `folder`. `updates`: of the
        learner. Errors: OSError."""
        if self.best is not None:
            away = checkpoint.roll_back(folder / "checkpoints", updates, self.best)
            log.warning(
                "--best loaded update %d at frame %d: schedules continue from there, the replay is "
                "unchanged, and %s. To undo it, see docs/operating.md",
                updates, self.frames, _put_away(away),
            )  # fmt: skip
        self.kept.begin()
        if self.journal_writer is not None:
            self.journal_writer.begin()


def restore(
    folder: Path,
    config: Config,
    replay: Replay,
    learner: Learner,
    evidence: Evidence,
    progress: Callable[[int], None] = lambda _: None,
    *,
    resume: bool,
    best: bool,
    keep: bool,
    init_from: Path | None = None,
    first: bool = True,
    others: Sequence[Path] = (),
) -> Restored:
    """Put into replay, learner and evidence what the run's folder holds for them: of a run that is
    not resumed, its demonstrations. `best`: from the checkpoint that evaluated best. `keep`:
    whether rows are kept. `init_from`: a checkpoint of another run, whose weights a run without any
    of its own begins with. `first`: False of a learner beside the first one, whose rows the
    checkpoint says nothing of. `others`: folders of learners that are no more, whose rows are taken
    in too, and stay where they are. In the folder, files are begun at most, so that what cannot be
    written is known; none that was there changes before `Restored.begin`.

    Errors: CheckpointError, RecordingError, JournalError, OSError.
    """
    saved = folder / "checkpoints"
    path = (checkpoint.best if best else checkpoint.latest)(saved) if resume else None
    saved_at = _load_checkpoint(path, replay, learner) if path is not None else Progress()
    if warm := path is None and init_from is not None:
        _begin_warm(init_from, replay, learner)
    progress(0)
    if path is not None and best:
        checkpoint.stand_in(saved, learner.updates, path)
    rewards = Rewards(saved_at.reward_max)
    names = _take_in_demonstrations(
        folder, config.reward, replay, learner, rewards, saved_at.demonstrations, progress
    )
    kept = TakenIn()
    journal_writer: JournalWriter | None = None
    if keep:
        rows = folder / journal.FOLDER
        if resume:
            known = saved_at.rows if first and saved_at.rows is not None else math.inf
            theirs = [other / journal.FOLDER for other in others]
            kept = take_in(rows, replay, learner, evidence, known, progress, theirs)
        journal_writer = JournalWriter(
            rows,
            replay.spec,
            replay.capacity_steps,
            kept.at,
            resume,
            replay.memory,
            synced=config.cluster.ack == "synced",
        )
    # The rows know better than the checkpoint how far the run was, unless it goes back.
    frames = saved_at.frames if best else max(saved_at.frames, kept.at.steps + kept.of_others)
    from_best = path if best else None
    return Restored(frames, saved_at.version, names, kept, journal_writer, rewards, from_best, warm)


def _load_checkpoint(path: Path, replay: Replay, learner: Learner) -> Progress:
    """Have the learner go on from a checkpoint; how far the run was. Errors: CheckpointError."""
    state = checkpoint.load(path, spec=spec_text(replay.spec))
    try:
        learner.load_state_dict(state["learner"])
        progress = Progress.from_state(state)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{path}: expected what a trainer saves, got a state without it ({error!r}); remove it "
            "to resume from the checkpoint before it, if there is one"
        ) from error
    log.info("resumed from %s at frame %d", path, progress.frames)
    return progress


def _begin_warm(path: Path, replay: Replay, learner: Learner) -> None:
    """Take the weights of another run's network as far as they fit. Errors: CheckpointError."""
    state = checkpoint.load(path)
    try:
        found = warm_start(learner, replay.spec, state)
    except CheckpointError as error:
        raise type(error)(f"--init-from {path}: {error}") from error
    log.info("weights from %s: %s", path, ", ".join(found.taken))
    for each in found.not_taken:
        log.warning("not taken from %s: %s", path, each)


def _put_away(paths: Collection[Path]) -> str:
    names = ", ".join(path.name for path in paths)
    return f"newer checkpoints were renamed to {names}" if names else "there is no newer checkpoint"


def _take_in_demonstrations(
    folder: Path,
    reward: RewardConfig,
    replay: Replay,
    learner: Learner,
    rewards: Rewards,
    known: Collection[str],
    progress: Callable[[int], None],
) -> list[str]:
    """Put the run's demonstrations into the replay; the names of their files.

    They are not frames of this run: schedules and the replay ratio do not count them. `known`:
    files whose observations the learner's statistics hold already.
    """
    names, rows = [], 0
    for name, block in demonstrations.blocks(folder, replay.spec, reward):
        rows += len(block)
        if rows > replay.capacity_steps:
            raise RecordingError(
                f"{folder / demonstrations.FOLDER} holds more than replay.capacity_steps = "
                f"{replay.capacity_steps} rows; raise it, or remove files"
            )
        replay.append(block)
        rewards.note(block.reward)
        if name not in known:
            learner.observe(block.obs)
        names.append(name)
        progress(0)
    if names:
        log.info("%d demonstrated steps from %s", len(replay), ", ".join(names))
    return names

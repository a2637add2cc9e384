"""Recordings: played steps of one game in one file, safe to read from any source.

A file is an .npz of plain arrays, read without executing anything in it: `format` and `version`,
`spec` (the game as JSON), `reward_weights` (what each reward component was multiplied by), and the
columns of an agent.step.StepBlock, steps and final rows in the order in which they were stored, so
that appending them to a replay makes the same links again.

While a recording is made, its file has the episodes one behind the other (agent.episode_file), each
such an .npz of its own, compressed; one that was killed stays so. Both are read.
"""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from agent import episode_file, npz
from agent.files import written_whole
from agent.interventions import interventions
from agent.npz import Npz, NpzError, memory_budget
from agent.step import FINAL, LATER, STEP, StepBlock, stored_columns
from agent.validation import check_block, check_columns, check_legal
from protocol.actor import ACTORS, NOBODY, Actor
from protocol.errors import RemoteError
from protocol.messages import RUNNING
from protocol.observation_checks import MAX_VALUE, bad_element, bad_rows
from protocol.spaces import GameSpec

FORMAT = "understudy recording"
VERSION = 2
"""Of the format. Version 1 had no columns LATER of agent.step."""

SUFFIX = ".npz"

MARKED = "marked"
"""An entry of files of version 2 with an episode that a person marked."""

SPEC_BYTES = 2**22
"""The longest text of a spec, at four bytes for each character: a HELLO has 64 KiB at most."""

EPISODE_BYTES, EPISODE_RATIO = 2**28, 100
"""An episode that is not part of a finished recording is unpacked to so many bytes, or to so many
times its length, where that is more."""


class RecordingError(Exception):
    """A recording that cannot be used; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Recording:
    """What was played of one game."""

    spec: GameSpec
    rows: StepBlock
    """Rows of one stream in the order of their `seq`; streams may be interleaved."""
    reward_weights: tuple[float, ...]
    """What each reward component was multiplied by before their sum became `rows.reward`."""
    marked: npt.NDArray[np.bool_] | None = None
    """Rows of episodes that a person marked, [n]; None where none is."""
    incomplete: int = 0
    """Bytes at the end of its file that are damaged or incomplete, and were left out."""

    def steps(self, actor: Actor) -> int:
        """Steps that this actor played."""
        return int(np.count_nonzero(self.rows.actor == actor))

    @property
    def digest(self) -> str:
        """The same for the same content, whatever the file's name; 64 hexadecimal digits."""
        found = hashlib.sha256(_spec_json(self.spec))
        found.update(np.array(self.reward_weights, np.float64).tobytes())
        # What version 1 had first: the same content has the same digest in both.
        names = [name for name in stored_columns(self.spec) if name not in LATER]
        if not np.isnan(self.rows.recommended).all():
            names.append("recommended")
        for name in names:
            found.update(np.ascontiguousarray(getattr(self.rows, name)).tobytes())
        return found.hexdigest()

    def returns(self) -> npt.NDArray[np.float64]:
        """The return of each complete episode, in the order of their ends, undiscounted."""
        rows = self.rows
        if not len(rows):
            return np.empty(0)
        order = np.argsort(rows.stream, kind="stable")
        stream, ended = rows.stream[order], rows.status[order] != RUNNING
        # An episode is complete where a step says so; it is cut off by a final row and where its
        # stream stops.
        last = ended | (rows.kind[order] == FINAL) | np.append(stream[1:] != stream[:-1], True)
        starts = np.flatnonzero(np.append(True, last[:-1]))
        sums = np.add.reduceat(rows.reward[order].astype(np.float64), starts)
        complete = ended[last]
        found: npt.NDArray[np.float64] = sums[complete][np.argsort(order[last][complete])]
        return found

    def of_marked(self) -> Recording:
        """The episodes alone that a person marked."""
        marked = np.zeros(len(self.rows), np.bool_) if self.marked is None else self.marked
        block = StepBlock(*(getattr(self.rows, name)[marked] for name in StepBlock.__slots__))
        return Recording(self.spec, block, self.reward_weights)

    def of_expert(self) -> Recording:
        """The expert's steps alone. Where another's step followed one of them, its observation
        stays as a final row: that is where the expert's play led to."""
        rows = self.rows
        order = np.argsort(rows.stream, kind="stable")
        stream, seq = rows.stream[order], rows.seq[order]
        theirs = rows.actor[order] == Actor.EXPERT
        final = rows.kind[order] == FINAL
        goes_on = theirs[:-1] & (stream[1:] == stream[:-1]) & (seq[1:] - seq[:-1] == 1)
        goes_on &= (rows.status[order][:-1] == RUNNING) | final[1:]
        behind = np.append(False, goes_on) & ~theirs
        kept = np.sort(order[theirs | behind])
        block = StepBlock(*(getattr(rows, name)[kept] for name in StepBlock.__slots__))
        last = block.actor != Actor.EXPERT
        block.kind[last], block.actor[last] = FINAL, NOBODY
        block.action[last], block.reward[last], block.status[last] = 0, 0, RUNNING
        block.recommended[last], block.policy_version[last] = np.nan, 0
        return Recording(self.spec, block, self.reward_weights)

    def with_rewards(self, weights: Sequence[float], clip: float | None) -> Recording:
        """The same with rewards as a run counts them: components multiplied by `weights`, the sum
        clipped to [-clip, clip].

        Errors: RecordingError where the components were recorded in other proportions: only their
        sum is known.
        """
        recorded = np.array(self.reward_weights, np.float64)
        wanted = np.array(weights, np.float64)
        largest = int(np.argmax(np.abs(recorded)))
        factor = wanted[largest] / recorded[largest] if recorded[largest] else 1.0
        if not np.allclose(recorded * factor, wanted, rtol=1e-6, atol=0.0):
            raise RecordingError(
                f"recorded with reward.weights {_named(self.spec, self.reward_weights)}, and the "
                f"run's are {_named(self.spec, weights)}: only their sum was recorded; record "
                "again with the run's weights"
            )
        reward = self.rows.reward * np.float32(factor)
        if clip is not None:
            reward = np.clip(reward, -clip, clip)
        columns = {name: getattr(self.rows, name) for name in StepBlock.__slots__}
        block = StepBlock(**columns | {"reward": reward})
        return Recording(self.spec, block, tuple(weights))


def joined(blocks: Sequence[StepBlock], spec: GameSpec) -> StepBlock:
    """Blocks one behind the other, as one with memory of its own."""
    if not blocks:
        return StepBlock.empty(spec, 0)
    return StepBlock(
        *(np.concatenate([getattr(block, n) for block in blocks]) for n in StepBlock.__slots__)
    )


def together(parts: Sequence[Recording]) -> Recording:
    """Recordings of one game, with the same weights: at least one; one behind the other."""
    first = parts[0]
    rows = joined([each.rows for each in parts], first.spec)
    none = (np.zeros(len(each.rows), np.bool_) for each in parts)
    marked = np.concatenate(
        [no if each.marked is None else each.marked for each, no in zip(parts, none, strict=True)]
    )
    return Recording(first.spec, rows, first.reward_weights, marked if marked.any() else None)


def write(path: Path, recording: Recording) -> None:
    """Write a recording, whole or not at all. Errors: OSError; RecordingError for one that `read`
    would refuse."""
    content = _content(path, recording)
    with written_whole(path) as file:
        np.savez_compressed(file, **content)


def append(path: Path, episode: Recording) -> None:
    """Add an episode to a file that is being recorded, whole or not at all. Errors: those of
    `write`."""
    memory = io.BytesIO()
    np.savez(memory, **_content(path, episode))
    # Compressed as a whole: what reads .npz alone must not take the last episode for all of them.
    episode_file.append(path, zlib.compress(memory.getbuffer(), 1))


def read(path: Path, *, spec: GameSpec | None = None) -> Recording:
    """The recording in a file; of this game, where a `spec` is given.

    Errors: RecordingError for a file that is missing, damaged, no recording, of another version or
    another game, or with rows that a gateway would have refused.
    """
    try:
        found = _episodes(path) if episode_file.is_one(path) else _of_file(path)
    except FileNotFoundError:
        raise RecordingError(f"expected a recording at {path}, found none") from None
    except (NpzError, OSError, MemoryError, zlib.error) as error:
        raise RecordingError(
            f"{path}: expected a recording (.npz), got a file that cannot be read "
            f"({error or 'out of memory'}); copy it again from where it was recorded"
        ) from error
    if spec is not None and found.spec != spec:
        raise RecordingError(
            f"{path}: expected a recording of {spec.describe()}, got one of {found.spec.describe()}"
        )
    return found


def _episodes(path: Path) -> Recording:
    """What was recorded into a file that nobody has finished. Errors: RecordingError, and those of
    damaged content."""
    found: list[Recording] = []
    incomplete, left = 0, memory_budget()
    for each in episode_file.read(path):
        if isinstance(each, int):
            incomplete = each
        else:
            found.append(_recording(path, Npz(io.BytesIO(_unpacked(each)), left)))
            left -= sum(getattr(found[-1].rows, name).nbytes for name in StepBlock.__slots__)
    if not found:
        raise RecordingError(f"{path}: it holds no complete episode; record again")
    spec, weights = found[0].spec, found[0].reward_weights
    if any((each.spec, each.reward_weights) != (spec, weights) for each in found):
        raise RecordingError(f"{path}: its episodes are of several games; record them apart")
    return replace(together(found), incomplete=incomplete)


def _unpacked(packed: bytes) -> bytes:
    """An episode as an .npz. Errors: NpzError, zlib.error."""
    most = max(EPISODE_BYTES, EPISODE_RATIO * len(packed))
    unpacker = zlib.decompressobj()
    data = unpacker.decompress(packed, most)
    if not unpacker.eof:
        raise NpzError(f"expected an episode of at most {most:,} bytes, got more, or a part of one")
    return data


def _of_file(path: Path) -> Recording:
    """What an .npz holds. Errors: RecordingError, and those of damaged content."""
    with npz.opened(path) as file:
        return _recording(path, file)


def _recording(path: Path, file: Npz) -> Recording:
    """The recording in an .npz. Errors: RecordingError, and those of damaged content."""
    if "format" not in file or file.text("format") != FORMAT:
        raise RecordingError(
            f"{path}: expected a file whose format is {FORMAT!r}, got another kind of file; name "
            "one that `understudy record` wrote"
        )
    version = file.text("version") if "version" in file else None
    if version not in ("1", str(VERSION)):
        raise RecordingError(
            f"{path}: expected format version {VERSION} or earlier, got {version}; import it "
            "with the version of understudy that wrote it"
        )
    names = [name for name in StepBlock.__slots__ if version != "1" or name not in LATER]
    file.check_names(("format", "version", "spec", "reward_weights", MARKED, *names))
    try:
        text = file.text("spec", SPEC_BYTES)
        spec = msgspec.json.decode(text, type=GameSpec).checked()
        names = [name for name in names if name in stored_columns(spec)]
        check_columns({name: _shape(file, name) for name in names}, spec)
        weights = file.head("reward_weights")
        if weights.dtype.kind not in "fiu" or weights.shape != (len(spec.rewards),):
            raise ValueError(f"expected a weight for each of {list(spec.rewards)}, got {weights}")
        found = Recording(
            spec,
            StepBlock.of({name: file.read(name) for name in names}),
            tuple(np.asarray(file.read("reward_weights"), np.float64).tolist()),
            _marked(file),
        )
        _check(found)
    except KeyError as error:
        raise RecordingError(
            f"{path}: expected a column {error}, found none; record it again"
        ) from error
    except (msgspec.DecodeError, RemoteError, ValueError, TypeError) as error:
        cure = "" if ";" in str(error) else "; record it again"
        raise RecordingError(f"{path}: {error}{cure}") from error
    return found


def _marked(file: Npz) -> npt.NDArray[np.bool_] | None:
    """The rows of marked episodes; None where none is. Errors: ValueError."""
    if MARKED not in file:
        return None
    head, rows = file.head(MARKED), file.head("reward").shape
    if head.dtype != np.bool_ or head.shape != rows:
        raise ValueError(f"expected {MARKED} as bool {list(rows)}, got {head.dtype} {head.shape}")
    return file.read(MARKED)


def _shape(file: Npz, name: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
    head = file.head(name)
    return head.dtype, head.shape


def _content(path: Path, recording: Recording) -> dict[str, Any]:
    """The entries of a recording's .npz. Errors: RecordingError for one that `read` would
    refuse."""
    try:
        _check(recording)
    except ValueError as error:
        raise RecordingError(f"{path}: not written: {error}") from error
    marked = recording.marked
    return {
        "format": np.array(FORMAT),
        "version": np.array(VERSION),
        "spec": np.array(_spec_json(recording.spec).decode()),
        "reward_weights": np.array(recording.reward_weights, np.float64),
        **{name: getattr(recording.rows, name) for name in stored_columns(recording.spec)},
        **({} if marked is None or not marked.any() else {MARKED: marked}),
    }


def _check(recording: Recording) -> None:
    """ValueError for rows that a gateway would have refused: nothing looks at them later."""
    spec, rows = recording.spec, recording.rows
    check_block(rows, spec)
    weights = recording.reward_weights
    if len(weights) != len(spec.rewards) or not np.isfinite(weights).all():
        raise ValueError(f"expected a weight for each of {list(spec.rewards)}, got {weights}")
    if not (np.abs(rows.reward) <= MAX_VALUE).all():  # false for NaN
        raise ValueError(f"expected rewards from -{MAX_VALUE:g} to {MAX_VALUE:g}")
    for observation, part in zip(spec.observations, spec.parts(rows.obs), strict=True):
        with np.errstate(invalid="ignore"):
            bad = bad_rows(observation, part)
        if bad is not None:
            raise ValueError(bad_element(observation, part[int(np.argmax(bad))]).message)
    actions = rows.action[rows.kind == STEP]
    if np.isnan(actions[:, 0]).any():
        raise ValueError("expected an action for every step, got NaN")
    recommended = rows.recommended[~np.isnan(rows.recommended[:, 0])]
    if np.isnan(recommended).any():
        raise ValueError("expected whole recommendations, or NaN throughout; got NaN further on")
    try:
        spec.check_action_rows(actions)
        spec.check_action_rows(recommended)
    except RemoteError as error:
        raise ValueError(error.message) from None
    if spec.masks:
        check_legal(rows, spec)


def summary(recording: Recording) -> str:
    """One line about a recording: episodes, steps by actor, mean return."""
    returns = recording.returns()
    steps = ", ".join(
        f"{recording.steps(actor):,} of {actor.name.lower()}"
        for actor in ACTORS
        if recording.steps(actor) or actor is Actor.EXPERT
    )
    over = interventions(recording.rows)
    if over.steps:
        steps += f" ({over.steps:,} by a person who took over, {over.times:,} times)"
    mean = f", mean return {returns.mean():.1f}" if len(returns) else ""
    left_out = (
        f"; the last {recording.incomplete:,} bytes are incomplete and were left out"
        if recording.incomplete
        else ""
    )
    marked = ""
    if recording.marked is not None:
        marked = f", {len(recording.of_marked().returns()):,} of them marked"
    return f"{len(returns)} complete episodes{marked}, steps: {steps}{mean}{left_out}"


def _spec_json(spec: GameSpec) -> bytes:
    return msgspec.json.encode(spec)


def _named(spec: GameSpec, weights: Sequence[float]) -> dict[str, float]:
    return dict(zip(spec.rewards, weights, strict=True))

"""Checkpoints: files to resume a run from, written whole or not at all, checked when read.

torch is imported where a checkpoint is written or read: the supervisor, which only looks for
files, starts without it.

A file holds a format name and version and the caller's state: nested dicts and lists of tensors
and plain values. It is read with `weights_only`: a checkpoint from elsewhere cannot run code.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from agent.files import TEMPORARY, written_whole
from agent.zips import open_zip
from protocol.spaces import GameSpec

FORMAT = "understudy checkpoint"
VERSION = 1

SUFFIX = ".pt"
BEST = "best.pt"
"""The checkpoint that evaluated best. It stays until a better one takes its place; a plain resume
does not use it."""
LEFT = ".left"
"""Suffix of a checkpoint that was set aside: no run resumes from it."""


STRUCTURE_BYTES = 2**22
"""What may be in a checkpoint beside its tensors."""

VALUES, DEPTH = 100_000, 50
"""How many values it may have, and how deep one within the other."""


class CheckpointError(Exception):
    """A checkpoint that cannot be used; the message says why and what to do."""


def save(path: Path, state: dict[str, Any]) -> None:
    """Write the state to a temporary file beside `path`, and rename it once it is on the disk.

    Whenever the process or the machine stops, `path` is the old file or the new one, complete.
    Makes the folder if there is none. Errors: OSError, with the temporary file removed;
    CheckpointError where the state holds a number that is NaN or infinite: no run could resume
    from it.
    """
    import torch

    from agent.health import not_finite

    if bad := not_finite(state):
        raise CheckpointError(
            f"expected finite numbers, got NaN or infinity in {_some(bad)}; nothing was written, "
            "earlier checkpoints are unchanged"
        )
    # First into memory: torch's writer hides what a full disk says behind errors of its own.
    whole = io.BytesIO()
    torch.save({"format": FORMAT, "version": VERSION, "state": state}, whole)
    with written_whole(path) as file:
        file.write(whole.getbuffer())


def load(path: Path, *, spec: str | None = None) -> dict[str, Any]:
    """The state that was saved, its tensors on the cpu.

    `spec`: the game as text; the state's entry `spec` must equal it. Errors: CheckpointError for a
    file that is missing, damaged, no checkpoint, of another version, or of another game, and for
    one that holds numbers that are NaN or infinite.
    """
    import torch

    from agent.health import not_finite

    try:
        _check_bytes(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
        _check_content(content, path.stat().st_size)
    except FileNotFoundError:
        raise CheckpointError(f"expected a checkpoint at {path}, found none") from None
    # What reads zips, pickles and tensors raises what it comes upon.
    except Exception as error:
        raise _unreadable(path, error) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: expected a file that begins with {FORMAT!r}, got another kind of file; "
            "name one that understudy saved"
        )
    if content.get("version") != VERSION:
        raise CheckpointError(
            f"{path}: expected format version {VERSION}, got {content.get('version')!r}; "
            "resume it with the version of understudy that saved it"
        )
    state: Any = content.get("state")
    if not isinstance(state, dict):
        raise _unreadable(path, ValueError("it has no state"))
    if spec is not None and state.get("spec") != spec:
        raise CheckpointError(
            f"{path}: expected a checkpoint of the game {spec}, got one of {state.get('spec')}; "
            "resume the run with its own game, or start a new run"
        )
    if bad := not_finite(state):
        raise CheckpointError(
            f"{path}: expected finite numbers, got NaN or infinity in {_some(bad)}; move it away "
            "and resume from an older checkpoint beside it"
        )
    return state


def check(path: Path) -> None:
    """Compare all bytes with their checksums; nothing is loaded. Errors: CheckpointError."""
    try:
        _check_bytes(path)
    except Exception as error:  # see `load`
        raise _unreadable(path, error) from error


def checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints of a folder, the oldest first: in the order of their names, which
    therefore must hold a number with leading zeros. The best one is not among them. Empty where
    there is no folder."""
    found = (path for path in folder.glob("*" + SUFFIX) if path.name != BEST)
    return sorted(path for path in found if path.is_file())


def latest(folder: Path) -> Path | None:
    """The newest checkpoint of a folder."""
    found = checkpoints(folder)
    return found[-1] if found else None


def best(folder: Path) -> Path | None:
    """The checkpoint of a folder that evaluated best. What it scored is in its state, as
    `evaluation`: a line of the run's `evaluations.jsonl`."""
    path = folder / BEST
    return path if path.is_file() else None


def left(folder: Path) -> list[Path]:
    """The checkpoints that were set aside, the oldest first."""
    return sorted(path for path in folder.glob("*" + SUFFIX + LEFT) if path.is_file())


def spec_text(spec: GameSpec) -> str:
    """A game as its checkpoints say it: JSON."""
    return msgspec.json.encode(spec).decode()


def stand_in(folder: Path, updates: int, source: Path | None) -> Path:
    """Have a checkpoint of so many updates under the name that says so, a copy of `source` where
    there is none; its path. No other file changes. Errors: OSError."""
    newest = folder / file_name(updates)
    if source is not None and not newest.exists():
        with written_whole(newest) as file:
            file.write(source.read_bytes())
    return newest


def roll_back(folder: Path, updates: int, source: Path | None) -> list[Path]:
    """Set aside the checkpoints of more than so many updates, so that the run can continue from
    there: they get the suffix LEFT and no longer count as checkpoints. Returns their new paths.

    `source`: the checkpoint that the run continues from, if any. It becomes the newest one; the
    best checkpoint is copied to a name of its own for that, or a run that is killed before its next
    checkpoint would start from the beginning. Errors: OSError.
    """
    newest = stand_in(folder, updates, source)
    return [
        path.replace(path.with_name(path.name + LEFT))
        for path in checkpoints(folder)
        if path > newest
    ]


def file_name(updates: int) -> str:
    """The file of a checkpoint after so many updates."""
    return f"update-{updates:010d}{SUFFIX}"


def prune(folder: Path, keep: int, keep_every: int | None = None) -> None:
    """Delete all but the newest `keep` checkpoints (at least 1), and files of interrupted saves.

    `keep_every`: of the older ones, the first after each so many updates stays for good.
    """
    if keep < 1:
        raise ValueError(f"keep: expected at least 1, got {keep}")
    found = checkpoints(folder)
    old = set(found[:-keep])
    if keep_every is not None:
        old -= set(_milestones(found, keep_every))
    for path in [*sorted(old), *folder.glob("*" + SUFFIX + TEMPORARY)]:
        path.unlink(missing_ok=True)


def _milestones(paths: list[Path], every: int) -> list[Path]:
    """Of these checkpoints, the oldest first, the first one after each `every` updates. One whose
    name says no number is one of them: nobody but its owner knows what it is for."""
    found, last = [], 0
    for path in paths:
        digits = path.name.removeprefix("update-").removesuffix(SUFFIX)
        if not digits.isdecimal():
            found.append(path)
        elif (period := int(digits) // every) > last:
            found.append(path)
            last = period
    return found


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _check_bytes(path: Path) -> None:
    """Compare every entry with its checksum: torch reads a damaged tensor without a word. Nothing
    is longer than the file: torch packs nothing."""
    with path.open("rb") as file, open_zip(file, (zipfile.ZIP_STORED,)) as archive:
        for entry in archive.infolist():
            if entry.filename.endswith(".pkl") and entry.file_size > STRUCTURE_BYTES:
                raise ValueError(
                    f"expected at most {STRUCTURE_BYTES:,} bytes beside the tensors, got "
                    f"{entry.file_size:,}"
                )
        if (damaged := archive.testzip()) is not None:
            raise ValueError(f"the bytes of {damaged} are damaged")


def _check_content(content: Any, size: int) -> None:
    """Refuse what takes far more room, or time to look through, than a file of `size` bytes can
    hold: tensors that repeat one number, lists that are in themselves. Errors: ValueError."""
    import torch

    left, values = 2 * size, VALUES
    waiting = [(content, 0)]
    while waiting:
        value, depth = waiting.pop()
        values -= 1
        inner: Iterable[Any] = ()
        if isinstance(value, torch.Tensor):
            if value.layout != torch.strided or value.device.type != "cpu":
                raise ValueError(f"expected plain tensors, got {value.layout} on {value.device}")
            left -= value.numel() * value.element_size()
        elif isinstance(value, dict):
            inner = value.values()
        elif isinstance(value, list | tuple):
            inner = value
        if depth > DEPTH or values < 0 or left < 0:
            raise ValueError(
                f"expected at most {VALUES:,} values, {DEPTH} within each other and {2 * size:,} "
                "bytes, got more"
            )
        waiting.extend((each, depth + 1) for each in inner)


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{path}: expected a complete checkpoint, got a file that cannot be read ({error}); "
        "remove it to resume from the checkpoint before it, if there is one"
    )

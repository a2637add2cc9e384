"""The checkpoints that games of a gateway play with, loaded beside the frame path.

A thread looks into the run's folder and loads; the event loop only exchanges what is on the shelf.
What cannot be loaded is logged once, and told to who asked for it by its number.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from agent import checkpoint
from agent.policy import Policy
from protocol.errors import RemoteError
from protocol.policies import RECENT, PolicyName

log = logging.getLogger("gateway")

MOST = 40
"""Checkpoints that are loaded at a time; of the newest and the best there are 17."""

LOOK_S = 1.0
"""How often the folder is looked into."""

FULL = f"the server keeps at most {MOST} checkpoints loaded, and others are played with now"


Stamp = tuple[int, ...]

Then = Callable[[RemoteError | None], None]

Load = Callable[[Path], Policy]
"""agent.stored_policy's. Errors: CheckpointError."""

Background = Callable[[Callable[[], "ShelfLook"], Callable[["ShelfLook"], None]], None]
"""Calls the first function in a thread, and the second with its result in the event loop."""


class LoadedCheckpoint:
    """A checkpoint that is loaded."""

    def __init__(self, policy: Policy, stamp: Stamp) -> None:
        self.policy = policy
        self.stamp = stamp
        """Of its file: another one means that it was written anew."""
        self.slots = 0
        """That play with it now."""


class LoadFailure(NamedTuple):
    """A file that cannot be loaded, until it is written anew."""

    stamp: Stamp
    text: str


@dataclass(frozen=True)
class ShelfLook:
    """What a look into the folder has found."""

    recent: list[str]
    """Names of the checkpoints, the newest last."""
    loaded: Mapping[str, LoadedCheckpoint]
    failed: dict[str, LoadFailure]
    """Those that could not be loaded."""
    full: bool
    """There was no room for one."""


class CheckpointShelf:
    """By the names of their files; see the module."""

    def __init__(self, folder: Path | None, load: Load, background: Background) -> None:
        self._folder = folder
        self._load = load
        self._background = background
        self._entries: dict[str, LoadedCheckpoint] = {}
        self._held: set[LoadedCheckpoint] = set()
        """Those that are played with, on the shelf or not any more."""
        self._recent: list[str] = []
        self._failed: dict[str, LoadFailure] = {}
        self._full = self._looking = False
        self._next = 0.0
        self._wanted: dict[PolicyName, int] = {}
        self._waiting: list[tuple[PolicyName, Then]] = []

    # Who wants what.

    def want(self, name: PolicyName, then: Then) -> None:
        """A game wants to play with this from now on. `then` is called once a look for it has
        ended: with None, or with why it cannot."""
        self._wanted[name] = self._wanted.get(name, 0) + 1
        self._waiting.append((name, then))
        self._begin_look()

    def drop(self, name: PolicyName) -> None:
        """The game is gone."""
        self._wanted[name] -= 1
        if not self._wanted[name]:
            del self._wanted[name]
            if not self._wanted:
                self._entries.clear()
                self._recent.clear()

    def choose(self, name: PolicyName, rng: np.random.Generator) -> LoadedCheckpoint | None:
        """Who plays an episode that begins; None for the newest network, while there is no such
        checkpoint. Give it back with `give_back`."""
        if name.update is not None:
            files = [checkpoint.file_name(name.update)]
        elif name.recent is None:
            files = [checkpoint.BEST]
        else:
            files = self._recent[-name.recent :]
        there = [self._entries[file] for file in files if file in self._entries]
        if not there:
            return None
        entry = there[int(rng.integers(len(there)))]
        entry.slots += 1
        self._held.add(entry)
        return entry

    def give_back(self, entry: LoadedCheckpoint) -> None:
        """A slot plays with it no more."""
        entry.slots -= 1
        if not entry.slots:
            self._held.discard(entry)

    # Looking.

    def poll(self, now: float) -> None:
        """Look again, if it is time and somebody wants something. `now`: s, of a clock."""
        if self._wanted and now >= self._next:
            self._next = now + LOOK_S
            self._begin_look()

    def _begin_look(self) -> None:
        if self._looking:
            return  # what came meanwhile is looked for next
        self._looking = True
        asked, names = self._waiting, list(self._wanted)
        self._waiting = []
        there, failed = dict(self._entries), dict(self._failed)
        held = frozenset(self._held)
        self._background(
            lambda: _look(self._folder, names, there, failed, held, self._load),
            lambda look: self._looked(look, asked),
        )

    def _looked(self, look: ShelfLook, asked: Iterable[tuple[PolicyName, Then]]) -> None:
        self._looking = False
        for file, failure in look.failed.items():
            if self._failed.get(file) != failure:
                log.warning("%s; games play with others, or with the newest network", failure.text)
        if look.full and not self._full:
            log.warning("%s", FULL)
        self._full = look.full
        if self._wanted:
            self._entries, self._recent = dict(look.loaded), look.recent
        known = self._failed | look.failed
        self._failed = {file: known[file] for file in known if file not in look.loaded}
        for name, then in asked:
            then(None if name.update is None else _lacks(name.update, look))
        if self._waiting:
            self._begin_look()


def _lacks(update: int, look: ShelfLook) -> RemoteError | None:
    """Why a game cannot play with the checkpoint of this number."""
    file = checkpoint.file_name(update)
    if file in look.loaded:
        return None
    if look.full and file not in look.failed:
        text = f"{FULL}; retry later, or name one of the newest as {RECENT}N"
        return RemoteError("too_many_clients", text, retry=True)
    if file in look.failed:
        why = look.failed[file].text
    else:
        numbers = (name.removeprefix("update-").split(".")[0] for name in look.recent[-5:])
        there = ", ".join(str(int(number)) for number in numbers if number.isdecimal())
        why = f"this run has none; its newest are those of {there or 'none'}"
    return RemoteError(
        "no_such_policy", f"policy: expected a checkpoint, got {update} updates: {why}"
    )


def _look(
    folder: Path | None,
    names: Iterable[PolicyName],
    there: Mapping[str, LoadedCheckpoint],
    failed: Mapping[str, LoadFailure],
    held: frozenset[LoadedCheckpoint],
    load: Load,
) -> ShelfLook:
    """In a thread: what is wanted of the folder, loaded as far as there is room."""
    recent = [] if folder is None else [path.name for path in checkpoint.checkpoints(folder)]
    files: dict[str, None] = {}  # in order: those asked for by number first
    for name in sorted(names, key=lambda name: (name.update is None, name.recent or 0)):
        if name.update is not None:
            files[checkpoint.file_name(name.update)] = None
        elif name.recent is None:
            files[checkpoint.BEST] = None
        else:
            files.update(dict.fromkeys(reversed(recent[-name.recent :])))
    loaded: dict[str, LoadedCheckpoint] = {}
    wrong: dict[str, LoadFailure] = {}
    full = False
    for file in files:
        path = (folder or Path()) / file
        entry, stamp = there.get(file), _stamp(path) if folder else None
        if entry is not None and stamp in (None, entry.stamp):
            loaded[file] = entry  # one that was deleted meanwhile goes on
        elif stamp is None:
            pass
        elif file in failed and failed[file].stamp == stamp:
            wrong[file] = failed[file]
        elif len(held.union(loaded.values())) >= MOST:
            full = True
        else:
            try:
                loaded[file] = LoadedCheckpoint(load(path), stamp)
            except Exception as error:  # no file in that folder may end a gateway
                wrong[file] = LoadFailure(stamp, str(error))
                if entry is not None:
                    loaded[file] = entry
    return ShelfLook(recent, loaded, wrong, full)


def _stamp(path: Path) -> Stamp | None:
    """What changes when a file is written anew; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino

"""Slots that a checkpoint plays: which one, and their part of a turn's forward passes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from agent.policy import Policy
from protocol.policies import PolicyName
from server.gateway.checkpoint_shelf import CheckpointShelf, LoadedCheckpoint
from server.gateway.slots import SlotTable

Rows = npt.NDArray[np.int64]


class NamedPlay:
    """The slots of a table that named a policy. While there is none, a turn asks `slots` alone."""

    def __init__(self, table: SlotTable, shelf: CheckpointShelf, rng: np.random.Generator) -> None:
        self.shelf = shelf
        self._table = table
        self._rng = rng
        self._names: dict[int, PolicyName] = {}
        """By row of the table."""
        self._playing: dict[int, LoadedCheckpoint] = {}
        """By row; a slot that is not here has the newest network."""
        self._entries: dict[int, LoadedCheckpoint] = {}
        """By the number that the table has of them."""

    @property
    def slots(self) -> int:
        """That named a policy."""
        return len(self._names)

    def join(self, rows: Rows, name: PolicyName) -> None:
        """These slots play with it, which the shelf was told that somebody wants."""
        self._names.update(dict.fromkeys(rows.tolist(), name))

    def leave(self, rows: Rows) -> None:
        """These slots are gone, if they have named a policy: all of them a connection's."""
        name = self._names.get(int(rows[0])) if len(rows) else None
        if name is None:
            return
        for row in rows.tolist():
            del self._names[row]
            self._let_go(row)
        self.shelf.drop(name)

    def begin(self, rows: Rows) -> None:
        """Episodes begin in these slots, of any kind: draw who plays."""
        for row in rows.tolist():
            if (name := self._names.get(row)) is None:
                continue
            self._let_go(row)
            entry = self.shelf.choose(name, self._rng)
            if entry is not None:
                self._playing[row] = entry
                self._table.policy[row] = number = self._number(entry)
                self._entries[number] = entry

    def groups(self, rows: Rows) -> Iterator[tuple[Policy | None, npt.NDArray[np.intp]]]:
        """Who is to be asked about slots [n]: a policy (None: the newest network), and the places
        in `rows` that are its."""
        numbers = self._table.policy[rows]
        for number in np.unique(numbers).tolist():
            policy = self._entries[number].policy if number else None
            yield policy, np.flatnonzero(numbers == number)

    def versions(self, rows: Rows, newest: int) -> list[int]:
        """The version of the weights that plays each of these slots."""
        numbers = self._table.policy[rows].tolist()
        return [self._entries[n].policy.version if n else newest for n in numbers]

    def _let_go(self, row: int) -> None:
        entry = self._playing.pop(row, None)
        if entry is not None:
            number = int(self._table.policy[row])
            self._table.policy[row] = 0
            self.shelf.give_back(entry)
            if not entry.slots:
                del self._entries[number]

    def _number(self, entry: LoadedCheckpoint) -> int:
        for number, other in self._entries.items():
            if other is entry:
                return number
        return next(n for n in range(1, len(self._entries) + 2) if n not in self._entries)

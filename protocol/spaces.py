"""What a game shows and what it can be told: its observations and the action heads.

An action has one part for each *head*, in the order in which the game declared them. Inside the
server it is a row of `action_width` float32, the *action row*: one column for a discrete head (the
index of the choice), `size` columns for a continuous head. A row whose first column is NaN means
"no action".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from protocol.errors import RemoteError
from protocol.observations import (
    DTYPES,
    MAX_OBSERVATIONS,
    Observation,
    observations_of,
    record_dtype,
    wire_form,
)
from protocol.spec_checks import check_name, check_names, refuse

__all__ = ["DTYPES", "Observation"]

MAX_DISCRETE = 2**24
"""A choice travels and is stored as float32, which holds whole numbers exactly up to here."""

MAX_HEADS = 64

MAX_SIZE = 4096
"""Numbers of one continuous head: each is a column of every stored row."""

FLOAT32_MAX = float(np.finfo(np.float32).max)
"""What travels as float64 in a FRAME is stored as float32: beyond this it would be infinite."""

Part = int | float | list[float]
"""One head's part of an action: int for discrete, float or list of floats for continuous."""


class Discrete(msgspec.Struct, frozen=True, array_like=True, tag="discrete"):
    """A head that is one choice of `n`: 0 to n-1."""

    name: str
    n: int


class Continuous(msgspec.Struct, frozen=True, array_like=True, tag="continuous"):
    """A head of `size` numbers, each within [low, high]."""

    name: str
    low: float
    high: float
    size: int


Head = Discrete | Continuous


class GameSpec(msgspec.Struct, frozen=True, dict=True):
    """All that a network must know of a game. Equal specs can train one network.

    The name and version of the client are not part of it: many clients may play one game.
    Construct with `checked()` behind it where the values come from outside.
    """

    game: str
    observation: Any
    """As HELLO says it (protocol.observations.wire_form); an Observation, or several, will do."""
    actions: tuple[Head, ...]
    rewards: tuple[str, ...] = ("reward",)
    masks: bool | msgspec.UnsetType = msgspec.UNSET
    """Frames say which choices are legal (protocol.masks): True, or not set, so that what is
    written of games without masks stays what it was."""

    def __post_init__(self) -> None:
        if self.masks is False:
            msgspec.structs.force_setattr(self, "masks", msgspec.UNSET)
        found = observations_of(wire_form(self.observation))
        msgspec.structs.force_setattr(self, "observation", wire_form(found))

    def checked(self) -> GameSpec:
        """This spec if it makes a valid game; RemoteError `bad_hello` that says what is wrong."""
        check_name("game", self.game)
        if len(self.observations) > MAX_OBSERVATIONS:
            refuse("observation", f"1 to {MAX_OBSERVATIONS} of them", len(self.observations))
        for observation in self.observations:
            observation.checked()
        check_names("observations", [each.name for each in self.observations])
        if not 1 <= len(self.actions) <= MAX_HEADS:
            refuse("actions", f"1 to {MAX_HEADS} heads", len(self.actions))
        for head in self.actions:
            _check_head(head)
        check_names("action heads", [head.name for head in self.actions])
        if not 1 <= len(self.rewards) <= MAX_HEADS:
            refuse("rewards", f"1 to {MAX_HEADS} components", len(self.rewards))
        check_names("reward components", list(self.rewards))
        if self.masks and not self.discrete:
            refuse("masks", "a game with a discrete head, whose choices they are about", True)
        return self

    @cached_property
    def observations(self) -> tuple[Observation, ...]:
        """What the game shows, in the order in which frames carry it."""
        return observations_of(self.observation)

    @cached_property
    def observation_dtype(self) -> np.dtype[Any]:
        """What rows of observations are arrays of: elements, or records of several observations
        (protocol.observations.record_dtype)."""
        return record_dtype(self.observations)

    @cached_property
    def observation_size(self) -> int:
        """How many of that dtype a row has: the elements of one observation, or one record."""
        return self.observations[0].size if len(self.observations) == 1 else 1

    @cached_property
    def observation_bytes(self) -> int:
        """Of a frame's observations, however large: NumPy has no dtype that is huge."""
        return sum(each.size * DTYPES[each.dtype].itemsize for each in self.observations)

    def parts(self, rows: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], ...]:
        """The observations apart: of rows [n, k * observation_size], k frames side by side, each
        observation as [n, k, *shape], views."""
        n = len(rows)
        if len(self.observations) == 1:
            frames = rows.shape[1] // self.observation_size
            return (rows.reshape(n, frames, *self.observations[0].shape),)
        return tuple(rows[str(i)] for i in range(len(self.observations)))

    def row(self, shown: Any) -> npt.NDArray[Any]:
        """What a frame shows as a row, [observation_size]: an array, or of several observations a
        mapping from their names to arrays. Errors: KeyError, ValueError where it does not fit."""
        if len(self.observations) == 1:
            if isinstance(shown, Mapping):
                shown = shown[self.observations[0].name]
            return np.asarray(shown, self.observation_dtype).reshape(-1)
        row = np.zeros(1, self.observation_dtype)
        for i, observation in enumerate(self.observations):
            row[str(i)] = np.asarray(shown[observation.name]).reshape(observation.shape)
        return row

    @cached_property
    def columns(self) -> tuple[slice, ...]:
        """For each head, its columns in the action row."""
        out, start = [], 0
        for head in self.actions:
            width = 1 if isinstance(head, Discrete) else head.size
            out.append(slice(start, start + width))
            start += width
        return tuple(out)

    @cached_property
    def action_width(self) -> int:
        """Columns of the action row: one for a discrete head, `size` for a continuous one."""
        return int(self.columns[-1].stop)

    @cached_property
    def discrete(self) -> tuple[Discrete, ...]:
        return tuple(head for head in self.actions if isinstance(head, Discrete))

    @cached_property
    def continuous(self) -> tuple[Continuous, ...]:
        return tuple(head for head in self.actions if isinstance(head, Continuous))

    @cached_property
    def discrete_columns(self) -> tuple[int, ...]:
        """The columns of the action row that hold choices, one for each discrete head."""
        pairs = zip(self.actions, self.columns, strict=True)
        return tuple(cols.start for head, cols in pairs if isinstance(head, Discrete))

    @cached_property
    def continuous_columns(self) -> tuple[int, ...]:
        """The columns of the action row that hold continuous values, all heads together."""
        return tuple(sorted(set(range(self.action_width)) - set(self.discrete_columns)))

    @cached_property
    def choice_columns(self) -> tuple[slice, ...]:
        """For each discrete head, its columns among the choices of all of them side by side."""
        ends = np.cumsum([head.n for head in self.discrete]).tolist()
        return tuple(
            slice(end - head.n, end) for end, head in zip(ends, self.discrete, strict=True)
        )

    @cached_property
    def choices(self) -> int:
        """Choices of all discrete heads together."""
        return sum(head.n for head in self.discrete)

    @cached_property
    def legal_bytes(self) -> int:
        """Bytes of a frame's packed mask: 0 for a game without masks."""
        return -(-self.choices // 8) if self.masks else 0

    @cached_property
    def _accepted(self) -> tuple[tuple[float, float], ...]:
        """For each head, the smallest and the largest float64 that are accepted.

        Bounds are kept as float32, and rounding may move one outwards: 0.1 becomes 0.10000000149,
        a value that answers hold and clients may send back.
        """
        pairs = zip(self.actions, self.columns, strict=True)
        return tuple(
            (0.0, head.n - 1.0)
            if isinstance(head, Discrete)
            else (
                min(head.low, float(self.low[cols.start])),
                max(head.high, float(self.high[cols.start])),
            )
            for head, cols in pairs
        )

    @cached_property
    def low(self) -> npt.NDArray[np.float32]:
        """The smallest value of each column of the action row, float32 [action_width]."""
        return np.concatenate(
            [
                np.zeros(1, np.float32)
                if isinstance(h, Discrete)
                else np.full(h.size, h.low, np.float32)
                for h in self.actions
            ]
        )

    @cached_property
    def high(self) -> npt.NDArray[np.float32]:
        """The largest value of each column of the action row, float32 [action_width]."""
        return np.concatenate(
            [
                np.full(1, h.n - 1, np.float32)
                if isinstance(h, Discrete)
                else np.full(h.size, h.high, np.float32)
                for h in self.actions
            ]
        )

    def action_row(self, action: Sequence[Part]) -> list[float]:
        """An action of the wire as the numbers of an action row, each checked against its head.

        Errors: RemoteError `action_shape`, `action_out_of_range`.
        """
        if len(action) != len(self.actions):
            raise RemoteError(
                "action_shape",
                f"expected one element for each of {len(self.actions)} heads, got {len(action)}; "
                "send the heads in the order of HELLO",
            )
        row: list[float] = []
        for head, part, (low, high) in zip(self.actions, action, self._accepted, strict=True):
            if isinstance(head, Discrete):
                if not isinstance(part, int) or isinstance(part, bool):
                    raise RemoteError(
                        "action_shape",
                        f"head {head.name!r} is discrete: expected an int, got {part!r}",
                    )
                if not 0 <= part < head.n:
                    raise RemoteError(
                        "action_out_of_range",
                        f"head {head.name!r}: expected 0 to {head.n - 1}, got {part}",
                    )
                row.append(part)
                continue
            values = part if isinstance(part, list) else [part]
            if len(values) != head.size:
                raise RemoteError(
                    "action_shape",
                    f"head {head.name!r}: expected {head.size} numbers, got {len(values)}",
                )
            for value in values:
                # Written so that NaN fails.
                if not low <= value <= high:
                    raise RemoteError(
                        "action_out_of_range",
                        f"head {head.name!r}: expected {head.low} to {head.high}, got {value}; "
                        "clip before sending",
                    )
            row.extend(values)
        return row

    def check_action_rows(self, rows: npt.NDArray[np.float32]) -> None:
        """Refuse action rows, float32 [rows, action_width], of which any is outside its heads.

        Rows whose first column is NaN are "no action" and pass. RemoteError
        `action_out_of_range`.
        """
        given = rows[~np.isnan(rows[:, 0])]
        good = (given >= self.low) & (given <= self.high)
        choices = list(self.discrete_columns)
        good[:, choices] &= given[:, choices] == np.floor(given[:, choices])
        if not good.all():
            row, column = (int(i) for i in np.argwhere(~good)[0])
            head = next(
                h
                for h, cols in zip(self.actions, self.columns, strict=True)
                if cols.start <= column < cols.stop
            )
            raise RemoteError(
                "action_out_of_range",
                f"head {head.name!r}: expected "
                f"{'a whole number ' if isinstance(head, Discrete) else ''}"
                f"{self.low[column]} to {self.high[column]}, got {given[row, column]}",
            )

    def actions_of_rows(self, rows: npt.NDArray[np.float32]) -> list[tuple[Part, ...]]:
        """Action rows, float32 [rows, action_width], as actions of the wire."""
        parts: list[list[Any]] = []
        for head, cols in zip(self.actions, self.columns, strict=True):
            if isinstance(head, Discrete):
                parts.append(rows[:, cols.start].astype(np.int64).tolist())
            elif head.size == 1:
                parts.append(rows[:, cols.start].tolist())
            else:
                parts.append(rows[:, cols].tolist())
        return list(zip(*parts, strict=True))

    def describe(self) -> str:
        """The spec in one line for messages."""
        heads = ", ".join(map(describe_head, self.actions))
        masks = "; masks" if self.masks else ""
        return (
            f"{self.game!r} (observation {self.describe_observations()}; actions {heads}; rewards "
            f"{', '.join(self.rewards)}{masks})"
        )

    def describe_observations(self) -> str:
        """What it shows in a few words for messages."""
        return ", ".join(observation.describe() for observation in self.observations)


def describe_head(head: Head) -> str:
    """An action head in a few words for messages."""
    if isinstance(head, Discrete):
        return f"{head.name}: {head.n} choices"
    return f"{head.name}: {head.size} in [{head.low}, {head.high}]"


def _check_head(head: Head) -> None:
    if isinstance(head, Discrete):
        if not 2 <= head.n <= MAX_DISCRETE:
            refuse(f"head {head.name!r}", f"2 to {MAX_DISCRETE} choices", head.n)
        return
    if not 1 <= head.size <= MAX_SIZE:
        refuse(f"head {head.name!r}", f"a size of 1 to {MAX_SIZE}", head.size)
    if not (
        -FLOAT32_MAX <= head.low < head.high <= FLOAT32_MAX
        and np.float32(head.low) < np.float32(head.high)
    ):
        refuse(f"head {head.name!r}", "low < high, different as float32", [head.low, head.high])

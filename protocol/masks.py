"""Masks: which choices of the discrete heads are legal in a frame, as games send them.

A *mask* has a bit for each choice of each discrete head in their order, 1 where it is legal. It
travels and is stored packed: `spec.legal_bytes` bytes, the lowest bit of the first byte first; the
bits behind the last choice mean nothing. Unpacked it is bool [choices]; `spec.choice_columns` says
which of these are whose head's.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from protocol.errors import RemoteError
from protocol.spaces import GameSpec

ALL_LEGAL = 255
"""Each byte of a packed mask in which every choice is legal."""

SHOWN = 20
"""Choices that a message lists, at most."""

_decode = msgspec.msgpack.Decoder(memoryview | None).decode


def mask_bytes(legal: msgspec.Raw, slots: int, spec: GameSpec) -> memoryview | None:
    """The packed masks of a frame of so many slots; None where it says that all is legal.

    Errors: RemoteError `message_malformed`, `mask_size`.
    """
    raw = memoryview(legal)
    if not raw:
        return None
    try:
        packed: memoryview | None = _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise RemoteError(
            "message_malformed", "legal: expected bin or nil, got something else"
        ) from None
    wanted = slots * spec.legal_bytes
    if packed is not None and packed.nbytes != wanted:
        count = f"{slots} x " if slots > 1 else ""
        raise RemoteError(
            "mask_size",
            f"expected {count}{spec.legal_bytes} bytes of legal choices, a bit for each of "
            f"{spec.choices}, got {packed.nbytes} bytes; send a bit for each choice of each "
            "discrete head in the order of HELLO, lowest bit first",
        )
    return packed


def unpacked(packed: npt.NDArray[np.uint8], spec: GameSpec) -> npt.NDArray[np.bool_]:
    """Packed masks [n, legal_bytes] as bool [n, choices]."""
    return np.unpackbits(packed, axis=1, count=spec.choices, bitorder="little").view(np.bool_)


def packed(legal: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Masks, bool [n, choices], packed, uint8 [n, legal_bytes]."""
    return np.packbits(legal, axis=1, bitorder="little")


def has_choice(legal: npt.NDArray[np.bool_], spec: GameSpec) -> npt.NDArray[np.bool_]:
    """For each of n masks [n, choices], and each discrete head, whether anything is legal,
    [n, heads]."""
    return np.stack([legal[:, columns].any(axis=1) for columns in spec.choice_columns], axis=1)


def are_legal(
    rows: npt.NDArray[np.float32], legal: npt.NDArray[np.bool_], spec: GameSpec
) -> npt.NDArray[np.bool_]:
    """For n action rows [n, action_width], each within its heads, and n masks [n, choices], whether
    each discrete head's choice is legal, [n, heads]."""
    of = np.arange(len(rows))
    found = [
        legal[of, columns.start + rows[:, column].astype(np.intp)]
        for columns, column in zip(spec.choice_columns, spec.discrete_columns, strict=True)
    ]
    return np.stack(found, axis=1)


def no_choice(head: int, spec: GameSpec) -> RemoteError:
    """The error of a running frame in which this discrete head has no legal choice."""
    found = spec.discrete[head]
    return RemoteError(
        "no_legal_choice",
        f"head {found.name!r}: expected at least one legal choice of {found.n} in a frame whose "
        "status is 0 (running), got none; end the episode where nothing can be done, or declare a "
        "choice that does nothing",
    )


def illegal(
    what: str, row: npt.NDArray[np.float32], legal: npt.NDArray[np.bool_], head: int, spec: GameSpec
) -> RemoteError:
    """The error of an action row [action_width] in which this discrete head's choice is not legal
    by the mask [choices]. `what`: what the action is, in words."""
    found, columns = spec.discrete[head], spec.choice_columns[head]
    choices = np.flatnonzero(legal[columns])
    listed = ", ".join(map(str, choices[:SHOWN].tolist()))
    more = f" and {len(choices) - SHOWN} more" if len(choices) > SHOWN else ""
    return RemoteError(
        "action_illegal",
        f"head {found.name!r}: expected {what} to be a legal choice ({listed}{more}), got "
        f"{int(row[spec.discrete_columns[head]])}; recommend and report only what the frame's mask "
        "allows",
    )

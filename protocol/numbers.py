"""Numbers of the game: what a frame carries beside the reward, under names that HELLO declares.

They are for people to look at, and for lessons; nothing learns from them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from protocol.errors import RemoteError
from protocol.spec_checks import check_name

MAX_NUMBERS = 32

_One = list[float | None] | None

_decode_one: Callable[[Any], _One] = msgspec.msgpack.Decoder(_One).decode
_decode_many: Callable[[Any], memoryview | None] = msgspec.msgpack.Decoder(memoryview | None).decode


def check_number_names(names: tuple[str, ...]) -> None:
    """Errors: RemoteError `bad_hello`."""
    if len(names) > MAX_NUMBERS:
        raise RemoteError(
            "bad_hello", f"metrics: expected at most {MAX_NUMBERS} names, got {len(names)}"
        )
    for name in names:
        check_name("metrics", name)
    if len(set(names)) < len(names):
        raise RemoteError("bad_hello", "metrics: expected names that differ, got one twice")


def frame_numbers(raw: msgspec.Raw, names: tuple[str, ...]) -> list[float | None] | None:
    """What a FRAME tells, a number or None for each name; None where it tells nothing.

    Errors: RemoteError `message_malformed`, `metrics_shape`, `metric_not_finite`.
    """
    try:
        found = _decode_one(raw) if bytes(raw) else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _malformed("an array with a number or nil for each declared name, or nil") from None
    if found is None:
        return None
    if len(found) != len(names):
        raise RemoteError(
            "metrics_shape",
            f"expected {len(names)} numbers, one for each name of `metrics` in HELLO, got "
            f"{len(found)}; send nil for one that there is not now",
        )
    for name, value in zip(names, found, strict=True):
        if value is not None and not math.isfinite(value):
            raise _not_finite(name, value)
    return found


def frames_numbers(
    raw: msgspec.Raw, names: tuple[str, ...], slots: int
) -> npt.NDArray[np.float32] | None:
    """What a FRAMES tells, float32 [slots, names], NaN for none; None where it tells nothing.

    Errors: RemoteError `message_malformed`, `metrics_shape`, `metric_not_finite`.
    """
    try:
        found = _decode_many(raw) if bytes(raw) else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _malformed("bin or nil") from None
    if found is None:
        return None
    wanted = 4 * slots * len(names)
    if found.nbytes != wanted:
        raise RemoteError(
            "metrics_shape",
            f"expected {wanted} bytes of metrics, float32 for {slots} slots x {len(names)} names, "
            f"got {found.nbytes}; send NaN for one that there is not now",
        )
    values = np.frombuffer(found, "<f4").reshape(slots, -1)
    if np.isinf(values).any():
        slot, column = np.argwhere(np.isinf(values))[0].tolist()
        raise _not_finite(names[column], values[slot, column]).in_slot(slot, slots)
    return values


def _malformed(expected: str) -> RemoteError:
    return RemoteError("message_malformed", f"metrics: expected {expected}, got something else")


def _not_finite(name: str, value: float) -> RemoteError:
    return RemoteError(
        "metric_not_finite",
        f"metrics: expected a finite number for {name!r}, got {value:g}; check what the game "
        "computes, and send none where there is none",
    )

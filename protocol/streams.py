"""The number of a stream: a connection's session and one of its slots, in one integer."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

SLOT_BITS = 16

_Number = TypeVar("_Number", int, npt.NDArray[np.int64])


def stream_number(session: _Number, slot: _Number) -> _Number:
    """The number of the stream that a slot of a session is, as int64; of one, or of arrays."""
    return session << SLOT_BITS | slot


def session_of(stream: _Number) -> _Number:
    """The session of a stream; of one, or of arrays."""
    return stream >> SLOT_BITS

"""What must hold when the decoder is fed with a hostile stream of bytes.

A stream is what a client sends on one connection, in the protocol or in the older format of
Tempest's clients (`lab.fuzz.mutator` makes them). `check` feeds one to the session as a connection
would, whole and in pieces, and raises `BrokenPromise` where one of these does not hold:

- nothing but RemoteError leaves the session, with a code and a message that a client can be sent
- what is held of an unfinished message is bounded
- however the bytes are split, the same messages come out, and the same error
- no stream takes longer than `SLOWEST_S`
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from lab.fuzz.mutator import TEMPEST
from protocol import codec
from protocol.errors import CODES, MAX_MESSAGE, RemoteError
from protocol.framing import HANDSHAKE_MAX_BYTES, LENGTH_BYTES
from protocol.masks import mask_bytes, unpacked
from protocol.messages import Frame, Frames, HelloFields
from protocol.session import ServerSession
from protocol.spaces import GameSpec
from protocol.tempest import AHEAD_BYTES, TempestFrame, TempestSession

MAX_MESSAGE_BYTES = 65_536
_MOST_HELD = LENGTH_BYTES + MAX_MESSAGE_BYTES
SLOWEST_S = 2.0
"""Processor time of a stream, at most: thousands of times what one takes."""


class BrokenPromise(Exception):
    """A promise that a stream has shown not to hold."""


def check(kind: int, data: bytes, rng: random.Random) -> str:
    """Feed a stream to a session; how it ended: the code of an error, or `open`.

    Errors: BrokenPromise.
    """
    begin = time.thread_time()
    whole = _trace(kind, [data])
    took = time.thread_time() - begin
    if took > SLOWEST_S:
        raise BrokenPromise(
            f"expected a stream of {len(data)} bytes to take no time, it took {took:.1f} s"
        )
    pieces = list(_split(data, rng))
    split = _trace(kind, pieces)
    if whole != split:
        raise BrokenPromise(
            f"expected the same of a stream however it is split, got {_differ(whole, split)} in "
            f"pieces of {[len(piece) for piece in pieces][:20]} bytes"
        )
    return str(whole[-1])


def _trace(kind: int, pieces: Sequence[bytes]) -> list[Any]:
    """What comes out of a session that gets these bytes, message by message, each answered at
    once; then how it ended."""
    session: ServerSession | TempestSession
    session = TempestSession("continuous") if kind == TEMPEST else _session()
    out: list[Any] = []
    try:
        for piece in pieces:
            for message in session.receive(piece):
                out.append(_taken(session, message))
            # An older connection is not read from beyond that.
            most = AHEAD_BYTES + len(piece) if kind == TEMPEST else _MOST_HELD
            if session.partial > most:
                raise BrokenPromise(
                    f"expected at most {most} bytes of an unfinished message, {session.partial} "
                    "are held"
                )
        session.ended()
    except BrokenPromise:
        raise
    except RemoteError as error:
        _check_error(error)
        session.failed()
        held = list(session.receive(b"\x00" * 64))
        if held:
            raise BrokenPromise(
                f"expected nothing from a session that is over, got {held}"
            ) from None
        return [*out, error.code]
    except Exception as error:
        raise BrokenPromise(
            f"expected RemoteError alone, got {type(error).__name__}: {error}"
        ) from error
    return [*out, "open"]


def _session() -> ServerSession:
    return ServerSession(max_message_bytes=MAX_MESSAGE_BYTES, token=None)


def _taken(session: ServerSession | TempestSession, message: Any) -> tuple[Any, ...]:
    """Do with a message what the gateway does, up to the arrays; what is to be the same of it."""
    if type(message) is HelloFields:
        session.welcomed()
        return ("hello", message)
    spec = session.spec
    if type(message) is TempestFrame:
        session.answered(0)
        return ("frame", message.seq, bytes(message.obs), message.rewards, message.status)
    if type(message) is Frame:
        assert spec is not None
        row = np.empty(spec.action_width, np.float32)
        for action in (message.expert, message.took and message.took[0]):
            if action is not None:
                row[:] = spec.action_row(action)
        np.empty(len(spec.rewards), np.float32)[:] = message.reward
        legal = _legal(message, 1, spec)
        session.answered(message.slot)
        return ("frame", message.slot, message.seq, bytes(message.obs), message.status, legal)
    if type(message) is Frames:
        assert spec is not None
        np.frombuffer(message.obs, spec.observation_dtype)
        legal = _legal(message, message.statuses.nbytes, spec)
        session.answered_all()
        return ("frames", message.seq, bytes(message.obs), bytes(message.rewards), legal)
    return (type(message).__name__,)


def _legal(message: Frame | Frames, slots: int, spec: GameSpec) -> bytes | None:
    """The masks of a frame of so many slots, unpacked as the gateway does."""
    given = mask_bytes(message.legal, slots, spec) if spec.masks else None
    if given is None:
        return None
    return unpacked(np.frombuffer(given, np.uint8).reshape(slots, -1), spec).tobytes()


def _check_error(error: RemoteError) -> None:
    if error.code not in CODES or len(error.message) > MAX_MESSAGE:
        raise BrokenPromise(f"expected a known code and a message that is bounded, got {error}")
    if len(codec.encode_error(error)) > HANDSHAKE_MAX_BYTES:
        raise BrokenPromise(
            f"expected an ERROR of at most {HANDSHAKE_MAX_BYTES} bytes, got {error}"
        )


def _split(data: bytes, rng: random.Random) -> Iterator[bytes]:
    """The bytes in pieces: single bytes, a few, or many."""
    most = rng.choice((1, 2, 7, 64, 4096))
    if len(data) > 2048:
        most = max(most, 64)  # single bytes of a long stream show nothing that few do not
    at, draw = 0, rng.random  # randint takes longer than the session does for a piece
    while at < len(data):
        n = 1 + int(draw() * most)
        yield data[at : at + n]
        at += n


def _differ(whole: list[Any], split: list[Any]) -> str:
    for a, b in zip(whole, split, strict=False):
        if a != b:
            return f"{str(a)[:200]} whole and {str(b)[:200]}"
    return f"{len(whole)} messages whole and {len(split)}"

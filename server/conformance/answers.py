"""Answers for any game, and the ways in which a server may send them. No I/O."""

from __future__ import annotations

import random
import struct
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from protocol.framing import framed
from protocol.messages import RUNNING, Frame, Frames, HelloFields
from protocol.observation_checks import bad_element, bad_rows
from protocol.spaces import Discrete, GameSpec
from server.net.plain_messages import message


def judge(frame: Frame | Frames, spec: GameSpec) -> None:
    """What the session leaves to the frame path: obs and actions. Errors: RemoteError."""
    n = frame.obs.nbytes // spec.observation_bytes
    rows = np.frombuffer(frame.obs, spec.observation_dtype).reshape(n, -1)
    with np.errstate(invalid="ignore"):
        for observation, part in zip(spec.observations, spec.parts(rows), strict=True):
            bad = bad_rows(observation, part)
            if bad is not None:
                raise bad_element(observation, part[int(np.argmax(bad))])
    if isinstance(frame, Frame):
        if frame.expert is not None:
            spec.action_row(frame.expert)
        if frame.took is not None:
            spec.action_row(frame.took[0])


class Answers:
    """Answers frames as a server would: the expert plays half of what it recommends."""

    def __init__(self, hello: HelloFields, spec: GameSpec) -> None:
        self._hello = hello
        self._spec = spec
        self._rng = random.Random(0)
        self._version = 0

    def answer(self, frame: Frame | Frames, legal: npt.NDArray[np.bool_]) -> list[Any]:
        """ACTION or ACTIONS, as a plain value. `legal`: which choices are, [slots in the frame,
        choices]."""
        self._version += 1
        if isinstance(frame, Frame):
            if frame.status != RUNNING:
                return [12, frame.slot, frame.seq, None, 0, self._version, False]
            if frame.expert is not None and self._expert():
                return [12, frame.slot, frame.seq, frame.expert, 2, self._version, False]
            explores = self._hello.role == "train" or self._hello.explores
            explored = explores and self._rng.random() < 0.5
            action = self._action(legal[0])
            return [12, frame.slot, frame.seq, action, 1, self._version, explored]
        return self._answer_all(frame, legal)

    def _answer_all(self, frames: Frames, legal: npt.NDArray[np.bool_]) -> list[Any]:
        spec, slots = self._spec, self._hello.slots
        statuses = bytes(frames.statuses)
        rows = np.full((slots, spec.action_width), np.nan, "<f4")
        actors = bytearray(slots)
        experts = None
        if frames.experts is not None:
            experts = np.frombuffer(frames.experts, "<f4").reshape(slots, -1)
        for slot in range(slots):
            if statuses[slot] != RUNNING:
                continue
            if experts is not None and not np.isnan(experts[slot, 0]) and self._expert():
                rows[slot], actors[slot] = experts[slot], 2
            else:
                rows[slot], actors[slot] = spec.action_row(self._action(legal[slot])), 1
        return [13, frames.seq, rows.tobytes(), bytes(actors), self._version, bytes(slots)]

    def _expert(self) -> bool:
        role = self._hello.role
        return role == "eval_expert" or (role == "train" and self._rng.random() < 0.5)

    def _action(self, legal: npt.NDArray[np.bool_]) -> list[Any]:
        out: list[Any] = []
        columns = iter(self._spec.choice_columns)
        for head in self._spec.actions:
            if isinstance(head, Discrete):
                out.append(self._rng.choice(np.flatnonzero(legal[next(columns)]).tolist()))
                continue
            # As the network's answers are: float32, within the head.
            low, high = float(np.float32(head.low)), float(np.float32(head.high))
            numbers = [
                min(max(float(np.float32(self._rng.uniform(low, high))), low), high)
                for _ in range(head.size)
            ]
            out.append(numbers if head.size > 1 else numbers[0])
        return out


def plain(value: list[Any]) -> bytes:
    """As our own server sends it."""
    return message(*value)


def later(value: list[Any]) -> bytes:
    """As a later version may: elements behind the last one."""
    return plain([*value, {"mask": b"\x01\x00"}, 1.5])


def long_form(value: list[Any]) -> bytes:
    """In the longest msgpack form of everything, floats as float32 where that loses nothing, and
    whole numbers as ints."""
    return framed(_long(value))


def _long(value: Any) -> bytes:
    if value is None or isinstance(value, bool):
        return msgspec.msgpack.encode(value)
    if isinstance(value, float):
        if value.is_integer():
            return struct.pack(">Bq", 0xD3, int(value))
        single = struct.unpack(">f", struct.pack(">f", value))[0]
        return (
            struct.pack(">Bf", 0xCA, value) if single == value else struct.pack(">Bd", 0xCB, value)
        )
    if isinstance(value, int):
        return struct.pack(">BQ", 0xCF, value) if value >= 0 else struct.pack(">Bq", 0xD3, value)
    if isinstance(value, str):
        return struct.pack(">BI", 0xDB, len(value.encode())) + value.encode()
    if isinstance(value, bytes):
        return struct.pack(">BI", 0xC6, len(value)) + value
    if isinstance(value, dict):
        items = b"".join(_long(key) + _long(item) for key, item in value.items())
        return struct.pack(">BI", 0xDF, len(value)) + items
    return struct.pack(">BI", 0xDD, len(value)) + b"".join(map(_long, value))

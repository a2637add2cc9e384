"""What can be said of a connection's first message before it is decoded: its type, its token, and
that it holds no more values than a HELLO needs. So nobody unknown makes the decoder work."""

from __future__ import annotations

from typing import NamedTuple

MAX_VALUES = 1024
"""Values that the first message may hold, keys and containers among them. A HELLO with as many
heads and rewards as there may be has fewer than 600."""

_TOKEN = b"token"

_FIXED = {
    0xC0: 0, 0xC1: 0, 0xC2: 0, 0xC3: 0, 0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8,
    0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8, 0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17,
}  # fmt: skip
"""Bytes behind the first one: nil, booleans, numbers, extensions of a fixed size."""

_SIZED = {
    0xC4: (1, 0), 0xC5: (2, 0), 0xC6: (4, 0), 0xC7: (1, 1), 0xC8: (2, 1), 0xC9: (4, 1),
    0xD9: (1, 0), 0xDA: (2, 0), 0xDB: (4, 0),
}  # fmt: skip
"""Bytes of the length, and what comes besides: bin, extensions, str."""

_COUNTED = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}
"""Bytes of the count, and values for each: arrays and maps."""

_STRINGS = range(0xA0, 0xC0), range(0xD9, 0xDC)


class FirstMessage(NamedTuple):
    """A first message, looked at."""

    kind: int | None
    """Its type; None where it is no array that begins with an integer."""
    has_fields: bool
    """A map follows, as in HELLO."""
    token: bytes | None
    """What that map says as `token`; None where that is no str, or not within `MAX_VALUES`."""
    too_many: bool
    """It holds more values than `MAX_VALUES`."""


def look(payload: bytes | memoryview) -> FirstMessage:
    """Look at one message without its length. It takes no more than `MAX_VALUES` steps. What is cut
    short or no msgpack is seen as far as it goes."""
    walk = _Walk(bytes(payload))
    try:
        walk.message()
    except IndexError:
        pass  # it is cut short; the decoder says so in words
    except _TooManyError:
        return FirstMessage(walk.kind, walk.has_fields, walk.token, too_many=True)
    return FirstMessage(walk.kind, walk.has_fields, walk.token, too_many=False)


class _TooManyError(Exception):
    pass


class _Walk:
    """From value to value through the bytes, with no value made of them."""

    def __init__(self, data: bytes) -> None:
        self.kind: int | None = None
        self.has_fields = False
        self.token: bytes | None = None
        self._data = data
        self._at = 0
        self._values = 0

    def message(self) -> None:
        """An array whose first element is the type and whose second is HELLO's map."""
        begin = self._at
        elements = self._step()
        if not 0x90 <= self._data[begin] <= 0x9F and self._data[begin] not in (0xDC, 0xDD):
            self._skip(elements)
            return
        if elements:
            self.kind = self._integer()
        if elements > 1:
            self._map()
        self._skip(elements - 2)

    def _map(self) -> None:
        begin = self._at
        children = self._step()
        first = self._data[begin]
        if not 0x80 <= first <= 0x8F and first not in (0xDE, 0xDF):
            self._skip(children)
            return
        self.has_fields = True
        for _ in range(children // 2):
            if self._string() == _TOKEN and self.token is None:
                self.token = self._string()
            else:
                self._skip(1)

    def _skip(self, values: int) -> None:
        """Go behind so many values and all that is in them."""
        while values > 0:
            values += self._step() - 1

    def _string(self) -> bytes | None:
        """Go behind a value; its bytes if it is a str."""
        begin = self._at
        children = self._step()
        first = self._data[begin]
        if not any(first in forms for forms in _STRINGS):
            self._skip(children)
            return None
        head = 1 if first < 0xC0 else 1 + _SIZED[first][0]
        return self._data[begin + head : self._at]

    def _integer(self) -> int | None:
        """Go behind a value; what it is if it is an integer."""
        begin = self._at
        self._skip(self._step())
        first = self._data[begin]
        if first < 0x80:
            return first
        if 0xCC <= first <= 0xD3:
            return int.from_bytes(self._data[begin + 1 : self._at], "big", signed=first >= 0xD0)
        return None

    def _step(self) -> int:
        """Go behind the head of a value, and behind its bytes where it is no container; how many
        values follow in it. Errors: _TooManyError; IndexError at the end of the bytes."""
        self._values += 1
        if self._values > MAX_VALUES:
            raise _TooManyError
        data, at = self._data, self._at
        first = data[at]
        at += 1
        children = 0
        if first < 0x80 or first >= 0xE0:
            pass
        elif first < 0x90:
            children = 2 * (first & 0x0F)
        elif first < 0xA0:
            children = first & 0x0F
        elif first < 0xC0:
            at += first & 0x1F
        elif first in _FIXED:
            at += _FIXED[first]
        elif first in _SIZED:
            size, more = _SIZED[first]
            at += size + more + int.from_bytes(data[at : at + size], "big")
        else:
            size, each = _COUNTED[first]
            children = each * int.from_bytes(data[at : at + size], "big")
            at += size
        self._at = at
        return children

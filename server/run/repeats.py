"""Keeps what comes again and again from filling the log, whoever causes it: tracebacks, lines of
libraries, and any line of one place in the code.

Lines about those who connect have limits of their own, for each address
(`server.net.rate_limits.LogRateLimiter`). This is for what nobody has thought of.
"""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Callable
from types import TracebackType

from server.net.rate_limits import GrowingPauses, TokenBucket

LINES_PER_S, LINES = 20.0, 500
"""Of one place in the code: so many a second, and so many at once."""

TEXT, TRACE = 10_000, 20_000
"""Letters of a line, and of a traceback: some have words of a client in them."""

RELAYED = "relayed"
"""An attribute of records that are limited elsewhere: by another process, or by an interval."""

_WRITTEN = "written"
"""An attribute of records that have been decided upon."""

LIBRARIES = ("asyncio", "uvicorn")
"""Loggers that say the same line for each connection."""


class RepeatFilter(logging.Filter):
    """For all handlers of a process; a record is decided upon once.

    A traceback is written for the first error of a place. Further ones are a line each, in growing
    pauses, which says how many there were. Lines of libraries come in the same pauses. Of any other
    place so many lines are written as `LINES_PER_S` and `LINES` say.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._pauses = GrowingPauses(clock)
        self._buckets: dict[str, TokenBucket] = {}
        self._left_out: dict[str, int] = {}
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write it; may shorten it."""
        known = vars(record)
        if _WRITTEN not in known:
            with self._lock:
                known[_WRITTEN] = RELAYED in known or self._decide(record)
        return bool(known[_WRITTEN])

    def _decide(self, record: logging.LogRecord) -> bool:
        place = f"{record.pathname}:{record.lineno}"
        error = record.exc_info[1] if record.exc_info else None
        if error is None and record.name.partition(".")[0] not in LIBRARIES:
            return self._in_bucket(record, place)
        if error is not None:
            place = f"{type(error).__name__} {_raised_at(error.__traceback__) or place}"
        left_out = self._pauses.due(place)
        if left_out is None:
            return False
        text = record.getMessage()
        if left_out:
            text += f": {type(error).__name__}: {error}"[:TEXT] if error is not None else ""
            text = f"{text[:TEXT]} ({left_out} more times since the last line)"
            record.exc_info = record.exc_text = None
        elif error is not None:
            lines = traceback.format_exception(error)
            record.exc_info = None
            record.exc_text = "".join(lines)[-TRACE:].rstrip()
        record.msg, record.args = text[: TEXT + 100], ()
        return True

    def _in_bucket(self, record: logging.LogRecord, place: str) -> bool:
        now = self._clock()
        bucket = self._buckets.get(place)
        if bucket is None:
            bucket = self._buckets[place] = TokenBucket(LINES_PER_S, LINES, now)
        if bucket.take(0, now):
            self._left_out[place] = self._left_out.get(place, 0) + 1
            return False
        bucket.take(1, now)
        text = record.getMessage()
        if left_out := self._left_out.pop(place, 0):
            text = f"{text[:TEXT]} ({left_out} lines like this were not written)"
        if left_out or len(text) > TEXT:
            record.msg, record.args = text[: TEXT + 100], ()
        return True


def _raised_at(trace: TracebackType | None) -> str:
    """The place in the code that raised; empty where that is not known."""
    if trace is None:
        return ""
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"

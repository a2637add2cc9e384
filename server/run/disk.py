"""`Writes`: failed writes are logged once and counted, and serving goes on; free disk space."""

from __future__ import annotations

import errno
import logging
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.finding import Finding

_FULL = (errno.ENOSPC, errno.EDQUOT)


def reason(error: Exception) -> str:
    """Why something could not be written, and for a full disk what to do."""
    if isinstance(error, OSError) and error.errno in _FULL:
        return f"{error.strerror}: the disk is full; free some space, or lower checkpoint.keep"
    return str(error)


def free_bytes(folder: Path) -> float:
    """What this user may still write where the folder is; NaN where that is not to be known."""
    try:
        return float(shutil.disk_usage(folder).free)
    except OSError:
        return math.nan


class Writes:
    """Tries to write, and says when that begins to fail and when it works again, each once."""

    def __init__(self, log: logging.Logger, consequence: str) -> None:
        """`consequence`: what goes on all the same."""
        self._log = log
        self._consequence = consequence
        self._failing: dict[str, int] = {}
        self.failed = 0
        """How often something could not be written."""

    @property
    def findings(self) -> list[Finding]:
        """What cannot be written now, worth a warning."""
        return [
            Finding(
                "cannot_write",
                f"could not write {what}, {times} times by now; {self._consequence}",
                "free space on the disk, and see that the folder may be written to",
            )
            for what, times in [*self._failing.items()][:1]
        ]

    @contextmanager
    def tried(self, what: str, *also: type[Exception]) -> Iterator[list[str]]:
        """Do the writing within. An OSError, or one of `also`, goes no further; it is then in the
        list, as text. `what`: the name of what is written, the same each time."""
        errors: list[str] = []
        kinds: tuple[type[Exception], ...] = (OSError, *also)
        try:
            yield errors
        except kinds as error:
            errors.append(reason(error))
            self.failed += 1
            before = self._failing.get(what, 0)
            self._failing[what] = before + 1
            if not before:
                self._log.error(
                    "could not write %s: %s; %s; further failures are not logged until a write "
                    "succeeds",
                    what, errors[0], self._consequence,
                )  # fmt: skip
        else:
            if times := self._failing.pop(what, 0):
                self._log.warning("%s can be written again, after %d failures", what, times)

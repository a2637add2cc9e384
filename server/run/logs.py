"""Logging: the children's lines travel to the supervisor, which shows them and keeps them."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.logging import RichHandler

from agent.files import append_whole
from server.ipc.messages import LogLine
from server.ipc.pipe_writer import PipeWriter
from server.run.repeats import RELAYED, RepeatFilter

FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


class PipeHandler(logging.Handler):
    """Sends each record over a pipe."""

    def __init__(self, pipe: Pipe | PipeWriter, source: str) -> None:
        super().__init__()
        self._pipe = pipe
        self._source = source

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._pipe.send(LogLine(record.levelno, self._source, self.format(record)))
        except OSError:  # the supervisor is gone; this process is about to end too
            return


def log_to_pipe(pipe: Pipe | PipeWriter, source: str) -> None:
    """Send this process's log to its supervisor."""
    root = logging.getLogger()
    handler = PipeHandler(pipe, source)
    handler.addFilter(RepeatFilter())
    root.handlers = [handler]
    root.setLevel(logging.INFO)


def relay(line: LogLine) -> None:
    """Log a line of another process."""
    logging.getLogger(line.source).log(line.level, "%s", line.text, extra={RELAYED: True})


class JsonFormatter(logging.Formatter):
    """A line of JSON for each record: time (UTC), level, source, text."""

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.exc_info:
            text = f"{text}\n{self.formatException(record.exc_info)}"
        elif record.exc_text:  # RepeatFilter has made it
            text = f"{text}\n{record.exc_text}"
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": when, "level": record.levelname, "source": record.name, "text": text}
        return json.dumps(line, ensure_ascii=False)


LONGEST = 64 * 2**20
"""Bytes of a log file. What is longer is kept once, as NAME.1, in place of the one before: weeks
of a server at 100 updates a second, a day at 1,000, and a bound where a client connects again and
again."""


class LogFile(logging.Handler):
    """Adds lines to a file, each whole or not at all. Where that cannot be (the disk is full), it
    says so once, on stderr, and goes on trying. One process alone writes to a file."""

    failed = 0
    """Lines that no file took, since this process began."""

    def __init__(self, path: Path) -> None:
        """Lines are held back until `begin`."""
        super().__init__()
        self._path = path
        self._failing = False
        self._held: list[bytes] | None = []

    def begin(self) -> None:
        """Write the lines that were held back, and those to come as they come."""
        held, self._held = self._held, None
        self._write(b"".join(held or ()))

    def emit(self, record: logging.LogRecord) -> None:
        line = (self.format(record) + "\n").encode(errors="replace")
        if self._held is None:
            self._write(line)
        else:
            self._held.append(line)

    def _write(self, lines: bytes) -> None:
        try:
            append_whole(self._path, lines)
            if self._path.stat().st_size > LONGEST:
                self._path.replace(self._path.with_name(self._path.name + ".1"))
            self._failing = False
        except OSError as error:
            LogFile.failed += 1
            if not self._failing:
                self._failing = True
                print(f"could not write {self._path}: {error}; the server goes on", file=sys.stderr)


@contextmanager
def logged(
    file: Path, console: Console | None = None, form: Literal["text", "json"] = "text"
) -> Iterator[LogFile]:
    """The supervisor's log: all lines go to the run's file, once that has begun, and to `console`
    if there is one."""
    root, formatter = logging.getLogger(), logging.Formatter(FORMAT)
    to_file = LogFile(file)
    to_file.setFormatter(JsonFormatter() if form == "json" else formatter)
    handlers: list[logging.Handler] = [to_file]
    if console is not None:
        handlers.append(_shown_on(console, form))
    before = root.level
    root.setLevel(logging.INFO)
    once = RepeatFilter()
    for handler in handlers:
        handler.addFilter(once)
        root.addHandler(handler)
    try:
        yield to_file
    finally:
        root.setLevel(before)
        for handler in handlers:
            root.removeHandler(handler)
            handler.close()


def _shown_on(console: Console, form: Literal["text", "json"]) -> logging.Handler:
    """A handler that shows lines there."""
    handler: logging.Handler
    if form == "json" or not console.is_terminal:
        handler = logging.StreamHandler(console.file)  # rich would wrap lines to a width
        handler.setFormatter(JsonFormatter() if form == "json" else logging.Formatter(FORMAT))
    else:
        handler = RichHandler(console=console, show_path=False, log_time_format="%X")
        handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    return handler

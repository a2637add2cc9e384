"""Logging: the children's lines travel to the supervisor, which shows them and keeps them."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.logging import RichHandler

from agent.files import append_whole
from server.ipc.messages import Log
from server.ipc.pipe_writer import PipeWriter

FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


class PipeHandler(logging.Handler):
    """Sends each record over a pipe."""

    def __init__(self, pipe: Pipe | PipeWriter, source: str) -> None:
        super().__init__()
        self._pipe = pipe
        self._source = source

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._pipe.send(Log(record.levelno, self._source, self.format(record)))
        except OSError:  # the supervisor is gone; this process is about to end too
            return


def log_to_pipe(pipe: Pipe | PipeWriter, source: str) -> None:
    """Send this process's log to its supervisor."""
    root = logging.getLogger()
    root.handlers = [PipeHandler(pipe, source)]
    root.setLevel(logging.INFO)


class JsonFormatter(logging.Formatter):
    """A line of JSON for each record: time (UTC), level, source, text."""

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.exc_info:
            text = f"{text}\n{self.formatException(record.exc_info)}"
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
        """Errors: OSError where the file cannot be made."""
        super().__init__()
        self._path = path
        self._failing = False
        append_whole(path, b"")

    def emit(self, record: logging.LogRecord) -> None:
        try:
            append_whole(self._path, (self.format(record) + "\n").encode(errors="replace"))
            if self._path.stat().st_size > LONGEST:
                self._path.replace(self._path.with_name(self._path.name + ".1"))
            self._failing = False
        except OSError as error:
            LogFile.failed += 1
            if not self._failing:
                self._failing = True
                print(f"could not write {self._path}: {error}; the server goes on", file=sys.stderr)


def log_here(
    file: Path, console: Console | None, form: Literal["text", "json"] = "text"
) -> logging.Handler:
    """The supervisor's log: all lines to the run's file, and to `console` if there is one. Returns
    the file's handler, to be closed with `stop_logging` in the end."""
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    handler = LogFile(file)
    handler.setFormatter(JsonFormatter() if form == "json" else logging.Formatter(FORMAT))
    root.addHandler(handler)
    if console is not None and form == "json":
        lines = logging.StreamHandler(console.file)
        lines.setFormatter(JsonFormatter())
        root.addHandler(lines)
    elif console is not None and not console.is_terminal:
        whole = logging.StreamHandler(console.file)  # rich would wrap lines to a width
        whole.setFormatter(logging.Formatter(FORMAT))
        root.addHandler(whole)
    elif console is not None:
        shown = RichHandler(console=console, show_path=False, log_time_format="%X")
        shown.setFormatter(logging.Formatter("%(name)s: %(message)s"))
        root.addHandler(shown)
    return handler


def stop_logging() -> None:
    """Close what `log_here` opened."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
        handler.close()

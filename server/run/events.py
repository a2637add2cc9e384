"""Events of a run as JSON, for programs that watch a server: events.jsonl.

Each line is `{"time": seconds since 1970, "event": NAME, ...}`, with the fields that `EVENTS`
names. Log lines are for people and may change; these names and fields are an interface.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from agent.files import append_whole
from server.run.disk import Writes
from server.run.history import newest_lines

EVENTS: dict[str, tuple[str, ...]] = {
    "starting": ("launch", "pid"),
    "process_started": ("process", "pid"),
    "ready": ("port", "tempest_port", "websocket_port", "dashboard"),
    "process_lost": ("process", "how", "exit_code"),
    "restarting": ("process", "in_s"),
    "restart_refused": ("process",),
    "game_refused": ("game", "reason"),
    "in_flight_lost": ("process", "steps", "frames"),
    "training_rolled_back": ("updates", "rollbacks"),
    "stopping": (),
    "stopped": (),
}
"""Every event and its fields; docs/operating.md says what they mean."""

LONGEST = 8 * 2**20
"""Bytes of the file. A longer one is kept once, as events.1.jsonl, in place of the one before: some
80,000 events each, where a server that nobody kills has a dozen at each start."""


class EventLog:
    """Adds events to the file. Where the disk is full, events are lost and the server goes on."""

    def __init__(self, path: Path, writes: Writes) -> None:
        """Events are held back until `begin`. `writes`: logs and counts what could not be
        written."""
        self._path = path
        self._writes = writes
        self._held: list[str] | None = []

    def begin(self) -> None:
        """Write the events that were held back, and those to come as they come."""
        held, self._held = self._held, None
        if held:
            self._write("".join(held))

    def add(self, event: str, **fields: Any) -> None:
        """Add one. Errors: ValueError where `EVENTS` has no such event or other fields."""
        if EVENTS.get(event) != tuple(fields):
            raise ValueError(f"expected an event of {EVENTS}, got {event} with {tuple(fields)}")
        line = json.dumps({"time": time.time(), "event": event, **fields}) + "\n"
        if self._held is None:
            self._write(line)
        else:
            self._held.append(line)

    def _write(self, lines: str) -> None:
        with self._writes.tried(str(self._path)):
            append_whole(self._path, lines.encode())
            if self._path.stat().st_size > LONGEST:
                self._path.replace(self._path.with_suffix(f".1{self._path.suffix}"))


def read_events(run: Path) -> list[dict[str, Any]]:
    """The events in a run's folder, the oldest first; none where there is no file. Errors:
    OSError."""
    return newest_lines(run / "events.jsonl")


def of_supervisor(events: Iterable[dict[str, Any]], pid: int) -> list[dict[str, Any]]:
    """The events of the newest start whose supervisor has this process ID."""
    found: list[dict[str, Any]] = []
    ours = False
    for event in events:
        if event["event"] == "starting":
            ours = event["pid"] == pid
            found.clear()
        if ours:
            found.append(event)
    return found


def process_ids(events: Iterable[dict[str, Any]]) -> dict[str, int]:
    """The newest process ID of each process, by name: gateway-0, gateway-1, ..., trainer."""
    return {e["process"]: e["pid"] for e in events if e["event"] == "process_started"}

"""A trainer that reads its replay from a slow disk, and announces no long silence for that."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from agent import journal_joined
from agent.journal_joined import JoinedRows, read_joined
from server.ipc import heartbeat
from server.trainer import load_progress, replay_journal
from server.trainer import process as trainer_process

ROWS = 10
"""Of a piece."""

PIECE_S = 0.12
"""For each."""


def main(*args: Any) -> None:
    """`trainer_process.main(*args)`, which reads so slowly."""

    def slowly(*what: Any) -> Iterator[JoinedRows]:
        for part in read_joined(*what):
            time.sleep(PIECE_S)
            yield part

    replay_journal.read_joined = slowly
    journal_joined.TOGETHER = ROWS
    load_progress.TELL_S = 0.1
    announced = heartbeat.Heartbeat.busy
    heartbeat.Heartbeat.busy = lambda self, seconds=0.0: announced(self, min(seconds, 0.1))  # type: ignore[method-assign]
    args[2].beat()  # before the first one, a process may be silent for long
    trainer_process.main(*args)

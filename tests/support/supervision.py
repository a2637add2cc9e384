"""Servers whose processes die, and what of their runs is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agent import journal
from agent.journal import Damage
from agent.step import STEP
from server.run.directory import game_of

QUICK: dict[str, Any] = {
    "supervision__backoff_s": 0.1,
    "supervision__max_restarts": 20,
    "supervision__hang_timeout_s": 10.0,
    "server__ring_steps": 512,
}

LONG_S = 90.0
"""For a process to start on a machine that has other things to do."""


def rows_kept(run: Path) -> list[tuple[int, int]]:
    """Stream and number of every step that the run's folder holds."""
    spec = game_of(run)
    assert spec is not None
    damages: list[Damage] = []
    found = []
    for block in journal.read(run / journal.FOLDER, spec, damages):
        steps = block.rows.kind == STEP
        streams, seqs = block.rows.stream[steps].tolist(), block.rows.seq[steps].tolist()
        found += list(zip(streams, seqs, strict=True))
    return found

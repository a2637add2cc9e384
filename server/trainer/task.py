"""What a trainer is to do: `Task`, from the command that starts a server to the trainer itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Task:
    """What the trainer is to do, beside the configuration."""

    resume: bool = False
    """Continue from the newest checkpoint."""
    best: bool = False
    """Continue from the checkpoint that evaluated best instead."""
    init_from: Path | None = None
    """The checkpoint whose weights a new run begins with, as far as they fit (agent.warm_start)."""
    record: bool = False
    """Keep what every batch held, for the audit (server.run.audit_dump)."""
    recording: Path | None = None
    """Write every row into this file, episode by episode (agent.recorder)."""
    pretrain_updates: int = 0
    """Make so many updates from the run's demonstrations, without gateways, and end."""

"""The summary of a run: what `summary.json` holds."""

from __future__ import annotations

import json
from typing import Any

from server.supervisor import Supervisor, plain

_BUFFER = ("total", "dqn", "expert", "frac_dqn", "frac_expert")


def summarise(supervisor: Supervisor, **more: Any) -> dict[str, Any]:
    """The last numbers of a run (what the learner measures: when it last learnt), the replay's
    composition as a table of its own, and `more`."""
    row = plain(supervisor.row | supervisor.last)
    buffer = {part: row.pop(f"buffer_{part}", None) for part in _BUFFER}
    return {
        "run": str(supervisor.folder.path),
        "launch": supervisor.folder.launch,
        **row,
        "buffer": buffer,
        **more,
    }


def write_summary(supervisor: Supervisor, **more: Any) -> dict[str, Any]:
    """Write `summary.json` into the run's folder; the summary."""
    summary = summarise(supervisor, **more)
    supervisor.folder.summary.write_text(json.dumps(summary, indent=2) + "\n")
    return summary

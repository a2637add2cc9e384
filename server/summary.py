"""The summary of a run: what `summary.json` holds."""

from __future__ import annotations

import json
import logging
from typing import Any

from agent.files import written_whole
from server.disk import reason
from server.supervisor import Supervisor, plain

log = logging.getLogger("supervisor")

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
    """Write `summary.json` into the run's folder; the summary. Where that cannot be, the log says
    so: the run has ended all the same."""
    summary = summarise(supervisor, **more)
    path = supervisor.folder.summary
    try:
        with written_whole(path) as file:
            file.write(json.dumps(summary, indent=2).encode() + b"\n")
    except OSError as error:
        log.error("could not write %s: %s", path, reason(error))
    return summary

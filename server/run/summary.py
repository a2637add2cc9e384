"""The summary of a run: what `summary.json` holds."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from agent.files import written_whole
from server.run.directory import RunDirectory
from server.run.disk import reason
from server.run.metrics_log import plain

log = logging.getLogger("supervisor")

_BUFFER = ("total", "dqn", "expert", "frac_dqn", "frac_expert")


def summarize(
    folder: RunDirectory, row: Mapping[str, float], last: Mapping[str, float], **more: Any
) -> dict[str, Any]:
    """`row`: the newest metrics. `last`: of each the newest value that was a number (what the
    learner measures: when it last learnt). The replay's composition is a table of its own, and
    `more` is added."""
    numbers = plain({**row, **last})
    buffer = {part: numbers.pop(f"buffer_{part}", None) for part in _BUFFER}
    return {
        "run": str(folder.path),
        "launch": folder.launch,
        **numbers,
        "buffer": buffer,
        **more,
    }


def write_summary(
    folder: RunDirectory, row: Mapping[str, float], last: Mapping[str, float], **more: Any
) -> dict[str, Any]:
    """Write `summary.json` into the run's folder; the summary. Where that cannot be, the log says
    so: the run has ended all the same."""
    summary = summarize(folder, row, last, **more)
    try:
        with written_whole(folder.summary) as file:
            file.write(json.dumps(summary, indent=2).encode() + b"\n")
    except OSError as error:
        log.error("could not write %s: %s", folder.summary, reason(error))
    return summary

"""What the doctor found: a line for each step, what to do about it, and the same as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

OK, WARNING, FAILED, SKIPPED = "ok", "warning", "failed", "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """One step."""

    step: str
    result: str
    """ok, warning, failed or skipped."""
    text: str
    """What was found."""
    cure: str = ""
    """What to do about it, where something is to be done."""


class Failed(Exception):
    """A step cannot go on."""

    def __init__(self, text: str, cure: str) -> None:
        super().__init__(text)
        self.text, self.cure = text, cure


Check = Callable[[], Finding]


def ok(step: str, text: str) -> Finding:
    """All is well."""
    return Finding(step, OK, text)


def warning(step: str, text: str, cure: str) -> Finding:
    """It works, and may not always."""
    return Finding(step, WARNING, text, cure)


def failed(step: str, text: str, cure: str) -> Finding:
    """It does not work."""
    return Finding(step, FAILED, text, cure)


def skipped(step: str, text: str) -> Finding:
    """It was not tried."""
    return Finding(step, SKIPPED, text)


def all_well(findings: Iterable[Finding]) -> bool:
    """No step has failed."""
    return not any(one.result == FAILED for one in findings)


def line(finding: Finding) -> str:
    """A finding for a person."""
    text = f"{finding.result:8} {finding.step}: {finding.text}"
    return f"{text}\n         -> {finding.cure}" if finding.cure else text


def as_json(subject: str, findings: Sequence[Finding]) -> str:
    """All of them for a program: `subject`, `ok`, `failed` (the first step that did, or null), and
    `steps` with `step`, `result`, `text` and `cure`."""
    first = next((one.step for one in findings if one.result == FAILED), None)
    report = {
        "subject": subject,
        "ok": all_well(findings),
        "failed": first,
        "steps": [asdict(one) for one in findings],
    }
    return json.dumps(report, indent=2)

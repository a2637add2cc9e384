"""What the doctor found: a line for each step, what to do about it, and the same as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

OK, WARNING, FAILED, SKIPPED = "ok", "warning", "failed", "skipped"


@dataclass(frozen=True, slots=True)
class StepResult:
    """One step."""

    step: str
    result: str
    """ok, warning, failed or skipped."""
    text: str
    """What was found."""
    cure: str = ""
    """What to do about it, where something is to be done."""


class StepFailed(Exception):
    """A step cannot go on."""

    def __init__(self, text: str, cure: str) -> None:
        super().__init__(text)
        self.text, self.cure = text, cure


def ok(step: str, text: str) -> StepResult:
    """All is well."""
    return StepResult(step, OK, text)


def warning(step: str, text: str, cure: str) -> StepResult:
    """It works, and may not always."""
    return StepResult(step, WARNING, text, cure)


def failed(step: str, text: str, cure: str) -> StepResult:
    """It does not work."""
    return StepResult(step, FAILED, text, cure)


def skipped(step: str, text: str) -> StepResult:
    """It was not tried."""
    return StepResult(step, SKIPPED, text)


def all_well(results: Iterable[StepResult]) -> bool:
    """No step has failed."""
    return not any(one.result == FAILED for one in results)


def line(found: StepResult) -> str:
    """A step for a person."""
    text = f"{found.result:8} {found.step}: {found.text}"
    return f"{text}\n         -> {found.cure}" if found.cure else text


def as_json(subject: str, results: Sequence[StepResult]) -> str:
    """All of them for a program: `subject`, `ok`, `failed` (the first step that did, or null), and
    `steps` with `step`, `result`, `text` and `cure`."""
    first = next((one.step for one in results if one.result == FAILED), None)
    report = {
        "subject": subject,
        "ok": all_well(results),
        "failed": first,
        "steps": [asdict(one) for one in results],
    }
    return json.dumps(report, indent=2)

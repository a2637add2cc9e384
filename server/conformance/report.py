"""What a conformance check found, rule by rule, and how it is printed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

KEPT, BROKEN, UNSEEN = "kept", "broken", "not exercised"


class Broken(Exception):
    """The other side broke a rule; the text says what was expected and what came."""


class NotExercised(Exception):
    """Nothing came of it: the text says what would have to be different."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule of the specification, and what was seen of it."""

    name: str
    """Short, stable, for programs."""
    section: str
    """The heading of protocol/SPEC.md that the rule is under."""
    rule: str
    result: str
    """`kept`, `broken` or `not exercised`."""
    detail: str = ""


def passed(findings: Sequence[Finding]) -> bool:
    """Whether something was exercised and nothing broken."""
    results = {finding.result for finding in findings}
    return KEPT in results and BROKEN not in results


def as_json(subject: str, findings: Sequence[Finding]) -> str:
    return json.dumps(
        {
            "subject": subject,
            "passed": passed(findings),
            **{
                word.replace(" ", "_"): sum(finding.result == word for finding in findings)
                for word in (KEPT, BROKEN, UNSEEN)
            },
            "rules": [asdict(finding) for finding in findings],
        }
    )


def as_table(subject: str, findings: Sequence[Finding]) -> str:
    """A line for each rule, under the sections of the specification; what is wrong below it."""
    width = max(len(finding.name) for finding in findings)
    lines = [subject]
    section = ""
    # Sections in the order in which they first come, each in one piece.
    sections = list(dict.fromkeys(finding.section for finding in findings))
    for finding in sorted(findings, key=lambda finding: sections.index(finding.section)):
        if finding.section != section:
            section = finding.section
            lines += ["", section]
        mark = {KEPT: "ok", BROKEN: "BROKEN", UNSEEN: "-"}[finding.result]
        lines.append(f"  {mark:<7} {finding.name:<{width}}  {finding.rule}")
        if finding.detail:
            lines.append(f"  {'':<7} {'':<{width}}    {finding.detail}")
    counts = ", ".join(
        f"{sum(finding.result == word for finding in findings)} {word}"
        for word in (KEPT, BROKEN, UNSEEN)
    )
    return "\n".join([*lines, "", f"{counts}: {'passed' if passed(findings) else 'FAILED'}"])

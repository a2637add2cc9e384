"""What a conformance check found, rule by rule, and how it is printed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

KEPT, BROKEN, UNSEEN = "kept", "broken", "not exercised"


class RuleBroken(Exception):
    """The other side broke a rule; the text says what was expected and what came."""


class NotExercised(Exception):
    """The rule could not be checked; the text says what is needed for it."""


@dataclass(frozen=True, slots=True)
class RuleResult:
    """One rule of the specification, and what was seen of it."""

    name: str
    """Short, stable, for programs."""
    section: str
    """The heading of protocol/SPEC.md that the rule is under."""
    rule: str
    result: str
    """`kept`, `broken` or `not exercised`."""
    detail: str = ""


def passed(results: Sequence[RuleResult]) -> bool:
    """Whether something was exercised and nothing broken."""
    seen = {each.result for each in results}
    return KEPT in seen and BROKEN not in seen


def as_json(subject: str, results: Sequence[RuleResult]) -> str:
    """All of them for a program: `subject`, `passed`, the counts, and `rules`."""
    return json.dumps(
        {
            "subject": subject,
            "passed": passed(results),
            **{
                word.replace(" ", "_"): sum(each.result == word for each in results)
                for word in (KEPT, BROKEN, UNSEEN)
            },
            "rules": [asdict(each) for each in results],
        }
    )


def as_table(subject: str, results: Sequence[RuleResult]) -> str:
    """A line for each rule, under the sections of the specification; what is wrong below it."""
    width = max(len(each.name) for each in results)
    lines = [subject]
    section = ""
    # Sections in the order in which they first come, each in one piece.
    sections = list(dict.fromkeys(each.section for each in results))
    for each in sorted(results, key=lambda each: sections.index(each.section)):
        if each.section != section:
            section = each.section
            lines += ["", section]
        mark = {KEPT: "ok", BROKEN: "BROKEN", UNSEEN: "-"}[each.result]
        lines.append(f"  {mark:<7} {each.name:<{width}}  {each.rule}")
        if each.detail:
            lines.append(f"  {'':<7} {'':<{width}}    {each.detail}")
    counts = ", ".join(
        f"{sum(each.result == word for each in results)} {word}" for word in (KEPT, BROKEN, UNSEEN)
    )
    return "\n".join([*lines, "", f"{counts}: {'passed' if passed(results) else 'FAILED'}"])

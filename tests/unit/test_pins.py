"""Each pin has a date, and none is older than a year."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from scripts.container import compose as composing
from scripts.container.dockerfile import stages

ROOT = Path(__file__).parents[2]
OLD = timedelta(days=366)

COMPOSE = "docker-compose.yml"
FILES = (
    COMPOSE,
    "Dockerfile",
    "clients/mame/Dockerfile",
    "constraints.txt",
    "requirements.lock",
    "scripts/fetch-godot",
    "server/web/dashboard/vendor/uplot/VERSION",
)


def dates(text: str) -> list[date]:
    """What the text says of when something in it was pinned. Errors: ValueError."""
    return [date.fromisoformat(found) for found in re.findall(r"pinned (\d{4}-\d\d-\d\d)", text)]


def too_old(text: str, today: date) -> list[date]:
    return [each for each in dates(text) if today - each > OLD]


@pytest.mark.parametrize("name", FILES)
def test_pin_is_not_older_than_a_year(name: str) -> None:
    today = datetime.now(UTC).date()
    text = (ROOT / name).read_text()
    assert dates(text), f"{name}: expected `pinned YYYY-MM-DD`"
    assert all(each <= today + timedelta(days=1) for each in dates(text))
    assert not too_old(text, today), (
        f"{name}: pinned {too_old(text, today)}, more than a year ago: take newer releases "
        "(docs/supply-chain.md), and set the date"
    )


def test_old_pin_is_detected() -> None:
    text = "image: x:1 # pinned 2026-01-05\n"
    assert not too_old(text, date(2027, 1, 5))
    assert too_old(text, date(2027, 1, 7)) == [date(2026, 1, 5)]


def test_every_image_of_others_has_a_date() -> None:
    text = (ROOT / COMPOSE).read_text()
    foreign = [service["image"] for service in composing.services(composing.read(text)).values()
               if "build" not in service]  # fmt: skip
    assert len(foreign) >= 3
    for image in foreign:
        (line,) = (line for line in text.splitlines() if line.strip().startswith(f"image: {image}"))
        assert dates(line), line


@pytest.mark.parametrize("name", ["Dockerfile", "clients/mame/Dockerfile"])
def test_every_base_image_has_a_date(name: str) -> None:
    """In the line above that names it."""
    lines = (ROOT / name).read_text().splitlines()
    made = stages("\n".join(lines))
    bases = {stage.base for stage in made} - {stage.name for stage in made}
    for base in bases:
        (at,) = (n for n, line in enumerate(lines) if not line.startswith("#") and base in line)
        assert dates(lines[at - 1]), lines[at]

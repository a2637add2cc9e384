"""Programs that tests need: marks that skip without them, and a line that says what to install."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

LIST = Path(__file__).parents[1] / "packages.txt"

PACKAGES = {
    program: packages
    for program, *packages in map(str.split, LIST.read_text().splitlines())
    if program != "#"
}

_PACKAGES = re.compile(r"needs .+\[apt-get install (.+?)\]")
_FETCHED = re.compile(r"needs .+, which (\S+) fetches")


def missing(*programs: str, fetch: str = "") -> str:
    """Why a test is skipped: these programs are not there, or what a script fetches is not."""
    packages = [p for name in programs if not shutil.which(name) for p in PACKAGES[name]]
    reason = f"needs {' and '.join(programs)}"
    if packages:
        reason += f" [apt-get install {' '.join(packages)}]"
    return f"{reason}, which {fetch} fetches" if fetch else reason


def needs(*programs: str, there: bool | None = None, fetch: str = "") -> pytest.MarkDecorator:
    """Skips where one of these is not on the PATH. `there`: what is known of them otherwise."""
    if there is None:
        there = all(shutil.which(program) for program in programs)
    return pytest.mark.skipif(not there, reason=missing(*programs, fetch=fetch))


def to_install(reasons: Iterable[str]) -> str | None:
    """One line about the tests that were skipped for want of programs. Reasons of others may be
    among these."""
    found = [reason for reason in reasons if _PACKAGES.search(reason) or _FETCHED.search(reason)]
    if not found:
        return None
    packages = {p for match in map(_PACKAGES.search, found) if match for p in match[1].split()}
    commands = sorted({match[1] for match in map(_FETCHED.search, found) if match})
    if packages:
        commands.insert(0, f"apt-get install --no-install-recommends {' '.join(sorted(packages))}")
    return f"{len(found)} tests were skipped; to run them, on Debian: {' && '.join(commands)}"

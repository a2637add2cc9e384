"""requirements.lock: which releases this project installs, and the hashes of their files.

    python scripts/packages/lockfile.py games dev           those that these parts need, for pip
    python scripts/packages/lockfile.py --knows torch FILE  whether it has the hash of this file

For each package a comment says which parts need it. Only the standard library is needed here:
scripts/install runs this before anything is installed.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

LOCK = Path(__file__).parents[2] / "requirements.lock"

PARTS = ("build", "server", "websocket", "cluster", "torch", "games", "study", "dev")
"""What builds the project; the server without torch, and what it needs for WebSockets and on a
cluster; torch alone; the extras of scripts/install."""

_NEEDED = "# needed by: "
_HASH = "--hash=sha256:"


@dataclass(frozen=True)
class Locked:
    """A release, and the files that may be installed of it."""

    name: str
    version: str
    marker: str
    """On which machines and Pythons it is needed; empty for all."""
    parts: tuple[str, ...]
    hashes: tuple[str, ...]
    """sha256 of each file, in hexadecimal digits."""

    def lines(self) -> list[str]:
        """It as pip reads it."""
        marker = f" ; {self.marker}" if self.marker else ""
        first = f"{self.name}=={self.version}{marker}"
        return [" \\\n    ".join([first, *(f"{_HASH}{each}" for each in self.hashes)])]


def render(head: Iterable[str], packages: Iterable[Locked]) -> str:
    """The file's text. `head`: lines of the comment at its beginning."""
    lines = [f"# {line}".rstrip() for line in head]
    for each in packages:
        lines += ["", f"{_NEEDED}{' '.join(each.parts)}", *each.lines()]
    return "\n".join(lines) + "\n"


def parse(text: str) -> list[Locked]:
    """The releases in the text of such a file. Errors: ValueError."""
    found = []
    parts: tuple[str, ...] = ()
    for line in text.replace(" \\\n", " ").splitlines():
        if line.startswith(_NEEDED):
            parts = tuple(line.removeprefix(_NEEDED).split())
        elif line and not line.startswith("#"):
            requirement, *hashes = line.split(_HASH)
            pin, _, marker = requirement.partition(" ; ")
            name, equal, version = pin.strip().partition("==")
            if not (equal and parts and hashes):
                raise ValueError(f"expected NAME==VERSION with hashes, got {line[:80]!r}")
            hashes = [each.strip() for each in hashes]
            found.append(Locked(name, version, marker.strip(), parts, tuple(hashes)))
    return found


def knows(name: str, file: Path) -> bool:
    """Whether the lock has the hash of this file of a package."""
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    return any(digest in each.hashes for each in parse(LOCK.read_text()) if each.name == name)


def main(parts: list[str]) -> int:
    """Print what the parts need, or check a file."""
    if len(parts) == 3 and parts[0] == "--knows":
        return 0 if knows(parts[1], Path(parts[2])) else 1
    wrong = [part for part in parts if part not in PARTS]
    if wrong or not parts:
        print(f"usage: lockfile.py PART...; the parts are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    for each in parse(LOCK.read_text()):
        if set(parts) & set(each.parts):
            print("\n".join(each.lines()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

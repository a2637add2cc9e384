"""A Dockerfile, and the .dockerignore beside it, read as far as this project uses them.

An instruction that is not known here is an error, so that nothing goes unchecked.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch

KNOWN = {
    "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "RUN", "USER",
    "VOLUME", "WORKDIR",
}  # fmt: skip

_VARIABLE = re.compile(r"\$(?:\{(?P<braced>\w+)(?::-(?P<default>[^}]*))?\}|(?P<plain>\w+))")


class DockerfileError(Exception):
    """The file says something that is not understood here. The message names the line."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction: `COPY --from=build a b/` has flags {"from": "build"} and text "a b/"."""

    name: str
    text: str
    flags: Mapping[str, str]
    line: int

    def words(self) -> list[str]:
        """The text as words: a JSON list as such, all else as a shell would split it."""
        if self.text.startswith("["):
            words = json.loads(self.text)
            if not (isinstance(words, list) and all(isinstance(word, str) for word in words)):
                raise DockerfileError(f"line {self.line}: expected a list of texts: {self.text}")
            return words
        return shlex.split(self.text)


@dataclass(slots=True)
class Stage:
    """From one FROM to the next."""

    base: str
    """An image, or the name of a stage before; variables are expanded."""
    name: str | None
    instructions: list[Instruction] = field(default_factory=list)

    def all_of(self, name: str) -> list[Instruction]:
        return [one for one in self.instructions if one.name == name]

    def last(self, name: str) -> Instruction | None:
        found = self.all_of(name)
        return found[-1] if found else None

    def environment(self) -> dict[str, str]:
        """What ENV sets: the stage's own, without its base's."""
        found: dict[str, str] = {}
        for one in self.all_of("ENV"):
            found |= assignments(one)
        return found


def assignments(one: Instruction) -> dict[str, str]:
    """`ENV A=1 B=2` as a dict."""
    pairs = [word.partition("=") for word in shlex.split(one.text)]
    if not all(mark for _, mark, _ in pairs):
        raise DockerfileError(f"line {one.line}: expected NAME=VALUE: {one.name} {one.text}")
    return {name: value for name, _, value in pairs}


def instructions(text: str) -> list[Instruction]:
    """The instructions, in order. Lines that end in a backslash go on; comments are left out."""
    found = []
    pending, began = "", 0
    for number, line in enumerate([*text.splitlines(), ""], start=1):
        if line.lstrip().startswith("#"):
            continue
        if not pending:
            began = number
        if line.rstrip().endswith("\\"):
            pending += line.strip()[:-1].rstrip() + " "
            continue
        whole, pending = (pending + line.strip()).strip(), ""
        if whole:
            found.append(_instruction(whole, began))
    return found


def _instruction(text: str, line: int) -> Instruction:
    name, _, rest = text.partition(" ")
    name, rest = name.upper(), rest.strip()
    if name not in KNOWN:
        raise DockerfileError(f"line {line}: {name} is not known here; known are {sorted(KNOWN)}")
    flags = {}
    while match := re.match(r"--(?P<flag>[a-z-]+)=(?P<value>\S+)\s+", rest):
        flags[match["flag"]] = match["value"]
        rest = rest[match.end() :]
    return Instruction(name, rest, flags, line)


def stages(text: str, build_args: Mapping[str, str] | None = None) -> list[Stage]:
    """The stages, in order, with the names of their bases expanded."""
    given, found = build_args or {}, []
    before: dict[str, str] = {}
    for one in instructions(text):
        if one.name == "FROM":
            words = one.text.split()
            named = len(words) == 3 and words[1].upper() == "AS"
            if not named and len(words) != 1:
                raise DockerfileError(f"line {one.line}: expected FROM image [AS name]")
            found.append(Stage(expand(words[0], before), words[2] if named else None))
        elif found:
            found[-1].instructions.append(one)
        elif one.name == "ARG":
            name, value = argument(one)
            before[name] = given.get(name, value)
        else:
            raise DockerfileError(f"line {one.line}: expected FROM before {one.name}")
    return found


def argument(one: Instruction) -> tuple[str, str]:
    """Name and default of an ARG; without a default it is empty."""
    name, _, value = one.text.partition("=")
    return name, value


def expand(text: str, variables: Mapping[str, str]) -> str:
    """`$NAME`, `${NAME}` and `${NAME:-default}`, as in FROM, COPY and ENV."""

    def value(match: re.Match[str]) -> str:
        return variables.get(match["braced"] or match["plain"], "") or match["default"] or ""

    return _VARIABLE.sub(value, text)


def ignored(path: str, patterns: str) -> bool:
    """Whether a .dockerignore keeps a path out of the context: the last line that fits decides."""
    parts = path.split("/")
    out = False
    for line in patterns.splitlines():
        pattern = line.strip().removeprefix("!").removesuffix("/")
        if line.startswith("#") or not pattern:
            continue
        if pattern.startswith("**/"):  # at any depth
            fits = any(fnmatch(part, pattern[3:]) for part in parts)
        else:  # what lies below fits too
            fits = any(fnmatch("/".join(parts[: n + 1]), pattern) for n in range(len(parts)))
        if fits:
            out = not line.startswith("!")
    return out

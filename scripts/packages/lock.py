"""Make requirements.lock anew: `scripts/lock-packages`.

The versions are those of constraints.txt. What of them is needed is found from pyproject.toml and
from the packages' own metadata, for each Python and machine that the project is for. The hashes are
those of all files that the registry serves of a release and that suit one of these: several for
each package, so that one lock serves every machine. What the lock had of the same release stays:
torch has other builds elsewhere, and each machine that makes the lock adds those that it has.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tomllib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from scripts.packages.lockfile import LOCK, PARTS, Locked, parse, render
from scripts.packages.registry import File, Registry, RegistryError, local_files

ROOT = LOCK.parent
PYTHONS = ("3.11", "3.12", "3.13")
MACHINES = ("x86_64", "aarch64")
ENVIRONMENTS = tuple(itertools.product(PYTHONS, MACHINES))

TORCH = "torch"
OURS = {"understudy", "understudy-client"}

HEAD = """\
Made by scripts/lock-packages from constraints.txt, pinned {date}. pip --require-hashes takes it:
for each release the hashes of all its files for Linux and Python {pythons}.
Not in it: what torch's builds for GPUs bring along (docs/supply-chain.md)."""


def pins(text: str) -> dict[str, tuple[str, str]]:
    """The lines of constraints.txt: by canonical name, the name as written and the version."""
    found: dict[str, tuple[str, str]] = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, _, version = line.partition("==")
            found[canonicalize_name(name)] = (name, version)
    return found


def wanted(root: Path = ROOT) -> dict[str, list[str]]:
    """What each part begins with, as requirements."""
    tree = tomllib.loads((root / "pyproject.toml").read_text())
    project = tree["project"]
    client = tomllib.loads((root / "clients/python/pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    found = {part: list(extras.get(part, ())) for part in PARTS}
    for part in found:
        # An extra may be made of others.
        for line in [each for each in found[part] if each.startswith("understudy[")]:
            found[part].remove(line)
            for extra in Requirement(line).extras:
                found[part] += extras[extra]
    found["server"] += [*project["dependencies"], *client["dependencies"]]
    found["build"] += [*tree["build-system"]["requires"], "editables"]
    found[TORCH] = [TORCH]
    return found


class Needs:
    """Which packages requirements lead to."""

    def __init__(
        self, pinned: Mapping[str, tuple[str, str]], requires: Mapping[str, list[str]]
    ) -> None:
        """`requires`: the requirements of each pinned package, by canonical name; those that are
        missing are noted in `unknown`."""
        self._pinned = pinned
        self._requires = requires
        self.unknown: set[str] = set()
        self.unpinned: set[tuple[str, str]] = set()
        """Packages that constraints.txt lacks, and who wants them."""

    def of(self, lines: Iterable[str], python: str, machine: str) -> set[str]:
        """All that these requirements lead to on such a machine, by canonical name."""
        environment = {
            "python_version": python, "python_full_version": f"{python}.0",
            "platform_machine": machine, "platform_system": "Linux", "sys_platform": "linux",
            "os_name": "posix", "implementation_name": "cpython",
            "platform_python_implementation": "CPython",
        }  # fmt: skip
        seen: set[tuple[str, str]] = set()
        todo = [(Requirement(line), "", "this project") for line in lines]
        while todo:
            requirement, extra, who = todo.pop()
            name = canonicalize_name(requirement.name)
            marker = requirement.marker
            if name in OURS or (marker and not marker.evaluate(environment | {"extra": extra})):
                continue
            if name not in self._pinned:
                self.unpinned.add((name, who))
                continue
            if not requirement.specifier.contains(self._pinned[name][1], prereleases=True):
                raise RegistryError(f"{who} wants {requirement}, constraints.txt pins another one")
            for each in ("", *requirement.extras):
                if (name, each) in seen:
                    continue
                seen.add((name, each))
                if name not in self._requires:
                    self.unknown.add(name)
                    continue
                todo += [(Requirement(line), each, name) for line in self._requires[name]]
        return {name for name, _ in seen}


def suits(file: File) -> bool:
    """Whether the file is for a machine that this project is for: a source is for all."""
    if not file.platforms:
        return True
    tags = {f"cp{python.replace('.', '')}" for python in PYTHONS}
    pure = {"py3", "py2.py3"}
    python = bool(tags & set(file.pythons) or pure & set(file.pythons) or "abi3" in file.abis)
    machine = any(
        platform == "any" or ("linux" in platform and platform.endswith(MACHINES))
        for platform in file.platforms
    )
    threaded = set(file.abis) <= {f"{tag}t" for tag in tags}
    return python and machine and not threaded


def files_of(registry: Registry, name: str, version: str) -> list[File]:
    """Those of a release that suit, and those of builds of it: torch's are 2.13.0+cpu."""
    there = [*registry.project(name).files, *local_files(name)]
    wanted = Version(version)
    found = [file for file in there if file.version == wanted or (
        file.version.local and Version(file.version.public) == wanted)]  # fmt: skip
    if not found:
        raise RegistryError(f"the registry has no files of {name} {version}")
    return [file for file in found if suits(file) and file.sha256]


def requirements_of(registry: Registry, name: str, version: str, files: list[File]) -> list[str]:
    """What a release requires: as its wheel says, the registry, or the installed package."""
    for file in files:
        if file.platforms and file.url.startswith("http"):
            found = registry.metadata(file)
            if found is not None:
                return found
    about = registry.about(name, version)
    if about is not None:
        return about["info"].get("requires_dist") or []
    installed = metadata.distribution(name)
    if installed.version.partition("+")[0] != version:
        raise RegistryError(f"the registry does not say what {name} {version} requires")
    return installed.requires or []


def marker_for(places: set[tuple[str, str]]) -> str:
    """The marker of these Pythons and machines; empty for all."""
    if places == set(ENVIRONMENTS):
        return ""
    machines, pythons = {m for _, m in places}, {p for p, _ in places}
    if places != set(itertools.product(pythons, machines)):
        raise RegistryError(f"no marker is known for {sorted(places)}")
    parts = []
    if pythons != set(PYTHONS):
        parts.append(" or ".join(f'python_version == "{each}"' for each in sorted(pythons)))
    if machines != set(MACHINES):
        (machine,) = machines
        parts.append(f'platform_machine == "{machine}"')
    return " and ".join(
        f"({part})" if " or " in part and len(parts) > 1 else part for part in parts
    )


def make(
    registry: Registry, before: Iterable[Locked], root: Path = ROOT
) -> tuple[list[Locked], set[tuple[str, str]]]:
    """The lock, and what it leaves out: packages that constraints.txt lacks, and who wants them."""
    pinned = pins((root / "constraints.txt").read_text())
    with ThreadPoolExecutor(8) as threads:
        files = dict(zip(pinned, threads.map(
            lambda pin: files_of(registry, *pin), pinned.values()), strict=True))  # fmt: skip
        requires = dict(zip(pinned, threads.map(
            lambda name: requirements_of(registry, *pinned[name], files[name]), pinned),
            strict=True))  # fmt: skip
    needs = Needs(pinned, requires)
    begin = wanted(root)
    parts: dict[str, set[str]] = {}
    places: dict[str, set[tuple[str, str]]] = {}
    for part, lines in begin.items():
        for python, machine in ENVIRONMENTS:
            for name in needs.of(lines, python, machine):
                # torch is a part of its own, and what it shares with others is the server's.
                home = part if name == TORCH or part != TORCH else "server"
                if name == TORCH and part != TORCH:
                    continue
                parts.setdefault(name, set()).add(home)
                places.setdefault(name, set()).add((python, machine))
    left_out = {(name, who) for name, who in needs.unpinned if who == TORCH}
    if missing := needs.unpinned - left_out:
        words = ", ".join(f"{name} (for {who})" for name, who in sorted(missing))
        raise RegistryError(f"constraints.txt lacks {words}; add them")
    kept: dict[tuple[str, str], tuple[str, ...]] = {
        (canonicalize_name(each.name), each.version): each.hashes for each in before
    }
    locked = []
    for name in sorted(parts):
        written, version = pinned[name]
        hashes = {file.sha256 for file in files[name]} | set(kept.get((name, version), ()))
        order = tuple(part for part in PARTS if part in parts[name])
        locked.append(
            Locked(written, version, marker_for(places[name]), order, tuple(sorted(hashes)))
        )
    return locked, left_out


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/lock-packages", description=__doc__)
    parser.add_argument("--out", type=Path, default=LOCK, help="where to write it")
    args = parser.parse_args(argv)
    before = parse(args.out.read_text()) if args.out.exists() else []
    try:
        locked, left_out = make(Registry(), before)
    except (RegistryError, metadata.PackageNotFoundError) as error:
        print(f"scripts/lock-packages: {error}", file=sys.stderr)
        return 1
    head = HEAD.format(date=f"{datetime.now(UTC):%Y-%m-%d}", pythons=", ".join(PYTHONS))
    args.out.write_text(render(head.splitlines(), locked))
    count = sum(len(each.hashes) for each in locked)
    print(f"{args.out}: {len(locked)} packages, {count} hashes")
    if left_out:
        print(f"left out, as torch alone brings them: {', '.join(sorted(n for n, _ in left_out))}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

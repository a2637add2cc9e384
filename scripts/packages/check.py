"""What the registries say of the pinned packages: `scripts/check-packages`.

Lists what is known to be vulnerable or was withdrawn (exit code 1), and what seems to be
unmaintained: nothing was published for two years, or its authors say so. The registries are
asked, and nobody else: what they do not serve is said to be unknown.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

from packaging.version import Version

from scripts.packages.lock import ROOT, pins
from scripts.packages.registry import Registry, RegistryError

UNMAINTAINED_DAYS = 730
INACTIVE = "Development Status :: 7 - Inactive"


@dataclass
class Report:
    """What is said of one package."""

    name: str
    pinned: str
    newest: str = ""
    released: str = ""
    """When something of it was last published, YYYY-MM-DD; empty where nobody says."""
    wrong: list[str] = field(default_factory=list)
    """Known vulnerabilities, and that it was withdrawn."""
    stale: list[str] = field(default_factory=list)
    """Why it seems to be unmaintained."""
    unknown: list[str] = field(default_factory=list)
    """What the registry does not serve."""


def python_package(registry: Registry, name: str, version: str, today: date) -> Report:
    """Of a package of constraints.txt. Errors: RegistryError."""
    report = Report(name, version)
    project = registry.project(name)
    final = [file for file in project.files if not file.version.is_prerelease and not file.yanked]
    if final:
        newest = max(file.version for file in final)
        report.newest = str(newest)
        report.released = max(file.uploaded for file in final)
    withdrawn = {file.yanked for file in project.files
                 if file.version == Version(version) and file.yanked}  # fmt: skip
    report.wrong += [f"withdrawn: {reason}" for reason in sorted(withdrawn)]
    if project.status == "quarantined":
        report.wrong.append("the registry holds it back as suspect (quarantined)")
    elif project.status != "active":
        report.stale.append(f"its authors call it {project.status}")
    _vulnerabilities(report, registry)
    _age(report, today)
    return report


def _vulnerabilities(report: Report, registry: Registry) -> None:
    """Those that the registry knows of the pinned release. Some registries have them for the newest
    release alone."""
    about = registry.about(report.name, report.pinned)
    if about is None:
        newest = registry.about(report.name)
        if newest is not None and newest["info"].get("version") == report.pinned:
            about = newest
        elif newest is not None:
            _inactive(report, newest)
    if about is None or "vulnerabilities" not in about:
        report.unknown.append("vulnerabilities of this release")
        return
    _inactive(report, about)
    for each in about["vulnerabilities"] or ():
        if not each.get("withdrawn"):
            fixed = ", ".join(each.get("fixed_in") or ()) or "no release yet"
            known = ", ".join([each.get("id", "no id"), *(each.get("aliases") or ())])
            text = str(each.get("summary") or "")[:100]
            report.wrong.append(f"vulnerable: {known} {text} (fixed in {fixed})")


def _inactive(report: Report, about: dict[str, Any]) -> None:
    if INACTIVE in (about["info"].get("classifiers") or ()):
        report.stale.append("its authors call it inactive")


def _age(report: Report, today: date) -> None:
    if not report.released:
        report.unknown.append("when it was last published")
    elif (today - date.fromisoformat(report.released)).days > UNMAINTAINED_DAYS:
        report.stale.append(f"nothing published since {report.released}")


def npm_packages() -> list[tuple[str, str]]:
    """Name and version: what scripts/fetch-godot fetches, and what draws the dashboard's charts."""
    fetched = re.search(r"^package=(.+)@(.+)$", (ROOT / "scripts/fetch-godot").read_text(), re.M)
    charts = (ROOT / "server/web/dashboard/vendor/uplot/uPlot.esm.js").read_text()
    version = re.search(r"uPlot \(v([\d.]+)\)|\(v([\d.]+)\)", charts)
    assert fetched
    assert version
    return [(fetched[1], fetched[2]), ("uplot", version[1] or version[2])]


def npm_package(name: str, version: str, today: date) -> Report:
    """Of a package of the npm registry. Errors: RegistryError."""
    report = Report(f"{name} (npm)", version)
    newest, own = (_npm(name), _npm(f"{name}@{version}"))
    report.newest = str(newest.get("version", ""))
    report.released = str((newest.get("time") or {}).get(report.newest, ""))[:10]
    if own.get("deprecated"):
        report.stale.append(f"its authors call it deprecated: {own['deprecated']}")
    report.unknown.append("vulnerabilities of this release")
    _age(report, today)
    return report


def _npm(package: str) -> dict[str, Any]:
    ran = subprocess.run(
        ["npm", "view", package, "--json"], capture_output=True, text=True, check=False
    )
    try:
        found = json.loads(ran.stdout)
    except ValueError:
        raise RegistryError(f"npm knows nothing of {package}: {ran.stderr.strip()[:200]}") from None
    if not isinstance(found, dict) or "error" in found:
        raise RegistryError(f"npm knows nothing of {package}")
    return found


def reports(registry: Registry, today: date) -> list[Report]:
    """Of all that is pinned by version. A package of which nobody answers is a report, too."""

    def asked(pin: tuple[str, str]) -> Report:
        try:
            return python_package(registry, *pin, today)
        except RegistryError as error:
            return Report(*pin, unknown=[str(error)])

    with ThreadPoolExecutor(8) as threads:
        pinned = pins((ROOT / "constraints.txt").read_text())
        found = list(threads.map(asked, pinned.values()))
    for name, version in npm_packages():
        if shutil.which("npm") is None:
            found.append(Report(f"{name} (npm)", version, unknown=["all of it: no npm here"]))
            continue
        try:
            found.append(npm_package(name, version, today))
        except RegistryError as error:
            found.append(Report(f"{name} (npm)", version, unknown=[str(error)]))
    return found


def show(found: list[Report]) -> None:
    """Print what is worth reading."""
    for title, lines in (
        ("vulnerable or withdrawn", [(each, each.wrong) for each in found if each.wrong]),
        ("unmaintained, it seems", [(each, each.stale) for each in found if each.stale]),
    ):
        print(f"{title}: {len(lines) or 'none'}")
        for each, reasons in lines:
            newest = f", newest {each.newest}" if each.newest != each.pinned else ""
            print(f"  {each.name} {each.pinned}{newest}: {'; '.join(reasons)}")
    unknown: dict[str, list[str]] = {}
    for each in found:
        for what in each.unknown:
            unknown.setdefault(what, []).append(each.name)
    for what, names in unknown.items():
        print(f"unknown, not served: {what}: {len(names)} of {len(found)}: {', '.join(names)}")
    behind = sum(bool(each.newest) and each.newest != each.pinned for each in found)
    print(f"{len(found)} packages are pinned, {behind} of them not to their newest release")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/check-packages", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON array")
    args = parser.parse_args(argv)
    found = reports(Registry(), datetime.now(UTC).date())
    if args.json:
        print(json.dumps([vars(each) for each in found], indent=2))
    else:
        show(found)
    if not any(each.released for each in found):
        print("scripts/check-packages: no registry answers", file=sys.stderr)
        return 1
    return 1 if any(each.wrong for each in found) else 0


if __name__ == "__main__":
    raise SystemExit(main())

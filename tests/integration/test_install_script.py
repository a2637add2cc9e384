"""scripts/install: what it gives to pip, and what happens where a hash is not the lock's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PYTHON = """\
#!/bin/sh
case "$*" in
    *lockfile.py*) exec {real} "$@" ;;
esac
echo "$PIP_CONSTRAINT|$*" >> {log}
case "$*" in
    *--requirement*) what=rest ;;
    *) what=other ;;
esac
if [ $what = rest ] && grep -q ^torch= .venv/locked.txt; then
    what=torch
fi
if [ "$what" = "{failing}" ]; then
    echo "{message}" >&2
    exit 1
fi
"""

MISMATCH = "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE."


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What scripts/install reads, without a Python that installs anything."""
    for name in ("scripts/install", "scripts/packages/lockfile.py", "requirements.lock",
                 "constraints.txt", "pyproject.toml", "clients/python/pyproject.toml"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    return tmp_path


def installed(
    checkout: Path, *words: str, failing: str = "", message: str = ""
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """The script, and what pip was told."""
    log = checkout / "log"
    log.write_text("")
    python = checkout / ".venv/bin/python"
    text = PYTHON.format(real=sys.executable, log=log, failing=failing, message=message)
    python.write_text(text)
    python.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name != "PIP_CONSTRAINT"}
    ran = subprocess.run(
        [checkout / "scripts/install", *words], env=environment,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return ran, log.read_text().splitlines()


def test_install_checks_hashes_of_everything_and_asks_no_index_for_the_project(
    checkout: Path,
) -> None:
    ran, (rest, torch, brought, project) = installed(checkout, "--dev")
    assert ran.returncode == 0, ran.stderr
    for line in (rest, torch):
        assert "--require-hashes --no-deps --requirement .venv/locked.txt" in line
    assert brought.endswith("install --quiet " + next(
        line for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line.startswith("torch==")))  # fmt: skip
    assert brought.startswith(f"{checkout}/constraints.txt|")
    assert "--no-index --no-build-isolation" in project
    assert project.endswith("--editable .[games,study,dev]")
    assert (checkout / ".venv/installed-games,study,dev").exists()
    again, nothing = installed(checkout, "--dev")
    assert (again.returncode, nothing) == (0, [])


def test_install_goes_on_with_a_build_of_torch_that_the_lock_does_not_know(
    checkout: Path,
) -> None:
    ran, told = installed(checkout, failing="torch", message=MISMATCH)
    assert ran.returncode == 0
    assert "does not know the build of torch" in ran.stderr
    assert len(told) == 4


@pytest.mark.parametrize(("failing", "message"), [
    ("rest", MISMATCH),
    ("torch", "ERROR: Could not find a version that satisfies the requirement"),
    ("other", "ERROR: No matching distribution found for something"),
])  # fmt: skip
def test_install_ends_where_anything_else_fails(checkout: Path, failing: str, message: str) -> None:
    ran, _ = installed(checkout, failing=failing, message=message)
    assert ran.returncode == 1
    assert message in ran.stderr
    assert not (checkout / ".venv/installed-games").exists()

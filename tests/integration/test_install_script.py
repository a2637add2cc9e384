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
    *--knows*) exit {unknown} ;;
    *lockfile.py*) exec {real} "$@" ;;
    *freeze*) echo "{there}"; seq 100000; exit ;;
    *download*) mkdir -p .venv/torch; touch .venv/torch/torch.whl ;;
esac
echo "$PIP_CONSTRAINT|$*" >> {log}
case "$*" in
    *--requirement*) what=rest ;;
    *download*) what=torch ;;
    *) what=other ;;
esac
if [ "$what" = "{failing}" ]; then
    echo "{message}" >&2
    exit 1
fi
"""

TORCH = next(
    line
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if line.startswith("torch==")
)

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
    checkout: Path,
    *words: str,
    failing: str = "",
    message: str = "",
    unknown: int = 0,
    there: str = "",
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """The script, and what pip was told."""
    log = checkout / "log"
    log.write_text("")
    python = checkout / ".venv/bin/python"
    text = PYTHON.format(real=sys.executable, log=log, failing=failing, message=message,
                         unknown=unknown, there=there)  # fmt: skip
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
    ran, (rest, download, torch, brought, project) = installed(checkout, "--dev")
    assert ran.returncode == 0, ran.stderr
    assert "--require-hashes --no-deps --requirement .venv/locked.txt" in rest
    assert download.endswith(f"--no-deps --dest .venv/torch {TORCH}")
    assert torch.endswith("install --quiet --no-deps .venv/torch/torch.whl")
    assert brought.endswith(f"install --quiet {TORCH}")
    assert brought.startswith(f"{checkout}/constraints.txt|")
    assert "--no-index --no-build-isolation" in project
    assert project.endswith("--editable .[games,study,dev]")
    assert (checkout / ".venv/installed-games,study,dev").exists()
    again, nothing = installed(checkout, "--dev")
    assert (again.returncode, nothing) == (0, [])


def test_install_goes_on_with_a_build_of_torch_that_the_lock_does_not_know(
    checkout: Path,
) -> None:
    ran, told = installed(checkout, unknown=1)
    assert ran.returncode == 0
    assert "does not know this build of torch" in ran.stderr
    assert len(told) == 5


@pytest.mark.parametrize("there", [
    TORCH,
    f"{TORCH}+cpu",
    f"torch @ file:///x/.venv/torch/torch-{TORCH.removeprefix('torch==')}%2Bcpu-cp311.whl#sha256=1",
])  # fmt: skip
def test_install_leaves_torch_alone_where_it_is_there(checkout: Path, there: str) -> None:
    ran, told = installed(checkout, there=there)
    assert ran.returncode == 0
    assert len(told) == 3
    ran, told = installed(checkout, "--study", there="torch==0.1")
    assert len(told) == 5


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

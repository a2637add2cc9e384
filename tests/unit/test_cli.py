"""The command line itself: what an installation without some of the packages says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from server.cli import COMMANDS, LAB

ROOT = Path(__file__).parents[2]

OF_THE_LAB = [name for name, (module, _) in COMMANDS.items() if module.split(".")[0] == LAB]


def without_lab(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a command where there is no package `lab`, as in a container."""
    program = """
import sys
from importlib.abc import MetaPathFinder

class WithoutLab(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "lab":
            raise ModuleNotFoundError("No module named 'lab'", name="lab")

sys.meta_path.insert(0, WithoutLab())
from server.cli import main
sys.exit(main(sys.argv[1:]))
"""
    command = [sys.executable, "-c", program, *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def test_the_lab_has_commands() -> None:
    assert {"bench", "audit", "chaos", "fuzz", "soak", "study"} <= set(OF_THE_LAB)


@pytest.mark.parametrize("name", OF_THE_LAB)
def test_a_lab_command_without_lab_says_where_it_runs(name: str) -> None:
    done = without_lab(name, "--help")
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"understudy {name}: this installation does not include")
    assert f"scripts/install there, then .venv/bin/understudy {name}" in line


def test_other_commands_do_not_need_lab() -> None:
    assert without_lab("config", "show").returncode == 0
    assert without_lab("--help").returncode == 0

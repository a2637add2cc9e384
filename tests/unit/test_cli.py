"""The command line itself: what an installation without some of the packages says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from server.cli import COMMANDS, LAB

ROOT = Path(__file__).parents[2]

OF_THE_LAB = [name for name, (module, _) in COMMANDS.items() if module.split(".")[0] == LAB]


def without_lab(*commands: str) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of commands where there is no package `lab`, as in a container.

    One process runs them all: most of what one takes is its imports.
    """
    program = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from importlib.abc import MetaPathFinder

class WithoutLab(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "lab":
            raise ModuleNotFoundError("No module named 'lab'", name="lab")

sys.meta_path.insert(0, WithoutLab())
from server.cli import main
found = []
for command in sys.argv[1:]:
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as errors:
        try:
            code = main(command.split())
        except SystemExit as end:
            code = end.code
    found.append((code or 0, out.getvalue(), errors.getvalue()))
print(json.dumps(found))
"""
    command = [sys.executable, "-c", program, *commands]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    found: list[tuple[int, str, str]] = json.loads(done.stdout)
    assert len(found) == len(commands)
    return found


def test_the_lab_has_commands() -> None:
    assert {"bench", "audit", "chaos", "fuzz", "soak", "study"} <= set(OF_THE_LAB)


def test_each_lab_command_without_lab_says_where_it_runs() -> None:
    found = without_lab(*(f"{name} --help" for name in OF_THE_LAB))
    for name, (code, output, errors) in zip(OF_THE_LAB, found, strict=True):
        assert code == 2
        assert output == ""
        (line,) = errors.splitlines()
        assert line.startswith(f"understudy {name}: this installation does not include")
        assert f"scripts/install there, then .venv/bin/understudy {name}" in line


def test_other_commands_do_not_need_lab() -> None:
    assert [code for code, *_ in without_lab("config show", "--help")] == [0, 0]

"""The sizes of modules, and the names of classes: what keeps the code readable."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[2]
PRODUCT = ("protocol", "config", "agent", "server", "lab")
LONGEST, MEDIAN = 400, 160


def modules() -> dict[Path, str]:
    found = {
        path: path.read_text()
        for package in PRODUCT
        for path in sorted((ROOT / package).rglob("*.py"))
        if path.name != "__init__.py"
    }
    assert len(found) > 100
    return found


def test_modules_are_short() -> None:
    lines = {path: text.count("\n") for path, text in modules().items()}
    long = {str(path.relative_to(ROOT)): n for path, n in lines.items() if n > LONGEST}
    assert not long, f"expected at most {LONGEST} lines, got {long}; split them along a seam"
    assert median(lines.values()) <= MEDIAN


def test_server_has_few_modules_outside_packages() -> None:
    assert len(list((ROOT / "server").glob("*.py"))) <= 6


def test_few_modules_speak_to_cuda() -> None:
    """Nobody has a GPU at hand: what runs on one alone must be little, and in one place."""
    known = {"agent/device.py", "agent/cuda_graph.py", "agent/device_name.py"}
    found = {
        str(path.relative_to(ROOT))
        for path, text in modules().items()
        if "torch.cuda" in text and path.relative_to(ROOT).parts[0] != "lab"
    }
    assert found == known


def test_class_names_mean_one_thing() -> None:
    where: defaultdict[str, list[str]] = defaultdict(list)
    for path, text in modules().items():
        for name in re.findall(r"^class ([A-Za-z]\w*)", text, re.MULTILINE):
            where[name].append(str(path.relative_to(ROOT)))
    twice = {name: paths for name, paths in where.items() if len(paths) > 1}
    assert not twice, f"expected each class name once, got {twice}"

"""The packages have common names: those of this repository must be the ones that are loaded."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("server", "server"),
        ("agent", "agent"),
        ("config", "config"),
        ("protocol", "protocol"),
        ("understudy_client", "clients/python/understudy_client"),
    ],
)
def test_imported_package_is_of_this_repository(name: str, folder: str) -> None:
    file = importlib.import_module(name).__file__
    assert file is not None
    assert Path(file).parent == ROOT / folder

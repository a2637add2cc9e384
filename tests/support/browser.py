"""Debian's Chromium, driven by Playwright: what the tests of pages need."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.support.needs import needs

# Skips the module that imports this one.
playwright = pytest.importorskip(
    "playwright.sync_api", reason="needs Playwright: pip install -c constraints.txt -e '.[dev]'"
)

_CHROMIUM = shutil.which("chromium")

needs_chromium = needs("chromium", there=_CHROMIUM is not None or "CI" in os.environ)


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser, as Playwright has it."""
    with playwright.sync_playwright() as tools:
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = tools.chromium.launch(executable_path=_CHROMIUM, args=flags)
        yield browser
        browser.close()

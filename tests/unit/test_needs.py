"""The last line of a test run."""

from __future__ import annotations

from tests.support import needs
from tests.support.needs import missing, to_install


def test_to_install_counts_skips_and_names_each_package_once(monkeypatch) -> None:
    monkeypatch.setattr(needs.shutil, "which", lambda name: None if name != "node" else "/bin/node")
    reasons = [
        missing("mcs", "mono"),
        missing("mono"),
        "needs a CUDA device",
        missing("node", "npm", fetch="scripts/fetch-it"),
    ]
    assert to_install(reasons) == (
        "3 tests were skipped; to run them, on Debian: apt-get install --no-install-recommends "
        "libmono-system-core4.0-cil mono-mcs mono-runtime npm && scripts/fetch-it"
    )


def test_to_install_without_missing_programs_is_none() -> None:
    assert to_install(["needs a CUDA device", "needs root"]) is None

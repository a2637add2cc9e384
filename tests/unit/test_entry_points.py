"""The first functions of children: imports leave the collector as it was, with less to look at."""

from __future__ import annotations

import gc

import pytest

from server.supervisor import entry_points


def test_imports_of_a_child_are_not_looked_through_by_the_collector(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frozen: list[bool] = []
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append(gc.isenabled()))
    with entry_points._importing():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert frozen == [False]


def test_failed_import_leaves_the_collector_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gc, "freeze", lambda: None)
    with pytest.raises(ImportError), entry_points._importing():
        raise ImportError
    assert gc.isenabled()

"""The process that is forked for each child: begun before all else, and gone with who began it."""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Iterator

import pytest

from server import cli
from server.supervisor import fork_server


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The umask at each call of `prepare`."""
    calls: list[int] = []

    def prepare() -> None:
        calls.append(os.umask(0o022))
        os.umask(calls[-1])

    monkeypatch.setattr(fork_server, "prepare", prepare)
    before = os.umask(0o022)
    yield calls
    os.umask(before)


def test_serve_prepares_children_first_and_their_files_are_private(
    prepared: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "_run", lambda _: len(prepared))
    assert cli.main(["serve", "--server.port", "0"]) == 1
    assert prepared == [0o077]


@pytest.mark.parametrize("words", [["serve", "--help"], ["config", "show"], ["serve", "-h"], []])
def test_command_that_starts_no_server_prepares_nothing(
    prepared: list[int], monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.setattr(cli, "_run", lambda _: 0)
    cli.main(words)
    assert prepared == []


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether the collector was on, at each `gc.freeze`."""
    calls: list[bool] = []
    monkeypatch.setattr(gc, "freeze", lambda: calls.append(gc.isenabled()))
    monkeypatch.delitem(sys.modules, "server.supervisor.preload", raising=False)
    return calls


def test_imports_of_children_are_not_looked_through_by_the_collector(frozen: list[bool]) -> None:
    importlib.import_module("server.supervisor.preload")
    assert frozen == [False]
    assert gc.isenabled()


@pytest.mark.usefixtures("frozen")
def test_failed_import_leaves_the_collector_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "server.supervisor.child", None)
    with pytest.raises(ImportError):
        importlib.import_module("server.supervisor.preload")
    assert gc.isenabled()

"""The shelf of checkpoints that games play with."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from protocol.errors import RemoteError
from protocol.policies import PolicyName
from server.gateway import checkpoint_shelf
from tests.support.shelves import Files, draws

BEST = PolicyName()
TWO = PolicyName(recent=2)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def want(files: Files, name: PolicyName) -> list[RemoteError | None]:
    told: list[RemoteError | None] = []
    files.shelf.want(name, told.append)
    return told


def test_recent_is_drawn_from_the_newest_and_follows_them(files: Files) -> None:
    assert want(files, TWO) == [None]
    assert draws(files, TWO) == {None}, "the newest network, while there is no checkpoint"
    for updates in (10, 20, 30):
        files.write(updates, updates)
    files.look()
    assert draws(files, TWO) == {20, 30}
    files.write(40, 40)
    assert draws(files, TWO) == {20, 30}
    files.look()
    assert draws(files, TWO) == {30, 40}


def test_checkpoint_is_loaded_once(files: Files) -> None:
    for updates in (10, 20):
        files.write(updates, updates)
    want(files, TWO)
    want(files, PolicyName(update=20))
    for _ in range(3):
        files.look()
    assert sorted(files.loads) == ["update-0000000010.pt", "update-0000000020.pt"]


def test_best_follows_the_file_that_is_written_anew(files: Files) -> None:
    assert want(files, BEST) == [None]
    assert draws(files, BEST) == {None}
    for plays in (1, 2):
        files.write(None, plays)
        files.look()
        assert draws(files, BEST) == {plays}


def test_number_is_there_at_once_and_stays_when_its_file_goes(files: Files) -> None:
    files.write(10, 10)
    name = PolicyName(update=10)
    assert want(files, name) == [None]
    assert draws(files, name) == {10}
    files.remove(10)
    files.look()
    assert draws(files, name) == {10}
    assert want(files, name) == [None], "another one may still join"


@pytest.mark.promise("opponent-gone")
def test_number_that_is_not_there_is_refused_with_those_that_are(files: Files) -> None:
    files.write(7, 7)
    (told,) = want(files, PolicyName(update=8))
    assert told is not None
    assert (told.code, told.retry) == ("no_such_policy", False)
    assert "got 8 updates" in str(told)
    assert "newest are those of 7" in str(told)


@pytest.mark.promise("opponent-gone")
def test_damaged_file_is_said_once_and_others_are_played(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    files.write(10, 10)
    files.write(20, "no checkpoint")
    with caplog.at_level(logging.WARNING, "gateway"):
        want(files, TWO)
        for _ in range(3):
            files.look()
    assert draws(files, TWO) == {10}
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "update-0000000020.pt"
    ]
    files.shelf.drop(TWO)
    for name in (PolicyName(update=20), TWO, PolicyName(update=20)):
        told = want(files, name)
        files.shelf.drop(name)
        assert name == TWO or "expected a checkpoint" in str(told[0])
    assert len(caplog.records) == 1
    want(files, TWO)
    files.write(20, 20)  # mended
    files.look()
    assert draws(files, TWO) == {10, 20}


def test_so_many_are_loaded_at_most(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_shelf, "MOST", 3)
    for updates in range(1, 6):
        files.write(updates, updates)
    names = [PolicyName(update=updates) for updates in range(1, 6)]
    told = [want(files, name)[0] for name in names]
    assert [error and (error.code, error.retry) for error in told] == [
        None, None, None, ("too_many_clients", True), ("too_many_clients", True),
    ]  # fmt: skip
    assert len(files.loads) == 3
    for name in names:
        files.shelf.drop(name)
    assert want(files, names[4]) == [None], "those that nobody wants make room"


def test_what_is_played_with_takes_room_though_nobody_wants_it_any_more(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint_shelf, "MOST", 1)
    files.write(1, 1)
    one = PolicyName(recent=1)
    want(files, one)
    playing = files.shelf.choose(one, np.random.default_rng(0))
    assert playing is not None
    files.write(2, 2)
    files.look()
    assert len(files.loads) == 1
    files.shelf.give_back(playing)
    files.look()
    assert draws(files, one) == {2}


def test_who_asks_during_a_look_is_told_after_one_of_its_own(tmp_path: Path) -> None:
    files = Files(tmp_path, at_once=False)
    files.write(1, 1)
    first = want(files, PolicyName(update=1))
    second = want(files, PolicyName(update=2))
    assert len(files.due) == 1, "one look at a time"
    files.due.pop()()
    assert first == [None]
    assert not second
    files.due.pop()()
    assert [error and error.code for error in second] == ["no_such_policy"]


def test_nobody_looks_where_nobody_asked(files: Files) -> None:
    files.write(1, 1)
    files.look()
    want(files, TWO)
    files.shelf.drop(TWO)
    loads = len(files.loads)
    files.write(2, 2)
    files.look()
    assert (loads, len(files.loads)) == (1, 1)

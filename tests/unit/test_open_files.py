"""Open files: what a process keeps for itself, and who is told where there are few."""

from __future__ import annotations

import logging
import socket

import pytest

from config.load import ConfigError
from config.models import Config
from server.net import open_files, sockets
from server.supervisor import preflight, session

log = logging.getLogger("test")


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process may have 100."""
    monkeypatch.setattr(open_files.resource, "getrlimit", lambda _: (100, 100))
    monkeypatch.setattr(open_files.resource, "setrlimit", lambda *_: None)


@pytest.mark.usefixtures("few")
def test_room_is_what_the_process_does_not_need_itself(caplog: pytest.LogCaptureFixture) -> None:
    assert open_files.room_for(40, 30, 30, log=log, what="games") == (30, 30)
    assert caplog.text == ""
    assert open_files.room_for(40, 60, 60, log=log, what="games") == (30, 30)
    assert "only 100 files may be open, 160 may be needed, so there is room for 30 games" in (
        caplog.text
    )
    assert "raise ulimit -n (LimitNOFILE of a service)" in caplog.text


@pytest.mark.usefixtures("few")
def test_http_says_how_much_room_there_is(caplog: pytest.LogCaptureFixture) -> None:
    room = session._room(1, tls=False)
    assert f"room for {room.connections} HTTP connections" in caplog.text


@pytest.mark.usefixtures("few")
def test_more_gateways_than_open_files_are_refused_with_the_limit_and_the_cure() -> None:
    preflight._gateways(1)
    preflight._gateways(2)
    with pytest.raises(ConfigError, match=r"^server\.gateways: expected at most 2, .* 100 files"):
        preflight._gateways(3)
    many = Config.model_validate({"server": {"gateways": 100_000}})
    with pytest.raises(ConfigError, match=r"got 100000; .* raise ulimit -n \(LimitNOFILE"):
        preflight.check(many, None)  # type: ignore[arg-type]  # not looked at before


def test_single_gateway_is_never_one_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "allow_open_files", lambda _: 20)
    preflight._gateways(1)


def test_sockets_are_closed_where_there_are_too_few_files(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[socket.socket] = []

    class Few(socket.socket):
        def __init__(self, *args: int) -> None:
            if len(made) == 3:
                raise OSError(24, "Too many open files")
            super().__init__(*args)
            made.append(self)

    monkeypatch.setattr(sockets.socket, "socket", Few)
    config = Config.model_validate({"server": {"port": 0, "gateways": 9}})
    with pytest.raises(ConfigError, match="Too many open files"):
        sockets.listen(config)
    assert [sock.fileno() for sock in made] == [-1, -1, -1]

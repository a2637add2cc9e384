"""What refuses a start and may be over soon is exit code 75, which a service tries again; what
somebody has to mend is 2. Each error comes from where the system makes it."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from agent.checkpoint import CheckpointError
from config.passing import PASSING, ConfigError, TryAgain, exit_code, is_passing
from server import cli
from server.ipc.messages import ProcessFailed
from server.run.directory import RunDirectory
from server.supervisor.session import running
from tests.support.trainer import config_with

pytestmark = pytest.mark.usefixtures("no_leaks")

ELSEWHERE = "203.0.113.7"
"""An address for documentation: no machine has it."""

WRONG = (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR)


@pytest.mark.parametrize("number", [*PASSING, *WRONG], ids=errno.errorcode.get)
def test_error_number_alone_decides_the_exit_code(number: int) -> None:
    error = OSError(number, os.strerror(number))
    assert is_passing(error) == (number in PASSING)
    with pytest.raises(ConfigError) as told:
        in_words(error)
    assert exit_code(told.value) == (75 if number in PASSING else 2)
    with pytest.raises(CheckpointError) as wrapped:
        because_of(error)
    assert exit_code(wrapped.value) == (75 if number in PASSING else 1)


def in_words(error: OSError) -> None:
    try:
        raise error
    except OSError:
        raise ConfigError("put into words") from None


def because_of(error: OSError) -> None:
    try:
        raise error
    except OSError as cause:
        raise CheckpointError("put into words") from cause


def test_numbers_of_other_libraries_are_not_those_of_the_system() -> None:
    assert not is_passing(ssl.SSLError(errno.EIO, "[SSL] of its own"))
    assert exit_code(ConfigError("a setting is wrong")) == 2
    assert exit_code(TryAgain("later")) == 75
    assert exit_code(MemoryError()) == 75


@pytest.fixture
def no_ports() -> list[str]:
    return ["--server.port", "0", "--server.http_port", "none"]


@pytest.mark.promise("passing-trouble")
@pytest.mark.parametrize("setting", ["server.host", "server.http_host", "tempest.host"])
def test_address_that_is_not_up_yet_is_tried_again(
    setting: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--server.port", "0", "--tempest.port", "0", f"--{setting}", ELSEWHERE]
    words += ["--server.http_port", "0" if "http" in setting else "none", "--insecure"]
    words += ["--tempest.insecure"]
    assert cli.main(["serve", "--run", str(tmp_path / "run"), *words]) == 75
    error = capsys.readouterr().err
    assert f"set {setting}" in error
    assert ELSEWHERE in error


@pytest.mark.parametrize(
    ("number", "code"), [(socket.EAI_AGAIN, 75), (socket.EAI_NONAME, 2)], ids=["again", "noname"]
)
def test_name_is_tried_again_if_no_name_server_answers(
    number: int,
    code: int,
    tmp_path: Path,
    no_ports: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def nobody(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(number, "name resolution failed")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    words = [*no_ports, "--server.host", "games.example", "--insecure"]
    assert cli.main(["serve", "--run", str(tmp_path / "run"), *words]) == code
    assert "games.example" in capsys.readouterr().err


@pytest.mark.promise("passing-trouble")
@pytest.mark.parametrize(
    ("number", "code"),
    [(errno.ENOSPC, 75), (errno.EDQUOT, 75), (errno.EIO, 75), (errno.EROFS, 2), (errno.EACCES, 2)],
    ids=["full", "quota", "broken", "read-only", "forbidden"],
)
@pytest.mark.parametrize("function", ["mkdir", "fsync"])
def test_folder_that_cannot_be_written_is_tried_again_if_it_may_be_soon(
    function: str,
    number: int,
    code: int,
    tmp_path: Path,
    no_ports: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Where the folder is made, and where the start is accepted."""
    run = tmp_path / "run"
    real = getattr(os, function)

    def fails(what: Any, *more: Any, **named: Any) -> Any:
        if function == "fsync" or str(what) == str(run):
            raise OSError(number, os.strerror(number))
        return real(what, *more, **named)

    monkeypatch.setattr(os, function, fails)
    assert cli.main(["serve", "--run", str(run), *no_ports]) == code
    monkeypatch.undo()
    assert os.strerror(number) in capsys.readouterr().err
    assert not run.exists()


@pytest.mark.promise("passing-trouble")
@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN])
def test_what_the_machine_lacks_now_is_tried_again(
    number: int,
    tmp_path: Path,
    no_ports: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A process cannot be started: nobody puts that into words."""

    def fails(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("server.supervisor.child.Child.start", fails)
    assert cli.main(["serve", "--run", str(tmp_path / "run"), *no_ports]) == 75
    assert os.strerror(number) in capsys.readouterr().err


@pytest.mark.promise("passing-trouble")
def test_run_whose_folder_is_not_mounted_yet_is_tried_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What could hold it is not there; where that is, its name is wrong."""
    assert cli.main(["serve", "--resume", str(tmp_path / "mount" / "run")]) == 75
    assert f"mount what has {tmp_path / 'mount'}" in capsys.readouterr().err
    assert cli.main(["serve", "--resume", str(tmp_path / "run")]) == 2


@pytest.mark.promise("passing-trouble")
def test_run_of_another_server_is_tried_again(tmp_path: Path, no_ports: list[str]) -> None:
    config = config_with(run__dir=str(tmp_path / "run"))
    other = RunDirectory.open(config, resume=False)
    try:
        assert cli.main(["serve", "--run", str(tmp_path / "run"), *no_ports]) == 75
    finally:
        other.refused()


@pytest.mark.parametrize(("passing", "code"), [(True, 75), (False, 2)])
def test_child_says_whether_what_stops_it_may_be_over_soon(
    passing: bool, code: int, tmp_path: Path
) -> None:
    config = config_with(run__dir=str(tmp_path / "run"), server__port=0, server__http_port=None)
    with running(config) as supervisor:
        with pytest.raises(ConfigError, match="no room") as caught:
            supervisor._handle(ProcessFailed("trainer: no room", passing=passing))
        assert exit_code(caught.value) == code

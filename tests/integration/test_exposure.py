"""Beyond loopback, only with a token: what the server refuses to listen on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from config.load import ConfigError, config_from, config_of_run
from config.models import Config
from server.supervisor import exposure
from server.supervisor.exposure import is_loopback
from tests.support.dotted import dotted
from tests.support.folders import begun
from tests.support.running import Running

ROOT = Path(__file__).parents[2]


def configured(**values: object) -> Config:
    return config_from(dotted(values))


def test_loopback_addresses_are_recognized() -> None:
    for host in ("127.0.0.1", "127.9.9.9", "localhost", "::1"):
        assert is_loopback(host), host
    for host in ("0.0.0.0", "::", "10.0.0.1", "192.168.1.1", "2001:db8::1", "no such name", ""):
        assert not is_loopback(host), host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5"])
def test_address_beyond_loopback_needs_a_token(host: str) -> None:
    with pytest.raises(ConfigError, match=r"server\.host: .*server\.token.*--insecure"):
        exposure.check(configured(server__host=host))
    assert exposure.check(configured(server__host=host, server__token="a token")) == []
    (said,) = exposure.check(configured(server__host=host, server__insecure=True))
    assert said.startswith(f"anyone who reaches {host} can play")
    assert exposure.check(configured(server__host="127.0.0.1")) == []


def test_older_clients_beyond_loopback_need_insecure() -> None:
    open_port = {"tempest__port": 0, "tempest__host": "0.0.0.0", "server__token": "a token"}
    with pytest.raises(ConfigError, match=r"tempest\.host: .*--insecure"):
        exposure.check(configured(**open_port))
    assert len(exposure.check(configured(**open_port, server__insecure=True))) == 1
    exposure.check(configured(tempest__host="0.0.0.0"))  # no port: nobody listens there


def test_server_refuses_to_start_exposed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"server\.host"):
        Running(tmp_path / "a", server__host="0.0.0.0")


def test_token_file_allows_exposure_and_is_needed_again_on_resume(
    tmp_path: Path,
) -> None:
    secret = tmp_path / "token"
    secret.write_text("from a file\n")
    run = tmp_path / "run"
    with Running(run, server__host="0.0.0.0", server__token_file=str(secret)) as server:
        assert server.port
    kept = config_of_run(run)
    assert kept.server.token_file == secret, "where the token is, is no secret"
    other = tmp_path / "other"
    exposed = {"server__host": "0.0.0.0", "server__token": "by the variable"}
    begun(configured(run__dir=str(other), **exposed)).close()
    with pytest.raises(ConfigError, match="--resume needs it again"):
        exposure.check(config_of_run(other))


def test_serve_command_reports_refused_exposure(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "server", "serve", "--port", "0", "--server.host", "0.0.0.0",
         "--run", str(tmp_path / "run")],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("understudy serve: server.host: 0.0.0.0 is reachable")
    assert "Traceback" not in done.stderr

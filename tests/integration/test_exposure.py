"""Beyond loopback, only with a token: what the server refuses to listen on."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from config.load import ConfigError, Layer, Overrides, config_from, config_of_run, load
from config.models import Config
from server.supervisor import exposure, session
from server.supervisor.exposure import is_loopback
from server.supervisor.processes import Processes
from tests.support.commands import in_this_process
from tests.support.dotted import dotted
from tests.support.folders import begun
from tests.support.running import TINY, Running

ROOT = Path(__file__).parents[2]

LONG = "a token of more than sixteen"


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
    assert exposure.check(configured(server__host=host, server__token=LONG)) == []
    (said,) = exposure.check(configured(server__host=host, server__insecure=True))
    assert said.startswith(f"anyone who reaches {host} can play")
    assert exposure.check(configured(server__host="127.0.0.1")) == []


def test_older_clients_beyond_loopback_need_a_consent_of_their_own() -> None:
    open_port = {"tempest__port": 0, "tempest__host": "0.0.0.0", "server__token": LONG}
    with pytest.raises(ConfigError, match=r"tempest\.host: .*--tempest\.insecure"):
        exposure.check(configured(**open_port))
    with pytest.raises(ConfigError, match=r"tempest\.host: "):
        exposure.check(configured(**open_port, server__insecure=True))
    assert len(exposure.check(configured(**open_port, tempest__insecure=True))) == 1
    exposure.check(configured(tempest__host="0.0.0.0"))  # no port: nobody listens there


def test_consent_for_older_clients_opens_nothing_else() -> None:
    both = {"tempest__port": 0, "tempest__host": "0.0.0.0", "server__host": "0.0.0.0"}
    with pytest.raises(ConfigError, match=r"server\.host: "):
        exposure.check(configured(**both, tempest__insecure=True))
    assert (
        len(exposure.check(configured(**both, tempest__insecure=True, server__insecure=True))) == 2
    )


@pytest.mark.parametrize(
    ("key", "host"), [("token", "server__host"), ("control_token", "server__http_host")]
)
def test_token_beyond_loopback_has_a_shortest_length(key: str, host: str) -> None:
    for length, allowed in ((exposure.SHORTEST - 1, False), (exposure.SHORTEST, True)):
        values: dict[str, object] = {"server__token": LONG, f"server__{key}": "x" * length}
        exposure.check(configured(**values))  # on loopback
        if allowed:
            exposure.check(configured(**values, **{host: "0.0.0.0"}))
            continue
        match = rf"server\.{key}: expected at least 16 characters.*got 15; .*openssl rand -hex 32"
        with pytest.raises(ConfigError, match=match) as caught:
            exposure.check(configured(**values, **{host: "0.0.0.0"}))
        assert "xxx" not in str(caught.value)
        # Where nothing listens it protects nothing.
        if key == "control_token":
            exposure.check(configured(**values, **{host: "0.0.0.0"}, server__http_port="none"))


def test_http_with_a_short_control_token_never_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def listens(*_: object, **__: object) -> None:
        raise AssertionError("it listens")

    monkeypatch.setattr(session, "HttpServer", listens)
    short = {"server__control_token": "x" * 15, "server__http_host": "0.0.0.0"}
    config = configured(run__dir=str(tmp_path / "run"), **short)
    with (
        pytest.raises(ConfigError, match=r"server\.control_token: expected at least 16"),
        session.running(config, http=True),
    ):
        pass
    assert not (tmp_path / "run").exists()


def test_exposure_is_checked_once_and_before_anything_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    real = exposure.check

    def check(config: Config, told: Collection[str] = ()) -> list[str]:
        done.append("checked")
        return real(config, told)

    def start(_self: Processes) -> None:
        done.append("started")
        raise ConfigError("enough")

    def listens(*_: object, **__: object) -> MagicMock:
        done.append("listens")
        return MagicMock()

    monkeypatch.setattr(exposure, "check", check)
    monkeypatch.setattr(session, "HttpServer", listens)
    monkeypatch.setattr(Processes, "start", start)
    with (
        pytest.raises(ConfigError, match="enough"),
        session.running(configured(run__dir=str(tmp_path / "run")), http=True),
    ):
        pass
    assert done == ["checked", "listens", "started"]


@pytest.mark.promise("consent-anew")
def test_start_that_lacks_what_the_last_one_was_told_is_told_so() -> None:
    told = ["server.token", "server.control_token", "server.http_host", "server.insecure"]
    said = exposure.check(configured(), told)
    assert len(said) == 3
    assert "UNDERSTUDY_SERVER__TOKEN) or server.token_file" in said[0]
    assert "UNDERSTUDY_SERVER__CONTROL_TOKEN) or server.control_token_file" in said[1]
    assert "server.http_host" in said[2]
    with pytest.raises(ConfigError, match="this run had one until now: give it again with server"):
        exposure.check(configured(server__host="0.0.0.0"), told)
    again = {"server__token": LONG, "server__control_token": LONG, "server__http_host": "0.0.0.0"}
    assert exposure.check(configured(**again), told) == []


@pytest.mark.promise("consent-anew")
def test_resumed_run_is_open_to_nobody_who_was_not_let_in_again(tmp_path: Path) -> None:
    """A token and two consents, as variables and options, of one start: none comes back."""
    run = tmp_path / "run"
    exposed = {"server.host": "0.0.0.0", "tempest.host": "0.0.0.0", "tempest.port": 0}
    consents = {"server.insecure": True, "tempest.insecure": True, "server.http_host": "0.0.0.0"}
    config = config_from(TINY | exposed | consents | {"server.token": LONG, "run.dir": str(run)})
    with Running(run, config=config) as server:
        server.until(lambda: server.supervisor.run_start.accepted, "it has begun")
    files = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert not any(LONG.encode() in data or b"insecure = true" in data for data in files.values())
    with pytest.raises(ConfigError, match=r"server\.host: .*this run had one until now") as caught:
        Running(run, resume=True, config=config_of_run(run))
    assert "--resume needs it again" in str(caught.value)
    again = {"server.token": LONG, "run.dir": str(run)}
    resumed = load(Overrides(resume=run, settings=Layer("test", again)), {}).config
    with pytest.raises(ConfigError, match=r"tempest\.host: "):
        Running(run, resume=True, config=resumed)
    resumed = load(
        Overrides(resume=run, settings=Layer("test", again | {"tempest.insecure": True})), {}
    ).config
    with Running(run, resume=True, config=resumed) as server:
        server.until(lambda: server.supervisor.run_start.accepted, "it goes on")
        assert server.supervisor.config.server.http_host == "127.0.0.1"
        assert "give server.http_host again" in server.log()


@pytest.mark.promise("consent-anew")
def test_consents_of_a_run_from_before_do_not_count(tmp_path: Path) -> None:
    """An older version saved --insecure with the run."""
    run = tmp_path / "run"
    begun(configured(run__dir=str(run), server__host="0.0.0.0")).close()
    text = (run / "config.toml").read_text()
    text = text.replace("[server]\n", '[server]\ninsecure = true\nhttp_host = "0.0.0.0"\n')
    (run / "config.toml").write_text(text)
    (run / "run.json").write_text('{"launches": 1}\n')
    with pytest.raises(ConfigError, match=r"server\.host: .*saves neither a token nor --insecure"):
        Running(run, resume=True, config=config_of_run(run))
    local = load(Overrides(resume=run, settings=Layer("test", {"server.host": "127.0.0.1"})), {})
    told = begun(local.config, resume=True)
    told.close()
    assert told.told == ["server.insecure", "server.http_host"]
    (said,) = exposure.check(local.config, told.told)
    assert "give server.http_host again" in said


def test_server_refuses_to_start_exposed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"server\.host"):
        Running(tmp_path / "a", server__host="0.0.0.0")


def test_token_file_allows_exposure_and_is_needed_again_on_resume(
    tmp_path: Path,
) -> None:
    secret = tmp_path / "token"
    secret.write_text("a token from a file\n")
    run = tmp_path / "run"
    with Running(run, server__host="0.0.0.0", server__token_file=str(secret)) as server:
        assert server.port
    kept = config_of_run(run)
    assert kept.server.token_file == secret, "where the token is, is no secret"
    other = tmp_path / "other"
    exposed = {"server__host": "0.0.0.0", "server__token": "a token by the variable"}
    begun(configured(run__dir=str(other), **exposed)).close()
    with pytest.raises(ConfigError, match="--resume needs it again"):
        exposure.check(config_of_run(other))


def test_serve_command_reports_refused_exposure(tmp_path: Path) -> None:
    code, _, errors = in_this_process(
        "serve", "--port", "0", "--server.host", "0.0.0.0", "--run", str(tmp_path / "run")
    )
    assert code == 2
    assert errors.startswith("understudy serve: server.host: 0.0.0.0 is reachable")
    assert "Traceback" not in errors

"""Who may use the Ray of a cluster."""

from __future__ import annotations

import pytest

from config.load import ConfigError, config_from
from server.cluster.authentication import asks_for_token, check

TWO = ("10.0.0.1", "10.0.0.2")


def test_one_machine_needs_no_token() -> None:
    assert check(config_from({}), ["127.0.0.1", "127.0.0.1"], ["127.0.0.1"]) == []


def test_several_machines_without_a_token_are_refused_with_what_to_set() -> None:
    with pytest.raises(ConfigError, match=r"at 10\.0\.0\.2: .*RAY_AUTH_MODE=token") as caught:
        check(config_from({}), TWO, ["10.0.0.2"])
    assert "--cluster.insecure" in str(caught.value)


def test_consent_lets_several_machines_serve_and_is_reminded_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAY_USE_TLS", "1")
    (said,) = check(config_from({"cluster.insecure": True}), TWO, ["10.0.0.2"])
    assert "no token" in said


def test_token_without_tls_is_reminded_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_USE_TLS", raising=False)
    (said,) = check(config_from({}), TWO, [])
    assert "not encrypted" in said
    monkeypatch.setenv("RAY_USE_TLS", "1")
    assert check(config_from({}), TWO, []) == []


def test_nodes_are_asked_by_the_environment_that_ray_gives_them() -> None:
    assert asks_for_token({"RAY_AUTH_MODE": "Token"})
    assert not asks_for_token({"RAY_AUTH_MODE": "disabled"})
    assert not asks_for_token({})

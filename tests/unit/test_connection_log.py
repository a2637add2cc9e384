from __future__ import annotations

import logging

import pytest

from protocol.errors import RemoteError
from protocol.messages import HelloFields
from server.gateway.connection_log import ConnectionLog
from server.net import rate_limits
from server.net.rate_limits import FAILED, GUESSES, AddressLimits


def made() -> tuple[ConnectionLog, AddressLimits]:
    addresses = AddressLimits(50.0, lambda: 1000.0)
    return ConnectionLog(addresses, 50.0), addresses


def test_failures_are_counted_and_logged_by_severity(caplog: pytest.LogCaptureFixture) -> None:
    log, _ = made()
    with caplog.at_level(logging.INFO):
        log.failed("10.0.0.1:5", "10.0.0.1", RemoteError("bad_hello", "no slots"), session=7)
        log.failed("10.0.0.1:6", "10.0.0.1", RemoteError("server_stopping", "bye"), session=7)
    assert log.errors == {"bad_hello": 1, "server_stopping": 1}
    assert [record.levelno for record in caplog.records] == [logging.WARNING, logging.INFO]
    assert "10.0.0.1:5: " in caplog.text
    assert "no slots" in caplog.text


def test_address_over_log_limit_is_counted_but_not_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(rate_limits, "LINES", 2)
    log, _ = made()
    for _ in range(5):
        log.failed("10.0.0.1:5", "10.0.0.1", RemoteError("bad_hello", "no slots"), session=7)
    assert log.errors == {"bad_hello": 5}
    assert len(caplog.records) == 2


def test_game_of_another_run_is_logged_in_growing_pauses(caplog: pytest.LogCaptureFixture) -> None:
    now = 1000.0
    log = ConnectionLog(AddressLimits(None, lambda: now), None)
    times = []
    for _ in range(2000):
        before = len(caplog.records)
        log.failed(
            "10.0.0.1:5",
            "10.0.0.1",
            RemoteError("spec_mismatch", "the game is 'x'"),
            session=0,
        )
        times += [now - 1000.0] * (len(caplog.records) - before)
        now += 0.5
    assert times == [0, 10, 30, 70, 150, 310, 630]
    assert log.errors == {"spec_mismatch": 2000}
    assert "(39 more times since the last line)" in caplog.records[2].getMessage()
    log.failed("10.0.0.2:5", "10.0.0.2", RemoteError("spec_mismatch", "the game is 'x'"), session=0)
    assert "10.0.0.2:5" in caplog.records[-1].getMessage(), "each address has its own"
    now += 10_000.0
    for _ in range(2):
        log.failed(
            "10.0.0.1:5",
            "10.0.0.1",
            RemoteError("spec_mismatch", "the game is 'x'"),
            session=0,
        )
        now += 11.0
    assert len(caplog.records) == 10, "it had been gone: the pauses begin anew"


def test_errors_before_welcome_count_against_their_address() -> None:
    log, addresses = made()
    fault = RemoteError("message_malformed", "no msgpack")
    for _ in range(FAILED):
        assert not addresses.failed.wait_s("10.0.0.1")
        log.failed("10.0.0.1:5", "10.0.0.1", fault, session=7)
        log.failed(
            "10.0.0.1:5",
            "10.0.0.1",
            RemoteError("handshake_timeout", "", retry=True),
            session=0,
        )
        assert not addresses.failed.wait_s("10.0.0.1"), (
            "a game that played, and no fault of its own"
        )
        log.failed("10.0.0.1:5", "10.0.0.1", fault, session=0)
    assert addresses.failed.wait_s("10.0.0.1")
    assert not addresses.failed.wait_s("10.0.0.2")


def test_wrong_tokens_throttle_only_their_address() -> None:
    log, addresses = made()
    refused = RemoteError("bad_token", "")
    for _ in range(GUESSES):
        assert not addresses.guesses.wait_s("10.0.0.1")
        assert log.wrong_token("10.0.0.1", refused) is refused
    told = log.wrong_token("10.0.0.1", refused)
    assert (told.code, told.retry) == ("too_many_attempts", True)
    assert "from 10.0.0.1; retry in 60 s" in told.message
    assert addresses.guesses.wait_s("10.0.0.1")
    assert not addresses.guesses.wait_s("10.0.0.2")


def test_throttled_address_is_found_once_with_limit_and_setting() -> None:
    log, _ = made()
    for port in (5, 6):
        log.throttled(f"10.0.0.1:{port}", "10.0.0.1")
    (found,) = log.take_findings()
    assert "games of 10.0.0.1 wait (10.0.0.1:6 is one)" in found.text
    assert "50 frames/s" in found.text
    assert "server.max_frames_per_address" in found.cure
    assert log.take_findings() == []


@pytest.mark.promise("peers-fill-no-log")
def test_games_that_come_and_go_leave_some_lines_and_hide_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log, _ = made()
    hello = HelloFields(
        protocol=1, client="b" * 64, game="a", observation=("float32", (1,)), actions=()
    )  # fmt: skip
    with caplog.at_level(logging.INFO):
        for session in range(5000):
            log.welcomed("10.0.0.1:5", "10.0.0.1", session, hello)
        log.failed("10.0.0.1:6", "10.0.0.1", RemoteError("bad_hello", "x" * 8000), session=7)
    assert len(caplog.records) == rate_limits.LINES + 1
    assert "bad_hello" in caplog.records[-1].getMessage()
    assert len(caplog.text) < 200 * rate_limits.LINES

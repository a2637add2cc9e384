"""Connections that ended in an error: grouped, newest first, bounded."""

from __future__ import annotations

from protocol.errors import RemoteError
from server.gateway.connection_log import CLIENT, KINDS, MESSAGE, ConnectionLog
from server.monitor.failures import MOST, Failures
from server.net.rate_limits import AddressLimits


def made() -> ConnectionLog:
    return ConnectionLog(AddressLimits(None, lambda: 1000.0), None)


def test_failures_of_an_address_with_the_same_error_are_one_group() -> None:
    now, failures, log = 100.0, Failures(lambda: now), made()
    log.failed("10.0.0.1:5", "10.0.0.1", RemoteError("bad_hello", "no slots"), "a/1", 0)
    log.failed("10.0.0.1:6", "10.0.0.1", RemoteError("bad_hello", "no game"), "b/1", 0)
    log.failed("10.0.0.1:7", "10.0.0.1", RemoteError("idle_timeout", "no message"), "a/1", 9)
    failures.add(log.take_failures())
    assert log.take_failures() == [], "each is reported once"
    now = 150.0
    log.failed("10.0.0.1:8", "10.0.0.1", RemoteError("bad_hello", "no role"))
    failures.add(log.take_failures())
    hello, idle = failures.rows()
    assert hello == {
        "code": "bad_hello", "address": "10.0.0.1", "peer": "10.0.0.1:8", "client": "",
        "session": None, "message": "no role", "first": 100.0, "last": 150.0, "times": 3,
    }  # fmt: skip
    assert (idle["client"], idle["session"], idle["times"]) == ("a/1", 9, 1)


def test_failures_are_bounded_whoever_causes_them() -> None:
    failures, log = Failures(), made()
    for number in range(3 * MOST):
        address = f"10.0.{number // 256}.{number % 256}"
        log.failed(f"{address}:5", address, RemoteError("bad_hello", "x" * 9000), "c" * 9000)
        if number % 2:
            failures.add(log.take_failures())
    rows = failures.rows()
    assert len(rows) == MOST
    assert rows[0]["address"] == address, "the newest are kept"
    assert (len(rows[0]["client"]), len(rows[0]["message"])) == (CLIENT, MESSAGE)
    for number in range(3 * KINDS):
        log.failed("p", f"a{number}", RemoteError("bad_hello", "no"))
    assert len(log.take_failures()) == KINDS
    assert log.errors["bad_hello"] == 3 * MOST + 3 * KINDS, "all are counted"

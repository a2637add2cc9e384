"""Who may use controls over HTTP, without a socket."""

from __future__ import annotations

from server.net.rate_limits import ADDRESSES, FAILURES, WITHIN_S
from server.web.app import is_local
from server.web.auth import Guard


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def status(guard: Guard, header: str | None, address: str = "a") -> int:
    refused = guard.check(header, address)
    return 200 if refused is None else refused.status


def test_failures_count_for_their_address_and_age() -> None:
    clock = Clock()
    guard = Guard("right", clock)
    for i in range(FAILURES):
        clock.now += 1.0
        assert status(guard, f"Bearer wrong{i}") == 401
    assert status(guard, "Bearer right") == 429
    assert status(guard, "Bearer right", "b") == 200
    refused = guard.check("Bearer right", "a")
    assert refused is not None
    wait_s = int(refused.headers["retry-after"])
    assert wait_s == WITHIN_S - FAILURES + 1
    clock.now += wait_s - 0.5
    assert status(guard, "Bearer right") == 429
    clock.now += 0.5
    assert status(guard, "Bearer right") == 200
    assert status(guard, "Bearer wrong") == 401, "only the oldest is forgotten"
    assert status(guard, "Bearer right") == 429


def test_addresses_that_are_remembered_are_bounded() -> None:
    guard = Guard("right", Clock())
    for i in range(3 * ADDRESSES):
        assert status(guard, "Bearer wrong", f"address {i}") == 401
    assert len(guard._failures) == ADDRESSES


def test_any_bytes_may_come() -> None:
    guard = Guard("grün")
    for header in ("Bearer \xfc", "Bearer \u20ac", "Bearer " + "x" * 10_000, "Bearer\t", "\x00"):
        assert status(guard, header) == 401
    # A header's bytes are read as latin-1; the token's are UTF-8.
    assert status(guard, "Bearer " + "grün".encode().decode("latin-1")) == 200


def test_names_of_loopback() -> None:
    for host in ("localhost", "localhost:80", "127.0.0.1", "127.1.2.3:9", "[::1]", "[::1]:80"):
        assert is_local(host), host
    for host in ("", "0.0.0.0", "10.0.0.1", "localhost.example", "127.0.0.1.example", "[::2]:1",
                 "example@127.0.0.1", "[", "::1:80"):  # fmt: skip
        assert not is_local(host), host

"""Who may use controls over HTTP, without a socket."""

from __future__ import annotations

from server.net.rate_limits import ADDRESSES, FAILURES, WITHIN_S
from server.web.app import is_local
from server.web.auth import TokenAuth


class FakeClock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def status(auth: TokenAuth, header: str | None, address: str = "a") -> int:
    refused = auth.check(header, address)
    return 200 if refused is None else refused.status


def test_token_failures_block_their_address_until_expired() -> None:
    clock = FakeClock()
    auth = TokenAuth("right", clock)
    for i in range(FAILURES):
        clock.now += 1.0
        assert status(auth, f"Bearer wrong{i}") == 401
    assert status(auth, "Bearer right") == 429
    assert status(auth, "Bearer right", "b") == 200
    refused = auth.check("Bearer right", "a")
    assert refused is not None
    wait_s = int(refused.headers["retry-after"])
    assert wait_s == WITHIN_S - FAILURES + 1
    clock.now += wait_s - 0.5
    assert status(auth, "Bearer right") == 429
    clock.now += 0.5
    assert status(auth, "Bearer right") == 200
    assert status(auth, "Bearer wrong") == 401, "only the oldest is forgotten"
    assert status(auth, "Bearer right") == 429


def test_guesses_from_all_of_loopback_count_together() -> None:
    auth = TokenAuth("right-token", FakeClock())
    hosts = [f"127.0.0.{i}" for i in range(1, FAILURES)] + ["::1"]
    for host in hosts:
        assert status(auth, "Bearer wrong", host) == 401
    assert status(auth, "Bearer right-token", "127.9.9.9") == 429
    assert status(auth, "Bearer right-token", "::ffff:127.0.0.1") == 429
    assert status(auth, "Bearer right-token", "10.0.0.1") == 200


def test_token_failure_addresses_are_bounded() -> None:
    auth = TokenAuth("right", FakeClock())
    for i in range(3 * ADDRESSES):
        assert status(auth, "Bearer wrong", f"address {i}") == 401
    assert len(auth._failures) == ADDRESSES


def test_token_check_accepts_any_header_bytes() -> None:
    auth = TokenAuth("grün")
    for header in ("Bearer \xfc", "Bearer \u20ac", "Bearer " + "x" * 10_000, "Bearer\t", "\x00"):
        assert status(auth, header) == 401
    # A header's bytes are read as latin-1; the token's are UTF-8.
    assert status(auth, "Bearer " + "grün".encode().decode("latin-1")) == 200


def test_is_local_accepts_only_loopback_hosts() -> None:
    for host in ("localhost", "localhost:80", "127.0.0.1", "127.1.2.3:9", "[::1]", "[::1]:80"):
        assert is_local(host), host
    for host in ("", "0.0.0.0", "10.0.0.1", "localhost.example", "127.0.0.1.example", "[::2]:1",
                 "example@127.0.0.1", "[", "::1:80"):  # fmt: skip
        assert not is_local(host), host

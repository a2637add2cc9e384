"""Who may use controls over HTTP, without a socket."""

from __future__ import annotations

import pytest

from server.net.rate_limits import ADDRESSES, FAILURES, WITHIN_S
from server.web.auth import TokenAuth
from server.web.names import KnownNamesOnly


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
    refused = auth.check("Bearer wrong", "a")
    assert refused is not None
    assert refused.status == 429
    wait_s = int(refused.headers["retry-after"])
    assert wait_s == WITHIN_S - FAILURES + 1
    assert status(auth, "Bearer wrong", "b") == 401, "another address has done nothing"
    # That one counts too, so that the oldest but one is what is waited for.
    clock.now += wait_s + 0.5
    assert status(auth, "Bearer wrong") == 429
    clock.now += WITHIN_S
    assert status(auth, "Bearer wrong") == 401


def test_right_token_is_let_in_whatever_was_said_from_its_address() -> None:
    auth = TokenAuth("right", FakeClock())
    for _ in range(3 * FAILURES):
        assert status(auth, "Bearer wrong") in (401, 429)
        assert status(auth, "Bearer right") == 200
    assert status(auth, "Bearer wrong") == 429, "a right one forgives no wrong ones"
    assert status(auth, None) == 401, "none is no guess"


def test_guesses_from_all_of_loopback_count_together() -> None:
    auth = TokenAuth("right-token", FakeClock())
    hosts = [f"127.0.0.{i}" for i in range(1, FAILURES)] + ["::1"]
    for host in hosts:
        assert status(auth, "Bearer wrong", host) == 401
    assert status(auth, "Bearer wrong", "127.9.9.9") == 429
    assert status(auth, "Bearer wrong", "::ffff:127.0.0.1") == 429
    assert status(auth, "Bearer wrong", "10.0.0.1") == 401


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


# Names.


def names_only(*names: str) -> KnownNamesOnly:
    async def app(*_: object) -> None:
        raise AssertionError("only headers are looked at")

    return KnownNamesOnly(app, names)


def asked(names: KnownNamesOnly, *headers: tuple[str, str]) -> int:
    """The status of a refusal; 200 for none."""
    refusal = names.refusal([(name.encode(), value.encode("latin-1")) for name, value in headers])
    return 200 if refusal is None else refusal[0]


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:80", "localhost.", "127.0.0.1", "127.1.2.3:9", "[::1]", "[::1]:80",
     "10.0.0.1:8080", "0.0.0.0", "[2001:db8::1]:1", "understudy:8080", "Training.Example.",
     "training.example"],
)  # fmt: skip
def test_known_names_and_literal_addresses_are_answered(host: str) -> None:
    assert asked(names_only("understudy", "training.example"), ("host", host)) == 200


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "evil.example:8080", "localhost.example", "127.0.0.1.example",
     "127.0.0.1.nip.io", "x.understudy", "understudy.x", "understudy@evil.example",
     "evil.example@127.0.0.1", "evil.example#127.0.0.1", "127.0.0.1/evil.example", "[", "[]", "::1",
     "::1:80", "[::1]evil.example", "2130706433", "0x7f000001", "127.1", "127.0.0.1:80:80",
     "localhost evil.example", "localhost:x", "evil.localhost", "\xfc"],
)  # fmt: skip
def test_other_names_are_refused(host: str) -> None:
    assert asked(names_only("understudy"), ("host", host)) == 421


def test_request_needs_exactly_one_host() -> None:
    names = names_only("understudy")
    assert asked(names) == 421
    assert asked(names, ("host", "localhost"), ("host", "evil.example")) == 421
    refusal = names.refusal([(b"host", b"evil.example")])
    assert refusal is not None
    assert "got 'evil.example'; add the name to server.http_names" in refusal[1]
    refusal = names.refusal([(b"host", b"x" * 10_000)])
    assert refusal is not None
    assert len(refusal[1]) < 400


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://10.0.0.1:8080", 200),
        ("https://10.0.0.1:8080", 200),
        ("https://dash.example", 200),  # a proxy that says Host: 10.0.0.1:8080
        ("http://10.0.0.1", 403),  # another server on that machine
        ("http://10.0.0.2:8080", 403),
        ("http://localhost:8888", 403),
        ("http://evil.example", 403),
        ("http://dash.example.evil.example", 403),
        ("null", 403),
        ("", 403),
        ("10.0.0.1:8080", 403),
    ],
)
def test_pages_of_other_origins_are_refused(origin: str, status: int) -> None:
    names = names_only("dash.example")
    assert asked(names, ("host", "10.0.0.1:8080"), ("origin", origin)) == status

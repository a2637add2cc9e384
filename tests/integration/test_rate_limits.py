"""What an address may do: counted without a socket, and against a live server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol import codec
from protocol.messages import Ping
from server.gateway import connection
from server.net import rate_limits
from server.net.rate_limits import (
    AddressLimits,
    FailureWindow,
    LogRateLimiter,
    TokenBucket,
    address_of,
)
from tests.support.connection import HELLO, Wire
from tests.support.running import Bystander, RawClient, Running, hello_fields

TOKEN = "a token for games"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_connection_counts_for_its_address_or_network() -> None:
    assert address_of("10.1.2.3") == "10.1.2.3"
    assert address_of("::ffff:10.1.2.3") == "10.1.2.3"
    assert address_of("2001:db8:1:2:3:4:5:6") == "2001:db8:1:2::/64"
    assert address_of("2001:db8:1:2::9") == address_of("2001:db8:1:2:ffff::")
    assert address_of("2001:db8:1:3::9") != address_of("2001:db8:1:2::9")
    assert address_of("fe80::1%eth0") == "fe80::/64"
    assert address_of("") == ""


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.2", "127.255.3.4", "::1", "::ffff:127.0.0.7", "::ffff:7f00:1"]
)
def test_loopback_is_one_address(host: str) -> None:
    assert address_of(host) == address_of("127.0.0.1") != address_of("128.0.0.1")


def test_token_bucket_allows_its_rate_and_burst() -> None:
    bucket = TokenBucket(10.0, 20.0, 0.0)
    assert [bucket.take(1, 0.0) for _ in range(20)] == [0.0] * 20
    assert bucket.take(1, 0.0) == pytest.approx(0.1)
    assert bucket.take(4, 0.0) == pytest.approx(0.5), "what is taken beyond is owed"
    assert bucket.take(0, 0.4) == pytest.approx(0.1)
    assert bucket.take(1, 0.6) == pytest.approx(0.0)
    assert not bucket.full(0.7)
    assert bucket.full(100.0)
    assert bucket.take(21, 1000.0) > 0, "no more than the burst is saved up"


def test_address_limits_use_bounded_memory() -> None:
    clock = Clock()
    recent, quiet, addresses = (
        FailureWindow(3, 60.0, clock),
        LogRateLimiter(clock),
        AddressLimits(5.0, clock),
    )
    for i in range(3 * rate_limits.ADDRESSES):
        recent.note(f"a{i}")
        quiet.suffix(f"a{i}")
        addresses.came(f"a{i}")
        clock.now += 10.0
        addresses.gone(f"a{i}")
    assert len(recent) == rate_limits.ADDRESSES
    assert len(addresses._buckets) <= rate_limits.ADDRESSES + 1
    assert not addresses._connections
    assert len(quiet._left_out) <= rate_limits.ADDRESSES


def test_address_keeps_its_debt_after_reconnecting() -> None:
    clock = Clock()
    addresses = AddressLimits(5.0, clock)
    first = addresses.came("a")
    assert first is not None
    assert addresses.came("b") is not first
    first.take(50, clock.now)
    addresses.gone("a")
    assert addresses.came("a") is first
    assert AddressLimits(None, clock).came("a") is None


def test_log_lines_per_address_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limits, "LINES", 3)
    clock = Clock()
    quiet = LogRateLimiter(clock)
    assert [quiet.suffix("a") for _ in range(5)] == ["", "", "", None, None]
    assert quiet.suffix("b") == ""
    clock.now += rate_limits.LINES_WITHIN_S
    assert quiet.suffix("a") == " (2 more from a were not logged)"
    assert quiet.suffix("a") == ""


@pytest.mark.promise("hostile-connections")
def test_log_lines_of_all_addresses_together_are_limited() -> None:
    clock = Clock()
    quiet = LogRateLimiter(clock)
    assert sum(quiet.suffix(f"a{n}") is not None for n in range(5000)) <= rate_limits.LINES + 1
    for _ in range(10):
        clock.now += 1.0
        lines = sum(quiet.suffix(f"b{n}") is not None for n in range(5000))
        assert lines <= rate_limits.LINES_PER_S + 1
    clock.now += 60.0
    assert quiet.suffix("a300") == " (1 more from a300 were not logged)"


# A connection.


def test_connection_with_too_many_pings_is_closed() -> None:
    wire = Wire()
    wire.connection.data_received(HELLO)
    ping = codec.encode(Ping(codec._encode(1)))  # type: ignore[arg-type]
    wire.connection.data_received(ping * int(connection.PINGS_BURST))
    assert not wire.connection.ending
    wire.connection.data_received(ping)
    assert wire.connection.ending
    assert wire.gateway.errors == {"too_fast": 1}


def test_bytes_sent_back_to_an_address_are_limited_whatever_connection_asks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rate_limits, "ECHO_BURST_BYTES", 65_536)
    wire = Wire()
    wire.connection.data_received(HELLO)
    ping = codec.encode(Ping(codec._encode(bytes(1_000))))  # type: ignore[arg-type]
    sent = 0
    while wire.transport.reading:
        wire.connection.data_received(ping)
        sent += 1_000
        assert sent <= rate_limits.ECHO_BURST_BYTES + 1_000
    assert sent > rate_limits.ECHO_BURST_BYTES
    ((seconds, again),) = wire.gateway.due
    assert 0 < seconds < 1
    assert wire.gateway.addresses.echo(wire.connection.address, 0) > 0, "another of its connections"
    assert wire.gateway.addresses.echo("another", 1_000) == 0
    wire.gateway.time += seconds
    again()
    assert wire.transport.reading
    assert wire.connection.ending is False, "it is slowed down, not refused"


def test_frames_over_the_rate_are_delayed() -> None:
    wire = Wire()
    wire.gateway.bucket = TokenBucket(2.0, 3.0, wire.gateway.time)
    wire.connection.connection_made(wire.transport)
    wire.connection._bucket = wire.gateway.bucket
    for n in range(3):
        wire.connection._spend(1)
        assert wire.transport.reading, n
    wire.connection._spend(1)
    wire.connection._spend(1)
    assert not wire.transport.reading
    ((seconds, again),) = wire.gateway.due
    assert seconds == pytest.approx(0.5)
    assert wire.gateway.log.held == 1
    again()
    assert wire.transport.reading


# A server.


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("limits") / "run"
    with Running(folder, server__token=TOKEN, server__max_clients=8) as running:
        running.until(lambda: running.supervisor.status.ready, "the gateways run", 60.0)
        yield running


def refused(port: int, address: str = "127.0.0.1", **changes: object) -> tuple[str, str, bool]:
    with client_from(port, address) as client:
        client.send([1, hello_fields(**changes)])
        return client.refusal()


def client_from(port: int, address: str) -> RawClient:
    """One that connects from another address of loopback."""
    return RawClient(port, 30.0, source=address)


def test_wrong_tokens_delay_their_address_and_no_game_in_play(tmp_path: Path) -> None:
    """All of loopback is that address: 127.0.0.2 and those behind it are no new ones."""
    with Running(tmp_path / "run", server__token=TOKEN) as server:
        game = Bystander(server.port, token=TOKEN)
        with game.undisturbed():
            for n in range(30):
                code = refused(server.port, f"127.0.0.{n + 1}")[0]
                assert code == "bad_token", "no token is no guess"
            for n in range(rate_limits.GUESSES):
                address = f"127.0.{n}.9"
                code, text, retry = refused(server.port, address, token=f"guess {n}")
                assert (code, retry) == ("bad_token", False)
                assert "guess" not in text
            for address in ("127.0.0.1", "127.0.0.9", "127.7.7.7"):
                code, text, retry = refused(server.port, address, token="one guess more")
                assert (code, retry) == ("too_many_attempts", True)
                assert "loopback; retry in" in text
                with client_from(server.port, address) as right:
                    right.welcome(token=TOKEN)  # nobody can lock the games out
        game.stop()
    log = server.log()
    assert TOKEN not in log
    assert "guess " not in log


def test_silent_connections_beyond_the_limit_are_refused(server: Running) -> None:
    """As many silent connections as there are places, from one address. That others may take their
    places is in tests/unit/test_admission.py: here there is no other address."""
    game = Bystander(server.port, token=TOKEN)
    silent = [client_from(server.port, "127.0.0.7") for _ in range(12)]
    with game.undisturbed():
        server.until(lambda: server.row["errors_too_many_clients"] >= 4, "it is full", 60.0)
    game.stop()
    told = [client.refusal() for client in silent[8:]]
    assert {code for code, _, _ in told} == {"too_many_clients"}
    for client in silent:
        client.close()
    server.until_row(60.0, clients=0)


def test_connections_per_address_are_limited(tmp_path: Path) -> None:
    with Running(tmp_path / "run", server__max_clients_per_address=2) as server:
        game = Bystander(server.port)
        with client_from(server.port, "127.0.0.1") as second, game.undisturbed():
            second.welcome()
            code, text, retry = refused(server.port)
            assert (code, retry) == ("too_many_clients", True)
            assert "server.max_clients_per_address" in text
            assert refused(server.port, "127.0.0.2")[0] == "too_many_clients"
        server.until(lambda: server.row.get("clients") == 1, "they are gone", 60.0)
        with client_from(server.port, "127.0.0.1") as again:
            again.welcome()
        game.stop()


def test_frames_per_address_are_limited(tmp_path: Path) -> None:
    with Running(tmp_path / "run", server__max_frames_per_address=50) as server:
        with client_from(server.port, "127.0.0.5") as quick:
            quick.welcome()
            begin = time.monotonic()
            for seq in range(150):
                assert quick.frame(seq)[0] == 12
            took_s = time.monotonic() - begin
            assert took_s > 1.9, "50 at once, and 50 a second then"
        server.until(lambda: "games of loopback wait" in server.log(), "it is said")
        server.settle()


def test_connection_flood_fills_no_log_and_is_heard_no_more(tmp_path: Path) -> None:
    """Who only ever fails is told so, but not for ever; a game of the same address plays on."""
    with Running(tmp_path / "run") as server:
        game = Bystander(server.port)
        codes = set()
        with game.undisturbed():
            for n in range(rate_limits.FAILED + 50):
                with client_from(server.port, f"127.0.1.{n % 250 + 1}") as client:
                    client.raw(b"GET / HTTP/1.1\r\n\r\n")
                    codes.add(client.refusal()[0])
        assert codes == {"not_understudy", "too_many_attempts"}
        game.stop()
        lines = server.log().count("127.0.1.")
        assert 0 < lines <= rate_limits.LINES
        time.sleep(rate_limits.FAILED_WITHIN_S)
        with client_from(server.port, "127.0.1.1") as later:
            later.welcome()

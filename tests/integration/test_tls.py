"""TLS on the game port and on HTTP: with real certificates, real sockets, and games that play."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from config.load import ConfigError
from config.models import ServerConfig
from server.net import listener
from server.net.client_hello import client_hello
from server.net.tls import Certificate, certificate
from server.play.game_messages import GameOptions
from server.play.game_process import tls_of
from server.web.server import HttpServer
from tests.support.certificates import Pair, make, needs_openssl, openssl
from tests.support.fake_tls import FakeTls, nothing
from tests.support.preloaded import completed
from tests.support.running import Bystander, RawClient, Running, client_for, hello_fields
from understudy_client import Backoff, ConnectionLost, ProtocolViolation, TlsError
from understudy_client import tls as client_tls

pytestmark = [needs_openssl, pytest.mark.timeout(400)]

ROOT = Path(__file__).parents[2]

ONCE = Backoff(give_up_s=0.0)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Another one for the same address, and another one for another."""
    return make(tmp_path_factory.mktemp("others"), of="DNS:elsewhere.example")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, pair: Pair) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("tls") / "run"
    with Running(
        folder,
        server__tls_cert=str(pair.cert),
        server__tls_key=str(pair.key),
        server__handshake_timeout_s=1.0,
    ) as running:
        running.until(lambda: running.supervisor.status.ready, "the gateways run", 60.0)
        yield running


@pytest.fixture(scope="module")
def game(server: Running, pair: Pair) -> Iterator[Bystander]:
    """A game that plays all the while, encrypted."""
    one = Bystander(server.port, ca=pair.cert)
    yield one
    one.stop()


class SecureClient(RawClient):
    """Says anything, encrypted."""

    def __init__(self, port: int, ca: Path) -> None:
        super().__init__(port, 30.0)
        context = ssl.create_default_context(cafile=ca)
        self.sock = context.wrap_socket(self.sock, server_hostname="127.0.0.1")


# Games.


def test_games_play_and_the_server_learns_over_tls(server: Running, game: Bystander) -> None:
    with game.undisturbed():
        server.until(lambda: server.row.get("updates", 0) > 5, "it learns", 60.0)


def test_messages_longer_than_a_tls_record_pass(
    server: Running, pair: Pair, game: Bystander
) -> None:
    """Longer than one record of TLS (16 KiB), in both directions, and many slots at once."""
    n = 4096
    with client_for(server.port, ca=pair.cert, slots=n, role="eval") as client, game.undisturbed():
        for _ in range(3):
            obs = np.zeros((n, 3), np.float32)
            answers = client.act_all(obs, np.zeros(n), np.zeros(n, np.uint8))
            assert answers.actions.shape == (n, 3)
            assert (answers.actors == 1).all()


def test_own_games_trust_their_servers_certificate_under_any_name(tmp_path: Path) -> None:
    """Those of the demo: it is their server, whatever name its certificate is of."""
    elsewhere = make(tmp_path, of="DNS:elsewhere.example")
    options = GameOptions("CartPole-v1", "127.0.0.1", 1, own=elsewhere.cert)
    context = tls_of(options)
    assert context is not None
    settings = {"server__tls_cert": str(elsewhere.cert), "server__tls_key": str(elsewhere.key)}
    with Running(tmp_path / "run", **settings) as server:
        with client_for(server.port, tls=context) as client:
            assert client.ping() > 0
        imposter = make(tmp_path, "imposter", of="DNS:elsewhere.example")
        with FakeTls(imposter, nothing) as port, pytest.raises(TlsError, match="not trusted"):
            client_for(port, tls=context)
    assert tls_of(GameOptions("CartPole-v1", "127.0.0.1", 1)) is None
    assert tls_of(GameOptions("CartPole-v1", "127.0.0.1", 1, ca=elsewhere.cert)) is not None


def test_play_command_connects_over_tls(server: Running, pair: Pair, game: Bystander) -> None:
    """Another game than the run's: it is refused by name, so TLS and token were well."""
    words = ["--env", "CartPole-v1", "--episodes", "1", "--connect", f"127.0.0.1:{server.port}"]
    with game.undisturbed():
        for options, says in (
            (["--ca", str(pair.cert)], "(spec_mismatch): the game is 'CartPole-v1', this run's is"),
            (["--tls"], "not trusted"),
            (["--ca", str(pair.key)], "cannot use"),
        ):
            done = completed("play", *words, *options, timeout=200)
            assert done.returncode in (1, 2)
            assert says in done.stderr, done.stderr
            assert len(done.stderr.splitlines()) == 1
            assert "episode" not in done.stdout


def test_tls_bytes_may_arrive_one_by_one(server: Running, pair: Pair, game: Bystander) -> None:
    with SecureClient(server.port, pair.cert) as client, game.undisturbed():
        client.welcome(role="eval")
        for byte in b"\x00\x00\x00\x03\x92\x04\x07":
            client.raw(bytes([byte]))
        assert client.recv() == [14, 7]


def test_protocol_error_over_tls_is_sent_before_closing(
    server: Running, pair: Pair, game: Bystander
) -> None:
    with SecureClient(server.port, pair.cert) as client, game.undisturbed():
        client.send([1, hello_fields(protocol=9)])
        assert client.refusal()[0] == "protocol_version"  # read until the end
    with SecureClient(server.port, pair.cert) as client:
        client.welcome(role="eval")
        client.send([5])
        assert client.rest() == [], "BYE ends it too"


def test_client_refuses_an_untrusted_certificate(server: Running, pair: Pair, other: Pair) -> None:
    for options in ({"ca": other.cert}, {"tls": True}):
        with pytest.raises(TlsError, match=r"not trusted.*\(ca=FILE; --ca FILE"):
            client_for(server.port, **options)
    with pytest.raises(ValueError, match=r"cannot use .*nothing"):
        client_for(server.port, ca=pair.cert.with_name("nothing"))
    with pytest.raises(ValueError, match=r"cannot use .*PEM"):
        client_for(server.port, ca=pair.key)
    context = ssl.create_default_context(cafile=pair.cert)
    with pytest.raises(ValueError, match="none beside a context"):
        client_for(server.port, tls=context, ca=pair.cert)
    with client_for(server.port, tls=context, role="eval") as client:
        assert client.ping() > 0


def test_client_refuses_a_certificate_of_another_name(tmp_path: Path) -> None:
    elsewhere = make(tmp_path, of="DNS:elsewhere.example")
    with FakeTls(elsewhere, nothing) as port, pytest.raises(TlsError, match="mismatch"):
        client_for(port, ca=elsewhere.cert)


def test_client_refuses_tls_older_than_1_2(pair: Pair) -> None:
    """The server's side of the same is below."""
    context = client_tls.context(False, pair.cert)
    assert context is not None
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


@pytest.mark.parametrize("version", ["TLSv1_1", "TLSv1_2", "TLSv1_3"])
def test_server_refuses_tls_older_than_1_2(
    server: Running, pair: Pair, game: Bystander, version: str
) -> None:
    context = ssl.create_default_context(cafile=pair.cert)
    if version == "TLSv1_1":
        context.set_ciphers("ALL:@SECLEVEL=0")  # it is not the client that will not have it
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    else:
        context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    with socket.create_connection(("127.0.0.1", server.port), 30) as sock, game.undisturbed():
        if version == "TLSv1_1":
            with pytest.raises(OSError):
                context.wrap_socket(sock, server_hostname="127.0.0.1")
        else:
            with context.wrap_socket(sock, server_hostname="127.0.0.1") as secure:
                assert secure.version() == version.replace("_", ".")


def test_connection_without_tls_gets_no_answer_and_disturbs_nobody(
    server: Running, game: Bystander
) -> None:
    before = server.row.get("errors_tls_failed", 0)
    with game.undisturbed():
        for said in (b"GET / HTTP/1.1\r\n\r\n", b"\x00\x00\x00\x02\x91\x05", b"\xff" * 5000):
            with RawClient(server.port, 30.0) as client:
                client.raw(said)
                assert b"WELCOME" not in everything(client.sock)
        with pytest.raises((ConnectionLost, ProtocolViolation), match="tls=True"):
            client_for(server.port, backoff=ONCE)
    server.until(lambda: server.row["errors_tls_failed"] >= before + 4, "it is counted", 30.0)
    assert "expected a TLS handshake" in server.log()


def everything(sock: socket.socket) -> bytes:
    data = b""
    try:
        while piece := sock.recv(4096):
            data += piece
    except ConnectionResetError:
        pass
    return data


def test_unfinished_tls_handshake_times_out(server: Running, game: Bystander) -> None:
    """Half-open, or in the middle of it: after the time that HELLO has, too."""
    context = ssl.create_default_context()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    begun = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with pytest.raises(ssl.SSLWantReadError):
        begun.do_handshake()
    first = outgoing.read()
    clients = [RawClient(server.port, 30.0) for _ in range(20)]
    with game.undisturbed():
        for number, client in enumerate(clients):
            client.raw(first[: len(first) * (number % 3) // 2])
        for client in clients:
            everything(client.sock)
            client.close()
    server.until_row(clients=1)


def test_tls_client_at_a_plain_server_gets_a_clear_error(pair: Pair, tmp_path: Path) -> None:
    with Running(tmp_path / "plain") as plain:
        plain.until(lambda: plain.supervisor.status.ready, "the gateways run", 60.0)
        with pytest.raises(TlsError, match=r"expected TLS .*server\.tls_cert"):
            client_for(plain.port, ca=pair.cert)
        plain.until(lambda: plain.row.get("errors_not_understudy"), "it is counted", 60.0)


# How many may shake hands.


def test_silent_connections_of_an_address_make_room_for_its_next_handshake(pair: Pair) -> None:
    async def scene() -> None:
        sock = socket.create_server(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        one = listener.Listener(
            sock, asyncio.Protocol, Certificate(pair.cert, pair.key), handshake_s=60.0, handshakes=8
        )
        many = [socket.create_connection(("127.0.0.1", port)) for _ in range(40)]
        context = ssl.create_default_context(cafile=pair.cert)
        for _ in range(3):
            _, writer = await asyncio.wait_for(
                asyncio.open_connection("127.0.0.1", port, ssl=context), 20.0
            )
            writer.transport.abort()
        one.close()
        for client in many:
            client.close()
        while one._under_way:
            await asyncio.sleep(0.01)
        assert not one._not_begun

    asyncio.run(scene())


def test_handshakes_per_address_are_limited(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "address_of", str)  # loopback is one address else

    async def scene() -> None:
        sock = socket.create_server(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        one = listener.Listener(
            sock,
            asyncio.Protocol,
            Certificate(pair.cert, pair.key),
            handshake_s=60.0,
            handshakes=8,
        )
        loop = asyncio.get_running_loop()

        async def knock(address: str) -> socket.socket:
            client = socket.socket()
            client.setblocking(False)
            client.bind((address, 0))
            await loop.sock_connect(client, ("127.0.0.1", port))
            return client

        many = [await knock("127.0.0.1") for _ in range(30)]
        while one._by_address["127.0.0.1"] < 8 or len(one._under_way) < 8:
            await asyncio.sleep(0.01)
        assert len(one._under_way) == 8
        late = await knock("127.0.0.2")
        deadline = loop.time() + 30
        while one._by_address["127.0.0.2"] < 1:
            assert loop.time() < deadline
            await asyncio.sleep(0.01)
        while len(one._under_way) > 8:
            assert loop.time() < deadline
            await asyncio.sleep(0.01)
        assert one._by_address == {"127.0.0.1": 7, "127.0.0.2": 1}
        one.close()
        for client in [*many, late]:
            client.close()
        while one._under_way:
            await asyncio.sleep(0.01)

    asyncio.run(scene())


def test_handshake_rate_per_address_is_limited(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "HANDSHAKES_BURST", 5.0)
    monkeypatch.setattr(listener, "HANDSHAKES_PER_S", 0.001)

    async def scene() -> None:
        sock = socket.create_server(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        made = 0

        def protocol() -> asyncio.Protocol:
            nonlocal made
            made += 1
            return asyncio.Protocol()

        one = listener.Listener(sock, protocol, Certificate(pair.cert, pair.key), handshake_s=60.0)
        context = ssl.create_default_context(cafile=pair.cert)
        opened = []
        refused = 0
        for _ in range(9):
            try:
                opened.append(await asyncio.open_connection("127.0.0.1", port, ssl=context))
            except OSError:
                refused += 1
        assert (len(opened), refused) == (6, 3), "five at once, and one that is owed"
        for _, writer in opened:
            writer.close()
        one.close()

    asyncio.run(scene())


# The certificate.


def test_unusable_certificate_or_key_is_reported(pair: Pair, other: Pair, tmp_path: Path) -> None:
    def refused(cert: Path | None, key: Path | None) -> str:
        with pytest.raises(ConfigError) as caught:
            certificate(ServerConfig(tls_cert=cert, tls_key=key))
        return str(caught.value)

    assert "server.tls_cert is not" in refused(None, pair.key)
    assert "cannot read" in refused(tmp_path / "none", None)
    assert "server.tls_key: cannot read" in refused(pair.cert, tmp_path / "none")
    assert "of another certificate" in refused(pair.cert, other.key)
    assert "as PEM" in refused(pair.key, pair.cert)
    assert "as PEM" in refused(pair.cert, None)
    locked = tmp_path / "locked.key"
    openssl("pkey", "-in", str(pair.key), "-aes256", "-passout", "pass:x", "-out", str(locked))
    assert "without a passphrase" in refused(pair.cert, locked)
    both = tmp_path / "both.pem"
    both.write_text(pair.cert.read_text() + pair.key.read_text())
    assert certificate(ServerConfig(tls_cert=both)) is not None
    assert certificate(ServerConfig()) is None


def test_server_refuses_to_start_with_an_unusable_certificate(
    pair: Pair, other: Pair, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="of another certificate"):
        Running(tmp_path / "x", server__tls_cert=str(pair.cert), server__tls_key=str(other.key))


def test_renewed_certificate_is_reloaded_and_a_broken_one_ignored(
    other: Pair, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mine = make(tmp_path / "mine")
    one = Certificate(mine.cert, mine.key)
    first = der(mine)
    assert served(one) == first
    one.renew()
    mine.cert.write_text("what is this?")
    touch(mine.cert)
    one.renew()
    assert served(one) == first
    assert "the old one holds" in caplog.text
    mine.cert.write_bytes(other.cert.read_bytes())
    mine.key.write_bytes(other.key.read_bytes())
    touch(mine.cert)
    one.renew()
    assert served(one) == der(other)


def touch(path: Path) -> None:
    """Certainly another time than before, however coarse the clock of files is."""
    later = time.time_ns() + 5_000_000_000
    os.utime(path, ns=(later, later))


def der(pair: Pair) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pair.cert.read_text())


def served(one: Certificate) -> bytes:
    """What a client of it is shown."""
    client, server = socket.socketpair()
    with client, server:
        thread = threading.Thread(
            target=lambda: one.context.wrap_socket(server, server_side=True).close()
        )
        thread.start()
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with context.wrap_socket(client) as secure:
            shown = secure.getpeercert(binary_form=True)
            secure.recv(1)
        thread.join(30)
    assert shown is not None
    return shown


# HTTP.


@pytest.fixture
def web(server: Running, pair: Pair) -> Iterator[HttpServer]:
    with HttpServer(
        "127.0.0.1", 0, lambda: server.supervisor.status, server.supervisor.mailbox,
        control_token="a control token", certificate=Certificate(pair.cert, pair.key),
    ) as one:  # fmt: skip
        yield one


def test_http_port_speaks_https_with_a_certificate(
    web: HttpServer, pair: Pair, game: Bystander
) -> None:
    assert web.url.startswith("https://127.0.0.1:")
    context = ssl.create_default_context(cafile=pair.cert)
    with game.undisturbed():
        connection = http.client.HTTPSConnection("127.0.0.1", web.port, timeout=30, context=context)
        connection.request("GET", "/healthz")
        assert json.loads(connection.getresponse().read())["ok"] is True
        headers = {"authorization": "Bearer a control token"}
        connection.request("POST", "/api/control", b'{"set": {}}', headers)
        assert connection.getresponse().status == 200
        connection.close()
        plain = http.client.HTTPConnection("127.0.0.1", web.port, timeout=30)
        plain.connect()
        plain.sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"HTTP" not in everything(plain.sock)
        plain.close()


def test_https_connections_end_with_their_server(
    server: Running, pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    with HttpServer(
        "127.0.0.1", 0, lambda: server.supervisor.status, server.supervisor.mailbox,
        certificate=Certificate(pair.cert, pair.key),
    ) as one:  # fmt: skip
        silent = socket.create_connection(("127.0.0.1", one.port), 30)
    with silent:
        assert everything(silent) == b""
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", one.port), 30)
    assert not [record.message for record in caplog.records if record.levelname == "ERROR"]


def _client_hello() -> bytes:
    context = ssl.create_default_context()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    begun = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with pytest.raises(ssl.SSLWantReadError):
        begun.do_handshake()
    return outgoing.read()


@pytest.mark.promise("hostile-connections")
def test_handshakes_that_could_begin_together_begin_one_by_one(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many connections hold back the end of their ClientHello, and send it at once."""
    begun: list[float] = []

    async def scene() -> None:
        sock = socket.create_server(("127.0.0.1", 0))
        loop = asyncio.get_running_loop()

        async def connect_accepted_socket(
            _: object, connection: socket.socket, **__: object
        ) -> None:
            begun.append(loop.time())
            connection.close()

        one = listener.Listener(
            sock, asyncio.Protocol, Certificate(pair.cert, pair.key), handshake_s=60.0
        )
        monkeypatch.setattr(loop, "connect_accepted_socket", connect_accepted_socket)
        hello = _client_hello()
        clients = [socket.create_connection(sock.getsockname()) for _ in range(40)]
        for client in clients:
            client.sendall(hello[:-1])
        deadline = loop.time() + 30
        while len(one._under_way) < 40:
            assert loop.time() < deadline
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        assert begun == [], "nothing begins before all of it is there"
        for client in clients:
            client.sendall(hello[-1:])
        while len(begun) < 40:
            assert loop.time() < deadline
            await asyncio.sleep(0.01)
        one.close()
        for client in clients:
            client.close()

    asyncio.run(scene())
    assert begun[-1] - begun[0] >= 38 * listener.EVERY_S


@pytest.mark.parametrize(
    ("sent", "refused"),
    [
        (b"\x16\x03\x01\x00\x05\x01\x00\x02\x00\x03", True),
        (b"GET / HTTP/1.1\r\n\r\n", False),
        (b"\x16\x03\x01\x00\x00\x00", False),
        (b"\x16\x03\x01\xff\xff\x00", False),
        (b"\x15\x03\x01\x00\x02\x01\x00", False),
        (b"\x16", False),
        (b"\x16\x03\x01\x00\xff\x01", False),
        (b"", False),
    ],
)
def test_what_is_no_client_hello_is_waited_for_no_longer(sent: bytes, refused: bool) -> None:
    async def scene() -> None:
        mine, theirs = socket.socketpair()
        mine.setblocking(False)
        theirs.sendall(sent)
        theirs.shutdown(socket.SHUT_WR)
        loop = asyncio.get_running_loop()
        waiting = asyncio.wait_for(client_hello(loop, mine), 30)
        if refused:
            with pytest.raises(ssl.SSLError, match="one record"):
                await waiting
        else:
            await waiting
        assert mine.recv(100) == sent, "nothing was taken"
        mine.close()
        theirs.close()

    asyncio.run(scene())

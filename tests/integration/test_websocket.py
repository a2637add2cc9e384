"""Games over WebSockets: a server of real processes, and a client of another maker."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from websockets.exceptions import InvalidHandshake
from websockets.frames import Frame, Opcode

from config.load import ConfigError
from server.supervisor import preflight
from tests.support import certificates
from tests.support.certificates import needs_openssl
from tests.support.running import Bystander, RawClient, Running, hello_fields, obs_of
from tests.support.websocket import OpeningRefused, WebSocketClient

pytestmark = pytest.mark.timeout(90)


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Running]:
    with Running(folder / "websocket", server__websocket_port=0, server__gateways=2) as server:
        yield server


def port_of(server: Running) -> int:
    port = server.supervisor.websocket_port
    assert port is not None
    return port


def test_frames_over_websockets_are_answered_and_stored_like_others(server: Running) -> None:
    before = server.row["steps_stored"] if server.row else 0
    with WebSocketClient(port_of(server)).welcome() as client:
        for seq in range(50):
            _, slot, answered, action, actor, *_ = client.frame(seq, expert=[3, [0.5, -0.5]])
            assert (slot, answered) == (0, seq)
            assert actor in (1, 2)
            assert action == [3, [0.5, -0.5]] or actor == 1
        assert client.frame(50, status=1)[3:5] == [None, 0]
        client.send([5])
        assert client.recv() is None
        assert client.closing == (1000, "")
    server.settle()
    assert server.row["steps_stored"] == before + 50


def test_websocket_and_tcp_play_the_same_run_side_by_side(server: Running) -> None:
    with RawClient(server.port) as tcp, WebSocketClient(port_of(server)) as browser:
        tcp.welcome()
        browser.welcome()
        assert tcp.frame(0)[:3] == browser.frame(0)[:3] == [12, 0, 0]


def test_slots_and_roles_are_those_of_tcp(server: Running) -> None:
    with WebSocketClient(port_of(server)).welcome(slots=2, role="eval") as client:
        client.send(*([2, slot, 0, obs_of(1.0), 0.0, 0, None, None] for slot in (0, 1)))
        answers = [client.recv(), client.recv()]
        assert sorted(each[1] for each in answers) == [0, 1]
        assert [each[4] for each in answers] == [1, 1], "the network alone plays"


def test_page_of_another_host_is_refused_and_said_in_the_log(server: Running) -> None:
    port = port_of(server)
    with pytest.raises(OpeningRefused) as refused:
        WebSocketClient(port, origin="https://evil.example")
    assert refused.value.status == 403
    server.until(lambda: "bad_origin: expected a page" in server.log(), "the log has it")
    with WebSocketClient(port, origin="http://127.0.0.1:8080").welcome() as page:
        assert page.frame(0)[0] == 12


def test_bad_frame_is_answered_with_its_error(server: Running) -> None:
    with WebSocketClient(port_of(server)).welcome() as client:
        client.send([2, 0, 7, obs_of(), 0.0, 0, None, None])
        code, message, retry = client.refusal()
        assert (code, retry) == ("seq_out_of_order", False)
        assert "expected seq 0, got 7" in message
        assert client.closing == (1008, "seq_out_of_order")


def test_client_that_does_not_read_is_not_read_from(server: Running) -> None:
    """Its PONGs fill what the server holds for it; then TCP makes it wait, and others play."""
    with Bystander(server.port).undisturbed(), WebSocketClient(port_of(server)) as client:
        client.welcome()
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
        client.sock.settimeout(1.0)
        nonce = msgspec.msgpack.encode([4, bytes(60_000)])
        flood = Frame(Opcode.BINARY, nonce).serialize(mask=True)
        with pytest.raises(TimeoutError):
            client.sock.sendall(flood * 500)


@needs_openssl
def test_token_and_tls_hold_for_websockets(folder: Path) -> None:
    """One server with both; a short token is told apart from none."""
    pair = certificates.make(folder / "websocket-tls")
    trusted = ssl.create_default_context(cafile=str(pair.cert))
    with Running(
        folder / "websocket-secure",
        server__websocket_port=0,
        server__token="a token for games",
        server__tls_cert=str(pair.cert),
        server__tls_key=str(pair.key),
        server__max_clients_per_address=2,
    ) as server:
        port = port_of(server)
        with WebSocketClient(port, context=trusted) as stranger:
            stranger.send([1, hello_fields()])
            assert stranger.refusal()[0] == "bad_token"
        with WebSocketClient(port, context=trusted).welcome(token="a token for games") as client:
            assert client.frame(0)[0] == 12
            with WebSocketClient(port, context=trusted), pytest.raises(OpeningRefused) as full:
                WebSocketClient(port, context=trusted)
            assert full.value.status == 503
            assert "too_many_clients" in full.value.text
        with pytest.raises((OSError, InvalidHandshake)):
            WebSocketClient(port)


def test_missing_library_is_said_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "find_spec", lambda _name: None)
    with pytest.raises(ConfigError, match=r"needs the package websockets.*scripts/install"):
        Running(tmp_path / "run", server__websocket_port=0)


def test_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"server\.websocket_port: cannot listen .*{port}"):
            Running(tmp_path / "run", server__websocket_port=port)


def test_library_is_not_imported_without_the_port() -> None:
    """A fresh process, with all that a gateway imports."""
    code = "import sys, server.gateway.process; sys.exit('websockets' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

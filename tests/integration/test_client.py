"""The client against a server of a few lines, over real sockets."""

from __future__ import annotations

import itertools
import json
import random
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import codec
from protocol.messages import Frame, Frames, Hello
from tests.support.fake_server import FIELDS, FakeServer, Peer, framed
from understudy_client import (
    AnswerLog,
    Answers,
    Backoff,
    Cancelled,
    Client,
    ClientError,
    ConnectionLost,
    Continuous,
    Discrete,
    Observation,
    ProtocolViolation,
    Reconnected,
    ServerError,
    trouble,
    wire,
)
from understudy_client.observations import observations_of

NEVER = Backoff(give_up_s=0.0)
SOON = Backoff(first_s=0.01, longest_s=0.05, give_up_s=5.0)


@pytest.fixture
def serve() -> Iterator[Callable[..., FakeServer]]:
    servers: list[FakeServer] = []

    def start(*scripts: Callable[[Peer], None]) -> FakeServer:
        servers.append(FakeServer(*scripts))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def connect(server: FakeServer, **options: Any) -> Client:
    return Client.connect(
        "127.0.0.1",
        server.port,
        **{
            "client": "test/1",
            "game": "pong",
            "observation": Observation("float32", (3,)),
            "actions": [Discrete("fire", 2), Continuous("steer", -1.0, 1.0)],
            "timeout_s": 5.0,
            "backoff": NEVER,
            **options,
        },
    )


def play_on(peer: Peer) -> None:
    peer.welcome()
    while (frame := peer.recv()) is not None and frame != [5]:
        peer.answer(frame)


OBS: Any = np.array([1.0, 2.0, 3.0], np.float32)


def test_connect_sends_hello_and_reads_welcome(serve: Any) -> None:
    hellos = []
    server = serve(lambda peer: hellos.append(peer.welcome(session=9)))
    with connect(server, slots=2, role="eval", token="secret", rewards=("a", "b")) as client:
        assert (client.session, client.server) == (9, "fake/1")
        assert client.settings == {"level": 1}
    server.close()
    assert hellos == [
        [
            1,
            {
                "protocol": 1,
                "client": "test/1",
                "game": "pong",
                "observation": ["float32", [3]],
                "actions": [["discrete", "fire", 2], ["continuous", "steer", -1.0, 1.0, 1]],
                "rewards": ["a", "b"],
                "slots": 2,
                "token": "secret",
                "role": "eval",
            },
        ]
    ]


def test_act_plays_an_episode_frame_by_frame(serve: Any) -> None:
    frames: list[Any] = []

    def script(peer: Peer) -> None:
        peer.welcome()
        while (frame := peer.recv()) is not None:
            frames.append(frame)
            if frame != [5]:
                peer.answer(frame, actor=2)

    server = serve(script)
    with connect(server) as client:
        numpys: Any = [np.int64(1), np.float32(0.5)]
        first = client.act(OBS.astype(np.float64), expert=numpys)
        second = client.act(OBS * 2, numpys[1] / 2, took=([0, 0.5], 2))
        last = client.act(OBS[::-1], 1, 1)
        client.act(OBS)
    assert (first.action, first.actor, first.policy_version) == ([1, -0.25], 2, 5)
    assert (first.explored, first.seq, second.seq) == (False, 0, 1)
    assert (last.action, last.actor) == (None, 0)
    server.close()
    assert frames == [
        [2, 0, 0, OBS.tobytes(), 0.0, 0, [1, 0.5], None],
        [2, 0, 1, (OBS * 2).tobytes(), 0.25, 0, None, [[0, 0.5], 2]],
        [2, 0, 2, OBS[::-1].tobytes(), 1, 1, None, None],
        [2, 0, 3, OBS.tobytes(), 0.0, 0, None, None],
        [5],
    ]


def test_act_counts_seq_per_slot_and_sends_reward_components(serve: Any) -> None:
    frames = []

    def script(peer: Peer) -> None:
        peer.welcome()
        for _ in range(3):
            frames.append(peer.recv())
            peer.answer(frames[-1])

    with connect(serve(script), slots=2, rewards=("a", "b")) as client:
        answers = [client.act(OBS, [1.0, 2.0], slot=slot) for slot in (1, 0, 1)]
        with pytest.raises(ValueError, match="slot: expected 0 to 1, got 2"):
            client.act(OBS, slot=2)
    assert [(a.slot, a.seq) for a in answers] == [(1, 0), (0, 0), (1, 1)]
    assert [frame[4] for frame in frames] == [[1.0, 2.0]] * 3


def test_client_reads_split_and_glued_messages(serve: Any) -> None:
    def script(peer: Peer) -> None:
        peer.recv()
        peer.send([11, FIELDS], [16, {"level": 4, "lives": 3}])
        frame = peer.recv()
        for byte in framed([12, 0, 0, [1, 0.5], 1, 5, True, "a later version's element"]):
            peer.sock.sendall(bytes([byte]))
            time.sleep(0.0005)
        assert frame[2] == 0
        peer.recv()
        peer.send([16, {"level": 5}], [12, 0, 1, [0, 0.0], 1, 5, False], [16, {"lives": 2}])
        peer.recv()
        peer.send([12, 0, 2, [0, 0.0], 1, 5, False])

    with connect(serve(script)) as client:
        answer = client.act(OBS)
        assert answer.action == [1, 0.5]
        assert answer.explored
        assert client.settings == {"level": 4, "lives": 3}
        client.act(OBS)
        client.act(OBS)
        assert client.settings == {"level": 5, "lives": 2}


@given(
    sizes=st.lists(st.integers(0, 300), min_size=1, max_size=20),
    cuts=st.lists(st.integers(1, 200), min_size=1, max_size=20),
)
def test_inbox_splits_any_byte_stream_into_messages(sizes: list[int], cuts: list[int]) -> None:
    messages = [[14, "x" * size] for size in sizes]
    stream = b"".join(framed(message) for message in messages)
    inbox = wire.Inbox(size=64)  # smaller than most messages, so that it must move and grow
    got: list[Any] = []
    pieces = itertools.cycle(cuts)
    while stream:
        space = inbox.space()
        count = min(next(pieces), len(stream), len(space))
        assert count > 0
        space[:count] = stream[:count]
        del space
        inbox.filled(count)
        stream = stream[count:]
        while (message := inbox.next()) is not None:
            assert isinstance(message, wire.Pong)
            got.append([14, message.nonce])
    assert got == messages


def test_act_all_plays_all_slots_in_one_message(serve: Any) -> None:
    frames = []
    actions = np.array([[1, 0.5], [np.nan, np.nan]], np.float32)

    def script(peer: Peer) -> None:
        peer.welcome()
        for _ in range(2):
            frame = peer.recv()
            frames.append(frame)
            peer.send([13, frame[1], actions.tobytes(), bytes([2, 0]), 6, bytes([0, 0])])

    obs = np.arange(6, dtype=np.float64).reshape(2, 3)
    experts = np.array([[1, 0.5], [np.nan, 0]])
    log = AnswerLog()
    with connect(serve(script), slots=2, on_answer=log.add) as client:
        answers = client.act_all(obs, [0.0, 0.5], [0, 2])
        again = client.act_all(obs, [0.0, 0.5], [0, 0], experts, took=(experts, [2, 0]))
        with pytest.raises(ValueError, match=r"rewards: expected shape \[2\], got \[3\]"):
            client.act_all(obs, [0.0, 0.5, 1.0], [0, 0])
    assert isinstance(answers, Answers)
    np.testing.assert_array_equal(answers.actions, actions)
    assert (answers.actors.tolist(), answers.explored.tolist()) == ([2, 0], [False, False])
    assert (answers.policy_version, answers.seq, again.seq) == (6, 0, 1)
    f32 = experts.astype("<f4").tobytes()
    data = [obs.astype("<f4").tobytes(), np.array([0, 0.5], "<f4").tobytes()]
    assert frames == [
        [3, 0, *data, bytes([0, 2]), None, None],
        [3, 1, *data, bytes([0, 0]), f32, [f32, bytes([2, 0])]],
    ]
    assert log.arrays()["seq"].tolist() == [0, 0, 1, 1]
    assert log.arrays()["slot"].tolist() == [0, 1, 0, 1]
    acted = log.arrays()["actor"] != 0
    assert log.arrays()["action"][acted].tolist() == [[1, 0.5], [1, 0.5]]
    assert np.isnan(log.arrays()["action"][~acted]).all()


def test_act_all_sends_reward_components_of_all_slots(serve: Any) -> None:
    frames = []

    def script(peer: Peer) -> None:
        peer.welcome()
        frames.append(peer.recv())
        peer.send([13, 0, bytes(16), bytes([1, 1]), 0, bytes(2)])

    rewards = np.arange(6).reshape(2, 3)
    with connect(serve(script), slots=2, rewards=("a", "b", "c")) as client:
        client.act_all(np.zeros((2, 3)), rewards, [0, 0])
    assert frames[0][3] == rewards.astype("<f4").tobytes()


def test_final_refusal_is_raised_without_retry(serve: Any) -> None:
    def script(peer: Peer) -> None:
        peer.recv()
        peer.send([15, "bad_token", "expected the server's token, got none", False])

    server = serve(script)
    with pytest.raises(ServerError, match=r"bad_token.*expected the server's token") as caught:
        connect(server, backoff=SOON)
    assert (caught.value.code, caught.value.retry) == ("bad_token", False)
    assert server.connections == 1


def test_temporary_refusal_is_retried(serve: Any) -> None:
    def full(peer: Peer) -> None:
        peer.recv()
        peer.send([15, "too_many_clients", "full", True])

    server = serve(full, full, play_on)
    with connect(server, backoff=SOON) as client:
        client.act(OBS)
    assert server.connections == 3
    with pytest.raises(ConnectionLost, match=r"gave up.*too_many_clients"):
        connect(serve(full), backoff=NEVER)


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_server_error_in_play_is_raised_instead_of_connection_lost(serve: Any, reset: bool) -> None:
    closed = threading.Event()

    def script(peer: Peer) -> None:
        peer.welcome()
        peer.answer(peer.recv())
        peer.send([15, "idle_timeout", "no message for 300 s", False])
        if reset:  # then the client's next send fails, with the error still to be read
            peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.sock.close()
        closed.set()

    client = connect(serve(script))
    client.act(OBS)
    assert closed.wait(5.0)
    with pytest.raises(ServerError, match="idle_timeout"):
        client.act(OBS)
    with pytest.raises(ClientError, match="was closed"):
        client.act(OBS)


@pytest.mark.promise("network-loss")
def test_lost_connection_is_reopened_and_restarts_at_seq_0(serve: Any) -> None:
    def cut(peer: Peer) -> None:
        peer.welcome(session=1)
        peer.answer(peer.recv())
        peer.recv()  # answered never

    frames = []

    def second(peer: Peer) -> None:
        peer.welcome(session=2)
        while (frame := peer.recv()) != [5]:
            frames.append(frame)
            peer.answer(frame)

    server = serve(cut, second)
    with connect(server, backoff=SOON) as client:
        assert client.act(OBS).seq == 0
        with pytest.raises(Reconnected, match=r"session 2.*new episode") as caught:
            client.act(OBS)
        assert caught.value.session == client.session == 2
        assert client.act(OBS).seq == 0
    assert server.connections == 2


@pytest.mark.promise("network-loss")
def test_connect_waits_for_a_server_that_starts_later() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]

    def later() -> None:
        time.sleep(0.3)
        with socket.create_server(("127.0.0.1", port)) as listener:
            sock, _ = listener.accept()
            with sock:
                Peer(sock).welcome()

    thread = threading.Thread(target=later)
    thread.start()
    try:
        fake = type("Port", (), {"port": port})()
        connect(fake, backoff=SOON).close()
    finally:
        thread.join()


def test_connect_gives_up_naming_address_and_reason() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    fake = type("Port", (), {"port": port})()
    start = time.monotonic()
    with pytest.raises(ConnectionLost, match=rf"no understudy server at 127.0.0.1:{port}.*refused"):
        connect(fake, backoff=Backoff(first_s=0.05, give_up_s=0.3))
    assert 0.05 < time.monotonic() - start < 2.0


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the client has logged."""
    return [
        f"{record.levelname} {record.message}"
        for record in caplog.records
        if record.name == "understudy_client"
    ]


def test_unreachable_server_is_logged_once_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    fake = type("Port", (), {"port": port})()
    warning = (
        f"WARNING cannot connect to 127.0.0.1:{port}: Connection refused; trying again; "
        f"to find out why: understudy doctor --connect 127.0.0.1:{port}"
    )
    briefly = Backoff(first_s=0.01, longest_s=0.05, give_up_s=0.3)
    with pytest.raises(ConnectionLost, match="gave up"):
        connect(fake, backoff=briefly)
    assert said(caplog) == [warning]
    caplog.clear()
    monkeypatch.setattr(trouble, "EVERY_S", 0.0)
    with pytest.raises(ConnectionLost, match="gave up"):
        connect(fake, backoff=briefly)
    assert len(said(caplog)) > 1
    assert set(said(caplog)) == {warning}


def test_lost_and_restored_connection_is_logged(
    serve: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def cut(peer: Peer) -> None:
        peer.welcome()
        peer.recv()

    caplog.set_level("INFO", "understudy_client")
    server = serve(cut, play_on)
    with connect(server, backoff=SOON) as client:
        assert said(caplog) == [], "there was no trouble"
        with pytest.raises(Reconnected):
            client.act(OBS)
    where = f"127.0.0.1:{server.port}"
    assert said(caplog) == [
        f"WARNING connection lost: {where}: the server closed the connection; "
        "trying to connect again",
        f"INFO connected to {where}",
    ]


def test_client_warnings_appear_without_logging_setup() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    code = f"""
from understudy_client import *
try:
    Client.connect("127.0.0.1", {port}, client="c/1", game="g", actions=[Discrete("a", 2)],
                   observation=Observation("float32", (1,)), backoff=Backoff(give_up_s=0.2))
except ConnectionLost:
    pass
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == ""
    assert done.stderr.startswith(f"cannot connect to 127.0.0.1:{port}: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_silent_close_by_the_server_hints_at_tls(serve: Any, reset: bool) -> None:
    def script(peer: Peer) -> None:
        peer.recv()
        if reset:
            peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.sock.close()

    def gone(peer: Peer) -> None:
        peer.welcome()
        peer.recv()

    with pytest.raises(ConnectionLost, match=r"without a word: if it speaks TLS.*tls=True; --tls"):
        connect(serve(script))
    client = connect(serve(gone))
    with pytest.raises(ConnectionLost, match=r"closed the connection$"):
        client.act(OBS)


def test_backoff_doubles_up_to_a_limit_with_jitter() -> None:
    backoff = Backoff(first_s=1.0, longest_s=5.0)
    waits = list(itertools.islice(backoff.waits(random.Random(1)), 6))
    for wait, limit in zip(waits, (1, 2, 4, 5, 5, 5), strict=True):
        assert limit / 2 <= wait <= limit
    assert waits != list(itertools.islice(backoff.waits(random.Random(2)), 6))


def test_server_that_does_not_answer_in_time_is_connection_lost(serve: Any) -> None:
    def silent(peer: Peer) -> None:
        peer.welcome()
        peer.recv()
        peer.recv()  # until the client goes

    client = connect(serve(silent), timeout_s=0.2)
    with pytest.raises(ConnectionLost, match=r"no answer within 0.2 s"):
        client.act(OBS)


def test_waiting_for_an_answer_can_be_cancelled(serve: Any) -> None:
    def silent(peer: Peer) -> None:
        peer.welcome()
        frame = peer.recv()
        stop.set()
        assert asked_again.wait(5.0)
        peer.answer(frame)
        assert peer.recv() is None, "the connection of the broken-off call was used again"

    stop, asked_again = threading.Event(), threading.Event()
    client = connect(serve(silent, play_on), cancelled=stop.is_set, timeout_s=30.0)
    with pytest.raises(Cancelled):
        client.act(OBS)
    stop.clear()
    # The broken-off question may still be answered: that answer must not pass for another's.
    client._backoff = SOON
    asked_again.set()
    time.sleep(0.05)
    with pytest.raises(Reconnected):
        client.act(OBS)
    assert client.act(OBS).seq == 0
    client.close()


def test_backoff_can_be_cancelled() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    calls = itertools.count()
    start = time.monotonic()
    with pytest.raises(Cancelled):
        Client.connect(
            "127.0.0.1",
            port,
            client="test/1",
            game="pong",
            observation=Observation("float32", (3,)),
            actions=[Discrete("fire", 2)],
            backoff=Backoff(first_s=30.0),
            cancelled=lambda: next(calls) > 2,
        )
    assert time.monotonic() - start < 5.0


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "is this the port of an understudy server"),
        (struct.pack(">I", 0), "got a length of 0"),
        (framed([99, 1]), "none"),
        (framed({"a": 1}), "none"),
        (struct.pack(">I", 3) + b"\xc1\xff\xff", "none"),
        (framed([14, 1]), "expected WELCOME"),
    ],
)
def test_server_of_another_protocol_raises_violation(serve: Any, data: bytes, message: str) -> None:
    def script(peer: Peer) -> None:
        peer.recv()
        peer.sock.sendall(data)
        peer.recv()

    with pytest.raises(ProtocolViolation, match=message):
        connect(serve(script))


@pytest.mark.parametrize(
    "answer",
    [
        [12, 0, 1, [1, 0.5], 1, 5, False],
        [12, 1, 0, [1, 0.5], 1, 5, False],
        [13, 0, bytes(8), bytes(1), 5, bytes(1)],
        [14, 0],
    ],
)
def test_answer_to_another_frame_is_a_violation(serve: Any, answer: Any) -> None:
    def script(peer: Peer) -> None:
        peer.welcome()
        peer.recv()
        peer.send(answer)
        peer.recv()

    with pytest.raises(ProtocolViolation, match="expected ACTION for slot 0, seq 0"):
        connect(serve(script)).act(OBS)


def test_act_all_answer_of_wrong_length_is_a_violation(serve: Any) -> None:
    def script(peer: Peer) -> None:
        peer.welcome()
        peer.recv()
        peer.send([13, 0, bytes(8), bytes(1), 5, bytes(1)])
        peer.recv()

    with pytest.raises(ProtocolViolation, match="ACTIONS for 2 slots"):
        connect(serve(script), slots=2).act_all(np.zeros((2, 3)), [0, 0], [0, 0])


def test_wrong_observation_is_refused_before_it_is_sent(serve: Any) -> None:
    with connect(serve(play_on)) as client:
        with pytest.raises(ValueError, match=r"obs: expected shape \[3\], got \[4\]"):
            client.act([1.0, 2.0, 3.0, 4.0])
        assert client.act([1.0, 2.0, 3.0]).seq == 0
    with connect(serve(play_on), observation=Observation("uint8", (2,))) as client:
        with pytest.raises(ValueError, match=r"obs: expected uint8 \[2\], got float64"):
            client.act([1.0, 2.0])
        assert client.act(np.array([1, 2], np.uint8)).seq == 0


def test_connect_options_are_checked_before_anything_is_sent() -> None:
    fake: Any = type("Port", (), {"port": 1})()
    with pytest.raises(
        ValueError, match="role: expected train, eval, eval_expert, play, got 'watch'"
    ):
        connect(fake, role="watch")
    known = "float32, uint8, float16, int32, int64, bool"
    with pytest.raises(ValueError, match=f"dtype: expected one of {known}, got 'float64'"):
        connect(fake, observation=Observation("float64", (3,)))


def test_ping_returns_the_round_trip_time(serve: Any) -> None:
    def script(peer: Peer) -> None:
        peer.welcome()
        peer.send([14, peer.recv()[1]])

    with connect(serve(script)) as client:
        assert 0.0 < client.ping() < 5.0


def test_answer_log_records_every_answer(serve: Any, tmp_path: Any) -> None:
    log = AnswerLog()
    with connect(serve(play_on), on_answer=log.add) as client:
        for status in (0, 0, 1, 0):
            client.act(OBS, status=status)
    log.save(tmp_path / "client-0.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["client-0.npz"]
    with np.load(tmp_path / "client-0.npz") as saved:
        assert saved["session"].tolist() == [7, 7, 7, 7]
        assert saved["slot"].tolist() == [0, 0, 0, 0]
        assert saved["seq"].tolist() == [0, 1, 2, 3]
        assert saved["actor"].tolist() == [1, 1, 0, 1]
        assert saved["action"][[0, 1, 3]].tolist() == [[1.0, -0.25]] * 3
        assert np.isnan(saved["action"][2]).all()


def test_client_writes_the_expected_bytes() -> None:
    assert wire.encode_frame(0, 1, b"\x00\x01", 1.5, 0, [1], None) == bytes.fromhex(
        "00000015 98 02 00 01 c4020001 cb3ff8000000000000 00 9101 c0"
    )
    assert wire.encode_bye() == bytes.fromhex("00000002 9105")
    assert wire.encode_ping(3) == bytes.fromhex("00000003 92 04 03")
    buffer = bytearray(500)
    assert wire.encode_frame(0, 1, b"\x00\x01", 1.5, 0, [1], into=buffer) is buffer
    assert len(buffer) == 25


GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "wire.json").read_text())


def test_client_reads_every_golden_server_message() -> None:
    vectors = [vector for vector in GOLDEN["valid"] if vector["from"] == "server"]
    kinds = set()
    for vector in vectors:
        data = bytes.fromhex(vector["hex"])
        inbox = wire.Inbox()
        inbox.space()[: len(data)] = data
        inbox.filled(len(data))
        message = inbox.next()
        kinds.add(type(message))
        assert message is not None
        for field, value in vector["message"].items():
            got = getattr(message, field)
            if isinstance(got, wire.WelcomeFields):
                got = msgspec.json.decode(msgspec.json.encode(got))
            assert got == (bytes.fromhex(value["bin"]) if _is_bin(value) else value), vector["name"]
    assert kinds == set(get_args(wire.ServerMessage))


def test_client_writes_every_golden_client_message() -> None:
    count = 0
    for vector in GOLDEN["valid"]:
        if vector["from"] != "client" or not vector["canonical"] or vector["type"] == "HELLO":
            continue
        encode: Any = getattr(wire, f"encode_{vector['type'].lower()}")
        assert encode(**_bins(vector["message"])).hex() == vector["hex"], vector["name"]
        count += 1
    assert count >= 5


def test_client_hello_equals_the_golden_hello() -> None:
    hellos = [
        vector["message"]["fields"] for vector in GOLDEN["valid"] if vector["type"] == "HELLO"
    ]
    for fields in hellos:
        heads = [
            (Discrete if kind == "discrete" else Continuous)(*rest)
            for kind, *rest in fields["actions"]
        ]
        observation = observations_of(fields["observation"])
        data = wire.encode_hello(**{**fields, "actions": heads, "observation": observation})
        sent = {key: value for key, value in fields.items() if value is not None}
        assert msgspec.msgpack.decode(data[4:]) == [1, sent]
    assert len(hellos) >= 5


def _is_bin(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {"bin"}


def _bins(value: Any) -> Any:
    if _is_bin(value):
        return bytes.fromhex(value["bin"])
    if isinstance(value, dict):
        return {key: _bins(item) for key, item in value.items()}
    return [_bins(item) for item in value] if isinstance(value, list) else value


def test_server_decoder_reads_what_the_client_writes() -> None:
    obs = memoryview(OBS).cast("B")
    hello = codec.decode_client(
        bytes(
            wire.encode_hello(
                client="c/1",
                game="g",
                observation=Observation("uint8", (4, 4)),
                actions=[Discrete("a", 3), Continuous("b", -2.0, 2.0, 2)],
            )[4:]
        )
    )
    assert isinstance(hello, Hello)
    fields = codec.decode_hello(hello)
    assert (fields.game, fields.slots, fields.token, fields.role) == ("g", 1, None, "train")
    assert [head.name for head in fields.actions] == ["a", "b"]
    frame = codec.decode_client(
        bytes(wire.encode_frame(2, 9, obs, [1.0, 2], 1, [1, [0.5, 1.0]], ([0, [1.0, 2.0]], 2))[4:])
    )
    assert isinstance(frame, Frame)
    assert (frame.slot, frame.seq, bytes(frame.obs), frame.status) == (2, 9, OBS.tobytes(), 1)
    assert (frame.reward, frame.expert) == ([1.0, 2.0], [1, [0.5, 1.0]])
    assert frame.took == ([0, [1.0, 2.0]], 2)
    frames = codec.decode_client(bytes(wire.encode_frames(3, obs, obs, b"\0", obs)[4:]))
    assert isinstance(frames, Frames)
    assert frames.experts is not None
    assert (frames.seq, bytes(frames.experts), frames.took) == (3, OBS.tobytes(), None)

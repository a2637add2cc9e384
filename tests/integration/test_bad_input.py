"""Everything that a client may do wrong, over real sockets to one server: it is told what, the log
has a line, the metrics a count, and the game beside it notices nothing."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from protocol.errors import CODES
from tests.support.running import Bystander, RawClient, Running, framed, hello_fields, obs_of
from tests.support.worlds import PIXELS, SPEC

pytestmark = pytest.mark.timeout(60)

NAN, INF = float("nan"), float("inf")
MAX_BYTES = 100_000


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Running]:
    with Running(
        folder / "bad-input",
        metrics__every_s=0.05,
        server__handshake_timeout_s=1.0,
        server__idle_timeout_s=1.5,
        server__write_timeout_s=1.0,
        server__max_message_bytes=MAX_BYTES,
        server__max_clients=4,
    ) as running:
        yield running


@pytest.fixture(scope="module")
def bystander(server: Running) -> Iterator[Bystander]:
    game = Bystander(server.port)
    yield game
    game.stop()


Violation = Callable[[RawClient], Any]


def first(data: bytes) -> Violation:
    return lambda client: client.raw(data)


def hello(**changes: Any) -> Violation:
    return lambda client: client.send([1, hello_fields(**changes)])


def said(*messages: Any, **changes: Any) -> Violation:
    """Behind WELCOME."""
    return lambda client: client.welcome(**changes).send(*messages)


def behind(frame: Any, **changes: Any) -> Violation:
    """Behind a first frame and its answer."""

    def violation(client: RawClient) -> None:
        client.welcome(**changes)
        assert client.frame(0, expert=[0, [0.0, 0.0]])[0] == 12
        client.send(frame)

    return violation


def silent_expert(client: RawClient) -> None:
    """A whole episode in which an expert that is to play alone recommends nothing."""
    client.welcome(role="eval_expert")
    assert client.frame(0)[0] == 12
    client.send(a_frame(1, status=1))


def a_frame(
    seq: int = 0,
    obs: bytes = obs_of(1),
    reward: Any = 0.0,
    status: Any = 0,
    expert: Any = None,
    took: Any = None,
    slot: int = 0,
) -> list[Any]:
    return [2, slot, seq, obs, reward, status, expert, took]


def frames(
    seq: int = 0,
    obs: bytes = obs_of(1, 6),
    rewards: Any = (0.0, 0.0),
    statuses: bytes = bytes(2),
    experts: Any = None,
    took: Any = None,
) -> list[Any]:
    def floats(values: Any) -> bytes:
        return np.array(values, "<f4").tobytes()

    return [
        3,
        seq,
        obs,
        floats(rewards),
        statuses,
        None if experts is None else floats(experts),
        None if took is None else [floats(took[0]), bytes(took[1])],
    ]


def half_closed(client: RawClient) -> None:
    client.welcome().raw(framed(a_frame())[:-1])
    client.half_close()


def half_a_hello(client: RawClient) -> None:
    client.raw(framed([1, hello_fields()])[:-5])
    client.half_close()


def trickling(client: RawClient) -> None:
    """A byte now and then does not put the deadline off."""
    data = framed([1, hello_fields()])
    try:
        for byte in data[:14]:
            client.raw(bytes([byte]))
            time.sleep(0.1)
    except OSError:
        return


def two_frames_at_once(client: RawClient) -> None:
    client.welcome().send(a_frame(0), a_frame(1))


def a_frame_of_each_kind(client: RawClient) -> None:
    client.welcome(slots=2).send(a_frame(0))
    client.recv()
    client.send(frames(1))


IMPOSSIBLE = [0, [0.0, 1.5]]

CASES: list[tuple[str, str, Violation]] = [
    ("HTTP", "not_understudy", first(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")),
    ("HTTP post", "not_understudy", first(b"POST /x HTTP/1.1\r\n\r\n")),
    ("TLS", "not_understudy", first(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")),
    ("another protocol", "protocol_version", hello(protocol=2)),
    ("protocol as text", "protocol_version", hello(protocol="1")),
    ("a length too long", "message_too_long", first(b"\x7f\xff\xff\xff")),
    ("a long HELLO", "message_too_long", first((65537).to_bytes(4, "big"))),
    ("a length too long later", "message_too_long", lambda c: c.welcome().raw(b"\xff" * 4)),
    ("a length of zero", "message_empty", first(bytes(4))),
    ("half a frame", "message_truncated", half_closed),
    ("half a hello", "message_truncated", half_a_hello),
    ("no msgpack", "message_malformed", said(msgspec.Raw(b"\xc1"))),
    ("two values in one", "message_malformed", said(msgspec.Raw(b"\x91\x05\x91\x05"))),
    ("a frame that is too short", "message_malformed", said([2, 0, 0])),
    ("an observation as text", "message_malformed", said(a_frame(obs="abc"))),  # type: ignore[arg-type]
    ("an unknown type", "unknown_type", said([99])),
    ("a type of the server's", "unknown_type", said([12, 0, 0, None, 0, 0, False])),
    ("no array", "unknown_type", said({"type": 2})),
    ("a frame before hello", "hello_first", lambda c: c.send(a_frame())),
    ("a ping before hello", "hello_first", lambda c: c.send([4, 1])),
    ("a second hello", "hello_twice", said([1, hello_fields()])),
    ("a game that cannot be", "bad_hello", hello(actions=[])),
    ("a hello that is no map", "bad_hello", lambda c: c.send([1, 5])),
    ("no such role", "bad_hello", hello(role="spectator")),
    ("no such checkpoint", "no_such_policy", hello(role="play", policy="4000000")),
    ("too many slots", "bad_hello", hello(slots=5000)),
    ("another game", "spec_mismatch", hello(game="chess")),
    ("another observation", "spec_mismatch", hello(observation=["float32", [4]])),
    ("other heads", "spec_mismatch", hello(actions=[["discrete", "fire", 4]])),
    ("other bounds", "spec_mismatch", lambda c: c.send([1, _other_bounds()])),
    ("other rewards", "spec_mismatch", hello(rewards=["reward", "time"])),
    ("pixels", "spec_mismatch", lambda c: c.send([1, hello_fields(PIXELS)])),
    ("a short observation", "observation_size", said(a_frame(obs=obs_of(1, 2)))),
    ("a long observation", "observation_size", said(a_frame(obs=obs_of(1, 4)))),
    ("no observation", "observation_size", said(a_frame(obs=b""))),
    ("float64", "observation_size", said(a_frame(obs=bytes(24)))),
    ("one slot's observation", "observation_size", said(frames(obs=obs_of(1)), slots=2)),
    ("NaN to see", "observation_not_finite", said(a_frame(obs=obs_of(NAN)))),
    ("infinity to see", "observation_not_finite", said(a_frame(obs=obs_of(INF)))),
    ("NaN later", "observation_not_finite", behind(a_frame(1, obs=obs_of(NAN)))),
    (
        "NaN in one of the slots",
        "observation_not_finite",
        said(frames(obs=obs_of(1) + obs_of(-INF)), slots=2),
    ),
    ("a reward of NaN", "reward_not_finite", said(a_frame(reward=NAN))),
    ("a reward of infinity", "reward_not_finite", behind(a_frame(1, reward=-INF))),
    ("a reward beyond float32", "reward_not_finite", said(a_frame(reward=1e39))),
    ("NaN among rewards", "reward_not_finite", said(frames(rewards=(0.0, NAN)), slots=2)),
    ("too many rewards", "reward_shape", said(a_frame(reward=[0.0, 0.0]))),
    ("too few rewards", "reward_shape", said(frames(rewards=(0.0,)), slots=2)),
    ("an impossible choice", "action_out_of_range", said(a_frame(expert=[4, [0.0, 0.0]]))),
    ("a negative choice", "action_out_of_range", said(a_frame(expert=[-1, [0.0, 0.0]]))),
    ("too far", "action_out_of_range", said(a_frame(expert=IMPOSSIBLE))),
    ("nowhere", "action_out_of_range", said(a_frame(expert=[0, [0.0, NAN]]))),
    ("took too far", "action_out_of_range", behind(a_frame(1, took=[IMPOSSIBLE, 2]))),
    (
        "one of the slots too far",
        "action_out_of_range",
        said(frames(experts=[[0, 0, 0], [0, 0, 2]]), slots=2),
    ),
    ("half a choice", "action_shape", said(a_frame(expert=[0.5, [0.0, 0.0]]))),
    ("too few heads", "action_shape", said(a_frame(expert=[1]))),
    ("too few numbers", "action_shape", said(a_frame(expert=[1, [0.0]]))),
    ("too few actions", "action_shape", said(frames(experts=[[0, 0, 0]]), slots=2)),
    ("a seq that starts at 1", "seq_out_of_order", said(a_frame(1))),
    ("a seq again", "seq_out_of_order", behind(a_frame(0))),
    ("a seq left out", "seq_out_of_order", behind(a_frame(2))),
    ("a seq of frames left out", "seq_out_of_order", said(frames(1), slots=2)),
    ("two frames at once", "frame_before_answer", two_frames_at_once),
    ("no such slot", "unknown_slot", said(a_frame(slot=1))),
    ("a negative slot", "unknown_slot", said(a_frame(slot=-1))),
    ("no such status", "unknown_status", said(a_frame(status=3))),
    ("no such status of a slot", "unknown_status", said(frames(statuses=b"\0\7"), slots=2)),
    ("no such actor", "unknown_actor", behind(a_frame(1, took=[[0, [0.0, 0.0]], 3]))),
    ("nobody", "unknown_actor", behind(a_frame(1, took=[[0, [0.0, 0.0]], 0]))),
    ("took before anything", "took_on_first_frame", said(a_frame(took=[[0, [0.0, 0.0]], 1]))),
    ("both kinds of frame", "mixed_frames", a_frame_of_each_kind),
    ("an expert without advice", "expert_missing", silent_expert),
    ("silence", "handshake_timeout", lambda _client: None),
    ("trickling", "handshake_timeout", trickling),
    ("silence later", "idle_timeout", said()),
]


def _other_bounds() -> dict[str, Any]:
    return hello_fields(actions=[["discrete", "fire", 4], ["continuous", "aim", -1.0, 1.1, 2]])


@pytest.mark.parametrize(
    ("code", "violation"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_protocol_violation_is_reported_logged_counted_and_disturbs_no_other_client(
    server: Running, bystander: Bystander, code: str, violation: Violation
) -> None:
    counted = server.row.get(f"errors_{code}", 0)
    logged = server.log().count(f"{code}: ")
    with bystander.undisturbed(), RawClient(server.port) as client:
        violation(client)
        got, message, _retry = client.refusal()
        assert (got, code) == (code, got), message
        assert ("send ping" if code == "idle_timeout" else "expected") in message.lower()
        where = f"{client.sock.getsockname()[0]}:{client.sock.getsockname()[1]}: {code}: "
    server.until(lambda: server.row[f"errors_{code}"] == counted + 1, f"{code} is in the metrics")
    server.until(lambda: where in server.log(), f"{code} of {where} is in the log")
    assert server.log().count(f"{code}: ") == logged + 1


def test_client_of_another_game_is_shown_both_specs(server: Running, bystander: Bystander) -> None:
    with bystander.undisturbed(), RawClient(server.port) as client:
        client.send([1, hello_fields(PIXELS)])
        _, message, _ = client.refusal()
    assert SPEC.describe() in message
    assert PIXELS.describe() in message


NONCE = bytes(50_000)


def send_for_ever(client: RawClient) -> None:
    """Ask and never listen. Errors: TimeoutError when the server takes no more."""
    client.sock.settimeout(0.2)
    while True:
        client.send([4, NONCE])


@pytest.mark.promise("game-silent")
def test_client_that_never_reads_is_disconnected(server: Running, bystander: Bystander) -> None:
    counted = server.row["errors_slow_reader"]
    with bystander.undisturbed(), RawClient(server.port, receive_bytes=4096) as client:
        client.welcome()
        with pytest.raises(TimeoutError):
            send_for_ever(client)
        server.until(lambda: server.row["errors_slow_reader"] == counted + 1, "it is cut off", 20)
        # Who begins to read while the goodbye lasts is told why.
        client.sock.settimeout(10.0)
        *pongs, error = client.rest()
        assert all(message == [14, NONCE] for message in pongs)
        assert (error[0], error[1], error[3]) == (15, "slow_reader", True)
    assert "slow_reader" in server.log()


def test_client_that_ignores_its_disconnection_is_removed(
    server: Running, bystander: Bystander
) -> None:
    server.until_row(clients=1)
    with bystander.undisturbed(), RawClient(server.port, receive_bytes=4096) as client:
        client.welcome()
        server.until_row(clients=2)
        with pytest.raises(TimeoutError):
            send_for_ever(client)
        server.until(lambda: server.row["clients"] == 1, "it is gone", 40.0)


@pytest.mark.parametrize("how", ["close", "reset"])
def test_truncated_message_is_counted_however_the_connection_ends(
    server: Running, bystander: Bystander, how: str
) -> None:
    counted = server.row["errors_message_truncated"]
    with bystander.undisturbed():
        client = RawClient(server.port).welcome()
        client.raw(framed(a_frame())[:-1])
        time.sleep(0.05)
        getattr(client, how)()
    server.until(lambda: server.row["errors_message_truncated"] == counted + 1, "it is counted")


@pytest.mark.parametrize("how", ["close", "reset", "half_close"])
@pytest.mark.promise("game-disconnects")
def test_disconnect_without_bye_truncates_the_episode_without_error(
    server: Running, bystander: Bystander, how: str
) -> None:
    errors = server.wait_rows()["errors"]
    with bystander.undisturbed():
        client = RawClient(server.port).welcome()
        for seq in range(3):
            assert client.frame(seq)[:3] == [12, 0, seq]
        getattr(client, how)()
        server.until_row(clients=1)
        client.close()
    assert server.wait_rows()["errors"] == errors


def test_client_over_max_clients_is_refused_and_may_retry(
    server: Running, bystander: Bystander
) -> None:
    server.until_row(clients=1)
    with bystander.undisturbed():
        playing = [RawClient(server.port).welcome() for _ in range(3)]
        refused = RawClient(server.port)
        code, message, retry = refused.refusal()
        assert (code, retry) == ("too_many_clients", True)
        assert "server.max_clients" in message
        # It has not closed its side yet, and takes nobody's place.
        playing.pop().close()
        server.until_row(slots=3)
        playing.append(RawClient(server.port).welcome())
        for client in playing:
            assert client.frame(0)[:3] == [12, 0, 0]
            client.close()
        refused.close()
    server.until_row(clients=1)


def test_hundred_bad_clients_at_once_disturb_no_other_client(
    server: Running, bystander: Bystander
) -> None:
    bystander.worst_s = 0.0
    with bystander.undisturbed():
        for data in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 50_000, b"", framed([1, 7])):
            clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(25)]
            for sock in clients:
                try:
                    sock.sendall(data)
                except OSError:
                    continue
            for sock in clients:
                sock.close()
    assert bystander.worst_s < 2.0
    server.until_row(clients=1)


@pytest.mark.promise("game-errors")
def test_bad_frames_are_not_stored_and_good_frames_all_are(
    server: Running, bystander: Bystander
) -> None:
    """The last word: whatever was tried here, the replay holds what was completed."""
    assert bystander.failure is None
    assert "Traceback" not in server.log()
    row = server.wait_rows()
    assert row["steps_completed"] > 0
    assert row["updates"] > 0
    assert np.isfinite(server.supervisor.last["loss"])
    assert np.isfinite(server.supervisor.last["q_mean"])


def test_cases_cover_every_error_code_a_client_can_cause() -> None:
    elsewhere = {
        "slow_reader",  # above
        "too_many_clients",  # above
        "episode_limit",  # test_evaluating.py
        "observation_out_of_range",  # test_observations_served.py
        "mask_size",  # test_conformance.py
        "no_legal_choice",  # test_conformance.py
        "metrics_shape",
        "metric_not_finite",
        "action_illegal",  # test_conformance.py
        "bad_token",  # test_gateway.py
        "too_many_attempts",  # test_limits.py
        "too_fast",  # test_limits.py
        "bad_origin",  # test_websocket.py
        "tls_failed",  # test_tls.py
        "welcome_first",  # test_gateway.py
        "server_stopping",  # test_gateway.py
    }
    assert {case[1] for case in CASES} | elsewhere == CODES.keys()

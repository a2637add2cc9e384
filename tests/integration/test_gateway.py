"""Gateways as processes: real sockets, real shared memory, a real trainer."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from agent import checkpoint
from protocol.spaces import GameSpec
from tests.support.running import RawClient, Running, client_for, hello_fields, obs_of
from tests.support.worlds import DQN, EXPERT, SPEC
from understudy_client import ServerError

pytestmark = pytest.mark.timeout(60)

OTHER = msgspec.structs.replace(SPEC, game="other").checked()
SCHEDULE = {"start": 1.0, "end": 0.0, "frames": 300}
ADVICE = [3, [0.5, -0.5]]


@dataclass
class Pair:
    """Two gateways, and what became of two different games that came at once."""

    server: Running
    spec: GameSpec
    winner: list[Any]
    loser: list[Any]
    hasty: list[Any]


@pytest.fixture(scope="module")
def pair(folder: Path) -> Iterator[Pair]:
    with Running(
        folder / "pair",
        server__gateways=2,
        trainer__replay_ratio=0.25,  # what is learnt is not the point: games wait for it less
        expert__ratio=SCHEDULE,
        exploration__epsilon={"start": 0.0, "end": 0.0, "frames": 1},
        exploration__noise={"start": 0.0, "end": 0.0, "frames": 1},
    ) as server:
        first, second, hasty = (RawClient(server.port, timeout_s=30.0) for _ in range(3))
        first.send([1, hello_fields(SPEC)], [4, "early"])
        second.send([1, hello_fields(OTHER)], [4, "early"])
        hasty.send([1, hello_fields(SPEC)], [2, 0, 0, obs_of(), 0.0, 0, None, None])
        heard = {id(client): [client.recv(), client.recv()] for client in (first, second)}
        won = first if heard[id(first)][1][0] == 11 else second
        lost = second if won is first else first
        told = hasty.rest()
        for client in (first, second, hasty):
            client.close()
        yield Pair(
            server,
            SPEC if won is first else OTHER,
            heard[id(won)],
            heard[id(lost)],
            told,
        )


def test_welcome_is_sent_after_the_first_weights(pair: Pair) -> None:
    """PING is answered long before."""
    pong, welcome = pair.winner
    assert pong == [14, "early"]
    assert welcome[0] == 11
    assert welcome[1]["protocol"] == 1
    assert welcome[1]["session"] > 0
    assert welcome[1]["server"].startswith("understudy/")


def test_two_games_at_once_one_becomes_the_runs_and_one_is_refused(pair: Pair) -> None:
    pong, error = pair.loser
    assert pong == [14, "early"]
    assert error[:2] == [15, "spec_mismatch"]
    for spec in (SPEC, OTHER):
        assert spec.describe() in error[2]
    assert pair.server.folder.game() == pair.spec


def test_frame_before_welcome_is_refused(pair: Pair) -> None:
    (error,) = pair.hasty
    assert error[:2] == [15, "welcome_first"]
    pair.server.until(lambda: pair.server.row["errors_welcome_first"] == 1, "it is counted")


def of_both(pair: Pair) -> tuple[RawClient, RawClient]:
    """A client of each gateway: session numbers tell them apart."""
    found: dict[int, RawClient] = {}
    for _ in range(100):
        client = RawClient(pair.server.port).welcome(pair.spec)
        gateway = client.fields["session"] % 2
        if gateway in found:
            client.close()
        found.setdefault(gateway, client)
        if len(found) == 2:
            return found[0], found[1]
    raise AssertionError("all connections went to one gateway")


def test_two_gateways_share_the_port_and_the_frame_count(pair: Pair) -> None:
    one, two = of_both(pair)
    with one, two:  # a failure leaves none of them to the tests that follow
        before = pair.server.wait_rows()["frames"]
        first = one.frame(0, expert=ADVICE)
        if before == 0:
            assert first[4] == EXPERT, "the ratio starts at 1"
        # All frames of the schedule are stored through one gateway ...
        for seq in range(1, 302):
            one.frame(seq, expert=ADVICE)
        # ... and the other one follows it.
        actors = {two.frame(seq, expert=ADVICE)[4] for seq in range(30)}
        assert actors == {DQN}
        pair.server.until_row(expert_ratio=0.0)
        assert pair.server.row["steps_completed"] >= before + 301 + 29


def test_session_numbers_never_repeat(pair: Pair) -> None:
    clients = [RawClient(pair.server.port).welcome(pair.spec) for _ in range(20)]
    sessions = {client.fields["session"] for client in clients}
    assert len(sessions) == 20
    for client in clients:
        client.close()
    again = RawClient(pair.server.port).welcome(pair.spec)
    assert again.fields["session"] not in sessions
    again.close()


def test_every_answer_is_a_valid_action_with_its_policy_version(pair: Pair) -> None:
    with RawClient(pair.server.port).welcome(pair.spec) as client:
        for seq in range(50):
            kind, slot, got, action, actor, version, explored = client.frame(seq)
            assert (kind, slot, got, actor, explored) == (12, 0, seq, DQN, False)
            assert version >= 1
            choice, aim = action
            assert choice in range(4)
            assert len(aim) == 2
            assert all(-1 <= value <= 1 for value in aim)
        assert client.frame(50, status=2)[3:5] == [None, 0]


def test_evaluation_frames_are_not_stored(pair: Pair) -> None:
    server = pair.server
    server.until_row(clients=0)
    row = server.wait_rows()
    with RawClient(server.port).welcome(pair.spec, role="eval") as client:
        assert {client.frame(seq, expert=ADVICE)[4] for seq in range(20)} == {DQN}
    with RawClient(server.port).welcome(pair.spec, role="eval_expert") as client:
        for seq in range(20):
            assert client.frame(seq, expert=ADVICE)[3:5] == [ADVICE, EXPERT]
    server.until_row(
        frames_eval=row["frames_eval"] + 20,
        frames_eval_expert=row["frames_eval_expert"] + 20,
        steps_completed=row["steps_completed"],
        clients=0,
        slots=0,
    )


def test_frames_of_all_slots_at_once_are_answered_and_stored(pair: Pair) -> None:
    before = pair.server.wait_rows()["steps_completed"]
    rng = np.random.default_rng(0)
    with client_for(pair.server.port, pair.spec, slots=5) as client:
        for seq in range(10):
            statuses = [0] * 5 if seq % 5 else [0, 0, 1, 2, 0]
            answers = client.act_all(
                rng.standard_normal((5, 3), np.float32), np.zeros(5, np.float32), statuses
            )
            assert answers.seq == seq
            assert (answers.actors != 0).tolist() == [status == 0 for status in statuses]
    # Frame 0 completes nothing; slots 2 and 3 end at frames 0 and 5 and begin anew behind them.
    pair.server.until_row(steps_completed=before + 3 * 9 + 2 * (9 - 2), clients=0)


def test_thousand_connections_leave_no_sockets_or_slots(pair: Pair) -> None:
    server = pair.server
    server.until_row(clients=0)
    memory = [resident_kib(server.pid(f"gateway-{i}")) for i in range(2)]
    for i in range(500):
        client = RawClient(server.port)
        if i % 2:
            client.welcome(pair.spec, slots=1 + i % 7).frame(0)
        client.close()
    server.until_row(clients=0, slots=0)
    grown = sum(resident_kib(server.pid(f"gateway-{i}")) for i in range(2)) - sum(memory)
    assert grown < 8192, f"{grown} KiB more"


def resident_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("no VmRSS")


@pytest.mark.promise("stop")
def test_stop_tells_games_and_stores_every_step(pair: Pair) -> None:
    """The last one: it stops the server."""
    server = pair.server
    before = server.wait_rows()["steps_completed"]
    one, two = of_both(pair)
    for client in (one, two):
        for seq in range(4):
            client.frame(seq)
    told: list[Any] = []

    def listen() -> None:
        for client in (one, two):
            told.append(client.refusal())
            client.close()

    listener = threading.Thread(target=listen)
    listener.start()
    server.close()
    listener.join(10.0)
    assert [(code, retry) for code, _, retry in told] == [("server_stopping", True)] * 2
    assert server.stop_s < 10
    assert server.row["steps_completed"] == server.row["steps_stored"] == before + 6
    state = checkpoint.load(checkpoint.latest(server.folder.checkpoints) or Path())
    assert state["frames"] == server.row["frames"]


# A trainer that is behind.

TOKEN = "open sesame"


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """20 updates for each step, and at most one behind: a hundred steps a second or so."""
    with Running(
        tmp_path_factory.mktemp("slow") / "run",
        server__token=TOKEN,
        server__settings={"level": 3, "lives": [1, 2], "mode": {"name": "hard"}},
        server__ring_steps=16,
        server__idle_timeout_s=0.6,
        server__handshake_timeout_s=0.6,
        trainer__max_lag_updates=1,
        trainer__replay_ratio=20.0,
        trainer__min_steps=2,
    ) as server:
        # The run has its game whichever test comes first: without one there is no trainer.
        with client_for(server.port, token=TOKEN):
            pass
        yield server


@pytest.mark.parametrize("token", [None, "wrong", "", TOKEN + " ", TOKEN[:-1]])
def test_wrong_token_is_refused_and_counted(slow: Running, token: str | None) -> None:
    counted = slow.row.get("errors_bad_token", 0)
    fields = hello_fields() if token is None else hello_fields(token=token)
    with RawClient(slow.port) as client:
        client.send([1, fields])
        code, message, retry = client.refusal()
    assert (code, retry) == ("bad_token", False)
    assert TOKEN not in message
    slow.until(lambda: slow.row.get("errors_bad_token") == counted + 1, "it is counted")
    assert TOKEN not in slow.log()


def test_token_is_checked_before_the_rest_of_hello(slow: Running) -> None:
    with RawClient(slow.port) as client:
        client.send([1, {"protocol": 77, "nonsense": [1, 2, 3], "actions": "none", "token": "x"}])
        assert client.refusal()[0] == "bad_token"


def test_token_is_not_written_to_the_run_folder(slow: Running) -> None:
    for path in slow.folder.path.rglob("*"):
        if path.is_file():
            assert TOKEN.encode() not in path.read_bytes(), path


def test_welcome_carries_the_games_settings(slow: Running) -> None:
    with RawClient(slow.port).welcome(token=TOKEN) as client:
        assert client.fields["settings"] == {"level": 3, "lives": [1, 2], "mode": {"name": "hard"}}


def test_own_client_sends_the_token_and_gets_the_settings(slow: Running) -> None:
    with client_for(slow.port, token=TOKEN) as client:
        assert client.settings["level"] == 3
    with pytest.raises(ServerError, match="bad_token"):
        client_for(slow.port)


@pytest.mark.promise("trainer-slow")
def test_games_wait_while_the_trainer_is_behind(slow: Running) -> None:
    slow.until(lambda: "steps_stored" in slow.row, "the trainer has reported", 60.0)
    stored = slow.row["steps_stored"]
    frames, slots = 8, 4
    with client_for(slow.port, slots=slots, token=TOKEN) as client:
        for _ in range(frames):
            client.act_all(np.zeros((slots, 3)), np.zeros(slots), np.zeros(slots, np.uint8))
    slow.until_row(clients=0, steps_stored=stored + (frames - 1) * slots)
    # The first frames of all games, and two more of each until a step can be drawn, come before the
    # limit holds; and one of each while a busy trainer has not yet said so. From when that is made
    # up for, no more than a frame of each is beyond it.
    due = [row.get("updates_due", 0.0) for row in slow.rows]
    most = 1 + 20 * slots
    begin = next(i for i, updates in enumerate(due) if updates > 0)
    caught_up = next(i for i in range(begin, len(due)) if due[i] <= most)
    assert max(due) <= 4 * 20 * slots
    assert max(due[caught_up:]) <= most
    assert slow.row["errors_idle_timeout"] == 0
    slow.until_row(transitions_dropped=0)


def test_full_ring_suspends_idle_timeouts_and_loses_nothing(slow: Running) -> None:
    """The trainer stands still for longer than anybody may be silent: games in real time wait too
    then, are not cut off, and lose nothing. One that comes meanwhile waits too."""
    before = slow.wait_rows()
    trainer = slow.pid("trainer")
    players = [client_for(slow.port, slots=8, token=TOKEN, realtime=True) for _ in range(4)]
    played = [0] * len(players)
    done = threading.Event()

    def play(index: int) -> None:
        while not done.is_set():
            players[index].act_all(np.zeros((8, 3)), np.zeros(8), np.zeros(8, np.uint8))
            played[index] += 1

    threads = [threading.Thread(target=play, args=(i,)) for i in range(len(players))]
    os.kill(trainer, signal.SIGSTOP)
    try:
        for thread in threads:
            thread.start()
        stalls = before["stalls"]
        slow.until(lambda: slow.row["stalls"] > stalls, "the ring is full")
        time.sleep(0.3)
        waiting = list(played)
        late = RawClient(slow.port)
        late.send([1, hello_fields(token=TOKEN)], [2, 0, 0, obs_of(), 0.0, 0, None, None])
        time.sleep(1.5)
        assert played == waiting, "somebody played on although the ring is full"
    finally:
        os.kill(trainer, signal.SIGCONT)
    slow.until(lambda: all(p > w for p, w in zip(played, waiting, strict=True)), "they play on")
    messages = [late.recv(), late.recv()]
    done.set()
    for thread in threads:
        thread.join(30.0)
    # A frame glued to its HELLO is in order here: WELCOME was sent as soon as it was heard.
    assert [message[0] for message in messages] == [11, 12]
    for client in players:
        client.close()
    late.close()
    slow.until_row(
        clients=0,
        transitions_dropped=0,
        errors_idle_timeout=before["errors_idle_timeout"],
        errors_handshake_timeout=before["errors_handshake_timeout"],
        steps_stored=before["steps_stored"] + 8 * sum(n - 1 for n in played),
        timeout_s=30.0,
    )


def test_stop_with_a_full_ring_is_quick_and_loses_nothing(slow: Running) -> None:
    """Much more waits for the ring than the trainer would take in ten seconds. The last one: it
    stops the server."""
    before = slow.wait_rows()["steps_stored"]
    slots = 1000
    client = RawClient(slow.port).welcome(token=TOKEN, slots=slots, realtime=True)
    zeros = bytes(4 * slots)
    for seq in range(2):
        client.send([3, seq, zeros * 3, zeros, bytes(slots), None, None])
        assert client.recv()[0] == 13
    slow.until(lambda: slow.row["stalls"], "the ring is full")
    time.sleep(0.2)
    threading.Timer(0.5, client.close).start()
    slow.close()
    assert slow.stop_s < 10
    assert slow.row["steps_completed"] == slow.row["steps_stored"] == before + slots

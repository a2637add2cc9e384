"""Older clients over real sockets, at a server of two gateways: what they play is stored as they
were answered, and what is wrong with one of them harms no other."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from config.load import ConfigError
from protocol.tempest import LEAD, tempest_spec
from tests.support.running import RawClient, Running, obs_of
from tests.support.tempest_client import HOSTILE, TempestClient, framed, payload
from tests.support.worlds import DQN, EXPERT

pytestmark = pytest.mark.timeout(120)

SPEC = tempest_spec(3, "continuous")
PLUGIN = "server.gateway.tempest_expert:recommend"
ADVICE = (1, 1, 29)
"""What the client's expert would do on every frame of these tests: a knob that no network which
has learnt nothing turns so far."""

AIM = {"target": 0, "player": 15, "is_open": 1, "fire": 1, "zap": 1}


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Running]:
    nothing = {"start": 0.0, "end": 0.0, "frames": 1}
    with Running(
        folder / "tempest",
        tempest__port=0,
        tempest__spinner="continuous",
        tempest__zap_gate=nothing,
        server__gateways=2,
        expert__ratio={"start": 0.5, "end": 0.5, "frames": 1},
        exploration__epsilon=nothing,
        exploration__noise=nothing,
        trainer__min_steps=100_000,
    ) as running:
        yield running


@pytest.fixture(scope="module")
def port(server: Running) -> int:
    """Where older clients connect: the game is decided."""
    found = server.supervisor.tempest_port
    assert found is not None
    with TempestClient(found) as client:
        assert client.frame([0.0] * 3) is not None
    return found


@pytest.fixture(scope="module")
def bystander(port: int) -> Iterator[TempestClient]:
    with TempestClient(port) as client:
        yield client


def stored(server: Running, path: Path) -> dict[str, Any]:
    """What the replay holds."""
    server.do(lambda: server.supervisor.trainer.dump(str(path)))
    with np.load(path) as file:
        return dict(file)


def test_frames_in_pieces_are_stored_with_the_actor_of_their_answer(
    server: Running, port: int, tmp_path: Path
) -> None:
    before = set(stored(server, tmp_path / "before.npz")["stream"].tolist())
    rng = np.random.default_rng(0)
    frames = [
        payload([k / 50, 0.5, -0.5], objective=k, done=int(k % 9 == 8), frame=k, **AIM)
        for k in range(40)
    ]
    stream = b"".join(framed(frame) for frame in frames)
    replies = []
    with TempestClient(port, lead=b"") as client:
        # Split everywhere and glued anyhow, without waiting for replies.
        client.raw(LEAD[:1])
        at = 0
        client.raw(LEAD[1:])
        while at < len(stream):
            size = int(rng.integers(1, 90))
            client.raw(stream[at : at + size])
            at += size
            time.sleep(0.0005)
        for _ in frames:
            reply = client.reply()
            assert reply is not None
            replies.append(reply)
    server.until(
        lambda: len(set(stored(server, tmp_path / "x.npz")["stream"].tolist()) - before) == 1,
        "the game is stored",
    )
    server.wait_rows()
    rows = stored(server, tmp_path / "after.npz")
    mine = ~np.isin(rows["stream"], list(before))
    order = np.argsort(rows["seq"][mine])
    seqs, actors, actions = (rows[name][mine][order] for name in ("seq", "actor", "action"))
    ends = {8, 17, 26, 35}
    assert seqs.tolist() == [seq for seq in range(39) if seq not in ends]
    assert {DQN, EXPERT} == set(actors.tolist())
    for seq, actor, action in zip(seqs, actors, actions, strict=True):
        fire, zap, turn, *_ = replies[seq]
        assert actor == (EXPERT if (fire, zap, turn) == ADVICE else DQN), f"frame {seq}"
        assert action[0] == 2 * fire + zap
        assert round(32 * float(action[1])) == turn
    for seq in ends:
        assert replies[seq][:3] == (0, 0, 0)


def until_logged(server: Running, code: str, words: str) -> None:
    """Wait until the log's last line about this error says this."""

    def said() -> bool:
        lines = [line for line in server.log().splitlines() if f": {code}: " in line]
        return bool(lines) and words in lines[-1]

    server.until(said, f"the log says {code}: {words}")


def test_hostile_bytes_close_only_their_connection(
    server: Running, port: int, bystander: TempestClient
) -> None:
    good = framed(payload([0.0] * 3))
    cases = [(LEAD + good + data, code, words) for data, code, words in HOSTILE.values()]
    cases += [
        (b"GET / HTTP/1.1\r\n\r\n", "not_understudy", "got 47 45"),
        (b"\x16\x03\x01\x02\x00", "not_understudy", "got 16 03"),
        (LEAD + b"\x00\x00", "message_empty", "got a length of 0"),
        (LEAD + b"\xff\xfe" + bytes(500), "message_malformed", "got a length of 65534"),
        (LEAD + framed(payload([0.0] * 4)), "spec_mismatch", "float32 [4]"),
        (LEAD + framed(payload([0.0] * 195)), "spec_mismatch", "float32 [195]"),
    ]
    before = server.wait_rows()
    counted: Counter[str] = Counter()
    for data, code, words in cases:
        with TempestClient(port, lead=b"") as client:
            client.raw(data)
            if data.startswith(LEAD + good):
                assert client.reply() is not None, "the frame before is answered"
            assert client.reply() is None
        counted[code] += 1
        until_logged(server, code, words)
        assert bystander.frame([0.1, 0.2, 0.3]) is not None
    for code, times in counted.items():
        name = f"errors_{code}"
        server.until_row(**{name: before[name] + times})
    assert server.error is None


def test_connection_that_ends_inside_a_frame_is_counted(server: Running, port: int) -> None:
    before = server.wait_rows()["errors_message_truncated"]
    with TempestClient(port) as client:
        assert client.frame([0.0] * 3) is not None
        client.raw(framed(payload([0.0] * 3))[:20])
    server.until_row(errors_message_truncated=before + 1)


def test_clients_of_both_formats_play_the_same_game(server: Running, port: int) -> None:
    with RawClient(server.port).welcome(SPEC) as other, TempestClient(port) as client:
        for seq in range(20):
            answer = other.frame(seq, obs_of(0.5), reward=[1.0, 2.0])
            assert answer[4] == DQN, "its expert knows older clients alone"
            assert client.frame([0.5] * 3, **AIM) is not None


def test_game_settings_change_while_older_clients_play(server: Running, port: int) -> None:
    with TempestClient(port) as client:

        def settings() -> tuple[int, ...]:
            reply = client.frame([0.0] * 3)
            assert reply is not None
            return reply[3:]

        assert settings() == (1, 13)
        tell = server.supervisor.controller.tell_games
        values = {"start_advanced": False, "start_level": 33}
        server.do(lambda: tell(values, "test"))
        server.until(lambda: settings() == (0, 33), "the new level is sent")
        with pytest.raises(ConfigError, match="whole number from 1 to 81"):
            server.do(lambda: tell({"start_level": 99}, "test"))
        assert settings() == (0, 33)


def test_checkpoint_requests_of_a_client_are_rate_limited(server: Running, port: int) -> None:
    with TempestClient(port) as client:
        for k in range(100):
            assert client.frame([0.0] * 3, save=k % 2) is not None
        server.until(lambda: "a client asked for a checkpoint" in server.log(), "it is asked for")
        server.until(lambda: list(server.folder.checkpoints.glob("update-*")), "there is one")
        time.sleep(1.2)
        for k in range(10):
            client.frame([0.0] * 3, save=k % 2)
        server.wait_rows()
    assert server.log().count("a client asked for a checkpoint") == 1


def test_expert_plugin_is_replaced_while_games_play(server: Running, port: int) -> None:
    """For one that is not there, for one that fails, for none, and for itself."""

    def change(name: str) -> None:
        server.do(lambda: server.supervisor.controller.change({"expert.plugin": name}, "test"))

    with TempestClient(port) as client:

        def experts() -> int:
            """Actions of the expert, of 30 frames."""
            replies = [client.frame([0.0] * 3, **AIM) for _ in range(30)]
            assert None not in replies
            return sum(reply is not None and reply[:3] == ADVICE for reply in replies)

        assert experts() > 0
        with pytest.raises(ConfigError, match="ModuleNotFoundError"):
            change("no_such_module:act")
        assert experts() > 0
        change("tests.support.failing_expert:act")
        server.until(lambda: experts() == 0, "the other expert is there")
        server.until(lambda: server.row["expert_failures"] > 0, "its failures are counted")
        assert "RuntimeError('it does not know what to do')" in server.log()
        change("none")

        def fails() -> bool:
            """Failures are still counted while frames are played."""
            before = server.row["expert_failures"]
            assert experts() == 0
            return server.wait_rows()["expert_failures"] > before

        server.until(lambda: not fails(), "there is no expert")
        assert experts() == 0
        change(PLUGIN)
        server.until(lambda: experts() > 0, "the expert is back")

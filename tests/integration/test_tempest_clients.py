"""Clients of tempest_ai of each revision over real sockets, those that came to the wrong port, and
those that read replies of another length."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from protocol import codec
from protocol.messages import HelloFields
from protocol.tempest import LEAD, tempest_spec
from tests.support.running import RawClient, Running
from tests.support.tempest_client import TempestClient, framed, old_payload, payload
from tests.support.worlds import DQN, EXPERT

pytestmark = pytest.mark.timeout(120)

ADVICE = (1, 1, 29)
"""What a client's expert would do on every frame of these tests: it stands 15 segments away."""

AIM = {"target": 0, "player": 15, "is_open": 1, "fire": 1, "zap": 1}


@pytest.fixture(scope="module", params=[(payload, 5, 195), (old_payload, 3, 171)], ids=["39", "48"])
def played(
    request: pytest.FixtureRequest, folder: Path
) -> Iterator[tuple[Running, Callable[..., bytes], int, list[float]]]:
    """A server, and how a client of a revision makes frames, how many bytes it reads, and what its
    frames show."""
    frame, reads, values = request.param
    never = {"start": 0.0, "end": 0.0, "frames": 1}
    with Running(
        folder / f"header-{reads}",
        tempest__port=0,
        tempest__spinner="continuous",
        tempest__zap_gate=never,
        expert__ratio={"start": 0.5, "end": 0.5, "frames": 1},
        exploration__epsilon=never,
        exploration__noise=never,
        trainer__min_steps=100_000,
    ) as server:
        yield server, frame, reads, [0.5] * values


Played = tuple[Running, Callable[..., bytes], int, list[float]]


def test_client_of_each_revision_plays_and_is_stored_with_its_tags(
    played: Played, tmp_path: Path
) -> None:
    server, frame, reads, values = played
    assert server.supervisor.tempest_port is not None
    with TempestClient(server.supervisor.tempest_port, reply_bytes=reads) as client:
        replies = [client.play(frame, values, done=int(k == 59), **AIM) for k in range(60)]
        assert None not in replies
        assert {len(reply) for reply in replies} == {reads}
    server.settle()
    path = str(tmp_path / "dump.npz")
    server.do(lambda: server.supervisor.trainer.dump(path))
    with np.load(path) as rows:
        order = np.argsort(rows["seq"])
        assert rows["seq"][order].tolist() == list(range(59))
        actors = rows["actor"][order].tolist()
    assert {DQN, EXPERT} == set(actors)
    for reply, actor in zip(replies, actors, strict=False):
        assert (reply[:3] == ADVICE) is (actor == EXPERT)
    assert server.row["replies_misread"] == 0


def test_client_that_leaves_after_each_frame_is_said_in_log_and_metrics(played: Played) -> None:
    server, frame, reads, values = played
    assert server.supervisor.tempest_port is not None
    before = server.wait_rows()["replies_misread"]
    for _ in range(3):
        with TempestClient(server.supervisor.tempest_port, reply_bytes=reads) as client:
            assert client.play(frame, values) is not None
    server.until(
        lambda: f"--tempest.reply_bytes {8 - reads}" in server.log(), "the log says what to set"
    )
    server.until_row(replies_misread=before + 1)


def test_older_client_at_the_port_of_the_protocol_is_told_its_own(played: Played) -> None:
    server, frame, _reads, values = played
    with TempestClient(server.port) as client:
        client.raw(framed(frame(values)))
        wanted = f"such clients connect to port {server.supervisor.tempest_port} (tempest.port)"
        server.until(lambda: wanted in server.log(), "the log names the Tempest port")


def test_client_of_the_protocol_at_the_tempest_port_is_told_its_own(played: Played) -> None:
    server, _frame, _reads, _values = played
    assert server.supervisor.tempest_port is not None
    spec = tempest_spec(3, "levels")
    hello = HelloFields(
        protocol=1,
        client="test",
        game=spec.game,
        observation=spec.observation,
        actions=spec.actions,
        rewards=spec.rewards,
    )
    with TempestClient(server.supervisor.tempest_port, lead=b"") as client:
        client.raw(codec.encode_hello(hello))
        wanted = f"it connects to port {server.port} (server.port)"
        server.until(lambda: wanted in server.log(), "the log names the other port")


def test_start_hint_names_the_tempest_port(played: Played) -> None:
    server, *_ = played
    said = str(server.supervisor.publisher.status.start_hint)
    assert (
        f"start a Tempest client; it connects to 127.0.0.1:{server.supervisor.tempest_port}" in said
    )


def test_older_client_without_a_tempest_port_is_told_how_to_open_one(folder: Path) -> None:
    with Running(folder / "no-tempest-port") as server:
        with TempestClient(server.port, lead=b"") as client:
            client.raw(LEAD + framed(payload([0.0] * 195)))
            server.until(lambda: "--tempest-port 9999" in server.log(), "the log says how")
        with RawClient(server.port).welcome():
            pass


def test_older_clients_are_evaluated_at_intervals(folder: Path) -> None:
    """By the network alone and by the expert alone, in whole episodes; and what is no play is not
    stored, nor counted among the frames of training."""
    with Running(
        folder / "evaluated",
        tempest__port=0,
        tempest__eval_every=100,
        tempest__eval_expert_every=100,
        tempest__eval_episodes=2,
        reward__clip="none",
        expert__ratio={"start": 0.5, "end": 0.5, "frames": 1},
    ) as server:
        assert server.supervisor.tempest_port is not None
        with TempestClient(server.supervisor.tempest_port) as client:

            def episode() -> None:
                for k in range(20):
                    assert client.play(payload, [0.5] * 3, objective=100.0, done=int(k == 19))
                for header in ({"mode": 0}, {"state": 0x12}, {"state": 0x16}):
                    reply = client.play(payload, [0.5] * 3, score=999_999, **header)
                    assert reply[:3] == (0, 0, 0)

            def evaluated() -> bool:
                episode()
                row = server.row
                return row.get("eval_episodes") == 2 and row.get("expert_episodes") == 2

            server.until(evaluated, "both are evaluated", 60.0)
            server.wait_rows()
        row = server.settle()
        evaluations = server.folder.evaluations.read_text().splitlines()
        server.wait_rows()
        row = server.row
    assert row["eval_return_mean"] == row["expert_return_mean"] == 19.0, "points x 0.01"
    assert any('"returns":[19.0,19.0]' in line.replace(" ", "") for line in evaluations)
    assert not any(json.loads(line)["partial"] for line in evaluations), "all that was announced"
    assert row["frames_eval"] >= 40
    assert row["frames_eval_expert"] >= 40
    assert row["frames_skipped"] > 0
    assert row["frames_skipped"] % 3 == 0
    assert row["steps_completed"] == row["frames"] == 19 * row["episodes"]
    assert row["game_score_peak"] == row["game_score_mean"] == 1000.0
    assert row["game_level_peak"] == 9.0

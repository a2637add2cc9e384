"""Evaluations of a real server by real games: one that never ends, those of a program of one's own,
and who is asked to evaluate."""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from server import cli
from server.commands import play as play_command
from server.supervisor import evaluation_recorder
from tests.support.running import RawClient, Running, client_for
from tests.support.worlds import DQN, EXPERT
from understudy_client import EvaluatedClient, EvaluationResult, Reconnected

pytestmark = pytest.mark.timeout(240)

ENDLESS = "tests.support.endless_game:Endless-v0"
ADVICE: list[Any] = [1, [0.5, 0.5]]


def lines(server: Running) -> list[dict[str, Any]]:
    path = server.folder.evaluations
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


# A game that never ends.


def test_training_goes_on_after_an_evaluation_that_never_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random = {"start": 1.0, "end": 1.0, "frames": 1}
    with Running(
        tmp_path / "run", exploration__epsilon=random, evaluation__episode_frames=300
    ) as server:
        parser = argparse.ArgumentParser()
        play_command.add_arguments(parser)
        words = ["--env", ENDLESS, "--connect", f"127.0.0.1:{server.port}", "--frames", "400"]
        words += ["--eval-every", "200", "--eval-episodes", "6"]
        assert play_command.main(parser.parse_args(words)) == 0
        said = [line for line in capsys.readouterr().out.splitlines() if "evaluation after" in line]
        assert [int(line.split()[2]) // 200 for line in said] == [0, 1, 2]
        cut = (
            "4 episodes (2 missing: incomplete): network none (4 episodes cut by the server's limit"
        )
        assert all(cut in line for line in said), said
        server.until(lambda: len(lines(server)) == 3, "all evaluations are kept", 60.0)
        assert server.settle()["frames"] >= 398
        for line in lines(server):
            assert (line["partial"], line["returns"], line["mean"]) == (True, [], None)
            assert len(line["cut"]) == 4, "a game that was cut begins no other episode"
            assert all(-4000 < each < -300 for each in line["cut"])
            assert line["why"].startswith("4 episodes cut by the limit")
        assert "episode_limit" in server.log()
        assert "nothing goes by it" in server.log()


def test_evaluation_that_takes_long_says_for_whom_it_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation_recorder, "LONG_S", 0.5)
    with Running(tmp_path / "run") as server, RawClient(server.port) as client:
        client.welcome(role="eval", episodes=2)
        client.frame(0)
        client.frame(1, reward=1.0, status=1)
        for seq in range(2, 10):
            client.frame(seq, reward=1.0)
        session = client.fields["session"]
        wanted = f"evaluation: 1 of 2 episodes of the network; it waits for session {session} ("
        server.until(lambda: wanted in server.log(), "the log says so")
        note = "7 frames and "
        server.until(lambda: note in server.supervisor.status.evaluation_note, "the status does")
        assert server.supervisor.status.state()["evaluation_note"].startswith(wanted)
        client.frame(10, status=2)
        client.close()
        server.until(lambda: lines(server), "it is over")
        assert not lines(server)[0]["partial"]
        server.until(lambda: not server.supervisor.status.evaluation_note, "nothing to say")


def test_game_that_hangs_is_ended_and_the_evaluation_told(tmp_path: Path) -> None:
    with Running(tmp_path / "run", evaluation__episode_s=0.5) as server:
        with RawClient(server.port, timeout_s=40.0) as client:
            client.welcome(role="eval", episodes=2)
            client.frame(0)
            client.frame(1, reward=2.0)
            code, message, retry = client.refusal()
            assert (code, retry) == ("episode_limit", True)
            assert "0.5 s" in message
        server.until(lambda: lines(server), "it is told", 40.0)
        (line,) = lines(server)
        assert (line["partial"], line["cut"]) == (True, [2.0])
        assert line["why"] == ("1 episodes cut by the limit, 1 of 2 announced episodes not played")


def test_evaluation_that_the_end_of_the_server_cuts_is_kept(tmp_path: Path) -> None:
    with Running(tmp_path / "run") as server:
        client = RawClient(server.port).welcome(role="eval", episodes=2)
        client.frame(0)
        client.frame(1, reward=2.0, status=1)
        client.frame(2)
        client.frame(3, reward=5.0)
        server.wait_rows()
    client.close()
    (line,) = lines(server)
    assert (line["partial"], line["returns"], line["cut"]) == (True, [2.0], [5.0])


# A program of one's own.


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    with Running(tmp_path / "run", evaluation__episode_frames=50) as running:
        yield running


class Game:
    """Each seed is a game of its own: it earns seed / 10, over as many frames as its last digit."""

    def __init__(self) -> None:
        self.played: list[tuple[str, int]] = []
        self.actors: set[tuple[str, int]] = set()

    def play(self, client: EvaluatedClient, seed: int) -> None:
        self.played.append((client.role, seed))
        length = seed % 10 or 10_000
        for t in range(length + 1):
            status = int(t == length)
            reward = seed / 10 / length if t else 99.0
            answer = client.act([0.0, 1.0, 2.0], reward, status, None if status else ADVICE)
            if not status:
                self.actors.add((client.role, answer.actor))


def test_own_program_evaluates_network_and_expert_from_the_same_seeds(server: Running) -> None:
    game = Game()
    with client_for(server.port) as client:
        client.act([0.0, 0.0, 0.0])
        client.act([0.0, 0.0, 0.0], 1.0, 1)
        session = client.session
        found = client.evaluate(game.play, episodes=3, expert=True, seed=101)
        assert client.session == session, "the training connection has stayed"
        client.act([0.0, 0.0, 0.0])
    expected = [pytest.approx(10.1), pytest.approx(10.2), pytest.approx(10.3)]
    assert found.network.returns == found.expert.returns == expected
    assert (found.network.mean, found.network.cut) == (pytest.approx(10.2), 0)
    assert game.played == [(r, s) for r in ("eval", "eval_expert") for s in (101, 102, 103)]
    assert game.actors == {("eval", DQN), ("eval_expert", EXPERT)}
    server.until(lambda: lines(server), "it is kept")
    (line,) = lines(server)
    assert line["returns"] == line["expert_returns"] == expected
    assert not line["partial"]
    assert server.settle()["frames"] == 1, "nothing of it is stored"


def test_episode_beyond_the_limit_is_cut_and_the_next_one_played(server: Running) -> None:
    game = Game()
    with client_for(server.port) as client:
        found = client.evaluate(game.play, episodes=3, seed=109)
    assert [seed for _, seed in game.played] == [109, 110, 111]
    assert [episode.cut for episode in found.network.episodes] == [False, True, False]
    assert found.network.returns == [pytest.approx(10.9), pytest.approx(11.1)]
    assert found.network.cut == 1
    server.until(lambda: lines(server), "it is kept")
    (line,) = lines(server)
    assert line["returns"] == pytest.approx(found.network.returns)
    assert (len(line["cut"]), line["why"]) == (1, "1 episodes cut by the limit")


def test_connection_that_is_lost_is_made_up_for(server: Running) -> None:
    game = Game()
    lost = []

    def play(client: EvaluatedClient, seed: int) -> None:
        if not lost:
            lost.append(seed)
            client.act([0.0, 0.0, 0.0], 0.0, 0, ADVICE)
            client._client._connection._socket.close()  # type: ignore[union-attr]
        game.play(client, seed)

    with client_for(server.port) as client:
        found = client.evaluate(play, episodes=2, seed=101)
    assert found.network.returns == [pytest.approx(10.1), pytest.approx(10.2)]
    server.until(lambda: lines(server), "it is kept", 40.0)
    (line,) = lines(server)
    assert (line["partial"], line["returns"]) == (False, pytest.approx(found.network.returns))


def test_play_that_breaks_its_promise_is_told_so(server: Running) -> None:
    def too_short(client: EvaluatedClient, _seed: int) -> None:
        client.act([0.0, 0.0, 0.0])

    def too_long(client: EvaluatedClient, _seed: int) -> None:
        for status in (0, 1, 0):
            client.act([0.0, 0.0, 0.0], 0.0, status)

    with client_for(server.port) as client:
        with pytest.raises(ValueError, match="to send the last frame of its episode"):
            client.evaluate(too_short, 1)
        with pytest.raises(ValueError, match="behind the episode's last frame"):
            client.evaluate(too_long, 1)
        with pytest.raises(ValueError, match="episodes: expected at least 1, got 0"):
            client.evaluate(too_long, 0)


# Who is asked.


def control(server: Running, capsys: Any) -> tuple[int, str]:
    code = cli.main(["control", "--run", str(server.folder.path), "evaluate"])
    out, err = capsys.readouterr()
    return code, out + err


def test_control_evaluate_without_a_client_that_can_says_so_at_once(
    server: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = control(server, capsys)
    assert code != 0
    assert "no training game is connected" in text
    with client_for(server.port) as client:
        client.act([0.0, 0.0, 0.0])
        start = time.monotonic()
        code, text = control(server, capsys)
        assert time.monotonic() - start < 15.0
        assert code != 0
        assert "no connected client can evaluate: bystander/1 (127.0.0.1:" in text
        assert f"session {client.session}) did not say so" in text
        client.ping()
        assert not client.evaluation_asked, "nobody is asked"
    assert not server.folder.changes.exists()


def test_control_evaluate_names_who_can_and_they_do(
    server: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    game, found = Game(), list[EvaluationResult]()
    stop = threading.Event()

    def train() -> None:
        with client_for(server.port, evaluates=True) as client:
            while not stop.is_set():
                try:
                    client.act([0.0, 0.0, 0.0], 0.0, 0)
                    client.act([0.0, 0.0, 0.0], 0.0, 1)
                except Reconnected:
                    continue
                if client.evaluation_asked:
                    found.append(client.evaluate(game.play, 2, seed=101))
                    assert not client.evaluation_asked
                time.sleep(0.01)

    thread = threading.Thread(target=train)
    thread.start()
    try:
        server.until(lambda: server.supervisor.training_games, "it is there")
        code, text = control(server, capsys)
        assert code == 0, text
        assert "asked to evaluate: bystander/1 (127.0.0.1:" in text
        server.until(lambda: lines(server), "it has evaluated", 40.0)
        assert lines(server)[0]["returns"] == [pytest.approx(10.1), pytest.approx(10.2)]
    finally:
        stop.set()
        thread.join()
    assert len(found) == 1


def test_evaluation_that_nobody_begins_is_reported(
    server: Running, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation_recorder, "BEGIN_S", 0.5)
    with client_for(server.port, evaluates=True) as client:
        client.act([0.0, 0.0, 0.0])
        # The gateway has told the supervisor of the client soon.
        server.until(lambda: control(server, capsys)[0] == 0, "an evaluation is asked for")
        said = "no client has begun the evaluation"
        server.until(lambda: said in server.log(), "the log says so")
        assert server.supervisor.status.evaluation_note.startswith(said)

"""Evaluation by games in processes of their own, against a server of a few lines: what is played
when, by whom, and from which seeds."""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest

from server.commands import play
from server.play import evaluator
from server.play.evaluator import Evaluator
from server.play.game_messages import GameOptions
from server.play.games import Games
from server.run import evaluations as evaluation
from tests.support.fake_server import FakeServer, Peer
from understudy_client.experts import find, returns

pytestmark = pytest.mark.timeout(120)

EXPERT = "tests.support.fake_games:push_right"


@dataclass(frozen=True)
class Event:
    """Something that the server saw, in the order in which it did."""

    role: str
    connection: int
    what: str
    """come, frame, ping or gone."""


class Watching(FakeServer):
    """Obeys every recommendation, else action 0; and notes what it sees."""

    def __init__(self, *, slow_s: float = 0.0, drop_on_ping: bool = False) -> None:
        self.events: list[Event] = []
        self.lock = threading.Lock()
        self.slow_s = slow_s
        """How long the first answer to a game of evaluation takes."""
        self.drop_on_ping = drop_on_ping
        self.next = 0
        super().__init__(self.script)

    def note(self, role: str, number: int, what: str) -> None:
        with self.lock:
            self.events.append(Event(role, number, what))

    def script(self, peer: Peer) -> None:
        with self.lock:
            number, self.next = self.next, self.next + 1
        role = peer.welcome(session=number + 1)[1].get("role", "train")
        self.note(role, number, "come")
        slow = self.slow_s if role == "eval" else 0.0
        while (message := peer.recv()) is not None and message != [5]:
            if message[0] == 4:
                self.note(role, number, "ping")
                if self.drop_on_ping and role == "train":
                    self.drop_on_ping = False
                    break
                peer.send([14, message[1]])
                continue
            self.note(role, number, "frame")
            time.sleep(slow)
            slow = 0.0
            peer.answer(message, message[6] or [0], 2 if message[6] else 1)
        self.note(role, number, "gone")

    def spans(self, *roles: str) -> list[tuple[int, int]]:
        """From the coming of the first until all are gone again, as places in `events`."""
        there: set[int] = set()
        found, start = [], 0
        for place, event in enumerate(self.events):
            if event.role not in roles:
                continue
            if event.what == "come":
                start = start if there else place
                there.add(event.connection)
            elif event.what == "gone":
                there.remove(event.connection)
                if not there:
                    found.append((start, place))
        assert not there
        return found

    def trained_within(self, span: tuple[int, int]) -> list[Event]:
        """Training frames between an evaluation's first event and its last frame. (That its games
        have gone is noticed in the server's own time.)"""
        within = self.events[slice(*span)]
        while within[-1].role == "train" or within[-1].what != "frame":
            within.pop()
        return [event for event in within if (event.role, event.what) == ("train", "frame")]


@pytest.fixture
def servers() -> Iterator[Any]:
    made: list[Watching] = []

    def start(**more: Any) -> Watching:
        made.append(Watching(**more))
        return made[-1]

    yield start
    for server in made:
        server.close()


def run(server: Watching, *words: str) -> int:
    parser = argparse.ArgumentParser()
    play.add_arguments(parser)
    common = ["--env", "CartPole-v1", "--connect", f"127.0.0.1:{server.port}", "--expert", EXPERT]
    return play.main(parser.parse_args([*common, *words]))


def evaluations(capsys: pytest.CaptureFixture[str]) -> list[str]:
    out, errors = capsys.readouterr()
    assert errors == ""
    return [line for line in out.splitlines() if line.startswith("evaluation after")]


def test_evaluations_run_first_and_every_n_frames_while_training_waits(
    servers: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    server = servers()
    words = ["--clients", "2", "--frames", "1500", "--eval-every", "500", "--eval-episodes", "3"]
    assert run(server, *words, "--eval-seed", "70") == 0
    said = evaluations(capsys)
    frames = [int(line.split()[2]) for line in said]
    assert len(frames) == 4
    assert frames[0] == 0
    assert frames[3] == 1500
    assert all(0 <= frames[i] - 500 * i < 2 for i in (1, 2)), frames

    # The expert is asked once, and each evaluation is one to the server too: whoever is done first
    # waits for the others.
    spans = server.spans("eval", "eval_expert")
    assert len(spans) == 4
    expert = [place for place, event in enumerate(server.events) if event.role == "eval_expert"]
    assert spans[0][0] <= min(expert)
    assert max(expert) <= spans[0][1]
    assert server.spans("eval_expert") != []
    for span in spans:
        assert server.trained_within(span) == []
    played = [sum(e.role == "train" and e.what == "frame" for e in server.events[:start])
              for start, _ in spans]  # fmt: skip
    # Actions and the last frames of episodes, some of which the server has yet to see.
    assert played[0] == 0
    assert all(b - a >= 498 for a, b in pairwise(played))

    # The same episodes each time, from their seeds: the network (action 0) and the expert alone.
    student = returns("CartPole-v1", lambda _env, _obs: 0, 3, seed=70)
    push_right = find("CartPole-v1", EXPERT)
    assert push_right is not None
    teacher = returns("CartPole-v1", push_right, 3, seed=70)
    for line in said:
        assert f"3 episodes: network {sum(student) / 3:.1f}" in line
        assert f"expert {sum(teacher) / 3:.1f}" in line


def test_held_games_stay_connected_and_report_their_state(servers: Any) -> None:
    server = servers(slow_s=5.0)
    assert run(server, "--frames", "30", "--eval-every", "1000", "--eval-episodes", "1") == 0
    train = [event.what for event in server.events if event.role == "train"]
    assert train[:2] == ["come", "ping"]
    assert train.count("come") == 1
    assert train.count("frame") >= 30
    # So does a game of evaluation that waits for another one.
    assert [e for e in server.events if (e.role, e.what) == ("eval_expert", "ping")]


def test_held_game_that_loses_its_connection_reconnects_and_keeps_waiting(servers: Any) -> None:
    server = servers(slow_s=5.0, drop_on_ping=True)
    assert run(server, "--frames", "30", "--eval-every", "1000", "--eval-episodes", "1") == 0
    train = [event for event in server.events if event.role == "train"]
    assert [event.what for event in train][:4] == ["come", "ping", "gone", "come"]
    (span,) = server.spans("eval", "eval_expert")
    assert server.trained_within(span) == []
    assert sum(event.what == "frame" for event in train) >= 30


def test_killed_evaluation_game_begins_again_and_plays_its_share(
    servers: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = servers()
    evaluate = Evaluator.evaluate

    def kill(self: Evaluator, *args: Any, **more: Any) -> Any:
        process = self.players[0]._games[0].process
        assert process is not None
        process.kill()
        return evaluate(self, *args, **more)

    monkeypatch.setattr(Evaluator, "evaluate", kill)
    words = ["--frames", "50", "--eval-every", "1000", "--eval-episodes", "2", "--eval-seed", "3"]
    assert run(server, *words) == 0
    out, errors = capsys.readouterr()
    assert "evaluation game 0 of CartPole-v1 failed: its process was killed by SIGKILL" in errors
    assert "evaluation after 0 frames, 2 episodes: network " in out


def test_evaluation_without_expert_covers_the_network_only(
    servers: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    server = servers()
    words = ["--frames", "20", "--eval-every", "1000", "--eval-episodes", "1", "--expert", "none"]
    assert run(server, *words) == 0
    (line,) = evaluations(capsys)
    assert line.endswith(", expert none")
    assert server.spans("eval_expert") == []


def test_games_of_one_evaluation_leave_together_with_uneven_episodes(servers: Any) -> None:
    """Five episodes of two games: one has three to play, and the other one waits for it."""
    server = servers()
    options = GameOptions("CartPole-v1", "127.0.0.1", server.port, role="eval", episodes=5, seed=1)
    with Games(options) as games:
        games.start(2)
        assert games.wait(60.0)
    assert games.failures == []
    assert len(games.episodes()) == 5
    assert games.frames == sum(e.what == "frame" for e in server.events) - 5
    assert len(server.spans("eval")) == 1
    what = [event.what for event in server.events]
    assert what[-2:] == ["gone", "gone"], "the one that was done first has stayed"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--eval-every", "0"], "at least 1"),
        (["--eval-every", "10", "--eval-episodes", "101"], "at most 100"),
        (["--eval-every", "10", "--role", "eval"], "expected the role train"),
    ],
)
def test_evaluation_options_that_conflict_are_refused(
    servers: Any, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code: Any = run(servers(), *words)
    except SystemExit as error:
        code = error.code
    assert code == 2
    assert message in capsys.readouterr().err


def test_evaluation_episode_limits_of_player_and_server_are_equal() -> None:
    assert evaluator.MOST_EPISODES == evaluation.MOST

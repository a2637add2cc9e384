"""Games in processes of their own, against a server of a few lines."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.arguments import parse_address
from server.commands import play
from server.play import game_handle
from server.play.game_messages import GameEpisode, GameOptions, share
from server.play.games import Games
from server.play.outage_notice import OutageNotice
from tests.support.fake_server import FakeServer, Peer
from tests.support.preloaded import Understudy
from tests.support.processes import descendants
from understudy_client.experts import find, returns

HYBRID = "LunarLanderHybrid-v3"


def obey_the_expert(peer: Peer) -> None:
    """Answer with the recommendation, or with action 0 (of one discrete head) as dqn."""
    peer.welcome(session=3)
    while (frame := peer.recv()) is not None and frame != [5]:
        peer.answer(frame, frame[6] or [0], 2 if frame[6] else 1)


def refuse(peer: Peer) -> None:
    peer.recv()
    peer.send([15, "bad_token", "expected the server's token, got none; use --token", False])


@pytest.fixture
def serve() -> Iterator[Callable[..., FakeServer]]:
    servers: list[FakeServer] = []

    def start(*scripts: Callable[[Peer], None]) -> FakeServer:
        servers.append(FakeServer(*scripts))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    play.add_arguments(parser)
    return parser.parse_args(words)


def until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_evaluation_plays_exactly_its_episodes_with_their_seeds(
    serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not forked as for other tests: what a game's process imports is looked at.
    monkeypatch.setattr(game_handle, "_SPAWN", multiprocessing.get_context("spawn"))
    options = GameOptions(
        HYBRID,
        "127.0.0.1",
        serve(obey_the_expert).port,
        role="eval_expert",
        episodes=5,
        seed=40,
        expert="tests.support.fake_games:without_torch",
        log_dir=tmp_path / "answers",
    )
    with Games(options) as games:
        games.start(2)
        assert games.wait(60.0)
        assert games.running() == 0
    assert games.failures == []
    episodes = sorted(games.episodes(), key=lambda episode: episode.index)
    assert [episode.index for episode in episodes] == [0, 1, 2, 3, 4]
    assert [episode.client for episode in episodes] == [0, 1, 0, 1, 0]
    expert = find(HYBRID)
    assert expert is not None
    # The way over the wire changes nothing: the same episodes without a server.
    alone = returns(HYBRID, expert, 5, seed=40)
    assert [episode.return_ for episode in episodes] == alone
    assert all(e.expert == e.length and e.dqn == 0 for e in episodes)
    for client in (0, 1):
        with np.load(tmp_path / "answers" / f"client-{client}.npz") as log:
            mine = [e for e in episodes if e.client == client]
            # An action for each frame of an episode but its last.
            assert log["action"].shape == (sum(e.length for e in mine) + len(mine), 2)
            actors, counts = np.unique(log["actor"], return_counts=True)
            assert actors.tolist() == [0, 2]
            assert counts.tolist() == [len(mine), sum(e.length for e in mine)]
            assert set(log["session"].tolist()) == {3}


def test_stop_ends_games_that_would_play_forever(serve: Any, tmp_path: Path) -> None:
    server = serve(obey_the_expert)
    options = GameOptions("CartPole-v1", "127.0.0.1", server.port, log_dir=tmp_path)
    games = Games(options)
    games.start(2)
    until(lambda: server.connections == 2 and not games.results.empty())
    assert games.running() == 2
    games.stop()
    assert games.running() == 0
    assert games.failures == []
    assert len(games.episodes()) > 0
    assert {path.name for path in tmp_path.iterdir()} == {"client-0.npz", "client-1.npz"}


def test_killed_game_begins_again_and_others_play_on(serve: Any) -> None:
    server = serve(obey_the_expert)
    with Games(GameOptions("CartPole-v1", "127.0.0.1", server.port)) as games:
        games.start(2)
        until(lambda: server.connections == 2)
        process = games._games[1].process
        assert process is not None
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        until(lambda: len(games.failures) > 0)
        assert games.running() == 2
        games.episodes()
        until(lambda: server.connections == 3)
        until(lambda: {episode.client for episode in games.episodes()} >= {0})
        until(lambda: {episode.client for episode in games.episodes()} >= {1})
    (failure,) = games.failures
    assert (failure.client, failure.message) == (1, "its process was killed by SIGKILL")
    assert failure.again_s is not None


def test_refusal_is_printed_as_one_message(serve: Any, capsys: Any) -> None:
    port = serve(refuse).port
    code = play.main(arguments("--env", "CartPole-v1", "--connect", f"127.0.0.1:{port}"))
    assert code == 1
    printed, error = capsys.readouterr()
    assert "episode" not in printed
    assert error == (
        "understudy play: the server refused (bad_token): "
        "expected the server's token, got none; use --token\n"
    )


def command(port: int, clients: int = 2) -> subprocess.Popen[str]:
    """`understudy play` with so many games, in a process of its own."""
    words = ["--env", "CartPole-v1", "--clients", str(clients), "--connect", f"127.0.0.1:{port}"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return Understudy("play", *words, **pipes)


def read_until(process: subprocess.Popen[str], words: str) -> str:
    """What it prints, up to the line with these words."""
    assert process.stdout is not None
    printed = ""
    while words not in printed:
        line = process.stdout.readline()
        assert line, f"it ended without {words!r}: {printed}"
        printed += line
    return printed


@pytest.mark.parametrize("preprocess", [[], ["--atari"]])
def test_ale_game_plays_by_its_name(serve: Any, capsys: Any, preprocess: list[str]) -> None:
    if preprocess:
        pytest.importorskip("cv2", reason="needs the extra atari")
    port = serve(obey_the_expert).port
    words = ["--env", "ALE/Pong-v5", "--frames", "12", "--connect", f"127.0.0.1:{port}"]
    assert play.main(arguments(*words, *preprocess)) == 0
    out, errors = capsys.readouterr()
    assert errors == ""
    assert "1 episodes: 12 frames, " in out


def test_preprocessing_of_another_game_is_refused_once(serve: Any, capsys: Any) -> None:
    port = serve(obey_the_expert).port
    words = ["--env", "CartPole-v1", "--atari", "--clients", "2"]
    assert play.main(arguments(*words, "--connect", f"127.0.0.1:{port}")) == 1
    assert capsys.readouterr().err == (
        "understudy play: --env CartPole-v1: the preprocessing atari is for the games of ALE, such "
        "as ALE/Pong-v5; got CartPole-v1\n"
    )


def test_environment_is_made_as_its_options_say(
    serve: Any, capsys: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    """In the processes of games too: the wrapper is in the folder where the command was started."""
    (tmp_path / "own_small_wrap.py").write_text(
        "from gymnasium import spaces\n"
        "from gymnasium.wrappers import TransformObservation\n"
        "def twice(env):\n"
        "    size = env.observation_space.shape[0]\n"
        "    box = spaces.Box(0, 1, (2 * size,))\n"
        "    return TransformObservation(env, lambda obs: [*obs, *obs], box)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    shown: list[int] = []

    def measure(peer: Peer) -> None:
        peer.welcome()
        while (frame := peer.recv()) is not None and frame != [5]:
            shown.append(len(frame[3]))
            peer.answer(frame, [0.0])

    words = [
        "--env", "tests.support.spaced:Loose-v0", "--frames", "3", "--env-args", "size=5",
        "--wrap", "own_small_wrap:twice", "--action-bounds=-1,1",
    ]  # fmt: skip
    assert play.main(arguments(*words, "--connect", f"127.0.0.1:{serve(measure).port}")) == 0
    out, errors = capsys.readouterr()
    assert errors == ""
    assert "1 episodes: 3 frames" in out
    assert shown == [4 * 2 * 5] * 4  # float32


def test_missing_server_is_reported_once_for_all_games() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with command(port) as process:
        read_until(process, f"cannot connect to 127.0.0.1:{port}: Connection refused; trying again")
        time.sleep(1.0)
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=60.0)
    assert process.returncode == 0
    assert [
        line for line in rest.splitlines() if not line.startswith("no complete episode, ")
    ] == []


def test_lost_and_returned_server_is_reported(serve: Any) -> None:
    seen = threading.Event()

    def cut(peer: Peer) -> None:
        peer.welcome()
        peer.answer(peer.recv(), [0])

    def back(peer: Peer) -> None:
        assert seen.wait(60.0)
        obey_the_expert(peer)

    # One game: of two, one may come back before the other has come.
    server = serve(cut, back)
    with command(server.port, clients=1) as process:
        before = read_until(process, f"connection lost: 127.0.0.1:{server.port}: ")
        assert "episode" not in before
        seen.set()
        between = read_until(process, "connected to the server")
        assert "connect" not in between.removesuffix("connected to the server\n")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60.0)
    assert process.returncode == 0


def test_statistics_line_is_not_repeated(serve: Any, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(play, "REPORT_S", 0.0)
    monkeypatch.setattr(play, "POLL_S", 0.01)
    words = ["--env", "CartPole-v1", "--episodes", "3"]
    port = serve(obey_the_expert).port
    assert play.main(arguments(*words, "--connect", f"127.0.0.1:{port}")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(set(lines)) == len(lines)
    assert lines[-1].startswith("3 episodes: ")


def test_messages_of_games_without_server_are_printed_once_a_minute() -> None:
    notice = OutageNotice()
    assert notice.line([], 0.0) is None
    assert notice.line(["lost", "lost too"], 1.0) == "lost"
    assert notice.line(["refused"], 60.9) is None
    assert notice.line(["refused"], 61.0) == "refused"
    assert notice.line(["refused"], 62.0) is None
    assert notice.line([], 63.0) == "connected to the server"
    assert notice.line([], 64.0) is None
    assert notice.line(["lost"], 65.0) == "lost"


def test_sigterm_stops_play_and_its_games(serve: Any) -> None:
    server = serve(obey_the_expert)
    with command(server.port) as process:
        until(lambda: server.connections == 2)
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=20.0)
    assert process.returncode == 0, output
    assert "episode" in output
    until(lambda: not any(thread.is_alive() for thread in server.threads))


def test_sigterm_to_the_whole_group_is_no_failure_of_games(serve: Any) -> None:
    """A service manager sends it to every process, in any order; games wait for an answer."""

    def make_wait(peer: Peer) -> None:
        peer.welcome()
        while peer.recv() is not None:
            pass

    server = serve(make_wait)
    with command(server.port) as process:
        until(lambda: server.connections == 2)
        for game in descendants(process.pid):
            os.kill(game, signal.SIGTERM)
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=20.0)
    assert process.returncode == 0, output
    assert "failed" not in output
    assert "episode" in output


def test_killed_play_command_ends_its_games(serve: Any) -> None:
    server = serve(obey_the_expert)
    with command(server.port) as process:
        until(lambda: server.connections == 2)
        process.kill()
        process.communicate(timeout=20.0)
    until(lambda: not any(thread.is_alive() for thread in server.threads))


def test_play_options_that_conflict_are_refused(capsys: Any) -> None:
    assert play.main(arguments("--expert", "nowhere:f")) == 2
    assert "expert 'nowhere:f': No module named 'nowhere'" in capsys.readouterr().err
    assert play.main(arguments("--env", "CartPole-v1", "--role", "eval_expert")) == 2
    assert "needs an expert, and none is known for 'CartPole-v1'" in capsys.readouterr().err
    assert play.main(arguments("--weaken", "30")) == 2
    assert "weaken: expected 0 to 1, got 30" in capsys.readouterr().err
    for words in (["--connect", "nowhere"], ["--connect", "a:70000"], ["--clients", "0"]):
        with pytest.raises(SystemExit):
            arguments(*words)


def test_server_addresses_are_parsed() -> None:
    assert parse_address("host:1") == ("host", 1)
    assert parse_address("[::1]:7777") == ("::1", 7777)
    assert arguments().connect == ("127.0.0.1", 7777)


def test_episode_shares_add_up_to_the_total() -> None:
    for total in range(12):
        assert sum(share(total, client, 5) or 0 for client in range(5)) == total
    assert share(None, 0, 5) is None


def test_play_summary_shows_frames_shares_and_mean_return() -> None:
    assert play.summary([]) == "no complete episode"
    episodes = [GameEpisode(0, 0, 1.0, 10, 5, 5), GameEpisode(1, 1, 3.0, 30, 25, 5)]
    assert play.summary(episodes) == "2 episodes: 40 frames, 25.0% expert, mean return 2.0 +- 1.0"


def test_play_does_not_show_the_token() -> None:
    assert "secret" not in repr(GameOptions("e", "h", 1, token="secret"))

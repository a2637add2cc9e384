"""Games that fail, against a server of a few lines: who begins again, and who plays on."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from server.commands import play
from server.play import tries
from server.play.game_messages import RESEED, GameOptions
from server.play.games import Games
from tests.support.fake_server import FakeServer, Peer
from tests.support.processes import descendants, end, is_zombie

pytestmark = pytest.mark.timeout(180)

ENVS = "tests.support.failing_envs"
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tries, "FIRST_S", 0.05)


def obey(peer: Peer) -> None:
    """Answer every frame; refuse a wild reward, as the server does."""
    peer.welcome()
    while (frame := peer.recv()) is not None and frame != [5]:
        if frame[0] == 4:
            peer.send([14, frame[1]])
            continue
        if frame[4] > 1e9:
            peer.send([15, "reward_not_finite", "expected rewards to 1e+09", False])
            return
        peer.answer(frame, [0], 1)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    made = FakeServer(obey)
    yield made
    made.close()


def run(server: FakeServer, env: str, *words: str) -> int:
    """`understudy play` with three games of an environment."""
    parser = argparse.ArgumentParser()
    play.add_arguments(parser)
    common = ["--env", f"{ENVS}:{env}-v0", "--connect", f"127.0.0.1:{server.port}", "--seed", "0"]
    return play.main(parser.parse_args([*common, "--clients", "3", *words]))


def summary(out: str) -> tuple[int, int]:
    """Episodes and frames, as the last line says them."""
    found = re.search(r"(\d+) episodes: (\d+) frames", out.splitlines()[-1])
    assert found, out
    return int(found[1]), int(found[2])


@pytest.mark.promise("game-fails")
@pytest.mark.parametrize(
    ("env", "said", "where"),
    [
        ("Crash", "failed: RuntimeError: the emulator has crashed", "in crash"),
        ("CrashInReset", "failed: RuntimeError: the emulator has crashed", "in crash"),
        ("BrokenPipe", "failed: BrokenPipeError: the emulator's own pipe", "in broken_pipe"),
        ("Exit", "failed: its process ended with exit code 0", None),
        ("SysExit", "failed: SystemExit: 0", "in leave_in_python"),
        ("Segfault", "failed: its process was killed by SIGSEGV", "in segfault"),
        (
            "NanObservation",
            "failed: ValueError: obs: expected finite numbers, got nan",
            ", in play\n",
        ),
        ("WildReward", "the server refused (reward_not_finite)", ", in play\n"),
        (
            "ListObservation",
            "failed: ValueError: expected the environment to return an ",
            ", in play\n",
        ),
    ],
)
def test_game_that_fails_begins_again_and_the_others_play_on(
    server: FakeServer, capsys: Any, env: str, said: str, where: str | None
) -> None:
    assert run(server, env, "--episodes", "6") == 0
    out, errors = capsys.readouterr()
    # Every game's share is played: of game 1 that is two episodes, each tried once more.
    assert summary(out) == (6, 60)
    assert errors.count("understudy play: game 1 of ") == 2
    assert errors.count("; it begins again in 0.05 s") == 1
    assert "game 0 of " not in errors
    assert "game 2 of " not in errors
    assert said in errors
    if where is not None:
        assert errors.count(where) == 1, "its traceback, once"
        assert errors.count("(traceback as above)") == 1
    assert re.search(r"^understudy play: game 1 failed 2 times, begun again: ", errors, re.M)


@pytest.mark.promise("game-fails")
def test_game_that_hangs_is_killed_and_begins_again(server: FakeServer, capsys: Any) -> None:
    assert run(server, "Hang", "--episodes", "3", "--hang-after", "3") == 0
    out, errors = capsys.readouterr()
    assert summary(out) == (3, 30)
    assert "game 1 of tests.support.failing_envs:Hang-v0 failed: made no step for 3 s" in errors
    assert "in hang" in errors, "where it hung"


def test_game_that_hangs_ends_when_whoever_started_it_is_killed(server: FakeServer) -> None:
    words = ["--env", f"{ENVS}:Hang-v0", "--connect", f"127.0.0.1:{server.port}", "--seed", "1"]
    command = subprocess.Popen([sys.executable, "-m", "server", "play", *words], cwd=ROOT)
    wait_for(lambda: server.connections == 1)
    time.sleep(2.0)  # it hangs after five frames
    below = descendants(command.pid)
    command.kill()
    command.wait()
    try:
        wait_for(lambda: all(is_zombie(pid) for pid in below))
    finally:
        for pid in below:
            end(pid)


@pytest.mark.promise("game-fails")
def test_error_is_told_also_where_closing_hangs_after_it(server: FakeServer, capsys: Any) -> None:
    assert run(server, "CrashAndCloseHangs", "--episodes", "3", "--hang-after", "3") == 0
    out, errors = capsys.readouterr()
    assert summary(out) == (3, 30)
    assert (
        "game 1 of tests.support.failing_envs:CrashAndCloseHangs-v0 failed: RuntimeError" in errors
    )
    assert ", in crash\n" in errors, "its traceback"
    assert "game 1 failed once, begun again: RuntimeError: the emulator has crashed\n" in errors


def test_error_in_close_ends_nothing(server: FakeServer, capsys: Any) -> None:
    """All is played: it is said, and nothing begins again."""
    assert run(server, "CrashInClose", "--episodes", "3") == 0
    out, errors = capsys.readouterr()
    assert summary(out) == (3, 30)
    assert "failed: RuntimeError: the emulator has crashed" in errors
    assert "begins again" not in errors
    assert "given up" not in errors
    assert server.connections == 3


def test_game_that_always_fails_is_given_up_and_the_others_finish(
    server: FakeServer, capsys: Any
) -> None:
    assert run(server, "CrashAlways", "--episodes", "9", "--restarts", "2") == 0
    out, errors = capsys.readouterr()
    assert summary(out) == (6, 60)
    assert server.connections == 2 + 3
    assert "it is given up: it failed 3 times in 10 minutes" in errors
    why = "RuntimeError: the emulator has crashed (3 times)"
    assert f"game 1 failed 3 times, given up: {why}\n" in errors


def test_command_fails_when_all_games_are_given_up(server: FakeServer, capsys: Any) -> None:
    words = ["--clients", "1", "--seed", "1", "--restarts", "1", "--episodes", "5"]
    assert run(server, "CrashAlways", *words) == 1
    out, errors = capsys.readouterr()
    assert "complete episode" not in out
    assert "game 0 failed 2 times, given up: " in errors


def test_frames_of_failed_episodes_count_towards_the_limit(server: FakeServer, capsys: Any) -> None:
    assert run(server, "Crash", "--frames", "90", "--restarts", "9") == 0
    out, _ = capsys.readouterr()
    # Three episodes each, of which game 1 loses five actions a time until its budget is used up.
    frames = summary(out)[1]
    assert frames == 60 + 30 - 5 * errors_of_game_1(server)


def errors_of_game_1(server: FakeServer) -> int:
    return server.connections - 3


def test_restarted_game_goes_on_with_its_next_episode_and_another_seed(server: FakeServer) -> None:
    options = GameOptions(
        f"{ENVS}:Crash-v0", "127.0.0.1", server.port, episodes=6, seed=0, expert="none"
    )
    with Games(options) as three:
        three.start(3)
        assert three.wait(60.0)
    assert sorted(e.index for e in three.episodes()) == list(range(6))
    assert [failure.client for failure in three.failures] == [1, 1]
    assert not three.all_given_up
    assert RESEED % 3 == 2, "so that another seed is one that does not fail"


def test_what_cannot_get_better_is_not_tried_again(server: FakeServer, capsys: Any) -> None:
    assert run(server, "Nothing") == 1
    _, errors = capsys.readouterr()
    assert errors.count("\n") == 1, errors
    assert "Nothing" in errors
    assert server.connections == 0


def test_refused_spec_is_not_tried_again(capsys: Any) -> None:
    def refuse(peer: Peer) -> None:
        peer.recv()
        peer.send([15, "spec_mismatch", "expected another game", False])

    made = FakeServer(refuse)
    assert run(made, "Crash") == 1
    assert made.connections == 3
    made.close()
    assert capsys.readouterr().err == (
        "understudy play: the server refused (spec_mismatch): expected another game\n"
    )


def test_stop_while_a_game_waits_to_begin_again_ends_soon(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tries, "FIRST_S", 100.0)
    monkeypatch.setattr(tries, "LONGEST_S", 100.0)
    options = GameOptions(f"{ENVS}:Crash-v0", "127.0.0.1", server.port, seed=0, expert="none")
    with Games(options) as three:
        three.start(3)
        wait_for(lambda: len(three.failures) == 1)
        assert three.running() == 3
        assert not three.wait(0.5)
        began = time.monotonic()
    assert time.monotonic() - began < 50, "it waited until the game was due to begin again"
    assert three.running() == 0
    assert len(three.failures) == 1


def test_evaluation_game_that_fails_plays_its_share_all_the_same(
    server: FakeServer, capsys: Any
) -> None:
    words = ["--eval-every", "1000", "--eval-episodes", "3", "--eval-seed", "0", "--frames", "30"]
    assert run(server, "Crash", "--seed", "3000", "--expert", f"{ENVS}:advise", *words) == 0
    out, errors = capsys.readouterr()
    assert "evaluation after 0 frames, 3 episodes: network 10.0 +- 0.0, expert 10.0 +- 0.0" in out
    assert "understudy play: evaluation game 1 of " in errors
    assert "understudy play: expert's evaluation game 1 of " in errors


def test_evaluation_with_a_game_given_up_is_marked_incomplete(
    server: FakeServer, capsys: Any
) -> None:
    words = ["--eval-every", "15", "--eval-episodes", "3", "--eval-seed", "0", "--frames", "30"]
    assert run(server, "CrashAlways", "--seed", "3000", "--restarts", "0", *words) == 0
    out, _ = capsys.readouterr()
    said = [line for line in out.splitlines() if line.startswith("evaluation after")]
    assert len(said) == 3
    assert all("2 episodes (1 missing: incomplete): network 10.0" in line for line in said)
    assert summary(out)[0] > 0, "training went on"


def test_held_games_wait_for_no_game_that_is_about_to_begin_again(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tries, "FIRST_S", 3.0)
    options = GameOptions(f"{ENVS}:Crash-v0", "127.0.0.1", server.port, seed=0, expert="none")
    with Games(options) as three:
        three.start(3, limit=10_000)
        wait_for(lambda: len(three.failures) == 1)
        three.hold()
        wait_for(lambda: three.all_said("held"))
        wait_for(lambda: three._games[1].said == "held")  # it has begun again, and is held too
        before = three.frames
        three.go_on()
        wait_for(lambda: three.frames > before + 30)


def test_tries_double_their_pause_and_come_back_with_time() -> None:
    some = tries.Tries(3)
    assert [some.failed(t) for t in (0.0, 1.0, 2.0)] == [0.05, 0.1, 0.2]
    assert some.failed(3.0) is None
    later = tries.Tries(1)
    assert later.failed(0.0) == 0.05
    assert later.failed(tries.WINDOW_S + 1) == 0.05, "it played well for long"
    assert later.failed(tries.WINDOW_S + 2) is None
    assert tries.Tries(0).failed(0.0) is None


def wait_for(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    event = threading.Event()
    for _ in range(int(timeout_s / 0.02)):
        if condition():
            return
        event.wait(0.02)
    raise AssertionError("waited in vain")

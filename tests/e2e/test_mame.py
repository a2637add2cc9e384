"""MAME itself, without a screen: its games through a live server, the connection lost and found
again, refusals, and the example of the client's documentation."""

from __future__ import annotations

import json
import math
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from server.cli import parser_for
from server.commands import demo_mame
from server.monitor.metrics_doc import SUMMARY
from server.play import mame
from server.play.mame import MameError, MameGames
from tests.support.commands import in_this_process
from tests.support.fake_server import FakeServer, Peer
from tests.support.needs import needs

ROOT = Path(__file__).parents[2]
README = ROOT / "clients/mame/README.md"


def is_installed() -> bool:
    try:
        mame.find_mame()
    except MameError:
        return False
    return True


needs_mame = needs("mame", there=is_installed())


@contextmanager
def served(*scripts: Callable[[Peer], None]) -> Iterator[FakeServer]:
    server = FakeServer(*scripts)
    try:
        yield server
    finally:
        server.close()


def wait(games: MameGames, until: Callable[[], bool]) -> None:
    """Until this is so; the games must go on playing."""
    deadline = time.monotonic() + 240
    while not until():
        games.check()
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


class Player:
    """A server that has a game do what it recommends, and keeps what it is sent."""

    def __init__(self, frames: int, instead: tuple[int, list[Any]] = (2**31, [])) -> None:
        """`frames`: after so many it closes the connection without a word. `instead`: from this
        frame on it has the game do that."""
        self.hello: Any = None
        self.frames: list[list[Any]] = []
        self._limit = frames
        self._instead = instead

    def __call__(self, peer: Peer) -> None:
        self.hello = peer.welcome()[1]
        for _ in range(self._limit):
            frame = peer.recv()
            if frame is None or frame[0] == 5:
                return
            self.frames.append(frame)
            followed = len(self.frames) <= self._instead[0]
            peer.answer(frame, frame[6] if followed else self._instead[1], 2 if followed else 1)

    def observations(self) -> list[tuple[float, ...]]:
        return [struct.unpack(f"<{len(frame[3]) // 4}f", frame[3]) for frame in self.frames]


def hang_up(_: Peer) -> None:
    """A server that closes the connection at once."""


@pytest.fixture
def short_games(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """MAME plays Breakout in episodes of at most so many acts: it simulates the game's circuits,
    so that each act takes a while."""
    scripts, most = tmp_path / "scripts", 60
    scripts.mkdir()
    for name in ("understudy.lua", "breakout.lua"):
        text = (ROOT / "clients/mame" / name).read_text()
        (scripts / name).write_text(text.replace("MOST_ACTS = 200", f"MOST_ACTS = {most}"))
    assert f"MOST_ACTS = {most}" in (scripts / "breakout.lua").read_text()
    monkeypatch.setattr(mame, "SCRIPTS", scripts)
    return most


@pytest.mark.timeout(600)
@needs_mame
def test_mame_demo_of_breakout_runs_from_start_to_finish(tmp_path: Path, short_games: int) -> None:
    """The demo in small: all four players, training by both actors, and the emulators' logs of who
    chose what agree with the replay."""
    # More than the longest episode, for one of the two at least: so one is complete.
    frames = 2 * short_games + 5
    folder = tmp_path / "run"
    code, out, errors = in_this_process(
        "demo-mame", "--json", "--frames", str(frames),
        "--episodes", "1", "--clients", "2", "--run.dir", str(folder), "--run.seed", "3",
        "--trainer.min_steps", "20",
    )  # fmt: skip
    assert (code, errors) == (0, "")
    summary = json.loads(out)
    assert json.loads((folder / "summary.json").read_text()) == summary
    assert summary.keys() >= SUMMARY.keys() - {"eval_on_the_way"}  # nobody is measured there
    assert summary["frames"] >= frames
    assert summary["training_episodes"] >= 1
    assert summary["updates"] > 0
    assert summary["transitions_dropped"] == 0
    assert min(summary["buffer"]["dqn"], summary["buffer"]["expert"]) > 20
    assert (summary["attribution_mismatches"], summary["errors"]) == (0, 0)
    assert summary["attribution_compared"] >= frames
    assert summary["emulated_frames_per_s"] > 0
    players = summary["players"]
    assert players.keys() == {"random", "expert", "weakened", "student"}
    assert {one["episodes"] for one in players.values()} == {1}
    assert players["expert"]["return_mean"] > players["random"]["return_mean"]


@pytest.mark.timeout(300)
@needs_mame
def test_mame_game_reconnects_after_a_lost_connection(tmp_path: Path) -> None:
    """MAME reads nothing from a closed connection as it does from a silent one: it must be noticed
    all the same, and the game goes on with a new episode on a new connection."""
    first, second = Player(20), Player(20)
    with (
        served(first, second, hang_up) as server,
        MameGames("breakout", 1, port=server.port, home=tmp_path, seed=1) as games,
    ):
        wait(games, lambda: len(second.frames) == 20)
    for player in (first, second):
        assert [frame[2] for frame in player.frames] == list(range(20))
        assert player.hello["game"] == "mame-breakout"
        # An episode begins with the ball still to be served, and the expert serves it.
        assert player.observations()[0][7] == 0
        assert player.frames[0][6][1] == 1


@pytest.mark.timeout(300)
@needs_mame
def test_mame_plays_pong(tmp_path: Path) -> None:
    player = Player(160, (40, [-1.0, 0]))  # in the end the paddle goes into a corner
    with (
        served(player, hang_up) as server,
        MameGames("pong", 1, port=server.port, home=tmp_path, seed=1) as games,
    ):
        wait(games, lambda: len(player.frames) == 160)
    seen = player.observations()
    assert all(math.isfinite(number) and abs(number) <= 3 for one in seen for number in one)
    # A coin starts it; from then on the ball moves, both ways, and the paddle follows.
    assert player.frames[0][6][1] == 1
    assert [one[7] for one in seen[:2]] == [0, 1]
    assert min(one[2] for one in seen) < -0.3 < 0.3 < max(one[2] for one in seen)
    assert len({one[4] for one in seen[:40]}) > 5
    assert sum(one[4] < -0.95 for one in seen[60:]) > 80
    assert {frame[4] for frame in player.frames} >= {0.0, -1.0}, "the corner has lost no point"


@pytest.mark.timeout(300)
@needs_mame
def test_refused_mame_ends_and_reports_it(tmp_path: Path) -> None:
    def refuse(peer: Peer) -> None:
        peer.recv()
        peer.send([15, "bad_token", "expected the server's token", False])

    with (
        served(refuse) as server,
        MameGames("pong", 1, port=server.port, home=tmp_path) as games,
        pytest.raises(MameError, match=r"game 0 .*bad_token: expected the server's token"),
    ):
        wait(games, lambda: False)
    assert server.connections == 1


@pytest.mark.timeout(300)
@needs_mame
def test_mame_example_plays_as_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is what the documentation shows, it has 50 lines at most, and it plays: the client with
    the example in the place of a game."""
    text = (ROOT / "clients/mame/example.lua").read_text()
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    (scripts / "understudy.lua").write_text((ROOT / "clients/mame/understudy.lua").read_text())
    (scripts / "breakout.lua").write_text(text)
    monkeypatch.setattr(mame, "SCRIPTS", scripts)
    player = Player(1000)
    with (
        served(player) as server,
        MameGames(
            "breakout", 1, port=server.port, home=tmp_path / "home", seed=2, episodes=1
        ) as games,
    ):
        wait(games, lambda: games.over)
        games.check()
    assert player.hello["game"] == "returning-balls"
    statuses = [frame[5] for frame in player.frames]
    assert statuses[-1] in (1, 2)
    assert not any(statuses[:-1])
    (episode,) = games.episodes
    assert episode.acts == episode.expert == len(player.frames) - 1
    assert episode.return_ == sum(frame[4] for frame in player.frames[1:])


def test_mame_example_equals_the_one_in_the_readme() -> None:
    text = (ROOT / "clients/mame/example.lua").read_text()
    assert f"```lua\n{text}```" in README.read_text()
    assert len(text.splitlines()) <= 50


def test_demo_without_mame_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(mame.shutil, "which", lambda *_, **__: None)
    assert demo_mame.main(parser_for("demo-mame").parse_args([])) == 2
    assert "apt-get install mame" in capsys.readouterr().err

"""What is seen of games without a window: videos, files of keys, and refusals in words."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from server.commands import play
from server.play.person import key_map
from tests.support.fake_server import FakeServer, Peer
from understudy_client.spec import Discrete


def first_action(peer: Peer) -> None:
    """The network takes the first action, always."""
    peer.welcome()
    while (frame := peer.recv()) is not None and frame[0] != 5:
        peer.answer(frame, [0])


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server = FakeServer(first_action)
    yield server.port
    server.close()


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    play.add_arguments(parser)
    return play.main(parser.parse_args(words))


@pytest.mark.parametrize(("name", "codec"), [("seen.gif", "gif"), ("seen.mp4", "h264")])
def test_video_has_a_picture_of_each_frame(
    port: int, tmp_path: Path, capsys: Any, name: str, codec: str
) -> None:
    av = pytest.importorskip("av")
    video = tmp_path / name
    assert run(
        "--env", "MinAtar/Breakout-v1", "--episodes", "1", "--seed", "3", "--clients", "1",
        "--connect", f"127.0.0.1:{port}", "--video", str(video), "--fps", "10",
    ) == 0  # fmt: skip
    frames = int(capsys.readouterr().out.split("1 episodes: ")[1].split()[0])
    with av.open(str(video)) as file:
        stream = file.streams.video[0]
        assert stream.codec_context.name == codec
        pictures = [picture.to_ndarray(format="rgb24") for picture in file.decode(stream)]
    # Every step's, and the last observation.
    assert len(pictures) == frames + 1
    assert pictures[0].shape == (160, 160, 3), "10 x 10 is drawn larger"
    assert any((pictures[0] != other).any() for other in pictures), "and the game moves"


def test_game_without_a_picture_is_refused_with_what_it_needs(
    port: int, tmp_path: Path, capsys: Any
) -> None:
    video = tmp_path / "seen.mp4"
    assert run(
        "--env", "PongRam-v0", "--connect", f"127.0.0.1:{port}", "--video", str(video)
    ) == 1  # fmt: skip
    said = capsys.readouterr().err
    assert "expected an environment with the render mode rgb_array" in said
    assert not video.exists()


def test_keys_are_written_for_a_game_and_read_again(tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "keys.toml"
    words = ("--env", "FrozenLake-v1", "--write-keys", str(file))
    assert run(*words) == 0
    assert "left: 0, down: 1" in capsys.readouterr().out
    keys = key_map.read(file, [Discrete("action", 4)])
    assert keys.idle is None
    assert keys.action(["up"], {}) == [3]
    assert run(*words) == 2
    assert "exists; name a new file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--human", "--role", "eval"], "--human: expected the role train with it, got eval"),
        (["--keys", "k.toml"], "--keys needs --human"),
        (["--fps", "3"], "--fps is about a picture"),
        (["--video", "film.avi"], "expected a name that ends in .mp4 or .gif"),
        (["--video", "nowhere/film.gif"], "there is no folder"),
    ],
)
def test_wrong_options_of_what_is_shown_are_refused(
    capsys: Any, words: list[str], said: str
) -> None:
    assert run(*words) == 2
    assert said in capsys.readouterr().err

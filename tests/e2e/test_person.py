"""A person at the controls: real key events in a window of Xvfb, of `play` and of `record`."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent import recording
from server.play.game_errors import GameNotMade
from server.play.person.key_map import KEYS
from server.play.person.view import CALM_S
from server.play.person.window import COLOURS, Lines, Window
from tests.support.display import xvfb
from tests.support.fake_server import FakeServer, Peer
from tests.support.needs import needs
from tests.support.preloaded import Understudy

pytestmark = [pytest.mark.timeout(180), needs("Xvfb", "xdotool")]

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def display() -> Iterator[str]:
    with xvfb() as name:
        yield name


class Person:
    """At the keyboard of a display, in front of a command in a process of its own."""

    def __init__(self, display: str, *words: str) -> None:
        self._here = os.environ | {"DISPLAY": display, "SDL_AUDIODRIVER": "dummy"}
        self._here.pop("SDL_VIDEODRIVER", None)
        self._display = display
        self.process = Understudy(
            *words, env=self._here, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def keys(self, *words: str) -> None:
        subprocess.run(["xdotool", *words], env=self._here, check=True, timeout=20)

    def seen(self, who: str, least: int = 500) -> bool:
        """The label of who plays is on the screen. With fewer pixels: text of that colour is."""
        from PIL import ImageGrab

        with contextlib.suppress(OSError):
            picture = np.asarray(ImageGrab.grab(xdisplay=self._display).convert("RGB"))
            return int((picture == COLOURS[who]).all(axis=2).sum()) > least
        return False

    def until(self, condition: Callable[[], Any], what: str) -> None:
        end = time.monotonic() + 60
        while not condition():
            assert self.process.poll() is None, self.process.communicate()[0]
            assert time.monotonic() < end, what
            time.sleep(0.05)

    def finish(self) -> str:
        output, _ = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, output
        return output


@pytest.fixture
def person(display: str) -> Iterator[Callable[..., Person]]:
    made: list[Person] = []

    def start(*words: str) -> Person:
        made.append(Person(display, *words))
        return made[-1]

    yield start
    for each in made:
        if each.process.poll() is None:
            each.process.terminate()
            each.process.communicate(timeout=30)


class PushLeft:
    """A server whose network always pushes left; it keeps `took` of each frame."""

    def __init__(self) -> None:
        self.hello: Any = None
        self.took: list[Any] = []
        self.lock = threading.Lock()

    def __call__(self, peer: Peer) -> None:
        self.hello = peer.welcome()[1]
        while (frame := peer.recv()) is not None and frame[0] != 5:
            if frame[0] == 4:
                peer.send([14, frame[1]])
            else:
                with self.lock:
                    self.took.append(frame[7])
                peer.answer(frame, [0])

    def since(self, count: int) -> list[Any]:
        with self.lock:
            return self.took[count:]


def test_person_takes_over_with_a_key_and_gives_back_with_tab(
    person: Callable[..., Person], tmp_path: Path
) -> None:
    network = PushLeft()
    server = FakeServer(network)
    video = tmp_path / "seen.mp4"
    try:
        player = person(
            "play", "--human", "watch", "--env", "CartPole-v1", "--fps", "20",
            "--connect", f"127.0.0.1:{server.port}", "--video", str(video),
        )  # fmt: skip
        player.until(lambda: len(network.took) > 5, "frames came")
        assert network.hello["realtime"]
        assert set(map(str, network.took)) == {"None"}
        player.until(lambda: player.seen("network"), "the window says that the network plays")
        player.keys("keydown", "Right")
        player.until(lambda: [[1], 2] in network.took, "what the person did was told")
        player.until(lambda: player.seen("you"), "the window says that the person plays")
        player.keys("keyup", "Right")
        player.keys("key", "Tab")
        player.until(lambda: player.seen("network"), "the network has the controls back")
        before = len(network.took) + 1
        player.until(lambda: len(network.since(before)) > 5, "the network plays on")
        assert set(map(str, network.since(before))) == {"None"}
        player.keys("key", "Escape")
        assert "% expert" in player.finish()
    finally:
        server.close()
    assert not server.errors
    import av

    with av.open(str(video)) as file:
        assert sum(1 for _ in file.decode(video=0)) >= len(network.took)


def test_recorded_episodes_are_discarded_and_marked_with_keys(
    person: Callable[..., Person], tmp_path: Path
) -> None:
    out = tmp_path / "mine.npz"
    player = person(
        "record", "--human", "--env", "CartPole-v1", "--out", str(out), "--episodes", "2",
    )  # fmt: skip
    player.until(lambda: player.seen("you"), "the window says that the person plays")

    def asked() -> bool:
        return player.seen("script", 40)

    def play(arrow: str, *keys: str) -> None:
        """Hold an arrow until the pole falls, and answer what is asked then."""
        player.keys("keydown", arrow)
        player.until(asked, "what becomes of the episode is asked at its end")
        player.keys("keyup", arrow)
        time.sleep(2 * CALM_S)  # it takes no notice of keys that were meant for the game
        player.keys("key", "--delay", "200", *keys)

    play("Right", "BackSpace")
    player.until(lambda: not asked(), "the next episode begins")
    play("Left", "m", "Return")
    player.until(out.exists, "an episode is on the disk as it ends")
    player.until(lambda: not asked(), "a discarded episode does not count, so another begins")
    play("Right", "Return")
    assert "2 complete episodes, 1 of them marked" in player.finish()
    found = recording.read(out)
    assert found.of_marked().rows.action[found.of_marked().rows.kind == 1].max() == 0


def test_each_name_of_a_key_is_one_of_pygame(display: str) -> None:
    import pygame

    os.environ["DISPLAY"], before = display, os.environ.get("DISPLAY")
    try:
        window = Window("test")
        try:
            for name in KEYS:
                assert pygame.key.name(pygame.key.key_code(name)) == name
            window.show(np.zeros((8, 8, 3), np.uint8), Lines("you", "you play", "", "x " * 400))
            assert window.inputs().held == []
            for kind, values in (
                (pygame.JOYBUTTONDOWN, {"button": 3}),
                (pygame.JOYHATMOTION, {"hat": 0, "value": (-1, 0)}),
                (pygame.JOYAXISMOTION, {"axis": 1, "value": -0.7}),
            ):
                pygame.event.post(pygame.event.Event(kind, values))
            found = window.inputs()
            assert found.held == ["button 3", "hat left", "axis 1 -"] == found.pressed
            assert found.axes == {"axis 1": -0.7}
            pygame.event.post(pygame.event.Event(pygame.JOYHATMOTION, hat=0, value=(0, 0)))
            pygame.event.post(pygame.event.Event(pygame.JOYAXISMOTION, axis=1, value=0.05))
            found = window.inputs()
            assert (found.held, found.pressed, found.axes) == (["button 3"], [], {})
            pygame.event.post(pygame.event.Event(pygame.WINDOWFOCUSLOST))
            pygame.event.post(pygame.event.Event(pygame.QUIT))
            found = window.inputs()
            assert (found.held, found.closed) == ([], True)
        finally:
            window.close()
    finally:
        del os.environ["DISPLAY"]
        os.environ.update({} if before is None else {"DISPLAY": before})


def test_window_without_a_display_is_refused_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(GameNotMade, match=r"no display for a window .*or under Xvfb"):
        Window("test")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    with pytest.raises(GameNotMade, match="SDL_VIDEODRIVER is dummy"):
        Window("test")

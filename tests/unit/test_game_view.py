"""Who plays a game that is seen: taking over, giving back, waiting, pausing, judging episodes."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from server.play.game_errors import GameNotMade
from server.play.person.key_map import Binding, KeyMap
from server.play.person.pictures import of_observation, picture_of
from server.play.person.view import GameView
from server.play.person.window import Inputs, Lines
from understudy_client.gym import Episode, EpisodeDiscarded
from understudy_client.spec import Discrete
from understudy_client.wire import EXPERT, RUNNING, TERMINATED

HEADS = (Discrete("action", 3),)
KEYS = (Binding(frozenset(["left"]), {0: 1}), Binding(frozenset(["right"]), {0: 2}))
REALTIME, WAITS = KeyMap(HEADS, KEYS, (0,)), KeyMap(HEADS, KEYS, None)
GAME: Any = SimpleNamespace(render_mode=None, metadata={}, has_wrapper_attr=lambda _: False)
OBS = np.zeros((4, 4), np.uint8)


class Desk:
    """A window, a clock and a person: `script` says what is pressed at each look at the window."""

    def __init__(self, *script: Inputs) -> None:
        self.now = 0.0
        self.shown: list[Lines] = []
        self.judged: list[str] = []
        self._script = list(script)

    def inputs(self) -> Inputs:
        return self._script.pop(0) if self._script else Inputs()

    def show(self, picture: Any, lines: Lines) -> None:
        assert picture.shape == (4, 4, 3)
        self.shown.append(lines)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        assert self.now < 60, "waited in vain"

    def view(self, keys: KeyMap | None = REALTIME, **more: Any) -> GameView:
        return GameView(
            self, None, keys, 10.0, clock=lambda: self.now, sleep=self.sleep,
            judge=self.judged.append, **more,
        )  # fmt: skip


def down(*names: str, held: bool = True) -> Inputs:
    return Inputs(held=list(names) if held else [], pressed=list(names))


def held(*names: str) -> Inputs:
    return Inputs(held=list(names))


def test_person_who_watches_takes_over_with_a_key_that_plays_and_gives_back() -> None:
    desk = Desk(Inputs(), down("left"), held("left"), Inputs(), down("tab", held=False))
    view, episode = desk.view(), Episode(0, None)

    def look() -> Any:
        return view.look(GAME, OBS, episode, RUNNING)

    assert look() is None
    assert desk.shown[-1].who == "network"
    desk.now += 1
    assert look() == [1]
    assert desk.shown[-1].who == "you"
    desk.now += 1
    assert look() == [1]
    desk.now += 1
    assert look() == [0], "at the controls, and nothing is held"
    desk.now += 1
    assert look() is None
    assert desk.shown[-1].who == "network"


def test_key_that_was_let_go_before_the_frame_counts_for_it() -> None:
    desk = Desk(down("right"), Inputs())
    view = desk.view(playing=True)
    assert view.look(GAME, OBS, Episode(0, None), RUNNING) == [2]
    desk = Desk(Inputs(), down("right"), Inputs())
    view, episode = desk.view(playing=True), Episode(0, None)
    assert view.look(GAME, OBS, episode, RUNNING) == [0]
    # The next frame is due a tenth of a second later: the key comes before, and is up by then.
    assert view.look(GAME, OBS, episode, RUNNING) == [2]
    assert desk.now == pytest.approx(0.1, abs=0.01)


def test_game_that_waits_stands_still_and_repeats_a_held_key_after_a_while() -> None:
    desk = Desk(*[Inputs()] * 100, down("left"), *[held("left")] * 500)
    view, episode = desk.view(WAITS, playing=True), Episode(0, None)
    times = []
    for _ in range(3):
        assert view.look(GAME, OBS, episode, RUNNING) == [1]
        times.append(desk.now)
    assert times[0] == pytest.approx(0.4, abs=0.02)
    assert times[1] - times[0] == pytest.approx(0.25, abs=0.02)
    assert times[2] - times[1] == pytest.approx(0.1, abs=0.02)


def test_action_that_is_not_legal_is_not_done_and_is_said() -> None:
    """Neither where nothing is held: the game stands still until there is something legal."""
    legal = np.array([False, False, True])
    for keys in (REALTIME, WAITS):
        desk = Desk(*[Inputs()] * 10, down("left"), *[Inputs()] * 10, down("right"))
        view = desk.view(keys, playing=True)
        assert view.look(GAME, OBS, Episode(0, None), RUNNING, legal) == [2]
        assert any(lines.note.startswith("action 1 is not legal now") for lines in desk.shown)


def test_pause_holds_the_game_until_the_key_comes_again() -> None:
    desk = Desk(down("p"), *[Inputs()] * 200, down("p"))
    view = desk.view()
    assert view.look(GAME, OBS, Episode(0, None), RUNNING) is None
    assert desk.now == pytest.approx(0.8, abs=0.05)
    assert any("paused" in lines.numbers for lines in desk.shown)


def test_nobody_to_give_back_to_is_said_and_the_person_plays_on() -> None:
    desk = Desk(down("tab"))
    view = desk.view(playing=True, alone=True)
    assert view.look(GAME, OBS, Episode(0, None), RUNNING) == [0]
    assert "nobody else can play" in desk.shown[-1].note


def test_unknown_key_is_named() -> None:
    desk = Desk(down("f5"))
    desk.view().look(GAME, OBS, Episode(0, None), RUNNING)
    assert desk.shown[-1].note == "f5 does nothing here"


@pytest.mark.parametrize("how", [down("escape"), Inputs(closed=True)])
def test_end_key_and_closed_window_end_the_game(how: Inputs) -> None:
    view = Desk(how).view(playing=True)
    assert view.look(GAME, OBS, Episode(0, None), RUNNING) is None
    assert view.ended


def test_stopped_game_waits_for_nobody() -> None:
    desk = Desk()
    view = desk.view(WAITS, playing=True, stopped=lambda: desk.now > 1)
    assert view.look(GAME, OBS, Episode(0, None), RUNNING) is None
    assert desk.now == pytest.approx(1, abs=0.1)


def test_title_says_script_where_the_last_action_was_the_expert_s() -> None:
    desk = Desk()
    view, episode = desk.view(), Episode(0, None)
    for who, actor in (("script", EXPERT), ("network", 1), ("script", EXPERT)):
        episode.length += 1
        episode.actors[actor] += 1
        view.look(GAME, OBS, episode, RUNNING)
        assert desk.shown[-1].who == who


CALM = [Inputs()] * 100


@pytest.mark.parametrize(
    ("presses", "judged", "ends", "kept"),
    [
        ([*CALM, down("return")], [], False, True),
        ([down("return"), *CALM, down("backspace")], ["discard"], False, False),
        ([*CALM, down("m"), down("return")], ["mark"], False, True),
        ([*CALM, down("m"), down("m"), down("return")], [], False, True),
        ([*CALM, down("escape")], [], True, True),
    ],
)
def test_recorded_episode_is_judged_at_its_end(
    presses: list[Inputs], judged: list[str], ends: bool, kept: bool
) -> None:
    desk = Desk(*presses)
    view = desk.view(playing=True, records=True)

    def look() -> None:
        assert view.look(GAME, OBS, Episode(0, None, length=9), TERMINATED) is None

    if kept:
        look()
    else:
        with pytest.raises(EpisodeDiscarded):
            look()
    assert (desk.judged, view.ended) == (judged, ends)


def test_recorded_episode_is_discarded_in_the_middle() -> None:
    desk = Desk(down("backspace"))
    view = desk.view(playing=True, records=True)
    with pytest.raises(EpisodeDiscarded):
        view.look(GAME, OBS, Episode(0, None, length=4), RUNNING)
    assert desk.judged == ["discard"]
    # Of an episode that has just begun there is nothing to discard.
    desk = Desk(down("backspace"))
    with pytest.raises(EpisodeDiscarded):
        desk.view(playing=True, records=True).look(GAME, OBS, Episode(0, None), RUNNING)
    assert desk.judged == []


def test_end_of_an_episode_that_is_not_recorded_stays_in_sight_for_a_moment() -> None:
    desk = Desk()
    desk.view(playing=True).look(GAME, OBS, Episode(0, None), TERMINATED)
    assert desk.now == pytest.approx(1.0, abs=0.05)
    desk = Desk()
    desk.view().look(GAME, OBS, Episode(0, None), TERMINATED)
    assert desk.now == 0


def test_film_gets_each_picture_once_without_a_window() -> None:
    film: list[Any] = []
    view = GameView(None, SimpleNamespace(add=film.append), None, 10.0)
    for status in (RUNNING, RUNNING, TERMINATED):
        assert view.look(GAME, OBS, Episode(0, None), status) is None
    assert len(film) == 3


def drawing(render: Callable[[], Any]) -> Any:
    return SimpleNamespace(
        render_mode="rgb_array", metadata={"render_modes": ["rgb_array"]}, render=render
    )


def test_picture_is_the_drawing_else_the_observation_else_an_error() -> None:
    drawn = np.full((2, 3, 3), 7, np.uint8)
    assert (picture_of(drawing(lambda: drawn), np.zeros(4)) == 7).all()

    def broken() -> Any:
        raise ImportError("no seaborn")

    assert picture_of(drawing(broken), OBS).shape == (4, 4, 3)
    with pytest.raises(GameNotMade, match="drawing it fails: ImportError: no seaborn"):
        picture_of(drawing(broken), np.zeros(4))
    with pytest.raises(GameNotMade, match=r"render mode rgb_array.*Add rgb_array"):
        picture_of(GAME, np.zeros(4))


def test_observations_that_are_pictures_are_seen_as_such() -> None:
    planes = np.zeros((6, 7, 5), np.bool_)
    planes[1, 2, 4] = True
    seen = of_observation(planes)
    assert seen is not None
    assert np.argwhere(seen.any(axis=2)).tolist() == [[1, 2]]
    first = np.moveaxis(np.arange(6 * 7 * 3, dtype=np.uint8).reshape(6, 7, 3), 2, 0)
    seen = of_observation(first)
    assert seen is not None
    assert (seen == np.moveaxis(first, 0, 2)).all()
    for other in (np.zeros(4), np.zeros((4, 4), np.float32), np.zeros((1, 9), np.uint8), (1, 2)):
        assert of_observation(other) is None

"""What is seen of a game, and what a person does in it, one frame after the other.

A person takes over from the network where it goes wrong, and gives back, as in human-gated DAgger
(Kelly et al. 2019, HG-DAgger, arXiv:1810.02890): what the person did is tagged as the expert's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

import gymnasium
import numpy as np
import numpy.typing as npt

from server.play.person.key_map import KeyMap
from server.play.person.pictures import Picture, picture_of
from server.play.person.window import Inputs, Lines
from understudy_client.gym import Episode, EpisodeDiscarded
from understudy_client.spec import Discrete, Part
from understudy_client.wire import EXPERT, RUNNING

POLL_S = 0.004
END_S = 1.0
"""How long the end of an episode stays in sight where it is not recorded."""
CALM_S = 0.3
"""Keys that go down so soon after an end were meant for the game."""
REPEAT_S = 0.25
"""In a game that waits for its keys: how long one is held before it plays again."""
NOTE_S = 4.0
DRAW_S = 0.25
"""What stands still is drawn again: other windows may have been above it."""

MARK, DISCARD = "mark", "discard"
"""What is said of an episode that is recorded."""

_TITLES = {"you": "you play", "network": "the network plays", "script": "the script plays"}


class Display(Protocol):
    """A window, as far as this needs it."""

    def inputs(self) -> Inputs: ...

    def show(self, picture: Picture, lines: Lines) -> None: ...


class Film(Protocol):
    """Where pictures are kept."""

    def add(self, picture: Picture) -> None: ...


class GameView:
    """Shows a game, and passes on what a person wants: a `Person` of understudy_client.gym."""

    def __init__(
        self,
        display: Display | None,
        film: Film | None,
        keys: KeyMap | None,
        fps: float,
        *,
        playing: bool = False,
        alone: bool = False,
        records: bool = False,
        stopped: Callable[[], bool] = lambda: False,
        waiting: Callable[[], None] = lambda: None,
        judge: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """keys: None where nobody may play. playing: a person is at the controls from the start;
        alone: nobody else can be. records: episodes are recorded; `judge` is called with MARK or
        DISCARD before one ends. stopped: whether the game is to end; waiting: called again and
        again while a person, or the clock, is waited for."""
        self.ended = False
        """A person wants no more."""
        self._display, self._film, self._keys = display, film, keys
        self._frame_s = 1.0 / fps
        self._playing, self._alone, self._records = playing, alone, records
        self._stopped, self._waiting, self._judge = stopped, waiting, judge
        self._clock, self._sleep = clock, sleep
        self._paused = self._marked = False
        self._picture: Picture | None = None
        self._episode: Episode | None = None
        self._by_expert = 0
        """Actions of the episode before this frame that were not the network's."""
        self._who = "network"
        self._recent: list[str] = []
        """What went down since the last frame."""
        self._next = self._repeats = clock()
        self._note, self._note_until = "", 0.0
        self._drawn = clock()

    def look(
        self,
        env: gymnasium.Env[Any, Any],
        obs: Any,
        episode: Episode,
        status: int,
        legal: npt.NDArray[np.bool_] | None = None,
    ) -> list[Part] | None:
        """Before each frame: show it, wait until it is time, and say what a person at the controls
        does on it; None where nobody is, and for the last frame of an episode. `legal`: a bool
        for each choice of each discrete head, None where all is. Errors:
        EpisodeDiscarded; GameNotMade where there is no picture of this game."""
        self._picture = picture_of(env, obs)
        if self._film is not None:
            self._film.add(self._picture)
        if self._display is None:
            return None
        if episode is not self._episode:
            self._episode, self._by_expert, self._marked = episode, 0, False
        self._see_who(episode)
        if status != RUNNING:
            self._end()
            return None
        wish = self._turn(legal)
        self._recent.clear()
        now = self._clock()
        waited = self._playing and self._keys is not None and self._keys.idle is None
        self._next = (now if waited else max(now - self._frame_s, self._next)) + self._frame_s
        return wish

    def _see_who(self, episode: Episode) -> None:
        by_expert = episode.actors.get(EXPERT, 0)
        if episode.length:
            self._who = "script" if by_expert > self._by_expert else "network"
        self._by_expert = by_expert

    def _turn(self, legal: npt.NDArray[np.bool_] | None) -> list[Part] | None:
        """One frame: what a person wants, or None. What is not legal is not done: the game stands
        still until something else is wanted."""
        self._draw()
        while not self._over():
            inputs = self._inputs()
            if self.ended:
                return None
            now = self._clock()
            if not self._paused and now >= self._next:
                if not self._playing:
                    return None
                wish = self._wish(inputs, now)
                if wish is not None and self._is_legal(wish, legal):
                    return wish
            self._sleep(POLL_S)
        return None

    def _wish(self, inputs: Inputs, now: float) -> list[Part] | None:
        """What a person at the controls wants now; None to wait for."""
        assert self._keys is not None
        held = [*inputs.held, *(name for name in self._recent if name not in inputs.held)]
        if self._keys.idle is not None:
            return self._keys.action(held, inputs.axes)
        if self._keys.touched(self._recent, {}):
            self._repeats = now + REPEAT_S
        elif now < self._repeats:
            return None
        return self._keys.action(held, inputs.axes)

    def _is_legal(self, wish: list[Part], legal: npt.NDArray[np.bool_] | None) -> bool:
        """Whether a game allows this now; if it does not, that is said. `legal`: a bool for each
        choice of each discrete head."""
        assert self._keys is not None
        first = 0
        for head, part in zip(self._keys.heads, wish, strict=True):
            if legal is None or not isinstance(head, Discrete):
                continue
            if not legal[first + int(part)]:  # type: ignore[arg-type]
                self._recent.clear()
                self._say(f"{head.name} {part} is not legal now; press another key")
                return False
            first += head.n
        return True

    def _over(self) -> bool:
        self._waiting()
        return self.ended or self._stopped()

    def _inputs(self) -> Inputs:
        """What is pressed; whatever is a command is done. Errors: EpisodeDiscarded."""
        assert self._display is not None
        inputs = self._display.inputs()
        self.ended |= inputs.closed
        for name in inputs.pressed:
            self._recent.append(name)
            self._press(name)
        if self._note and self._clock() >= self._note_until:
            self._say("")
        if self._clock() >= self._drawn + DRAW_S:
            self._draw()
        return inputs

    def _press(self, name: str) -> None:
        keys = self._keys
        if keys is None:
            self.ended |= name == "escape"
        elif name in keys.commands["end"]:
            self.ended = True
        elif name in keys.commands["take_over"]:
            self._take_over(not self._playing)
        elif name in keys.commands["pause"]:
            self._paused = not self._paused
            self._say("")
        elif name in keys.commands["mark"]:
            self._marked = not self._marked
            self._say(
                "" if self._records else "episodes are marked and discarded in understudy record"
            )
        elif name in keys.commands["discard"] and self._records:
            self._discard()
        elif keys.plays_with(name):
            self._paused = False
            if not self._playing:  # whoever reaches for the controls has them
                self._take_over(True)
        elif name not in keys.commands["keep"] and not name.startswith("axis"):
            self._say(f"{name} does nothing here")

    def _take_over(self, on: bool) -> None:
        if not on and self._alone:
            self._say("nobody else can play here: name a script with --expert")
            return
        self._playing = on
        self._say("")

    def _discard(self) -> None:
        """Errors: EpisodeDiscarded."""
        if self._episode is not None and self._episode.length:  # else there is nothing yet
            self._judge(DISCARD)
        self._say("")
        raise EpisodeDiscarded

    def _end(self) -> None:
        """The last frame of an episode. Errors: EpisodeDiscarded."""
        begun = self._clock()
        if self._records and self._keys is not None and self._playing:
            self._ask(begun, self._keys)
        elif self._playing:
            while not self._over() and self._clock() < begun + END_S:
                self._draw()
                self._inputs()
                self._sleep(POLL_S)
        else:
            self._draw()
        if self._marked and self._records:
            self._judge(MARK)
        self._next = self._clock() + self._frame_s

    def _ask(self, begun: float, keys: KeyMap) -> None:
        """Until a person says whether the episode is kept. Errors: EpisodeDiscarded."""
        assert self._display is not None
        asked = {word: keys.commands[word] for word in ("keep", "discard", "mark", "end")}
        words = ", ".join(f"{inputs[0]}: {word}" for word, inputs in asked.items())
        while not self._over():
            self._say(f"The episode is over. {words}")
            inputs = self._display.inputs()
            self.ended |= inputs.closed
            for name in inputs.pressed if self._clock() > begun + CALM_S else ():
                if name in asked["keep"]:
                    self._say("")
                    return
                if name in asked["discard"]:
                    self._discard()
                self._marked ^= name in asked["mark"]
                self.ended |= name in asked["end"]
            self._sleep(POLL_S)

    def _say(self, note: str) -> None:
        """Show this for a while, in place of the keys."""
        self._note, self._note_until = note, self._clock() + NOTE_S
        self._draw()

    def _draw(self) -> None:
        assert self._display is not None
        assert self._picture is not None
        assert self._episode is not None
        episode = self._episode
        who = "you" if self._playing else self._who
        numbers = (
            f"episode {episode.index + 1}   return {episode.return_:.1f}   frame {episode.length}"
        )
        numbers += "   marked" if self._marked and self._records else ""
        numbers += "   paused" if self._paused else ""
        self._drawn = self._clock()
        self._display.show(
            self._picture, Lines(who, _TITLES[who], numbers, self._help(), self._note)
        )

    def _help(self) -> str:
        if self._keys is None:
            return "escape: end"
        first = {word: inputs[0] for word, inputs in self._keys.commands.items()}
        over = "give back" if self._playing else "take over"
        own = [] if self._alone else [f"{first['take_over']}: {over}"]
        own += [f"{first['pause']}: pause", f"{first['end']}: end"]
        if self._records:
            own += [f"{first['mark']}: mark", f"{first['discard']}: discard"]
        return f"{', '.join(own)} · {self._keys.words()}"

"""Keys for a run in a terminal: the same controls as everywhere else (server.control.controller).

    p  pause training, or go on          r  expert ratio
    c  checkpoint now                    x  epsilon: exploration
    e  evaluate now                      l  learning rate

Each asks first: y does it, Enter too, anything else does not. The last three ask for a number.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import tty
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Protocol

from server.control.mailbox import Answer, text_of
from server.tui.live_table import Screen

HELP = "p {pause} · c checkpoint · e evaluate · r ratio · x epsilon · l learning rate"
"""76 columns at most: the width of a table in a terminal of 80."""

NUMBERS = {
    "r": ("expert.ratio", "expert_ratio", "the expert's share, 0 to 1"),
    "x": ("exploration.epsilon", "epsilon", "epsilon, 0 to 1"),
    "l": ("learner.learning_rate", "learning_rate", "the learning rate"),
}
"""Key to setting, metric, and words."""

_ENTER, _ESCAPE, _ERASE = "\r\n", "\x1b", "\x7f\x08"
_LONGEST = 20


class Handler(Protocol):
    """What carries out requests: server.control.controller.Controller."""

    def handle(self, request: Any, who: str) -> Answer | Future[Answer]: ...


class Keys:
    """From keys to requests. Knows no terminal; `say` gets a line to show, `hint` the keys that
    there are."""

    def __init__(
        self,
        handler: Handler,
        paused: Callable[[], bool],
        value: Callable[[str], float | None],
        say: Callable[[str], None],
        hint: Callable[[str], None],
    ) -> None:
        """`paused`: whether training is; `value`: what a metric is now."""
        self._handler = handler
        self._paused = paused
        self._value = value
        self._say = say
        self._hint = hint
        self._request: dict[str, Any] | None = None
        """What waits for a yes."""
        self._key = ""
        """Of NUMBERS: what is being typed; empty while nothing is."""
        self._typed = ""

    def help(self) -> None:
        """Show what there is, and what `p` does now. To be called again and again: others pause
        too."""
        self._hint(HELP.format(pause="resume" if self._paused() else "pause"))

    def press(self, char: str) -> None:
        """A key was pressed."""
        if self._key:
            self._type(char)
        elif self._request is not None:
            request, self._request = self._request, None
            if char and char in f"yY{_ENTER}":
                self._do(request)
            else:
                self._say("nothing was done")
        else:
            self._begin(char)

    def _begin(self, char: str) -> None:
        match char:
            case "p" if self._paused():
                self._ask("go on with training?", {"pause": False})
            case "p":
                self._ask("pause training? Games play on", {"pause": True})
            case "c":
                self._ask("write a checkpoint now?", {"checkpoint": True})
            case "e":
                self._ask("ask the games to evaluate now?", {"evaluate": True})
            case _ if char in NUMBERS:
                self._key, self._typed = char, ""
                self._show_typed()
            case _ if char.isprintable():
                self._say("")  # what there is stands below

    def _ask(self, text: str, request: dict[str, Any]) -> None:
        self._request = request
        self._say(f"{text} [y/n]")

    def _type(self, char: str) -> None:
        """A key while a number is typed."""
        if char in _ENTER and self._typed:
            key, self._key = NUMBERS[self._key][0], ""
            try:
                number = float(self._typed)
            except ValueError:
                self._say(f"expected a number, got {self._typed!r}; nothing was done")
                return
            self._ask(f"set {key} to {number:g}?", {"set": {key: number}})
        elif char in _ENTER or char == _ESCAPE:
            self._key = ""
            self._say("nothing was done")
        elif char in _ERASE:
            self._typed = self._typed[:-1]
            self._show_typed()
        elif char.isprintable():
            self._typed = (self._typed + char)[:_LONGEST]
            self._show_typed()

    def _show_typed(self) -> None:
        _, metric, words = NUMBERS[self._key]
        now = self._value(metric)
        self._say(f"{words}{'' if now is None else f' (now {now:g})'}: {self._typed}_")

    def _do(self, request: dict[str, Any]) -> None:
        answer = self._handler.handle(request, "terminal")
        if isinstance(answer, Future):
            self._say("…")
            answer.add_done_callback(lambda done: self._tell(done.result()))
        else:
            self._tell(answer)

    def _tell(self, answer: Answer) -> None:
        self._say(" ".join((answer.get("error") or text_of(answer)).splitlines()))


class Running(Protocol):
    """What keys need of a running server: server.supervisor.supervisor.Supervisor."""

    @property
    def controller(self) -> Handler: ...

    @property
    def paused(self) -> bool: ...

    @property
    def last(self) -> Mapping[str, float]: ...


def keyboard_for(server: Running, screen: Screen) -> Keyboard:
    """The keys below a live table, which shows from now on when training is paused; where there is
    none, keys that are never pressed."""
    screen.paused = lambda: server.paused
    keys = Keys(server.controller, screen.paused, server.last.get, screen.say, screen.hint)
    return Keyboard(keys, screen.live)


class Keyboard:
    """Reads keys without waiting for them. Use it as a context manager; where standard input is no
    terminal, or another program's, it reads nothing and changes nothing."""

    def __init__(self, keys: Keys, wanted: bool) -> None:
        """`wanted`: without it, nothing is read either."""
        self._keys = keys
        self._wanted = wanted
        self._before: list[Any] | None = None

    @staticmethod
    def usable() -> bool:
        """Standard input is a terminal, and this process is the one that it belongs to: to set up
        one of somebody else would stop the process."""
        try:
            fd = sys.stdin.fileno()
            return os.isatty(fd) and os.tcgetpgrp(fd) == os.getpgrp()
        except (OSError, ValueError):
            return False

    def poll(self) -> None:
        """Act on the keys that were pressed since."""
        if self._before is None or not self.usable():
            return
        self._keys.help()
        fd = sys.stdin.fileno()
        while select.select([fd], [], [], 0)[0]:
            data = os.read(fd, 64)
            if not data:
                return
            for char in data.decode(errors="ignore"):
                self._keys.press(char)

    def __enter__(self) -> Keyboard:
        if self._wanted and self.usable():
            fd = sys.stdin.fileno()
            with contextlib.suppress(termios.error):
                self._before = termios.tcgetattr(fd)
                # Key by key and unseen; Ctrl-C is still a signal.
                tty.setcbreak(fd)
                self._keys.help()
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None and self.usable():
            with contextlib.suppress(termios.error):
                termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, self._before)
        self._before = None

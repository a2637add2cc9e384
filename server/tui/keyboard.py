"""Keys for a run in a terminal: the same controls as everywhere else (server.control.controller).

    p  pause or resume training          r  expert ratio
    c  checkpoint now                    x  epsilon: exploration
    e  evaluate now                      l  learning rate

Each asks for confirmation: y or Enter confirms, any other key cancels. The keys in the right column
ask for a number first.
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
from server.monitor.status import Status
from server.monitor.warnings import in_one_line
from server.tui.live_table import Screen

HELP = "p {pause} · c checkpoint · e evaluate · r expert ratio · x epsilon · l lr"
"""76 columns at most: the width of a table in a terminal of 80."""

NUMBERS = {
    "r": ("expert.ratio", "expert_ratio", "expert ratio, 0 to 1"),
    "x": ("exploration.epsilon", "epsilon", "epsilon, 0 to 1"),
    "l": ("learner.learning_rate", "learning_rate", "learning rate"),
}
"""Key to setting, metric, and words."""

_ENTER, _ESCAPE, _ERASE = "\r\n", "\x1b", "\x7f\x08"
_LONGEST = 20


class RequestHandler(Protocol):
    """Carries out requests: server.control.controller.Controller."""

    def handle(self, request: Any, who: str) -> Answer | Future[Answer]: ...


class Keys:
    """Turns keys into requests. It knows no terminal: `say` gets a line to show, `hint` the list of
    keys."""

    def __init__(
        self,
        handler: RequestHandler,
        paused: Callable[[], bool],
        value: Callable[[str], float | None],
        say: Callable[[str], None],
        hint: Callable[[str], None],
    ) -> None:
        """`paused`: whether training is paused; `value`: the current value of a metric."""
        self._handler = handler
        self._paused = paused
        self._value = value
        self._say = say
        self._hint = hint
        self._request: dict[str, Any] | None = None
        """Waits for confirmation."""
        self._key = ""
        """Key of NUMBERS whose number is being typed; empty while none is."""
        self._typed = ""

    def help(self) -> None:
        """Show the keys, and whether `p` pauses or resumes. Call it regularly: others can pause
        training too."""
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
                self._say("canceled")
        else:
            self._begin(char)

    def _begin(self, char: str) -> None:
        match char:
            case "p" if self._paused():
                self._ask("resume training?", {"pause": False})
            case "p":
                self._ask("pause training? Games go on", {"pause": True})
            case "c":
                self._ask("write a checkpoint now?", {"checkpoint": True})
            case "e":
                self._ask("ask the games to evaluate now?", {"evaluate": True})
            case _ if char in NUMBERS:
                self._key, self._typed = char, ""
                self._show_typed()
            case _ if char.isprintable():
                self._say("")  # the line below lists the keys

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
                self._say(f"expected a number, got {self._typed!r}; nothing changed")
                return
            self._ask(f"set {key} to {number:g}?", {"set": {key: number}})
        elif char in _ENTER or char == _ESCAPE:
            self._key = ""
            self._say("canceled")
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


class ServerWithKeys(Protocol):
    """What keys need of a running server: server.supervisor.supervisor.Supervisor."""

    @property
    def controller(self) -> RequestHandler: ...

    @property
    def paused(self) -> bool: ...

    @property
    def last(self) -> Mapping[str, float]: ...

    @property
    def status(self) -> Status: ...


def keyboard_for(server: ServerWithKeys, screen: Screen) -> Keyboard:
    """The keys below a live table, which shows from now on when training is paused and what is
    worth a warning; where there is none, keys that are never pressed."""
    screen.paused = lambda: server.paused
    screen.warning = lambda: in_one_line(server.status.warnings)
    keys = Keys(server.controller, screen.paused, server.last.get, screen.say, screen.hint)
    return Keyboard(keys, screen.live)


class Keyboard:
    """Reads keys without waiting for them. Use it as a context manager. If standard input is no
    terminal, or the terminal belongs to another program, it reads and changes nothing."""

    def __init__(self, keys: Keys, wanted: bool) -> None:
        """`wanted`: false to read nothing."""
        self._keys = keys
        self._wanted = wanted
        self._before: list[Any] | None = None

    @staticmethod
    def usable() -> bool:
        """Standard input is a terminal that belongs to this process: setting up another one's would
        stop this process (SIGTTOU)."""
        try:
            fd = sys.stdin.fileno()
            return os.isatty(fd) and os.tcgetpgrp(fd) == os.getpgrp()
        except (OSError, ValueError):
            return False

    def poll(self) -> None:
        """Act on the keys pressed since the last call."""
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
                # Each key at once and without echo; Ctrl-C is still a signal.
                tty.setcbreak(fd)
                self._keys.help()
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None and self.usable():
            with contextlib.suppress(termios.error):
                termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, self._before)
        self._before = None

"""The acts of `understudy conformance --listen`: ways to answer a client and to end a connection.

An act decides what is sent and how it is cut into pieces; the connection sends it (`Sender`).
"""

from __future__ import annotations

import time
from typing import Any, Protocol

from server.conformance.answers import later, long_form, plain
from server.conformance.rules import Ledger

ACTS = ("split", "glued", "settings", "late-answer", "later-versions", "number-forms", "last-frame")
"""Ways to answer. Each lasts some frames."""
ENDINGS = ("cut", "half", "refused", "error-retry", "error-final")
"""Ways to end a connection."""
SERIES = (*ACTS, *ENDINGS)
"""All of them, in the order in which they are played."""

LATE_WELCOME_S = 0.5
LATE_S = 0.3
LATE_FRAMES = 5
"""So many answers are late: enough to see, and no long wait."""
SPLIT_FRAMES = 20
FRAMES_OF = {"split": SPLIT_FRAMES, "late-answer": LATE_FRAMES}
"""Acts that last fewer frames than the others."""
SETTINGS_PAUSE_S = 0.002
"""Between SETTINGS and the answer, so that they arrive in two pieces."""

SENT_LAST = {
    "": "WELCOME",
    "plain": "an answer",
    "split": "an answer, a byte at a time",
    "glued": "SETTINGS, an answer and SETTINGS in one piece",
    "settings": "SETTINGS, and then an answer",
    "late-answer": f"an answer {LATE_S:g} s late",
    "later-versions": "SETTINGS and an answer with elements behind the last",
    "number-forms": "an answer in the longest forms of msgpack",
    "last-frame": "the answer to an episode's last frame, which has no action",
}
"""The newest message that a client had received in this act."""


class Sender(Protocol):
    """What an act needs of the connection."""

    def send(self, data: bytes) -> None:
        """Send in one piece."""

    def send_bytewise(self, data: bytes) -> None:
        """Send a byte at a time."""

    def send_quietly(self, data: bytes) -> None:
        """Send, whether or not anybody is there."""

    def drain(self) -> None:
        """Let the client read what was sent last."""

    def wait(self, seconds: float) -> None:
        """Let time pass, and read what the client sends meanwhile."""

    def reset(self) -> None:
        """Have the connection end with RST instead of FIN."""


def send_welcome(act: str, fields: dict[str, Any], to: Sender, ledger: Ledger) -> None:
    """WELCOME with these fields, as the act sends it."""
    if act == "split":
        to.wait(LATE_WELCOME_S)
        ledger.mark("welcome late")
        to.send_bytewise(plain([11, fields]))
    elif act in ("later-versions", "cut"):
        to.send(later([11, {"later": [None], **fields}]))
    elif act == "half":
        to.send(long_form([11, fields]))
    else:
        to.send(plain([11, fields]))


def send_answer(act: str, value: list[Any], to: Sender, ledger: Ledger) -> None:
    """This ACTION or ACTIONS, as the act sends it."""
    if act == "split":
        to.send_bytewise(plain(value))
    elif act == "glued":
        to.send(plain([16, {"speed": 2}]) + plain(value) + plain([16, {"level": 5}]))
    elif act == "settings":
        to.send(plain([16, {"speed": 2.5, "list": [1, {"a": None}]}]))
        time.sleep(SETTINGS_PAUSE_S)
        to.send(plain(value))
    elif act == "late-answer":
        to.wait(LATE_S)
        ledger.mark("answer late")
        to.send(plain(value))
    elif act == "later-versions":
        to.send(later([16, {"another": True}]) + later(value))
    elif act == "number-forms":
        to.send(long_form(value))
    else:
        to.send(plain(value))


def send_refusal(to: Sender) -> None:
    """ERROR instead of WELCOME; the client may come back."""
    to.send_quietly(_error("too_many_clients", "come back later, as the rules say", retry=True))


def send_ending(act: str, value: list[Any], to: Sender) -> None:
    """What is sent before the connection ends, instead of this ACTION or ACTIONS."""
    if act == "half":
        answer = plain(value)
        to.send(answer[: len(answer) // 2])
    elif act == "error-retry":
        to.send_quietly(_error("server_stopping", "the server is shutting down", retry=True))
        to.drain()
    elif act == "error-final":
        text = "this is the last case, do not come back"
        to.send_quietly(_error("bad_hello", text, retry=False))
        to.drain()
    elif act == "cut":
        # A cable that was pulled, as far as this side can do it.
        to.reset()


def _error(code: str, text: str, *, retry: bool) -> bytes:
    return plain([15, code, f"conformance: {text}", retry])

"""What ends a game early, in words: which errors are worth another try, and their traceback."""

from __future__ import annotations

import faulthandler
import signal
import traceback
from pathlib import Path

import gymnasium

from server.play.game_messages import GameFailure
from server.play.tries import BAD_FRAME
from understudy_client import ClientError, ServerError

WHERE = signal.SIGUSR1
"""Has a game's process write where it is."""

LONGEST = 20_000
"""Characters of a traceback: an error may quote an observation of a megabyte."""


class GameNotMade(Exception):
    """There is no such game here, or it is none that can be played; the message says why."""


def failure_of(client: int, error: BaseException) -> GameFailure:
    """What to say of an error that ended a game."""
    if isinstance(error, GameNotMade) or (isinstance(error, ClientError) and not _bad_frame(error)):
        return GameFailure(client, str(error), permanent=True)
    lines = "".join(traceback.format_exception(error))
    if len(lines) > LONGEST:
        lines = f"{lines[: LONGEST // 2]}\n[...]\n{lines[-LONGEST // 2 :]}"
    return GameFailure(client, one_line(error), lines)


def one_line(error: BaseException) -> str:
    """An error's class and message in one line, as short as a line is."""
    if isinstance(error, ClientError):
        return str(error)
    text = " ".join(str(error).split())
    name = type(error).__name__
    return f"{name}: {text[:300]}" if text else name


def write_where(path: Path) -> None:
    """From now on this process writes to `path` where it is: when it crashes, and at `WHERE`."""
    # Open for the rest of its life: there is no time to open it then.
    file = path.open("w")
    faulthandler.enable(file)
    faulthandler.register(WHERE, file)


def made(env_id: str, error: Exception) -> Exception:
    """`error`, which making an environment raised, as it is to be told: one of Gymnasium, of an
    import or of a wrong option stays the same however often it is tried. The environment's own may
    not."""
    option = isinstance(error, ValueError) and _raised_in(error) in _MAKERS
    if option or isinstance(error, gymnasium.error.Error | ImportError):
        return GameNotMade(f"--env {env_id}: {error}")
    return error


_MAKERS = ("understudy_client", "gymnasium")
"""Packages that know what can be made."""


def _raised_in(error: BaseException) -> str:
    """The package whose code raised this."""
    *_, (frame, _line) = traceback.walk_tb(error.__traceback__)
    name: str = frame.f_globals.get("__name__", "")
    return name.partition(".")[0]


def _bad_frame(error: ClientError) -> bool:
    return isinstance(error, ServerError) and error.code in BAD_FRAME

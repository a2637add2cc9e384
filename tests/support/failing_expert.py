"""An expert of the server's own that is of no use: every call raises."""

from __future__ import annotations

from typing import NoReturn


def act(_obs: object, _situation: object) -> NoReturn:
    raise RuntimeError("it does not know what to do")

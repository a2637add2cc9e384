"""Answers over HTTP: JSON, and errors as JSON; what is asked for, as numbers and as text."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response


def json_response(
    content: Any, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """`content` as JSON; NaN and infinity become null."""
    return Response(
        msgspec.json.encode(content),
        status,
        {"cache-control": "no-store"} | (headers or {}),
        "application/json",
    )


def error_response(status: int, text: str) -> Response:
    """An error as JSON."""
    return json_response({"error": text}, status)


def closing_error(status: int, text: str) -> Response:
    """An error after which the connection is closed."""
    return json_response({"error": text}, status, {"connection": "close"})


DIGITS = 20
"""Of a number in an address, at most: Python refuses to read some thousands."""

SHOWN = 100
"""Letters of what came that an error repeats."""


def whole_number(text: str) -> int | None:
    """The number, or None where this is none of at most `DIGITS` digits."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= DIGITS else None


def shown(text: str) -> str:
    """What came, as an error may repeat it."""
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "…")

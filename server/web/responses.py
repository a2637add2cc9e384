"""Answers over HTTP: JSON, and errors as JSON."""

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

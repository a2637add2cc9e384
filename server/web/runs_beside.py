"""The runs beside the one that is served, over HTTP: a list, and some of them compared.

    GET  /api/runs                          the runs in the folder that the served run is in
    GET  /api/compare?run=A&run=B&curve=X   some of them by name: curves, settings that differ

Files are read in a thread, for one request at a time: whoever asks again and again gets 503, and
slows neither the other requests nor the supervisor more than one reader does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from config.load import ConfigError
from server.monitor.comparison import CURVES, check_curve, compare
from server.run.overview import overview, runs_in
from server.web.responses import error_response, json_response

LISTED = 100
"""Runs, at most: those whose numbers are the newest."""

MOST_RUNS, MOST_CURVES = 8, 4
"""In a comparison."""


class RunsBeside:
    """Answers the requests. `served`: gets the folder of the run that is served."""

    def __init__(self, served: Callable[[], Path]) -> None:
        self._served = served
        self._busy = False

    @property
    def routes(self) -> list[Route]:
        return [Route("/api/runs", self._runs), Route("/api/compare", self._compare)]

    async def _runs(self, _: Request) -> Response:
        return await self._answer(_listed, self._served().resolve())

    async def _compare(self, request: Request) -> Response:
        names = list(dict.fromkeys(request.query_params.getlist("run")))
        curves = list(dict.fromkeys(request.query_params.getlist("curve"))) or list(CURVES)
        if not 1 <= len(names) <= MOST_RUNS:
            return error_response(400, f"run: expected 1 to {MOST_RUNS} names of runs")
        if len(curves) > MOST_CURVES:
            return error_response(400, f"curve: expected at most {MOST_CURVES}")
        try:
            for curve in curves:
                check_curve(curve[:100])
        except ValueError as error:
            return error_response(400, f"curve: {error}")
        return await self._answer(_compared, self._served().resolve(), names, curves)

    async def _answer(self, read: Callable[..., Any], *args: Any) -> Response:
        if self._busy:
            text = "the folders of runs are being read for another request; ask again in a second"
            return json_response({"error": text}, 503, {"retry-after": "1"})
        self._busy = True
        try:
            return json_response(await asyncio.to_thread(read, *args))
        except (ConfigError, OSError) as error:
            return error_response(404, str(error))
        finally:
            self._busy = False


def _listed(served: Path) -> dict[str, Any]:
    """The answer of /api/runs."""
    paths = sorted(_beside(served).values(), key=_age)[:LISTED]
    found = []
    for path in paths:
        try:
            found.append(overview(path).plain() | {"served": path == served})
        except (ConfigError, OSError):  # it went away meanwhile, or is another user's
            continue
    return {"folder": str(served.parent), "runs": found, "most": MOST_RUNS}


def _compared(served: Path, names: list[str], curves: list[str]) -> dict[str, Any]:
    """The answer of /api/compare."""
    there = _beside(served)
    missing = [name for name in names if name not in there]
    if missing:
        raise ConfigError(
            f"there is no run {missing[0][:100]!r} here; /api/runs lists those there are"
        )
    return compare([there[name] for name in names], curves)


def _beside(served: Path) -> dict[str, Path]:
    """By name: the runs in the folder that the served one is in, and so that one too."""
    return {path.name: path for path in runs_in(served.parent) if path != served.parent}


def _age(path: Path) -> float:
    try:
        return -(path / "metrics.jsonl").stat().st_mtime
    except OSError:
        return 0.0

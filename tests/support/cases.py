"""One test for hundreds of cases, each of which takes less time than pytest takes for a test."""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable, Iterable
from typing import Any

import pytest

SHOWN = 20


def for_each(
    *columns: Iterable[Any], name: Callable[[Any], str] = str
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Call the test with each combination of these values, which are its first parameters; what
    follows them are fixtures. All are tried; then the first failure is raised, and its note has the
    names of the cases that failed."""
    cases = list(itertools.product(*columns))
    assert cases

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def run(**fixtures: Any) -> None:
            failed: list[str] = []
            first: BaseException | None = None
            for case in cases:
                try:
                    test(*case, **fixtures)
                except (Exception, pytest.fail.Exception) as error:
                    first = first or error
                    failed.append(" - ".join(map(name, case)))
            if first is not None:
                more = f", and {len(failed) - SHOWN} more" if len(failed) > SHOWN else ""
                first.add_note(
                    f"failed for {'; '.join(failed[:SHOWN])}{more} of {len(cases)} cases"
                )
                raise first

        parameters = list(inspect.signature(test).parameters.values())[len(columns) :]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return run

    return decorate

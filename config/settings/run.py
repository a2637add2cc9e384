"""Settings `run.*`: the folder of a run, its game, and its seed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from config.settings.base import NONE, Expected, OrNone, Section


class RunConfig(Section):
    """The folder of the run, the game that it is for, and what makes it repeatable."""

    dir: Annotated[Annotated[Path, Field(strict=False), Expected("a path")] | None, OrNone] = None
    """The run's folder. none: a new folder runs/<time>-<name>."""
    game: Annotated[Annotated[str, Field(min_length=1, max_length=200)] | None, OrNone] = None
    """Name of the game that the run is for, as games send it; a game of another name is refused.
    none: the first game that connects. A run that has a game keeps it."""
    seed: Annotated[Annotated[int, Field(ge=0, le=2**63 - 1)] | None, OrNone] = None
    """Seed of all random generators. none: a different one for each run."""

    @field_validator("dir", mode="before")
    @classmethod
    def _named(cls, path: object) -> object:
        if path == "":
            # Path("") is the current folder, which an unset variable would fill with a run.
            raise ValueError(f"expected a path or {NONE}, got empty text; correct or remove it")
        return path

"""Settings `tempest.*`: the older clients for arcade Tempest."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from config.settings.base import Expected, FractionSchedule, Live, OrNone, Section, Unit

START_ADVANCED, START_LEVEL, MAX_START_LEVEL = "start_advanced", "start_level", 81
"""The names in server.settings that the older clients for Tempest know, and the last level."""


class TempestConfig(Section):
    """The older clients for arcade Tempest (docs/tempest.md), which have a format of their own."""

    port: Annotated[
        Annotated[int, Field(ge=0, le=65_535), Expected("a whole number from 0 to 65535")] | None,
        OrNone,
    ] = None
    """The TCP port where they connect. 0: any free one. none: nowhere. With a port, the preset
    tempest is what all settings start from, where no other preset is named."""
    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """The address to listen on. These clients can say no token and no TLS: whoever reaches it can
    play, so beyond loopback it takes server.insecure."""
    reply_bytes: Annotated[int, Unit("bytes"), Expected("3 or 5")] = 5
    """The length of a reply: 5 with the start-level settings, 3 for clients before those. A client
    does not say which one it is."""
    spinner: Literal["continuous", "levels"] = "continuous"
    """How the knob is an action: one number from -0.9 to 0.9, or one of 11 levels."""
    zap_gate: Annotated[FractionSchedule, Live()] = FractionSchedule(
        start=0.0, end=0.0, frames=100_000
    )
    """The fraction of the network's superzaps that are not carried out where the client's expert
    would not zap. What was done instead is what is stored."""

    @field_validator("reply_bytes")
    @classmethod
    def _known(cls, length: int) -> int:
        if length not in (3, 5):
            raise ValueError(f"expected 3 or 5, got {length}; correct or remove it")
        return length

"""Settings `tempest.*`: the older clients for arcade Tempest."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from config.settings.base import (
    Count,
    Expected,
    Fraction,
    FractionSchedule,
    Frames,
    Live,
    OrNone,
    Section,
    Unit,
    Unsaved,
)

START_ADVANCED, START_LEVEL, MAX_START_LEVEL = "start_advanced", "start_level", 81
"""The names in server.settings that the older clients for Tempest know, and the last level."""


class TempestConfig(Section):
    """The older clients for arcade Tempest (docs/tempest.md), which have a format of their own."""

    port: Annotated[
        Annotated[int, Field(ge=0, le=65_535), Expected("a whole number from 0 to 65535")] | None,
        OrNone,
    ] = None
    """TCP port for these clients. 0: any free one. none: they cannot connect. With a port and no
    other preset, the preset tempest is used."""
    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """Address to listen on. These clients know neither token nor TLS, so beyond loopback
    tempest.insecure is needed."""
    insecure: Annotated[bool, Unsaved()] = False
    """Allow tempest.host beyond loopback: whoever reaches the port can play, whatever token
    server.host asks for. Never saved: each start is told anew."""
    reply_bytes: Annotated[
        Annotated[int, Unit("bytes"), Expected("3 or 5")] | None, OrNone, Unit("bytes")
    ] = None
    """Length of a reply: 5 with the start-level settings, 3 for clients that do not know them.
    none: by the client's header, 5 for the newest one and 3 for an older one. A client does not
    tell which it expects; the log tells when it reads another length."""
    realtime: bool = False
    """These clients play in real time, at the pace of a person or a throttled emulator, and never
    wait for the trainer. off: they wait where they play faster than is learnt from them."""
    spinner: Literal["continuous", "levels"] = "continuous"
    """Action of the knob: one number from -0.9 to 0.9 (continuous), or one of 11 levels."""
    zap_gate: Annotated[FractionSchedule, Live()] = FractionSchedule(
        start=0.0, end=0.0, frames=100_000
    )
    """Fraction of the network's superzaps that are suppressed where the client's expert would not
    zap. The action that was carried out is stored."""
    random_zaps: Fraction = 1.0
    """Fraction of the superzaps among random actions that are carried out."""
    skip: Annotated[
        tuple[Literal["attract", "level_select", "high_score"], ...], Field(strict=False)
    ] = ()
    """What is answered and not stored, because clients do nothing that they are told there: the
    attract mode, the level select, the high score entry. An episode ends where it begins."""
    eval_every: Annotated[Frames | None, OrNone, Unit("frames")] = None
    """Stored frames between evaluations of the network: it alone plays a client's next whole
    episodes. none: never."""
    eval_expert_every: Annotated[Frames | None, OrNone, Unit("frames")] = None
    """The same for the expert alone (expert.plugin)."""
    eval_episodes: Annotated[Count, Unit("episodes")] = 5
    """Episodes of such an evaluation."""

    @field_validator("reply_bytes")
    @classmethod
    def _known(cls, length: int | None) -> int | None:
        if length not in (None, 3, 5):
            raise ValueError(f"expected 3 or 5, got {length}; correct or remove it")
        return length

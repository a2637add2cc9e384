"""Where a trainer's rows come from: what `Ingest` asks of a gateway's rows, a ring or whatever else
brings them."""

from __future__ import annotations

from typing import Protocol

from agent.source import Origin
from agent.step import StepBlock


class StepSource(Protocol):
    """The rows of one gateway, in order. It keeps each until that is given back, and may bring rows
    again that were not: whoever reads goes by `origin`."""

    @property
    def capacity(self) -> int:
        """Rows that it can keep."""

    @property
    def used(self) -> int:
        """Rows that wait."""

    @property
    def origin(self) -> Origin:
        """Of the oldest row that waits."""

    @property
    def steps(self) -> int:
        """STEP rows that came so far, those that wait included."""

    @property
    def steps_read(self) -> int:
        """STEP rows that were given back."""

    @property
    def answered(self) -> int:
        """Frames that the gateway answered for training: `steps`, and those on their way."""

    def read(self, limit: int) -> StepBlock | None:
        """Up to `limit` of the oldest rows, valid until `release`; None if there are none."""

    def release(self, n: int) -> None:
        """Give back `n` rows that were read: they are kept elsewhere now."""

    def take_over_reading(self, n: int) -> None:
        """Read on in place of a process that died. `n`: rows that it kept and did not give back."""

    def close(self) -> None:
        """Let go of it."""

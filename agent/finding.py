"""A finding: something that holds and is worth a warning, with its cure."""

from __future__ import annotations

from typing import NamedTuple


class Finding(NamedTuple):
    """Found at a look, and found again at the next one for as long as it holds.

    Whoever looks only says what it sees. `server.monitor.warnings` logs it once, then after growing
    pauses, and shows it on the dashboard.
    """

    id: str
    """A short name, the same each time: `few_rows_dqn`. Of a few that the code knows, never made
    from what a client says."""
    text: str
    """What holds, in words, with its numbers."""
    cure: str
    """What to set or to do."""

    def __str__(self) -> str:
        return f"{self.text}; {self.cure}"

"""How many of the episodes that a connection has announced are left to play."""

from __future__ import annotations

from collections.abc import Sequence

from understudy_client.wire import RUNNING


class AnnouncedEpisodes:
    """Counts the episodes of evaluation that end, in all slots of a connection."""

    def __init__(self, announced: int | None) -> None:
        """`announced`: None where nothing was."""
        self.left = announced
        self._under_way: set[int] = set()
        """Slots in the middle of an episode."""

    def frame(self, slot: int, status: int) -> None:
        """A frame of this slot was answered."""
        if status == RUNNING:
            self._under_way.add(slot)
        elif slot in self._under_way:
            self._under_way.remove(slot)
            self._count()

    def frames(self, statuses: Sequence[int]) -> None:
        """A frame of each slot was answered."""
        for slot, status in enumerate(statuses):
            self.frame(slot, status)

    def lost(self, *, limit: bool) -> None:
        """The connection was lost. `limit`: because an episode was too long: it is not played
        again."""
        if limit and self._under_way:
            self._count()
        self._under_way.clear()

    def _count(self) -> None:
        if self.left:
            self.left -= 1

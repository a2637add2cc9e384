"""Which worker of pytest-xdist runs which tests."""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler.loadscope import LoadScopeScheduling

ALONE = "alone"
_KEY = "understudy/alone"


def tell_alone(config: pytest.Config, names: list[str]) -> None:
    """For a worker: tell the scheduler, which sees no marks, which tests are marked `alone`."""
    if config.cache is not None:
        config.cache.set(_KEY, names)


class SideBySide(LoadScopeScheduling):
    """Files side by side, one worker each, since what a module starts is shared by its tests; tests
    of tests/unit one by one. Then, once all other workers have ended, those marked `alone`."""

    def schedule(self) -> None:
        cache = self.config.cache
        self._alone = set(cache.get(_KEY, []) if cache is not None else [])
        super().schedule()

    def _split_scope(self, nodeid: str) -> str:
        if nodeid in self._alone:
            return ALONE
        path = nodeid.partition("::")[0]
        return nodeid if path.startswith("tests/unit/") else path

    def _assign_work_unit(self, node: Any) -> None:
        if ALONE in self.workqueue:
            self.workqueue.move_to_end(ALONE)
            if len(self.workqueue) == 1 and len(self.nodes) > 1:
                return
        super()._assign_work_unit(node)

    def _pending_of(self, workload: dict[str, dict[str, bool]]) -> int:
        """How many tests a worker has before it. It has ended its units one after the other, and
        thousands of them: those are not looked at."""
        pending = 0
        for unit in reversed(workload.values()):
            left = list(unit.values()).count(False)
            if not left:
                break
            pending += left
        return pending

    def _reschedule(self, node: Any) -> None:
        if len(self.workqueue) != 1 or ALONE not in self.workqueue:
            super()._reschedule(node)
        elif len(self.nodes) == 1:
            # To its end: a worker begins a test when it knows what comes after it.
            self._assign_work_unit(node)
            node.shutdown()
        elif node is not self.nodes[0] and not node.shutting_down:
            node.shutdown()

    def remove_node(self, node: Any) -> str | None:
        crashed = super().remove_node(node)
        for other in self.nodes:
            self._reschedule(other)
        return crashed

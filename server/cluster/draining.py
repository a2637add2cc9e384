"""Gateway nodes that are drained: their games are sent away, their rows handed over, and then their
actors end and are not made again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from config.load import ConfigError
from server.cluster.link import ActorLink
from server.cluster.messages import StopListening
from server.cluster.remote_ring import RemoteRing
from server.ipc.messages import Stop
from server.supervisor.child import Child

log = logging.getLogger("cluster")


class Draining:
    """For the supervisor's thread."""

    def __init__(
        self,
        nodes: Sequence[ActorLink],
        children: Callable[[int], Sequence[Child]],
        rings: Callable[[int], Sequence[RemoteRing]],
        end: Callable[[int], None],
    ) -> None:
        """`nodes`: by number. `children` and `rings`: of a node. `end`: has a node's actor end for
        good."""
        self._nodes = nodes
        self._children, self._rings, self._end = children, rings, end
        self._since: dict[int, float] = {}
        self.ended: set[int] = set()
        """Nodes that are drained."""

    def __contains__(self, node: int) -> bool:
        """Whether a node is being drained, or is drained."""
        return node in self._since or node in self.ended

    def begin(self, name: str) -> Mapping[str, Any]:
        """As Processes.drain. `name`: its number, or where it runs."""
        node = self._named(name)
        if node not in self:
            if all(other == node or other in self for other in range(len(self._nodes))):
                raise ConfigError(
                    f"drain {name}: expected another gateway node that serves games, this is the "
                    "last one; end the server instead (SIGTERM), or start it with more "
                    "(cluster.gateways)"
                )
            self._since[node] = time.monotonic()
            self._nodes[node].order(StopListening())
            for child in self._children(node):
                child.retired = True
                child.send(Stop())
            log.info("%s is being drained", self._nodes[node].name)
        return {"ok": True, "done": node in self.ended, "text": self._told(node)}

    def look(self) -> None:
        """End nodes that have nothing left. The supervisor lets go of their processes."""
        for node in list(self._since):
            if not self._waits_for(node):
                self._since.pop(node)
                self.ended.add(node)
                self._end(node)
                log.info("%s", self._told(node))

    def _named(self, name: str) -> int:
        for node, link in enumerate(self._nodes):
            if name in (str(node), link.name):
                return node
        at = [node for node, link in enumerate(self._nodes) if link.host == name]
        if len(at) == 1:
            return at[0]
        there = ", ".join(f"{node} ({link.host})" for node, link in enumerate(self._nodes))
        raise ConfigError(f"drain {name}: expected a gateway node, one of {there}")

    def _told(self, node: int) -> str:
        link = self._nodes[node]
        if node in self.ended:
            return f"{link.name} is drained: all of its rows are kept, and nothing runs there"
        waited = time.monotonic() - self._since[node]
        return f"{link.name}: {self._waits_for(node)} ({waited:.0f} s)"

    def _waits_for(self, node: int) -> str:
        """Empty for nothing."""
        link = self._nodes[node]
        if not link.answers:
            return f"waiting for it to answer; it ran on {link.host}"
        running = [child.name for child in self._children(node) if child.alive]
        if running:
            return f"waiting for its games to leave, and for {', '.join(running)} to end"
        rows = sum(ring.used for ring in self._rings(node))
        return f"waiting for its learner to keep {rows} rows" if rows else ""

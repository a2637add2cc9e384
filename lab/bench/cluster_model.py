"""A model of clusters that this machine is not: what the measured costs allow with more nodes.

Not a measurement: its rows say `"simulated": true`. Serving is what all gateway nodes answer, at
most what the learners take in, and at most what the network carries; a node gives up what shipping
costs it. An update takes what one learner needs for its part of a batch, and the sum of the
gradients as a ring makes it (Patarasuk and Yuan 2009): 2 (m - 1) / m of their bytes through each
link.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

NODES = (1, 2, 4, 8)
LINKS_GBIT_S = (1.0, 10.0)
GATHERS = 6
"""Of a few numbers, in an update (agent.union)."""


@dataclass(frozen=True)
class MeasuredCosts:
    """Of one node and one learner."""

    frames_per_s: float
    """That one gateway answers, without shipping."""
    ship_cpu_s: float
    """Processor time of a gateway node for a row, s."""
    take_in_per_s: float
    """Rows that a learner takes in, with its journal."""
    row_bytes: float
    update_s: float
    """Of one learner, from a whole batch."""
    half_update_s: float
    """From half of one."""
    gather_s: float
    parameters: int


def rows(costs: MeasuredCosts) -> Iterator[dict[str, Any]]:
    """For each number of nodes and each link: frames/s, and updates/s with a learner for each node
    beside those of one learner."""
    for link in LINKS_GBIT_S:
        for nodes in NODES:
            served = frames_per_s(costs, nodes, nodes, link)
            updates = 1 / update_s(costs, nodes, link)
            yield {
                "case": "cluster",
                "what": "model",
                "simulated": True,
                "nodes": nodes,
                "learners": nodes,
                "link_gbit_s": link,
                "frames_per_s": round(served),
                "of_one_node": round(served / frames_per_s(costs, 1, 1, link), 2),
                "updates_per_s": round(updates, 1),
                "of_one_learner": round(updates * costs.update_s, 2),
            }


def frames_per_s(costs: MeasuredCosts, nodes: int, learners: int, link_gbit_s: float) -> float:
    """Of all nodes together."""
    each = 1 / (1 / costs.frames_per_s + costs.ship_cpu_s)
    through_link = link_gbit_s * 1e9 / 8 / costs.row_bytes
    return min(nodes * each, learners * costs.take_in_per_s, min(nodes, learners) * through_link)


def update_s(costs: MeasuredCosts, learners: int, link_gbit_s: float) -> float:
    """Of one update that so many learners make together."""
    fixed = max(0.0, 2 * costs.half_update_s - costs.update_s)
    """What an update takes however few rows it has."""
    own = fixed + (costs.update_s - fixed) / learners
    if learners == 1:
        return own
    through_link = 2 * (learners - 1) / learners * 4 * costs.parameters * 8 / (link_gbit_s * 1e9)
    return own + through_link + GATHERS * costs.gather_s

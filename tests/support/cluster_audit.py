"""An audit on a cluster while actors are killed: run in the cluster's network.

    python -m tests.support.cluster_audit ADDRESS '{"steps": 2000, "nodes": 2, "learners": 2,
        "kill": {"0.3": "ShardActor"}}'

Prints one line of JSON: the audit's report, `lost`, and which actors were killed.
"""

from __future__ import annotations

import json
import os
import signal
import sys

from lab.audit import audit
from lab.chaos.ray_processes import ray_machines


def main() -> None:
    address, asked = sys.argv[1], json.loads(sys.argv[2])
    kills = {float(share): name for share, name in asked["kill"].items()}
    killed: list[str] = []

    def show(text: str) -> None:
        """Called at each tenth of the steps."""
        done = int(text.split()[0]) / asked["steps"]
        for share in [each for each in kills if each <= done]:
            name = kills.pop(share)
            if found := [pid for node in ray_machines(address) for pid in node.actors(name)]:
                os.kill(found[-1], signal.SIGKILL)
                killed.append(name)

    result = audit(
        asked["steps"], players=2, show=show, cluster=address, steadfast=True,
        values={
            "cluster.gateways": asked["nodes"],
            "cluster.learners": asked["learners"],
            "cluster.start_timeout_s": 240.0,
            "checkpoint.every_s": 2.0,
            "supervision.max_restarts": 20,
            "trainer.replay_ratio": 0.05,
        },
    )  # fmt: skip
    print(json.dumps(result.report() | {"lost": result.lost, "killed": killed, "ok": result.ok}))


if __name__ == "__main__":
    main()

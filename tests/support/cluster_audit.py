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
from pathlib import Path

from lab.audit import audit


def actors(name: str) -> list[int]:
    """Process IDs of Ray's actors of a class, in this network."""
    own = str(Path("/proc/self/ns/net").readlink())
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
            if (
                words.startswith(f"ray::{name}".encode())
                and str((entry / "ns/net").readlink()) == own
            ):
                found.append(int(entry.name))
        except OSError:
            continue
    return sorted(found)


def main() -> None:
    address, asked = sys.argv[1], json.loads(sys.argv[2])
    kills = {float(share): name for share, name in asked["kill"].items()}
    killed: list[str] = []

    def show(text: str) -> None:
        """Called at each tenth of the steps."""
        done = int(text.split()[0]) / asked["steps"]
        for share in [each for each in kills if each <= done]:
            name = kills.pop(share)
            if found := actors(name):
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

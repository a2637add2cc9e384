"""A server on a Ray cluster whose processes, nodes and links are lost: the incidents of a chaos run
there. All nodes are of this machine."""

from __future__ import annotations

import contextlib
import json
import os
import random
import secrets
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from config.load import ConfigError
from lab import audit_player
from lab.chaos.ray_processes import RayMachine, ray_machines
from lab.chaos.server import ChaosServer
from lab.proc import is_running
from lab.ray_nodes import can_cut, cut
from lab.serve_process import ROOT, free_port, wait_until

INCIDENTS = {
    "kill a gateway": 3,
    "kill a trainer": 3,
    "stop a gateway": 1,
    "stop a trainer": 1,
    "kill a gateway node": 2,
    "kill a learner": 2,
    "stop a gateway node": 1,
    "stop a learner": 1,
    "kill the driver": 2,
    "end in order": 1,
}
"""What happens, and how often each, in proportion. A stopped process is one that hangs; a gateway
node and a learner are actors of Ray, with all that they run."""

OF_TWO_NODES = {"lose a node": 2, "drain a node": 1}
"""Where there is one beside the head's."""

OF_OWN_NODES = {"cut a link for 5 s": 2, "cut a link for 60 s": 1, "kill the head": 1}
"""Where each node has a network of its own."""

WAIT_S = 300.0
"""For a node to be there again, on a machine that is busy: Ray itself is started anew."""

SETTINGS: dict[str, Any] = {
    "server.port": 0,
    "server.gateways": 1,
    "cluster.start_timeout_s": 240,
    "cluster.rank_timeout_s": 10,
}

ACTORS = {"gateway": "NodeActor", "learner": "ShardActor"}
"""Of Ray, by what they run."""


class ClusterServer(ChaosServer):
    """A server on a cluster."""

    def __init__(self, home: Path, capacity: int, seed: int, address: str) -> None:
        """As ChaosServer. `address`: of the cluster, or auto. Errors: ConfigError."""
        machines = ray_machines(address)
        if not machines:
            raise ConfigError(
                f"--cluster {address}: expected a Ray cluster with nodes on this machine, found "
                "none; start one with `ray start --head`, or let `--cluster own` do it"
            )
        (home / audit_player.TOKEN).write_text(secrets.token_hex(16))
        self._http_port = free_port()
        self._address = address
        self._nodes = len(machines)
        self._stack = contextlib.ExitStack()
        self._kept = [
            (each, self._stack.enter_context(each.network()), each.environment) for each in machines
        ]
        """How each node was started, and the way to its network."""
        of_nodes = {
            "cluster": address,
            "cluster.gateways": self._nodes,
            "cluster.learners": self._nodes,
            "server.host": "0.0.0.0",
            "server.token_file": home / audit_player.TOKEN,
            "server.http_port": self._http_port,
        }
        super().__init__(home, capacity, seed, SETTINGS | of_nodes)
        beside = OF_TWO_NODES if self._nodes > 1 else {}
        self.incidents = INCIDENTS | beside | (OF_OWN_NODES if can_cut() else {})

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self._stack.close()

    def until_it_listens(self) -> None:
        _until(lambda: self._process.has_ended or bool(self._places()), "all nodes answer")
        audit_player.tell(self._home, self._places() or [("127.0.0.1", 1)])

    def until_it_plays(self) -> None:
        deadline = time.monotonic() + WAIT_S
        before: float | None = None
        while time.monotonic() < deadline:
            if self._process.has_ended:
                raise RuntimeError(f"the server has ended: {self._process.output()}")
            self._start_nodes()
            stored, places = self._stored(), self._places()
            if places:
                audit_player.tell(self._home, places)
                before = stored if before is None else before
                there = len(self._processes("gateway")), len(self._processes("learner"))
                moves = stored is not None and before is not None and stored > before
                if moves and there == (self._nodes, self._nodes):
                    return
            time.sleep(0.25)
        raise TimeoutError(f"the server does not play; it printed: {self._process.output()}")

    def _places(self) -> list[tuple[str, int]]:
        """Where games connect; none unless all nodes and learners answer."""
        url = f"http://127.0.0.1:{self._http_port}/api/state"
        try:
            with urllib.request.urlopen(url, timeout=5.0) as answer:
                nodes = json.load(answer)["nodes"]
        except (OSError, ValueError, KeyError):
            return []
        if not nodes or not all(node["answers"] for node in nodes):
            return []
        return [(node["host"], node["port"]) for node in nodes if node.get("port")]

    @property
    def _machines(self) -> list[RayMachine]:
        return ray_machines(self._address)

    def _processes(self, of: str) -> list[int]:
        return [pid for machine in self._machines for pid in machine.processes(ACTORS[of])]

    def _actors(self, of: str) -> list[int]:
        return [pid for machine in self._machines for pid in machine.actors(ACTORS[of])]

    def inject(self, incident: str, rng: random.Random) -> None:
        number = signal.SIGSTOP if incident.startswith("stop") else signal.SIGKILL
        match incident:
            case "kill a gateway" | "stop a gateway":
                self._hit(rng.choice(self._processes("gateway")), number)
            case "kill a trainer" | "stop a trainer":
                self._hit(rng.choice(self._processes("learner")), number)
            case "kill a gateway node" | "stop a gateway node":
                self._hit(rng.choice(self._actors("gateway")), number)
            case "kill a learner" | "stop a learner":
                self._hit(rng.choice(self._actors("learner")), number)
            case "lose a node":
                self._machines[-1].kill(alone=can_cut())
            case _ if incident.startswith("cut a link for "):
                cut(float(incident.split()[-2]))
            case "kill the driver":
                self._process.kill()
                self._until_no_actor()
                self._process.start()
            case "kill the head":
                self._kill_the_head()
            case "drain a node":
                self._drain(rng.randrange(self._nodes))
                self._end_and_start()
            case "end in order":
                self._end_and_start()
            case _:
                raise ValueError(f"expected one of {list(self.incidents)}, got {incident!r}")

    def _hit(self, pid: int, number: int) -> None:
        os.kill(pid, number)
        _until(lambda: not is_running(pid), f"process {pid} has ended, and is replaced")

    def _drain(self, node: int) -> None:
        """Errors: CalledProcessError, TimeoutExpired."""
        words = ["cluster", "drain", str(node), "--run", str(self.run)]
        command = [sys.executable, "-m", "server", *words]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=WAIT_S)
        if places := self._places():
            audit_player.tell(self._home, places)  # its games go to the other node

    def _end_and_start(self) -> None:
        self.end()
        self._until_no_actor()
        self._process.start()

    def _start_nodes(self) -> None:
        """Start those again that have ended, as whoever runs them would: also one that Ray has
        given up because its link was cut for long, and that has heard of it."""
        there = [(each.host, each.head) for each in self._machines]
        for machine, network, environment in self._kept:
            if (machine.host, machine.head) in there:
                there.remove((machine.host, machine.head))
            else:
                machine.start(network, environment)

    def _kill_the_head(self) -> None:
        """With the driver, which is on the same machine. Nodes without a head end by themselves."""
        self._process.kill()
        self._machines[0].kill(alone=can_cut())
        _until(lambda: not self._machines, "all nodes have ended, whose head is gone")
        self._start_nodes()
        self._process.start()

    def _until_no_actor(self) -> None:
        _until(
            lambda: not (self._actors("gateway") or self._actors("learner")),
            "the actors of a server that has ended are gone",
        )


def _until(condition: Any, what: str) -> None:
    wait_until(condition, what, WAIT_S)

"""A server whose processes are killed, stopped and started again: the incidents of a chaos run."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from lab import audit_player
from lab.proc import is_running
from lab.serve_process import WAIT_S, ServeProcess, free_port, wait_until
from server.ipc.inflight import InFlight
from server.run.events import read_events

INCIDENTS = {
    "kill a gateway": 4,
    "kill the trainer": 4,
    "stop a gateway": 1,
    "stop the trainer": 1,
    "kill the supervisor": 2,
    "kill everything": 2,
    "end in order": 1,
}
"""What happens, and how often each, in proportion. A stopped process is one that hangs."""

GATEWAYS = 2


SETTINGS: dict[str, Any] = {
    "server.http_port": "none",
    "server.gateways": GATEWAYS,
    "learner.hidden": [32],
    "learner.batch_size": 64,
    "trainer.device": "cpu",
    "trainer.threads": 1,
    "trainer.replay_ratio": 0.01,
    "checkpoint.every_s": 5,
    "metrics.every_s": 0.5,
    "supervision.max_restarts": 1_000_000,
    "supervision.window_s": 1.0,
    "supervision.backoff_s": 0.2,
    "supervision.hang_timeout_s": 10,
}


class ChaosServer:
    """A server that is started again whenever it has ended."""

    def __init__(
        self, home: Path, capacity: int, seed: int, values: Mapping[str, Any] | None = None
    ) -> None:
        """home: a folder for the run. capacity: steps of the replay: nothing may be overwritten
        before it is compared. values: settings beside those of the others."""
        self.run, self._home = home / "run", home
        self.port = free_port()
        settings = SETTINGS | {
            "server.port": self.port,
            "run.seed": seed,
            "run.game": "audit",
            "replay.capacity_steps": capacity,
            **(values or {}),
        }
        self.incidents: Mapping[str, int] = INCIDENTS
        """What may happen to it, and how often each, in proportion."""
        self._process = ServeProcess(self.run, settings, output=home / "output")

    def __enter__(self) -> Self:
        self._process.start()
        return self

    def drawn(self, rng: random.Random) -> str:
        """One of the incidents."""
        return rng.choices(list(self.incidents), list(self.incidents.values()))[0]

    def __exit__(self, *_: object) -> None:
        for pid in self._process.children.values():
            if is_running(pid):
                os.kill(pid, signal.SIGKILL)
        self._process.kill()

    def until_it_listens(self) -> None:
        """Wait until games can be told where the server is."""
        audit_player.tell(self._home, [("127.0.0.1", self.port)])

    def until_it_plays(self) -> None:
        """Wait until all gateways and the trainer are there and steps are stored.

        Errors: RuntimeError where the server has ended; TimeoutError.
        """
        before: float | None = None
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            if self._process.has_ended:
                raise RuntimeError(f"the server has ended: {self._process.output()}")
            pids = self._process.children
            stored = self._stored()
            if before is None and stored is not None:
                before = stored
            there = len(pids) == GATEWAYS + 1 and all(map(is_running, pids.values()))
            if there and stored is not None and before is not None and stored > before:
                return
            time.sleep(0.1)
        raise TimeoutError(f"the server does not play; it printed: {self._process.output()}")

    def _stored(self) -> float | None:
        """Stored steps in the newest row of metrics."""
        try:
            line = (self.run / "metrics.jsonl").read_bytes().split(b"\n")[-2]
            found: float | None = json.loads(line)["frames"]
        except (OSError, IndexError, ValueError, KeyError):
            return None
        return found

    def inject(self, incident: str, rng: random.Random) -> None:
        """Make this incident happen, and wait until what it hit is there again."""
        pids = self._process.children
        gateway = pids[f"gateway-{rng.randrange(GATEWAYS)}"]
        number = signal.SIGSTOP if incident.startswith("stop") else signal.SIGKILL
        match incident:
            case "kill a gateway" | "stop a gateway":
                os.kill(gateway, number)
                self._until_replaced(gateway)
            case "kill the trainer" | "stop the trainer":
                os.kill(pids["trainer"], number)
                self._until_replaced(pids["trainer"])
            case "end in order":
                self.end()
                self._process.start()
            case "kill the supervisor" | "kill everything":
                self._process.kill()
                if incident == "kill everything":
                    for pid in pids.values():
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)
                self._process.until_children_have_ended()
                self._process.start()
            case _:
                raise ValueError(f"expected one of {list(INCIDENTS)}, got {incident!r}")

    def _until_replaced(self, pid: int) -> None:
        wait_until(
            lambda: pid not in self._process.children.values(), f"process {pid} is started again"
        )

    def end(self) -> None:
        """SIGTERM, and wait. Errors: RuntimeError where it does not end in order."""
        if self._process.end():
            raise RuntimeError(f"it did not end in order: {self._process.output()}")

    def reported(self) -> tuple[InFlight, int]:
        """What it reported, in all its starts, as lost in flight; and how often a child was started
        again."""
        events = read_events(self.run)
        lost = [event for event in events if event["event"] == "in_flight_lost"]
        total = InFlight(sum(e["steps"] for e in lost), sum(e["frames"] for e in lost))
        return total, sum(event["event"] == "restarting" for event in events)

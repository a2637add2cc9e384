"""How the learners of a run find each other: the first one listens, the others come."""

from __future__ import annotations

import fcntl
import socket
import struct
import time
from datetime import timedelta
from typing import Any

import torch

from agent.collective import Gloo
from server.ipc.heartbeat import Heartbeat
from server.ipc.messages import Ranks

MEET_S = 300.0
"""How long a learner may take to start, or to load, before the others give up."""

LOOK_S = 0.2

_SIOCGIFADDR = 0x8915


class Meeting:
    """The learners of a run, once all are there. Errors of all: RuntimeError."""

    def __init__(self, ranks: Ranks, heartbeat: Heartbeat) -> None:
        from torch import distributed

        store: Any = distributed
        heartbeat.busy()
        self._size = ranks.size
        self._heartbeat = heartbeat
        self._store: Any = store.TCPStore(
            ranks.host, ranks.port, ranks.size, ranks.rank == 0, timedelta(seconds=MEET_S),
            wait_for_workers=False,
        )  # fmt: skip
        self.wait("started")
        self.collective = Gloo(
            self._store, ranks.rank, ranks.size, timeout_s=ranks.timeout_s,
            interface=ranks.interface or interface_to(ranks.host, ranks.port),
            gradients=getattr(torch, ranks.allreduce),
        )  # fmt: skip

    def wait(self, what: str) -> None:
        """Until all have come so far. How long one takes to load is no reason to give up on it."""
        self._store.add(what, 1)
        deadline = time.monotonic() + MEET_S
        while self._store.add(what, 0) < self._size:
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"expected all {self._size} learners to have {what} within {MEET_S:g} s; look "
                    "at the log of those that have not"
                )
            self._heartbeat.busy()
            time.sleep(LOOK_S)


def interface_to(host: str, port: int) -> str | None:
    """The network interface of this machine from which `host` is reached; None where nothing says
    it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, port))
            mine = probe.getsockname()[0]
        except OSError:
            return None
        for _, name in socket.if_nameindex():
            asked = struct.pack("256s", name.encode()[:15])
            try:
                found = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, asked)
            except OSError:  # it has no address
                continue
            if socket.inet_ntoa(found[20:24]) == mine:
                return name
    return None

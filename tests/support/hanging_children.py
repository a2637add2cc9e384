"""A parent of two children whose loops never come round."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from agent.files import written_whole
from server.ipc.heartbeat import Heartbeat
from server.supervisor.child import Child


def hang(_pipe: object, _heartbeat: Heartbeat, ready: str) -> None:
    """A child whose loop never comes round."""
    with written_whole(Path(ready)) as file:
        file.write(str(os.getpid()).encode())
    time.sleep(1000)


if __name__ == "__main__":
    for name in ("one", "two"):
        Child(name, "gateway").start(hang, (), (str(Path(sys.argv[1], name)),))
    time.sleep(1000)

"""What a gateway says to its supervisor: in order, whole, and without waiting for it.

A pipe holds a few hundred messages. When a crowd connects while the supervisor does something else
for a moment, it is full. The loop that answers games must neither wait then nor fail, so a thread
of its own waits instead. What is said is put into bytes at once: it may be of arrays that change.
"""

from __future__ import annotations

import queue
import threading
from multiprocessing.connection import Connection as Pipe
from multiprocessing.reduction import ForkingPickler
from typing import Any

MOST = 100_000
"""Messages that may wait. Who says more than that to a supervisor that has long stood still waits
for it, so that memory is bounded."""

CLOSE_S = 5.0
"""How long the end waits for what was said last."""


class PipeWriter:
    """A pipe, as its process sees it."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self.fileno, self.poll, self.recv = pipe.fileno, pipe.poll, pipe.recv
        self._waiting: queue.Queue[memoryview | None] = queue.Queue(MOST)
        self._gone = False
        self._thread = threading.Thread(target=self._send_all, name="pipe-writer", daemon=True)
        self._thread.start()

    def send(self, message: Any) -> None:
        """Have it sent. Errors: BrokenPipeError once it is known that nobody hears."""
        if self._gone:
            raise BrokenPipeError("the other end of the pipe is closed")
        self._waiting.put(ForkingPickler.dumps(message))

    def close(self) -> None:
        """Wait a moment until all is sent."""
        if not self._gone:
            self._waiting.put(None)
        self._thread.join(CLOSE_S)

    def _send_all(self) -> None:
        try:
            while (data := self._waiting.get()) is not None:
                self._pipe.send_bytes(data)
        except OSError:
            self._gone = True
            while True:  # whoever waits for room waits for nothing
                try:
                    self._waiting.get_nowait()
                except queue.Empty:
                    return

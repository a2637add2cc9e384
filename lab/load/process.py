"""A process of load, and the pipe on which it is told what to do and answers."""

from __future__ import annotations

import math
import multiprocessing
import time
from collections.abc import Callable
from typing import Any, Self

_SPAWN = multiprocessing.get_context("spawn")

POLL_S = 0.1
END_S = 60.0
"""How long a process may take to end by itself."""


class LoadProcess:
    """Runs `target(pipe, *args, **kwargs)` in a process of its own, which ends when the pipe does.

    What it sends is an answer, or the exception that ended it.
    """

    def __init__(self, target: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        self.pipe, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(
            target=target, args=(theirs, *args), kwargs=kwargs, daemon=True
        )
        self._process.start()
        theirs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def ask(
        self,
        message: Any,
        *,
        meanwhile: Callable[[], object] | None = None,
        timeout_s: float = math.inf,
    ) -> Any:
        """Send a message; its answer. `meanwhile`, `timeout_s`: as for `receive`."""
        self.pipe.send(message)
        return self.receive(meanwhile=meanwhile, timeout_s=timeout_s)

    def receive(
        self, *, meanwhile: Callable[[], object] | None = None, timeout_s: float = math.inf
    ) -> Any:
        """What it sends next. `meanwhile` is called again and again until then, and takes a little
        time itself: it looks after a server.

        Errors: what the process sends; TimeoutError; ChildProcessError where it has ended.
        """
        deadline = time.monotonic() + timeout_s
        while not self.pipe.poll(POLL_S if meanwhile is None else 0):
            if meanwhile is not None:
                meanwhile()
            if time.monotonic() > deadline:
                raise TimeoutError(f"expected an answer of the load within {timeout_s:g} s")
        try:
            answer = self.pipe.recv()
        except EOFError:
            raise ChildProcessError("the process of the load has ended without a word") from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def end(self) -> None:
        """Close the pipe, and wait for the process; kill it where it does not end."""
        self.pipe.close()
        self._process.join(END_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

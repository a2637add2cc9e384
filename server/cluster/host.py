"""Processes on this machine, for a driver on another one: orders in, messages out."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing.connection
import os
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from config.load import ConfigError
from server.cluster.messages import Kill, Relay, Reply, Setup, Start
from server.supervisor import fork_server
from server.supervisor.child import Child

log = logging.getLogger("cluster")


@dataclass
class Hosted:
    """A process."""

    child: Child
    generation: int


class ProcessHost:
    """What the actors of a cluster have in common. It runs in whichever thread calls `exchange`,
    one at a time."""

    def __init__(self) -> None:
        self.host = "127.0.0.1"
        """Where other machines reach this one; Ray knows."""
        self.node = ""
        """By Ray's name for it."""
        self._incarnation = uuid.uuid4().hex
        self._children: dict[str, Hosted] = {}
        self._lock = threading.Lock()
        self._held: list[Relay] = []
        """Messages that the processes are to hear later."""
        self._newest: tuple[int, Reply | None] = -1, None
        """The number of the newest exchange, and what was replied."""
        self.setup: Setup | None = None
        """None until the first order."""
        # Children are forked from a process that must import this server, not Ray's worker.
        main = sys.modules["__main__"]
        if hasattr(main, "__file__"):
            del main.__file__
        # Ray sets one thread for each of its workers; trainer.threads says it here.
        os.environ.pop("OMP_NUM_THREADS", None)
        fork_server.prepare()

    def exchange(self, to: str, number: int, orders: Sequence[Any], wait_s: float) -> Reply:
        """Carry out orders; what the processes have said and how they are, at the latest after
        `wait_s`.

        `to`: the incarnation that they are for. Another one carries out nothing, and says which it
        is. `number`: of the exchange, which rises. One that comes again, because the reply was lost
        on the way, is answered as before, and its orders are not carried out again. What fails is
        said in the reply: an error raised here would have the same exchange come again."""
        with self._lock:
            newest, replied = self._newest
            if to == self._incarnation and number <= newest and replied is not None:
                replied.now = time.monotonic()
                return replied
            reply = Reply(self._incarnation, time.monotonic(), self.host, self.node, os.getpid())
            if to != self._incarnation:
                return reply
            self._newest = number, reply
            held, self._held = self._held, []
            for order in (*held, *orders):
                with _noted(reply):
                    self._carry_out(order, reply)
            with _noted(reply):
                self._wait(wait_s)
            with _noted(reply):
                self._collect(reply)
            reply.now = time.monotonic()
            with _noted(reply):
                self.complete(reply)
            return reply

    def present(self) -> bool:
        """Answers at once, in whichever thread, whatever else it is asked."""
        return True

    def send_signal(self, pid: int, number: int) -> None:
        """As the function."""
        send_signal(pid, number)

    def about(self) -> dict[str, Any]:
        """For `understudy cluster status`, in whichever thread."""
        names = list(self._children)
        run = self.setup.folder if self.setup else None
        return {"host": self.host, "run": run, "processes": names, **self.numbers()}

    # What each kind of actor does in its own way.

    def numbers(self) -> dict[str, Any]:
        """What else there is to say about it."""
        return {}

    def carry_out(self, order: Any) -> None:
        """An order that is not about a process. Errors: ConfigError, OSError."""
        raise TypeError(f"expected an order of server.cluster.messages, got {order!r}")

    def started(self, order: Start) -> tuple[Callable[..., None], tuple[Any, ...], tuple[Any, ...]]:
        """What a process of this name runs: as Child.start."""
        raise NotImplementedError

    def runs(self, pid: int) -> None:
        """A process was started."""

    def down(self, name: str, message: Any) -> Any:
        """A message of the driver's as a process of this machine is to hear it; None: not yet."""
        raise NotImplementedError

    def up(self, name: str, message: Any) -> Any:  # noqa: ARG002
        """A message of a process as the driver is to hear it."""
        return message

    def complete(self, reply: Reply) -> None:
        """Add what else there is to say."""

    # Processes.

    def _carry_out(self, order: Any, reply: Reply) -> None:
        if isinstance(order, Setup):
            self.setup = order
        if isinstance(order, Start):
            self._start(order)
        elif isinstance(order, Relay):
            if hosted := self._meant(order):
                told = self.down(order.name, order.message)
                if told is None:
                    self._held.append(order)
                else:
                    hosted.child.send(told)
        elif isinstance(order, Kill):
            if hosted := self._meant(order):
                self._end(order.name, hosted, reply)
        else:
            self.carry_out(order)

    def _meant(self, order: Relay | Kill) -> Hosted | None:
        hosted = self._children.get(order.name)
        return hosted if hosted and hosted.generation == order.generation else None

    def _start(self, order: Start) -> None:
        if left := self._children.pop(order.name, None):
            left.child.reap()
        child = Child(order.name, order.name.partition("-")[0])
        target, first, last = self.started(order)
        child.start(target, first, last)
        self._children[order.name] = Hosted(child, order.generation)
        self.runs(child.pid)

    def _wait(self, wait_s: float) -> None:
        pipes = [h.child.pipe for h in self._children.values() if h.child.pipe is not None]
        ends = [h.child.process.sentinel for h in self._children.values() if h.child.process]
        if pipes:
            multiprocessing.connection.wait([*pipes, *ends], wait_s)
        else:
            time.sleep(wait_s)

    def _collect(self, reply: Reply) -> None:
        for name, hosted in list(self._children.items()):
            child = hosted.child
            for message in child.messages():
                reply.messages.append((name, hosted.generation, self.up(name, message)))
            if child.process is not None and not child.process.is_alive():
                for message in child.messages():  # between the two looks
                    reply.messages.append((name, hosted.generation, self.up(name, message)))
                self._end(name, hosted, reply)
            else:
                reply.beats[name] = hosted.generation, child.pid, child.monitor.numbers

    def _end(self, name: str, hosted: Hosted, reply: Reply) -> None:
        code = hosted.child.reap()
        del self._children[name]
        reply.ended.append((name, hosted.generation, code))

    def close(self) -> None:
        """End all processes at once."""
        with self._lock:
            for hosted in self._children.values():
                hosted.child.reap()
            self._children.clear()


@contextlib.contextmanager
def _noted(reply: Reply) -> Iterator[None]:
    """Say in the reply what fails; the first, where several do."""
    try:
        yield
    except (ConfigError, OSError, MemoryError) as error:
        reply.error = reply.error or str(error)
    except Exception as error:
        log.exception("an exchange with the driver failed in part")
        reply.error = reply.error or f"{type(error).__name__}: {error}"


def send_signal(pid: int, number: int) -> None:
    """Send a process of this machine a signal, if it is there; 0 does nothing."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)

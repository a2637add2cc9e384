"""The supervisor's children, and what they share: gateways and trainer, rings, sockets, tally.

A child that dies or hangs is started again in its place, with what was left for it: the listening
sockets, in which games wait meanwhile; the rings, whose counters say where to go on; the weights,
which the gateways play with while there is no trainer.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from typing import Any

from config.load import ConfigError
from config.models import Config
from protocol.spaces import GameSpec
from server.ipc import shared_memory
from server.ipc.inflight import FILE, InFlight, InFlightCounters, left
from server.ipc.messages import GATEWAY, TRAINER, GameDecided, Open, Ready
from server.ipc.step_ring import StepRing
from server.ipc.weight_slot import WeightSlot, weights_name
from server.net.sockets import Sockets, listen
from server.run.directory import RunDirectory
from server.run.events import EventLog
from server.supervisor import entry_points
from server.supervisor.child import Child
from server.supervisor.restart_policy import RestartPolicy, cause

log = logging.getLogger("supervisor")

LAST_WORDS = "; the last it said: "
"""Between why a child is gone, and its own lines."""


@dataclass(frozen=True)
class Task:
    """What the trainer is to do, beside the configuration."""

    resume: bool = False
    """Continue from the newest checkpoint."""
    best: bool = False
    """Continue from the checkpoint that evaluated best instead."""
    record: bool = False
    """Keep what every batch held, for `Supervisor.dump`."""
    keep_rows: bool = False
    """Keep every row, for `Supervisor.write_recording`."""


class Processes:
    """All processes of a server but the supervisor."""

    def __init__(
        self,
        config: Config,
        folder: RunDirectory,
        task: Task,
        events: EventLog,
        greet: Callable[[Child], None],
    ) -> None:
        """`greet`: called with a child that has just been started, to tell it how things stand."""
        self.config = config
        """What children are started with."""
        self.gateways = [Child(f"gateway-{i}", GATEWAY) for i in range(config.server.gateways)]
        self.trainer = Child("trainer", TRAINER)
        self.children = [*self.gateways, self.trainer]
        self.rings: list[StepRing] = []
        """One for each gateway, once there is a game."""
        self.ready: Ready | None = None
        """What the first trainer said when the first weights were there."""
        self.lost = InFlight()
        """With gateways that died, and with the server before this one where it was killed."""
        self._spec: GameSpec | None = None
        self._folder = folder
        self._task = task
        self._events = events
        self._greet = greet
        self._watchdog = RestartPolicy(config.supervision)
        self._sockets: list[Sockets] = []
        self._in_flight: InFlightCounters | None = None
        self._in_order = True

    # Starting.

    def start(self) -> tuple[int, int | None]:
        """Listen, and start all children; the ports for games and for older clients. Errors:
        ConfigError, OSError."""
        self._sockets = listen(self.config)
        if left := shared_memory.remove_left(self._folder.path):
            log.warning("removed %.1f MB of shared memory of a server that was killed", left / 1e6)
        for child in self.children:
            self._start(child)
        games, older = self._sockets[0]
        return games.getsockname()[1], older.getsockname()[1] if older else None

    def _start(self, child: Child) -> None:
        task = self._task
        if child.kind == TRAINER:
            last = (self._folder.path, task.resume, task.record, task.best, task.keep_rows)
            child.start(entry_points.trainer, (self.config,), last)
            if self.rings:
                child.say(self._game())
        else:
            index = self.gateways.index(child)
            first = (self.config, index, self._folder.launch)
            child.start(entry_points.gateway, first, self._sockets[index])
            if self.ready is not None:
                child.say(self._opening(self.ready))
        self._events.add("process_started", process=child.name, pid=child.pid)
        self._greet(child)

    def decide(self, spec: GameSpec) -> None:
        """This is the run's game: make its rings, and tell the trainer. Errors: ConfigError."""
        self._spec = spec
        try:
            for _ in self.gateways:
                self.rings.append(StepRing.create(spec, self.config.server.ring_steps))
        except MemoryError as error:
            self._spec = None
            self._remove_rings()
            raise ConfigError(str(error)) from None
        names = [ring.name for ring in self.rings]
        shared_memory.note(self._folder.path, [*names, weights_name(names[0])])
        self.trainer.say(self._game())

    def opened(self, ready: Ready) -> bool:
        """The trainer is ready. The first time, all gateways open, and the answer is true."""
        if self.ready is not None:
            return False
        self.ready = ready
        self._begin_tally(ready.base_frames)
        for child in self.gateways:
            child.say(self._opening(ready))
        return True

    def _game(self) -> GameDecided:
        assert self._spec is not None
        return GameDecided(self._spec, tuple(ring.name for ring in self.rings))

    def _opening(self, ready: Ready) -> Open:
        assert self._spec is not None
        names = tuple(ring.name for ring in self.rings)
        path = str(self._in_flight.path) if self._in_flight else ""
        return Open(self._spec, names, ready.weights, ready.size, path)

    def _begin_tally(self, base: int) -> None:
        """Say what was in flight when the run ended before, where that was without order, and
        count from now on."""
        path = self._folder.path / FILE
        before = left(path) if self._task.resume and not self._task.best else None
        if before is not None:
            steps, frames = before
            self.lost += (lost := InFlight(max(0, steps - base), frames))
            self._events.add("in_flight_lost", process=None, steps=lost.steps, frames=lost.frames)
            log.warning("the previous run did not shut down cleanly: %s", lost)
        try:
            self._in_flight = InFlightCounters(path, base, len(self.gateways))
        except OSError as error:
            log.error("nobody will know what was in flight if the server is killed: %s", error)

    # Running.

    @property
    def waitables(self) -> tuple[dict[Pipe, Child], dict[int, Child]]:
        """By which children are noticed: when they say something, and when they end."""
        pipes = {child.pipe: child for child in self.children if child.pipe is not None}
        ends = {child.process.sentinel: child for child in pipes.values() if child.process}
        return pipes, ends

    @property
    def steps(self) -> int:
        """Steps that the gateways have handed over since the start, as of now."""
        return sum(ring.steps for ring in self.rings)

    @property
    def rows_waiting(self) -> int:
        """What the rings hold that no trainer has taken in."""
        return sum(ring.used for ring in self.rings)

    def tell(self, message: Any) -> None:
        """Say something to all children."""
        for child in self.children:
            child.say(message)

    def tell_gateways(self, message: Any) -> None:
        """Say something to all gateways."""
        for child in self.gateways:
            child.say(message)

    def hung(self) -> list[tuple[Child, str]]:
        """The children that hang, and what is to be said of them when they are buried."""
        found = self._watchdog.hung(self.children, time.monotonic())
        return [(c, f"gave no sign of life for {s:.0f} s and was killed") for c, s in found]

    def start_due(self) -> list[tuple[Child, str]]:
        """Start those again that have been away for long enough; those that could not be started,
        and why."""
        failed = []
        for child in self._watchdog.due(time.monotonic()):
            try:
                self._start(child)
            except OSError as error:
                failed.append((child, f"{child.name} could not be started: {error}"))
        return failed

    def bury(self, child: Child, how: str) -> str:
        """Let go of a child that has died or hangs, what it said having been taken in: how it
        ended, in words."""
        code = child.gone()
        text = f"{child.name} {how}" + (f" ({cause(code)})" if how == "died" else "")
        kind = "died" if how == "died" else "hung"
        self._events.add("process_lost", process=child.name, how=kind, exit_code=code)
        if child.kind == GATEWAY and self._in_flight is not None:
            index = self.gateways.index(child)
            self.lost += (lost := self._in_flight.gateway_gone(index, self.rings[index].steps))
            text += f"; {lost}"
            self._events.add(
                "in_flight_lost", process=child.name, steps=lost.steps, frames=lost.frames
            )
        if child.lines:
            text += LAST_WORDS + " | ".join(child.lines)
        return text

    def start_again(self, child: Child) -> float | None:
        """Have a child started again, in so many seconds; None where that was too often."""
        pause = self._watchdog.lost(child, time.monotonic())
        if pause is None:
            self._events.add("restart_refused", process=child.name)
        else:
            self._events.add("restarting", process=child.name, in_s=pause)
        return pause

    @property
    def refusal(self) -> str:
        """Why one is not started again."""
        return self._watchdog.refusal

    # Stopping.

    def stop_listening(self) -> None:
        """Whoever comes from now on is refused."""
        for sockets in self._sockets:
            for sock in sockets:
                if sock is not None:
                    sock.close()

    def wake(self) -> None:
        """Whoever was stopped (SIGSTOP) goes on, so that it can hear that it is to end."""
        for child in self.children:
            if child.process is not None and child.process.is_alive():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid, signal.SIGCONT)

    def have_trainer(self) -> None:
        """Start the trainer, if it is not there and the rings hold what only it can store."""
        trainer = self.trainer
        if trainer.alive and trainer.process is not None and not trainer.process.is_alive():
            log.error("%s", self.bury(trainer, "died"))
        if self.rows_waiting and not self.trainer.alive:
            with contextlib.suppress(OSError):
                self._start(self.trainer)

    def end(self, child: Child, deadline: float, listen: Callable[[Child], None]) -> None:
        """Wait until a child that was told to has ended."""
        if not child.ended_by(deadline, listen):
            self._in_order = False
            log.error("%s did not end in time; killed", child.name)

    def close(self) -> None:
        """All children have ended: remove what they shared."""
        self._close_tally()
        self._remove_rings()
        if self.ready is not None:  # the trainer's to remove, unless it was killed
            with contextlib.suppress(FileNotFoundError):
                slot = WeightSlot.attach(self.ready.weights, self.ready.size)
                slot.close()
                slot.unlink()
        shared_memory.remove_left(self._folder.path)

    def _close_tally(self) -> None:
        """All that the games were answered for is stored, and nothing is in flight; or it is not,
        and the next start counts what is missing."""
        waiting, steps = self.rows_waiting, [ring.steps for ring in self.rings]
        left = self._in_flight.not_in(steps) if self._in_flight is not None else InFlight()
        if waiting or left != InFlight():
            log.error(
                "%d rows could not be stored, and gateways could not hand over %d steps and %d "
                "frames; the next start counts what is missing", waiting, left.steps, left.frames
            )  # fmt: skip
        elif self._in_flight is not None and self._in_order:
            self._in_flight.remove()

    def _remove_rings(self) -> None:
        for ring in self.rings:
            ring.close()
            ring.unlink()
        self.rings.clear()

"""The gateways' and the trainer's processes, and what they share: sockets, rings, weights.

A child that dies or hangs is restarted in its place, with what was left for it: the listening
sockets, in which games wait meanwhile; the rings, whose counters say where to go on; the weights,
which the gateways play with while there is no trainer.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Set
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from typing import Any

from agent.source import Source
from config.load import ConfigError
from config.models import Config
from protocol.spaces import GameSpec
from server.ipc import shared_memory
from server.ipc.inflight import InFlight, StepCounts
from server.ipc.messages import GATEWAY, TRAINER, Begin, GameDecided, Open, Ready, Stop
from server.ipc.step_ring import StepRing
from server.ipc.weight_slot import WeightSlot, weights_name
from server.net.sockets import GatewaySockets, listen
from server.run.directory import RunDirectory
from server.run.events import EventLog
from server.supervisor import entry_points
from server.supervisor.child import Child
from server.supervisor.in_flight_account import InFlightAccount
from server.supervisor.restart_policy import RestartPolicy, cause
from server.trainer.task import Task

log = logging.getLogger("supervisor")


@dataclass(frozen=True)
class ProcessLoss:
    """Why a process is gone."""

    reason: str
    last_lines: tuple[str, ...] = ()
    """The end of its log."""
    exit_code: int | None = None
    """Where it died by itself; minus the signal."""

    def __str__(self) -> str:
        lines = f"; its last log lines: {' | '.join(self.last_lines)}" if self.last_lines else ""
        return self.reason + lines


class Processes:
    """All processes of a server but the supervisor."""

    def __init__(
        self,
        config: Config,
        folder: RunDirectory,
        task: Task,
        events: EventLog,
        on_started: Callable[[Child], None],
    ) -> None:
        """`on_started`: called with a child that has just been started, to tell it what others have
        been told before."""
        self.config = config
        """What children are started with."""
        gateways = 0 if task.pretrain_updates else config.server.gateways
        self.gateways = [Child(f"gateway-{i}", GATEWAY) for i in range(gateways)]
        self.trainer = Child("trainer", TRAINER)
        self.children = [*self.gateways, self.trainer]
        self.rings: list[StepRing] = []
        """One for each gateway, once there is a game."""
        self.ready: Ready | None = None
        """What the first trainer sent when the first weights were there."""
        self._spec: GameSpec | None = None
        self._folder = folder
        self._task = task
        self._events = events
        self._on_started = on_started
        self._policy = RestartPolicy(config.supervision)
        self._sockets: list[GatewaySockets] = []
        self._in_flight = InFlightAccount(folder.path, events, gateways)
        self._begun = False
        """The start is accepted: the trainer may write."""
        self._clean = True
        """All processes have ended in time."""

    # Starting.

    def start(self) -> tuple[int, int | None, int | None]:
        """Listen, and start all children; the ports for games (0 without gateways), for older
        clients, and for browsers. Errors: ConfigError, OSError."""
        if self.gateways:
            self._sockets = listen(self.config)
        if left := shared_memory.remove_left(self._folder.path):
            log.warning("removed %.1f MB of shared memory of a server that was killed", left / 1e6)
        for child in self.children:
            self._start(child)
        return self._sockets[0].ports if self._sockets else (0, None, None)

    def _start(self, child: Child) -> None:
        if child.kind == TRAINER:
            last = (self._folder.path, self._task)
            child.start(entry_points.trainer, (self.config,), last)
            if self._spec is not None:
                child.send(self._game())
        else:
            index = self.gateways.index(child)
            first = (self.config, index, self._folder.launch)
            child.start(entry_points.gateway, first, self._sockets[index])
            if self.ready is not None:
                child.send(self._opening(self.ready))
        self._events.add("process_started", process=child.name, pid=child.pid)
        self._on_started(child)

    def decide(self, spec: GameSpec) -> None:
        """This is the run's game: make its rings, and tell the trainer. Errors: ConfigError."""
        try:
            for index in range(len(self.gateways)):
                source = Source(index, self._folder.launch)
                memory = self.config.learner.state_size
                ring = StepRing.create(spec, self.config.server.ring_steps, source, memory)
                self.rings.append(ring)
        except MemoryError as error:
            self._remove_rings()
            raise ConfigError(str(error)) from None
        self._spec = spec
        names = [ring.name for ring in self.rings]
        if names:
            shared_memory.note(self._folder.path, [*names, weights_name(names[0])])
        self.trainer.send(self._game())

    def forget_game(self) -> None:
        """The trainer has died before it was ready with the game: remove what was made for that,
        and start another trainer, which waits for one."""
        self._remove_rings()
        self._spec = None
        shared_memory.remove_left(self._folder.path)  # the weights, if it got so far
        self._policy.start_soon(self.trainer, time.monotonic())

    def begin(self) -> None:
        """The start is accepted: the trainer may write to the run's folder."""
        self._begun = True
        if self._spec is not None:
            self.trainer.send(Begin())

    def opened(self, ready: Ready) -> bool:
        """The trainer is ready. The first time, all gateways open, and the answer is true."""
        if self.ready is not None:
            return False
        self.ready = ready
        if self.gateways:
            resumed = self._task.resume and not self._task.best
            self._in_flight.begin(ready.base_frames, resumed=resumed)
        for child in self.gateways:
            child.send(self._opening(ready))
        return True

    def _game(self) -> GameDecided:
        assert self._spec is not None
        names = tuple(ring.name for ring in self.rings)
        return GameDecided(self._spec, names, self._begun)

    def _opening(self, ready: Ready) -> Open:
        assert self._spec is not None
        names = tuple(ring.name for ring in self.rings)
        return Open(
            self._spec,
            names,
            ready.weights,
            ready.size,
            self._in_flight.file,
            str(self._folder.checkpoints.absolute()),  # for whoever runs elsewhere
        )

    # Running.

    @property
    def waitables(self) -> tuple[dict[Pipe, Child], dict[int, Child]]:
        """By which children are noticed: when they send something, and when they end."""
        pipes = {child.pipe: child for child in self.children if child.pipe is not None}
        ends = {child.process.sentinel: child for child in pipes.values() if child.process}
        return pipes, ends

    @property
    def steps(self) -> int:
        """Steps that the gateways have handed over since the start, as of now."""
        return sum(ring.steps for ring in self.rings)

    @property
    def step_counts(self) -> StepCounts:
        """Steps completed and stored since the start, of one moment."""
        return self._in_flight.step_counts(self.rings)

    @property
    def lost(self) -> InFlight:
        """What was in flight in processes that died."""
        return self._in_flight.lost

    @property
    def ring_fill(self) -> float:
        """How full the fullest ring is now, 0 to 1: whether or not a trainer reads it."""
        return max((ring.used / ring.capacity for ring in self.rings), default=0.0)

    @property
    def nodes(self) -> list[dict[str, Any]]:
        """As Status.nodes: of a server on one machine, none."""
        return []

    @property
    def attentive(self) -> dict[str, int]:
        """The process IDs of the children that run, have reported since they were started, and
        have not announced that they are busy for long, by name."""
        living = [child for child in self.children if child.alive and child.reported]
        return {child.name: child.pid for child in living if not child.monitor.allowed_s}

    @property
    def _rows_waiting(self) -> int:
        """What the rings hold that no trainer has taken in."""
        return sum(ring.used for ring in self.rings)

    def tell(self, message: Any) -> None:
        """Send all children a message."""
        for child in self.children:
            child.send(message)

    def tell_gateways(self, message: Any) -> None:
        """Send all gateways a message."""
        for child in self.gateways:
            child.send(message)

    def hung(self) -> list[tuple[Child, str]]:
        """The children that hang, and what to say when they are reaped."""
        found = self._policy.hung(self.children, time.monotonic())
        return [(c, f"gave no sign of life for {s:.0f} s and was killed") for c, s in found]

    def start_due(self) -> list[tuple[Child, ProcessLoss]]:
        """Restart those whose pause is over; those that could not be started, and why."""
        failed = []
        for child in self._policy.due(time.monotonic()):
            if child.retired:  # since it was lost
                continue
            try:
                self._start(child)
            except OSError as error:
                reason = f"{child.name} could not be started: {error}"
                failed.append((child, ProcessLoss(reason)))
        return failed

    def reap(self, child: Child, how: str) -> ProcessLoss:
        """Let go of a child that has ended or hangs, once all that it sent has been taken in."""
        code = child.reap()
        died = how == "died"
        if died and child.retired and code == 0:
            short, reason = "ended", f"{child.name} ended, as it was told to"
        else:
            short = "died" if died else "hung"
            reason = f"{child.name} {how}" + (f" ({cause(code)})" if died else "")
        self._events.add("process_lost", process=child.name, how=short, exit_code=code)
        if child.kind == GATEWAY and self.rings:
            lost = self._gateway_gone(self.gateways.index(child))
            reason += f"; {lost}" if lost is not None else ""
        return ProcessLoss(reason, tuple(child.lines), code if died else None)

    def _gateway_gone(self, index: int) -> InFlight | None:
        """Count what was lost with a gateway's process."""
        name, in_ring = self.gateways[index].name, self.rings[index].steps
        return self._in_flight.gateway_gone(index, name, in_ring)

    def schedule_restart(self, child: Child) -> float | None:
        """Have a child restarted in so many seconds; None where that was too often."""
        pause = self._policy.restart_in(child, time.monotonic())
        if pause is None:
            self._events.add("restart_refused", process=child.name)
        else:
            self._events.add("restarting", process=child.name, in_s=pause)
        return pause

    @property
    def refusal(self) -> str:
        """Why a child is not restarted."""
        return self._policy.refusal

    def drain(self, node: str) -> dict[str, Any]:
        """Send the games of a node away, and end what it runs once its rows are kept; asked again,
        how far that is: `text`, and `done`. Errors: ConfigError."""
        raise ConfigError(
            f"drain {node}: expected a server on a cluster, got one on this machine alone; end it "
            "with SIGTERM instead"
        )

    # Stopping.

    def stop_listening(self) -> None:
        """Whoever comes from now on is refused."""
        for sockets in self._sockets:
            sockets.close()

    def wake(self) -> None:
        """Processes that were stopped (SIGSTOP) go on, so that they can hear that they are to
        end."""
        for child in self.children:
            if child.process is not None and child.process.is_alive():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid, signal.SIGCONT)

    def ensure_trainer(self) -> None:
        """Start the trainer, if it is not there and the rings hold what only it can store."""
        trainer = self.trainer
        if trainer.alive and trainer.process is not None and not trainer.process.is_alive():
            log.error("%s", self.reap(trainer, "died"))
        if self._rows_waiting and not self.trainer.alive:
            with contextlib.suppress(OSError):
                self._start(self.trainer)

    def end_gateways(
        self, reported: Set[int], deadline: float, listen: Callable[[Child], None]
    ) -> None:
        """Tell the gateways to end, and wait for them. `reported`: those that serve their
        sockets."""
        self.tell_gateways(Stop())
        for index, child in enumerate(self.gateways):
            starting = self.ready is None and index not in reported
            if starting and child.process is not None:
                child.process.kill()  # it has nothing yet, and cannot hear
            self.end(child, deadline, listen)

    def end(self, child: Child, deadline: float, listen: Callable[[Child], None]) -> None:
        """Wait until a child that was told to has ended."""
        if not child.reap_by(deadline, listen):
            self._clean = False
            log.error("%s did not end in time; killed", child.name)

    def close(self) -> None:
        """All children have ended: remove what they shared."""
        in_rings = [ring.steps for ring in self.rings]
        self._in_flight.close(self._rows_waiting, in_rings, clean=self._clean)
        self._remove_rings()
        if self.ready is not None:  # the trainer's to remove, unless it was killed
            with contextlib.suppress(FileNotFoundError):
                slot = WeightSlot.attach(self.ready.weights, self.ready.size)
                slot.close()
                slot.unlink()
        shared_memory.remove_left(self._folder.path)

    def _remove_rings(self) -> None:
        for ring in self.rings:
            ring.close()
            ring.unlink()
        self.rings.clear()


ProcessesOf = Callable[[Config, RunDirectory, Task, EventLog, Callable[[Child], None]], Processes]
"""Makes the processes of a server, as Processes does."""

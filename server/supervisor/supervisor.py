"""The supervisor's loop: starts the processes, takes in what they send, restarts and stops them.

`start`, then `poll` again and again, then `stop`: `server.supervisor.session` does the first and
the last, and whoever uses that writes the loop.
"""

from __future__ import annotations

import logging
import multiprocessing.connection
import os
import socket
import time
from collections.abc import Callable
from typing import Any

from config.models import Config
from config.secrets import with_secrets
from server.control.controller import Controller
from server.control.endpoints import ControlEndpoints
from server.control.mailbox import Mailbox
from server.ipc.load_messages import Loading, RunLoaded
from server.ipc.messages import (
    GATEWAY,
    Changed,
    CheckpointSaved,
    Ending,
    Evaluate,
    GatewayReport,
    Joined,
    Left,
    LogLine,
    Pause,
    ProcessFailed,
    Proposed,
    Ready,
    RolledBack,
    SavedBest,
    SaveWanted,
    Settled,
    Stop,
    TrainerReport,
)
from server.monitor.clients import Clients
from server.monitor.collector import MetricsCollector
from server.monitor.status import Status
from server.monitor.status_publisher import StatusPublisher
from server.run.directory import RunDirectory
from server.run.disk import Writes
from server.run.evaluations import Evaluations
from server.run.events import EventLog
from server.run.logs import relay
from server.supervisor.child import Child, ChildDied
from server.supervisor.evaluation_recorder import EvaluationRecorder
from server.supervisor.game_choice import GameChoice
from server.supervisor.lessons import Lessons
from server.supervisor.metrics_publisher import MetricsPublisher
from server.supervisor.processes import Processes, ProcessesOf, ProcessLoss
from server.supervisor.readiness import Readiness
from server.supervisor.run_start import RunStart
from server.supervisor.settling import Settling
from server.supervisor.trainer_client import ANSWERS, TrainerClient
from server.trainer.task import Task

log = logging.getLogger("supervisor")

STOP_S = 8.0
"""A stop takes at most this long; then processes are killed. With all that is done after, 10 s."""

GAMES_S = 5.0
"""Of that, for the gateways: more than they take themselves (server.gateway.shutdown)."""


class Supervisor:
    """Owns the run's processes, and has the parts that act on what they send."""

    def __init__(
        self, config: Config, folder: RunDirectory, task: Task | None = None,
        make: ProcessesOf = Processes,
    ) -> None:  # fmt: skip
        """`task`: without one it begins a new run and trains. `make`: of what starts all."""
        task = task or Task()
        config = with_secrets(config)
        self.config = config
        self.folder = folder
        self.port = 0
        """Where games connect; 0 before the start."""
        self.tempest_port: int | None = None
        self.websocket_port: int | None = None
        """Where older clients for Tempest, and games in browsers, connect."""
        self.dashboard: str | None = None
        """The URL of HTTP, where it is served (server.supervisor.session)."""
        self.paused = False
        """Whether training is."""
        self.found: dict[str, Any] = {}
        """What the summary of the run says beyond metrics; whoever uses this adds to it."""
        self.on_row: Callable[[dict[str, float]], None] = lambda _: None
        """Called after each interval with `last`."""
        self.on_beat: Callable[[], None] = lambda: None
        """Called whenever the loop comes round."""
        self._failure = ""
        """Why the run cannot go on, if so."""
        self._stopping = False
        writes = self._writes = Writes(log, "serving and training continue")
        self.events = EventLog(folder.events, writes)
        """What happens to the processes, for programs."""
        found = Evaluations(folder.evaluated())
        status = self.publisher = StatusPublisher(config, folder, found.newest)
        self.controller = Controller(self)
        """What can be done to the run while it runs, for whoever is in this thread."""
        self._lessons = Lessons(self.controller)
        self._endpoints = ControlEndpoints(self.controller, folder.path)
        processes = self._processes = make(config, folder, task, self.events, self._on_started)
        self.drain = processes.drain
        """Of a gateway node."""
        self.trainer = TrainerClient(
            processes.trainer, self.poll, self.controller.saved, folder.log
        )
        """What can be asked of the trainer."""
        self._collector = collector = MetricsCollector(found)
        self._clients = clients = Clients()
        self._evaluations = EvaluationRecorder(
            config, folder, found, processes, status, writes, clients
        )
        self._metrics = MetricsPublisher(config, folder, collector, clients, status, writes)
        self._readiness = Readiness(processes, status, self.events)
        self._settling = Settling(self.poll)
        self._game = GameChoice(folder, processes, status, self.events, writes, config.run.game)
        self.run_start = RunStart(
            folder, processes, self._endpoints, status, self.events, writes, resume=task.resume
        )

        self._handlers: dict[type[Any], Callable[[Any], None]] = {
            LogLine: relay,
            ProcessFailed: self._on_failed,
            Settled: self._settling.answer,
            # Of gateways.
            Proposed: lambda m: self._game.propose(m.spec, self.config),
            Joined: self._clients.joined,
            Left: lambda m: self._clients.left(m.session),
            GatewayReport: self._on_gateway_report,
            SaveWanted: lambda _: self.trainer.want_checkpoint(),
            # Of the trainer.
            Loading: self._readiness.loading,
            RunLoaded: lambda _: self.run_start.accept(self.config),
            Ready: self.run_start.ready,
            TrainerReport: self._on_trainer_report,
            CheckpointSaved: self._on_saved,
            SavedBest: self._evaluations.saved_best,
            **dict.fromkeys(ANSWERS, self.trainer.answer),
            RolledBack: lambda m: self.events.add(
                "training_rolled_back", updates=m.updates, rollbacks=m.rollbacks
            ),
        }

    # What is known now.

    @property
    def mailbox(self) -> Mailbox:
        """The controller for other threads."""
        return self._endpoints.mailbox

    @property
    def status(self) -> Status:
        """What other threads may look at: a snapshot."""
        return self.publisher.status

    @property
    def row(self) -> dict[str, float]:
        """The newest metrics; empty until the first interval has passed."""
        return self._metrics.row

    @property
    def last(self) -> dict[str, float]:
        """For each metric the newest value that was a number: a mean over no rows is none."""
        return self._metrics.last

    @property
    def steps(self) -> int:
        """Steps that the gateways have handed over since the start, as of now."""
        return self._processes.steps

    @property
    def frames(self) -> int | None:
        """Stored frames of the whole run, as of now; None while a resumed run is being loaded."""
        return self.run_start.frames(self.steps)

    @property
    def refused(self) -> bool:
        """The start has come to nothing: the folder is to be as it was (RunDirectory.refused)."""
        return self.run_start.refused or not self.run_start.accepted

    @property
    def episodes(self) -> int:
        """Episodes of training that have ended since the start."""
        return self._collector.episodes

    @property
    def training_games(self) -> list[Joined]:
        """Connections of games in training."""
        return self._clients.training

    # Starting.

    def start(self) -> None:
        """Listen, and start the processes. Errors: ConfigError if a port is missing."""
        self.events.add("starting", launch=self.folder.launch, pid=os.getpid())
        self.port, self.tempest_port, self.websocket_port = self._processes.start()
        self.publisher.update(
            port=self.port, tempest_port=self.tempest_port, websocket_port=self.websocket_port
        )
        self._game.decide_known(self.config)
        self._metrics.wait(self.config.metrics.every_s)
        self._readiness.begin(loads=self._game.known, dashboard=self.dashboard)
        if not self._game.known:
            self.run_start.accept(self.config)

    def _on_trainer_report(self, report: TrainerReport) -> None:
        self._metrics.add_trainer_report(report)
        self._evaluations.hear_trust(report.metrics.get("expert_trust", 1.0))

    def _on_started(self, child: Child) -> None:
        """Tell a child that has just been started what others have been told before."""
        self._evaluations.greet(child)
        if child.kind != GATEWAY and self.paused:
            child.send(Pause(True))

    # Running.

    def poll(self, timeout_s: float = 0.1) -> None:
        """Take in what the processes send, for at most `timeout_s`, and publish the metrics.

        Errors: ChildDied, ConfigError (a process could not start with this configuration).
        """
        self.publisher.beat()
        self.on_beat()
        pipes, ends = self._processes.waitables
        asking = self._endpoints.waitables
        for ready in multiprocessing.connection.wait([*pipes, *ends, *asking], timeout_s):
            if isinstance(ready, multiprocessing.connection.Connection):
                self._take_in(pipes[ready])
            elif isinstance(ready, socket.socket):
                asking[ready].serve(ready)
            elif not self._stopping:
                self._lost(ends[ready], "died")  # type: ignore[index]
        if not self._stopping:
            for child, how in self._processes.hung():
                self._lost(child, how)
            for child, loss in self._processes.start_due():
                self._restart(child, loss)
        self._game.poll()
        self._evaluations.poll(self._take_in_all)
        self.trainer.request_wanted()
        if self._metrics.due:
            self._metrics.wait(self.config.metrics.every_s)
            self._publish_row()

    def settle(self, timeout_s: float = 60.0) -> bool:
        """Wait until all that was played is stored, learnt from, published, and in `row`: whether
        that was so in time. The games must have ended."""
        deadline = time.monotonic() + timeout_s
        gateways, trainer = self._processes.gateways, self._processes.trainer
        settled = all(self._settling.wait(each, deadline) for each in (gateways, [trainer]))
        self._publish_row()
        return settled

    def _publish_row(self) -> None:
        self._game.keep()
        start = self.run_start
        self._metrics.publish(self._processes, start.base_frames, keep=start.accepted)
        self._lessons.look(self.config, self.row, self.episodes)
        self.on_row(self.last)

    # Changing, as the controller is asked to.

    def adopt(self, config: Config) -> None:
        """Go on with another configuration: the processes are told. The controller records it."""
        self.config = config
        self.publisher.update(config=config)
        self._processes.config = config
        self._processes.tell(Changed(config))
        self._evaluations.adopt(config)

    def pause(self, on: bool) -> None:
        """Have the trainer learn no more, or go on; one that is started later too."""
        self.paused = on
        self.publisher.update(paused=on)
        self._processes.trainer.send(Pause(on))

    def evaluate(self, request: Evaluate) -> None:
        """Have the games asked to evaluate."""
        self._evaluations.ask(request)

    # Processes that are lost.

    def _lost(self, child: Child, how: str) -> None:
        """A child has ended, or hangs: have it started again, or not. Errors: ChildDied."""
        self._take_in_all()
        loss = self._processes.reap(child, how)
        if child.kind == GATEWAY:
            for each in (self._readiness, self._clients, self._collector):
                each.gateway_gone(self._processes.gateways.index(child))
        else:
            self._collector.trainer_gone()
            self.trainer.lost()
        if child.retired:
            log.info("%s", loss)
        elif child.kind == GATEWAY or not self._game.lost(loss, self.config):
            self._restart(child, loss)

    def _restart(self, child: Child, loss: ProcessLoss) -> None:
        pause = self._processes.schedule_restart(child)
        if pause is None:
            log_file = f"; see {self.folder.log}" if self.run_start.accepted else ""
            raise self._gives_up(f"{loss}; {self._processes.refusal}{log_file}")
        self._collector.restarts[child.kind] += 1
        self.publisher.add_restart(child.name, loss.reason)
        log.error("%s; restarting in %.1f s", loss, pause)

    def _gives_up(self, text: str) -> ChildDied:
        """The server cannot go on, for this reason; the error to raise."""
        self._failure = text
        self.publisher.update(ended=text)
        return ChildDied(text)

    # What processes send.

    def _take_in_all(self) -> None:
        for child in self._processes.children:
            self._take_in(child)

    def _take_in(self, child: Child) -> None:
        for message in child.messages():
            self._handle(message)

    def _handle(self, message: Any) -> None:
        handler = self._handlers.get(type(message))
        if handler is None:
            raise TypeError(f"expected a message of server.ipc.messages, got {message!r}")
        handler(message)

    def _on_gateway_report(self, report: GatewayReport) -> None:
        self._evaluations.add(self._metrics.add_gateway_report(report))
        self._readiness.reported(report)
        self._game.opened |= report.opened

    def _on_saved(self, message: CheckpointSaved) -> None:
        if not self._stopping:  # then nobody waits for it
            self.trainer.answer(message)

    def _on_failed(self, message: ProcessFailed) -> None:
        """A process says why it ends. Errors: ConfigError, ChildDied."""
        log.error("%s", message.text)
        if self._stopping or self._game.failed(message):
            return
        closed = self._game.cannot_open(message)
        if self.run_start.refuse(unplayed=closed and not self._game.came_before):
            # Before it was ever ready, it is the configuration that it cannot start with.
            raise self._game.failed_start(message, self.config)
        if message.final or closed:
            raise self._gives_up(message.text)

    # Stopping.

    def end_games(self) -> None:
        """Say goodbye to all games, and end the gateways; what was played is stored, or about to
        be. `stop` does it too. Again has no effect."""
        if self._stopping:
            return
        self._stopping = self._metrics.ended = True
        self.run_start.end()
        processes = self._processes
        if self.port:  # else it never started
            self.events.add("stopping")
        self.publisher.update(ended=self._failure or "the server is stopping")
        self._endpoints.close()
        processes.stop_listening()
        processes.wake()
        if not self._failure:
            processes.ensure_trainer()
        deadline = time.monotonic() + GAMES_S
        processes.trainer.send(Ending())
        processes.end_gateways(self._readiness.serving, deadline, self._take_in)
        if not self._failure:
            processes.ensure_trainer()  # for what the games' end has brought

    def stop(self) -> None:
        """End all processes in order: first the games, then, when all their steps are stored and a
        checkpoint is written, the trainer."""
        deadline = time.monotonic() + STOP_S
        self.end_games()
        self._evaluations.end()
        self._processes.trainer.send(Stop())
        self._processes.end(self._processes.trainer, deadline, self._take_in)
        self._publish_row()
        if self.port and not self.refused:  # else it never started
            log.info("stopped; the run is in %s", self.folder.path)
            self.events.add("stopped")
        self._processes.close()
        self._metrics.close()

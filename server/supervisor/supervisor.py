"""The supervisor: starts the gateways and the trainer, again where they die or hang, decides the
run's game, collects metrics.

`start`, then `poll` again and again, then `stop`: whoever owns it (a command) writes the loop.
"""

from __future__ import annotations

import logging
import math
import multiprocessing.connection
import os
import socket
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from agent import checkpoint
from agent.device_name import device_name
from agent.handover import expert_ratio
from config.load import ConfigError
from config.models import Config
from config.secrets import with_secrets
from protocol.spaces import GameSpec
from server.control.controller import Controller
from server.control.mailbox import Mailbox
from server.control.unix_socket import ControlSocket
from server.gateway import expert_plugin
from server.ipc.messages import (
    GATEWAY,
    Changed,
    Checkpoint,
    Dump,
    Dumped,
    Ending,
    Evaluate,
    ExpertRatio,
    Failed,
    GatewayReport,
    Joined,
    Left,
    Log,
    Pause,
    Proposed,
    Ready,
    Record,
    Recorded,
    Refused,
    RolledBack,
    SaveBest,
    Saved,
    SavedBest,
    SaveWanted,
    Settle,
    Settled,
    Stop,
    TrainerReport,
)
from server.monitor.clients import Clients
from server.monitor.collector import MetricsCollector
from server.monitor.publisher import StatusPublisher
from server.monitor.status import Status
from server.monitor.tensorboard import TensorBoardWriter
from server.monitor.warnings import ClockWatch, SampleWatch, config_warning
from server.net.tls import certificate
from server.run.directory import RunDirectory, append_lines
from server.run.disk import Writes, free_bytes
from server.run.evaluations import Evaluation, Evaluations
from server.run.events import EventLog
from server.run.logs import LogFile
from server.run.metrics_log import plain
from server.supervisor import exposure, memory_budget
from server.supervisor.child import Child
from server.supervisor.processes import LAST_WORDS, Processes, Task

log = logging.getLogger("supervisor")

_ALWAYS_THERE = ("loss", "td_err_mean", "q_mean", "grad_norm")
"""Metrics that every update has: where they are NaN, that is news and not the lack of any."""

_EVENTS = "TensorBoard's event files"

SETTLE_S = 0.02
"""Between two times that a process is asked whether anything is on its way."""

SAVE_EVERY_S = 30.0
"""Checkpoints that clients ask for are at least so far apart, however often they do."""

STOP_S = 8.0
"""A stop takes at most this long; then processes are ended. With all that is done after, 10 s."""

GAMES_S = 5.0
"""Of that, for the gateways: more than they take themselves (server.gateway.gateway)."""


Answer = TypeVar("Answer", Saved, Dumped, Recorded)


class ChildDied(RuntimeError):
    """A process of the server ended although nobody asked it to, and is not started again."""


class Supervisor:
    """Owns the run's processes and its shared memory."""

    def __init__(
        self,
        config: Config,
        folder: RunDirectory,
        task: Task | None = None,
    ) -> None:
        """`task`: of the trainer; without one it begins a new run and trains."""
        task = task or Task()
        config = with_secrets(config)
        self.config = config
        self.folder = folder
        self.controller = Controller(self)
        """What can be done to the run while it runs, for whoever is in this thread."""
        self.mailbox = Mailbox(self.controller.handle)
        """The same for other threads."""
        self._failure = ""
        """Why the run cannot go on, if so."""
        self.row: dict[str, float] = {}
        """The newest metrics; empty until the first interval has passed."""
        self.last: dict[str, float] = {}
        """For each metric the newest value that was a number: a mean over no rows is none."""
        self.lines: deque[str] = deque(maxlen=100)
        """The newest [BATCH] and [BUFFER] lines."""
        self.on_row: Callable[[dict[str, float]], None] | None = None
        """Called after each interval with `last`."""
        self.on_beat: Callable[[], None] | None = None
        """Called whenever the loop comes round."""
        evaluated = folder.evaluated()
        self.publisher = StatusPublisher(config, folder, evaluated)
        self.paused = False
        """Whether training is: what the trainer was told."""
        self.port = 0
        self.tempest_port: int | None = None
        """Where older clients for Tempest connect."""
        self.dashboard: str | None = None
        """The URL of HTTP, where whoever owns this serves it."""
        self.found: dict[str, Any] = {}
        """What the summary of the run says beyond metrics; whoever owns this adds to it."""
        self._spec: GameSpec | None = folder.game()
        self._writes = Writes(log, "serving and training go on")
        self.events = EventLog(folder.events, self._writes)
        """What happens to the processes, for programs."""
        self._processes = Processes(config, folder, task, self.events, self._greet)
        self._asked: Evaluate | None = None
        """The newest evaluation that was asked for."""
        self._control: ControlSocket | None = None
        self._base_frames: int | None = None if task.resume else 0
        """Stored frames before this start; None while that is not known."""
        self._collector = MetricsCollector(Evaluations(evaluated))
        there = checkpoint.best(folder.checkpoints) is not None
        self._best_saved = self.evaluations.best if there else math.nan
        """Mean of the evaluation whose network the best checkpoint has; NaN without one."""
        self._samples = SampleWatch()
        self._clock = ClockWatch()
        self._clients = Clients()
        self._events: TensorBoardWriter | None = None
        if config.metrics.tensorboard:
            self._events = TensorBoardWriter(folder.path / "tensorboard")
        self._reported: set[int] = set()
        """Gateways that have reported: their sockets are served."""
        self._next_row = 0.0
        self._save_wanted = False
        self._next_save = 0.0
        self._settled: set[str] = set()
        """Processes that have answered that nothing is on its way."""
        self._answers: deque[Saved | Dumped | Recorded] = deque(maxlen=100)
        self._game_kept = True
        self._stopping = False

    @property
    def status(self) -> Status:
        """What other threads may look at: a snapshot."""
        return self.publisher.status

    # Starting.

    def start(self) -> None:
        """Listen, and start the processes. Errors: ConfigError if the port or a device cannot be
        had."""
        self._check_devices()
        expert_plugin.check(self.config)
        for reminder in exposure.check(self.config):
            log.warning("%s", reminder)
        certificate(self.config.server)  # the gateways load it again: here it is only looked at
        self.events.add("starting", launch=self.folder.launch, pid=os.getpid())
        self.port, self.tempest_port = self._processes.start()
        self.publisher.update(port=self.port)
        if warning := config_warning(self.config.advantage):
            log.warning("%s", warning)
        self.mailbox.open()
        try:
            self._control = ControlSocket(
                self.folder.path, lambda request: self.controller.handle(request, "cli")
            )
        except OSError as error:
            log.warning("settings cannot be changed while this run runs: no socket: %s", error)
        if self._spec is not None:
            self._decide(self._spec)
        self._next_row = time.monotonic() + self.config.metrics.every_s
        self.events.add(
            "ready",
            port=self.port,
            tempest_port=self.tempest_port,
            dashboard=self.dashboard,
        )

    def _check_devices(self) -> None:
        config = self.config
        devices = {
            "server.device": config.server.device,
            "trainer.device": config.trainer.device,
            "replay.device": config.replay.device,
        }
        for field, name in devices.items():
            try:
                device = device_name(name, field)
            except RuntimeError as error:
                raise ConfigError(str(error)) from None
            if field == "trainer.device":
                self.publisher.update(device=device)

    def _greet(self, child: Child) -> None:
        """Tell a child that has just been started what others have been told before."""
        if child.kind == GATEWAY:
            child.say(ExpertRatio(self._ratio()))
            if self._asked is not None:
                child.say(self._asked)
        elif self.paused:
            child.say(Pause(True))

    def _consider(self, spec: GameSpec) -> None:
        """A game was proposed: it becomes the run's, or is refused."""
        text = memory_budget.refusal(spec, self.config)
        if text is None:
            try:
                self._decide(spec)
                return
            except ConfigError as error:  # there is less shared memory than there is memory
                text = str(error)
        self._spec = None
        self.publisher.update(spec=None)
        self.tell_gateways(Refused(spec, text))

    def _decide(self, spec: GameSpec) -> None:
        """This is the run's game. Errors: ConfigError where there is no memory for it."""
        self._spec = spec
        self.publisher.update(spec=spec)
        self._processes.decide(spec)
        self._keep_game()
        log.info("the game is %s", spec.describe())

    def _keep_game(self) -> None:
        """Write down which game this is; what cannot be written is tried again with each row."""
        assert self._spec is not None
        with self._writes.tried("the run's game.json") as errors:
            self.folder.keep_game(self._spec)
        self._game_kept = not errors

    # Running.

    def poll(self, timeout_s: float = 0.1) -> None:
        """Take in what the processes say, for at most `timeout_s`, and keep the metrics.

        Errors: ChildDied, ConfigError (a process could not start with this configuration).
        """
        self.publisher.beat()
        if self.on_beat:
            self.on_beat()
        pipes, ends = self._processes.waitables
        asking = {
            each: ear
            for ear in (self._control, self.mailbox)
            if ear is not None
            for each in ear.waitables
        }
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
            for child, text in self._processes.start_due():
                self._start_again(child, text)
        self._close_evaluation()
        now = time.monotonic()
        if self._save_wanted and now >= self._next_save:
            self._save_wanted, self._next_save = False, now + SAVE_EVERY_S
            log.info("a client asked for a checkpoint")
            self._processes.trainer.say(Checkpoint())
        if now >= self._next_row:
            self._next_row = time.monotonic() + self.config.metrics.every_s
            self._write_row()

    def checkpoint(self, timeout_s: float = 60.0) -> Saved:
        """Have a checkpoint written now, and wait for it."""
        return self._ask(Checkpoint(), Saved, timeout_s)

    def dump(self, path: str, timeout_s: float = 600.0) -> None:
        """Have what the replay holds written to `path` (.npz), and wait for it."""
        self._ask(Dump(path), Dumped, timeout_s)

    def write_recording(self, path: Path, timeout_s: float = 3600.0) -> Recorded:
        """Have all rows that came in written to `path`, and wait for it. With `keep_rows` only, and
        best when the games have ended, so that nothing is on its way."""
        return self._ask(Record(str(path)), Recorded, timeout_s)

    @property
    def steps(self) -> int:
        """Steps that the gateways have handed over since the start, as of now."""
        return self._processes.steps

    @property
    def frames(self) -> int | None:
        """Stored frames of the whole run, as of now; None while a resumed run is being loaded."""
        return None if self._base_frames is None else self._base_frames + self.steps

    @property
    def evaluations(self) -> Evaluations:
        """What the run's evaluations found so far."""
        return self._collector.evaluations

    @property
    def episodes(self) -> int:
        """Episodes of training that have ended since the start."""
        return self._collector.episodes

    @property
    def training_games(self) -> int:
        """Connections of games in training."""
        return self._clients.training

    def adopt(self, config: Config) -> None:
        """Go on with another configuration: the processes are told. See `controller`, which records
        it."""
        self.config = config
        self.publisher.update(config=config)
        self._processes.config = config
        self._processes.tell(Changed(config))
        self._tell_ratio()

    def tell_trainer(self, message: Any) -> None:
        """Send it a message."""
        self._processes.trainer.say(message)
        if isinstance(message, Checkpoint) and not self._processes.trainer.alive:
            self.controller.saved(Saved("", "the trainer is being started again; try again"))

    def tell_gateways(self, message: Any) -> None:
        """Send each of them a message."""
        if isinstance(message, Evaluate):
            self._asked = message
        self._processes.tell_gateways(message)

    def settle(self, timeout_s: float = 60.0) -> bool:
        """Wait until all that was played is stored, learnt from, published, and in `row`: whether
        that was so in time. The games must have ended."""
        deadline = time.monotonic() + timeout_s
        processes = self._processes
        settled = all(
            self._until_settled(children, deadline)
            for children in (processes.gateways, [processes.trainer])
        )
        self._write_row()
        return settled

    def _until_settled(self, children: list[Child], deadline: float) -> bool:
        """Ask these until nothing is on its way in any of them."""
        self._settled.clear()
        next_asked = 0.0
        while waiting := [child for child in children if child.name not in self._settled]:
            now = time.monotonic()
            if now >= deadline:
                return False
            if now >= next_asked:
                next_asked = now + SETTLE_S
                for child in waiting:
                    child.say(Settle())
            self.poll(SETTLE_S)
        return True

    def pause(self, on: bool) -> None:
        """Have the trainer learn no more, or go on; one that is started later too."""
        self.paused = on
        self.publisher.update(paused=on)
        self._processes.trainer.say(Pause(on))

    def _tell_ratio(self) -> None:
        """Tell the gateways how often the expert plays, where evaluations decide that."""
        self._processes.tell_gateways(ExpertRatio(self._ratio()))

    def _ratio(self) -> float:
        ratio, found = self.config.expert.ratio, self.evaluations
        return expert_ratio(ratio.start, ratio.end, found.mean, found.expert_mean, found.first)

    def _lost(self, child: Child, how: str) -> None:
        """A child has died, or hangs: have it started again. Errors: ChildDied."""
        self._take_in_all()
        text = self._processes.bury(child, how)
        if child.kind == GATEWAY:
            index = self._processes.gateways.index(child)
            self._reported.discard(index)
            self.publisher.update(ready=False)
            self._clients.gone(index)
            rings = self._processes.rings
            self._collector.gone(index, rings[index].steps if rings else 0)
        else:
            self.controller.saved(Saved("", "the trainer has died; try again"))
        self._start_again(child, text)

    def _start_again(self, child: Child, text: str) -> None:
        pause = self._processes.start_again(child)
        if pause is None:
            raise self._gives_up(f"{text}; {self._processes.refusal}; see {self.folder.log}")
        self._collector.restarts[child.kind] += 1
        self.publisher.add_restart(child.name, text.partition(LAST_WORDS)[0])
        log.error("%s; restarting in %.1f s", text, pause)

    def _gives_up(self, text: str) -> ChildDied:
        """The server cannot go on, for this reason; the error to raise."""
        self._failure = text
        self.publisher.update(ended=text)
        return ChildDied(text)

    def _close_evaluation(self) -> None:
        """Close the evaluation if it is over, when all that is under way has been heard: another
        gateway may have told meanwhile that it has games of it too."""
        if self.evaluations.over:
            self._take_in_all()
        if self.evaluations.over:
            for evaluation in self.evaluations.close(time.time()):
                self._evaluated(evaluation)
            self.publisher.update(evaluating=False)

    def _evaluated(self, evaluation: Evaluation) -> None:
        """An evaluation has ended: keep it, and act on it."""
        log.info("%s", evaluation.text())
        self.publisher.add_evaluation(evaluation)
        with self._writes.tried(str(self.folder.evaluations)):
            append_lines(self.folder.evaluations, [evaluation.line()])
        mean, partial = evaluation.mean, evaluation.partial
        if mean is not None and not partial and not mean <= self._best_saved:
            self._processes.trainer.say(SaveBest(evaluation.line()))
        self._tell_ratio()

    def _ask(self, message: Any, kind: type[Answer], timeout_s: float) -> Answer:
        self._answers.clear()  # checkpoints that nobody asked for
        self._processes.trainer.say(message)
        asked = self._processes.trainer.process
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            self.poll(0.05)
            if not self._processes.trainer.alive or self._processes.trainer.process is not asked:
                raise ChildDied(f"the trainer ended before its answer; see {self.folder.log}")
            for answer in self._answers:
                if isinstance(answer, kind):
                    self._answers.remove(answer)
                    return answer
        raise TimeoutError(f"expected the trainer to answer {message} within {timeout_s:g} s")

    def _take_in_all(self) -> None:
        for child in self._processes.children:
            self._take_in(child)

    def _take_in(self, child: Child) -> None:
        for message in child.messages():
            self._handle(message)

    def _handle(self, message: Any) -> None:
        match message:
            case GatewayReport():
                self._clients.report(message)
                self._reported.add(message.index)
                for evaluation in self._collector.gateway(message):
                    self._evaluated(evaluation)
                self.publisher.update(
                    ready=len(self._reported) == len(self._processes.gateways),
                    evaluating=self.evaluations.under_way,
                )
            case TrainerReport():
                self._collector.trainer(message.metrics)
                for warning in self._samples.look(message.metrics):
                    log.warning("%s", warning)
                for line in message.lines:
                    self.lines.append(line)
                    log.info("%s", line)
            case Joined():
                self._clients.joined(message)
            case Left():
                self._clients.left(message.session)
            case Log():
                logging.getLogger(message.source).log(message.level, "%s", message.text)
            case Proposed():
                if self._spec is None:
                    self._consider(message.spec)
            case Ready():
                if self._processes.opened(message):
                    self._base_frames = message.base_frames
                    self._keep_start()
            case Saved():
                if not self._stopping:
                    self.controller.saved(message)
                    self._answers.append(message)
            case RolledBack():
                self.events.add(
                    "training_rolled_back", updates=message.updates, rollbacks=message.rollbacks
                )
            case Settled():
                if message.settled:
                    self._settled.add(message.process)
            case SaveWanted():
                self._save_wanted = True
            case SavedBest():
                if message.error is None:
                    self._best_saved = message.mean
            case Dumped() | Recorded():
                self._answers.append(message)
            case Failed():
                log.error("%s", message.text)
                if self._processes.ready is None and not self._stopping:
                    # Before it was ever ready, it is the configuration that it cannot start with.
                    raise ConfigError(message.text)
                if message.final and not self._stopping:
                    raise self._gives_up(message.text)
            case _:
                raise TypeError(f"expected a message of server.ipc.messages, got {message!r}")

    def _keep_start(self) -> None:
        """Write down that the run was started, now that it is known where it goes on from."""
        record = {
            "time": self.status.started,
            "launch": self.folder.launch,
            "frames": self._base_frames,
        }
        with self._writes.tried(str(self.folder.starts)):
            append_lines(self.folder.starts, [record])
        self.publisher.add_start(record)

    def _write_row(self) -> None:
        self._collector.lost = self._processes.lost
        if warning := self._clock.look(time.time(), time.monotonic()):
            log.warning("%s", warning)
        self.row = self._collector.row()
        self.row["writes_failed"] = float(self._writes.failed + LogFile.failed)
        self.row["disk_free_bytes"] = free_bytes(self.folder.path)
        if not self.row["frames"]:
            # No report of the trainer yet: a resumed run has some all the same.
            base = self._base_frames
            self.row["frames"] = math.nan if base is None else float(base)
        learnt = self.row.get("updates_per_s", 0.0) > 0
        self.last |= {
            name: value
            for name, value in self.row.items()
            if not math.isnan(value) or (learnt and name in _ALWAYS_THERE)
        }
        if not self._game_kept:
            self._keep_game()
        with self._writes.tried(str(self.folder.metrics)):
            self.folder.rows.add(plain(self.row))
        if self._events is not None:
            with self._writes.tried(_EVENTS):
                self._events.add(self.row)
        games = self._clients.rows(time.monotonic())
        self.publisher.add_row(self.row, self.last, self._collector.turns, games)
        if self.on_row:
            self.on_row(self.last)

    # Stopping.

    def end_games(self) -> None:
        """Say goodbye to all games, and end the gateways; what was played is stored, or about to
        be. `stop` does it too. Again has no effect."""
        if self._stopping:
            return
        self._stopping = True
        if self.port:  # else it never started
            self.events.add("stopping")
        self.publisher.update(ended=self._failure or "the server is stopping")
        self.controller.close()
        self.mailbox.close()
        if self._control is not None:
            self._control.close()
            self._control = None
        self._processes.stop_listening()
        self._processes.wake()
        if not self._failure:
            self._processes.have_trainer()
        deadline = time.monotonic() + GAMES_S
        self._processes.trainer.say(Ending())
        self._processes.tell_gateways(Stop())
        for index, child in enumerate(self._processes.gateways):
            starting = self._processes.ready is None and index not in self._reported
            if starting and child.process is not None:
                child.process.kill()  # it has nothing yet, and cannot hear
            self._processes.end(child, deadline, self._take_in)
        if not self._failure:
            self._processes.have_trainer()  # for what the games' end has brought

    def stop(self) -> None:
        """End all processes in order: first the games, then, when all their steps are stored and a
        checkpoint is written, the trainer."""
        deadline = time.monotonic() + STOP_S
        self.end_games()
        self._processes.trainer.say(Stop())
        self._processes.end(self._processes.trainer, deadline, self._take_in)
        self._write_row()
        if self.port:  # else it never started
            log.info("stopped; the run is in %s", self.folder.path)
            self.events.add("stopped")
        self._processes.close()
        self.folder.close()
        if self._events is not None:
            with self._writes.tried(_EVENTS):
                self._events.close()
            self._events = None

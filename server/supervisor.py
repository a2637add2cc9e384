"""The supervisor: starts the gateways and the trainer, decides the run's game, collects metrics.

`start`, then `poll` again and again, then `stop`: whoever owns it (a command) writes the loop.
"""

from __future__ import annotations

import contextlib
import logging
import math
import multiprocessing
import multiprocessing.connection
import socket
import time
from collections import deque
from collections.abc import Callable
from multiprocessing.connection import Connection as Pipe
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar

from agent import checkpoint
from agent.device import resolve_device
from agent.handover import expert_ratio
from config.load import ConfigError
from config.models import Config
from config.secrets import with_secrets
from protocol.spaces import GameSpec
from server import bounds, expert_plugin, exposure, gateway, trainer
from server.board import Board
from server.control import (
    Changed,
    Checkpoint,
    Dump,
    Dumped,
    Ending,
    ExpertRatio,
    Failed,
    GameDecided,
    GatewayReport,
    Joined,
    Left,
    Log,
    Open,
    Proposed,
    Ready,
    Record,
    Recorded,
    Refused,
    SaveBest,
    Saved,
    SavedBest,
    SaveWanted,
    Stop,
    TrainerReport,
)
from server.control_socket import ControlSocket
from server.controls import Controls
from server.disk import Writes
from server.evaluation import Evaluation, Evaluations
from server.event_files import EventFiles
from server.logs import LogFile
from server.mailbox import Mailbox
from server.metrics import Collector
from server.players import Players
from server.ring import StepRing
from server.rundir import RunFolder, append_lines
from server.tls import certificate
from server.watch import SampleWatch, unwise
from server.weights import WeightSlot

log = logging.getLogger("supervisor")

_ALWAYS_THERE = ("loss", "td_err_mean", "q_mean", "grad_norm")
"""Metrics that every update has: where they are NaN, that is news and not the lack of any."""

_EVENTS = "TensorBoard's event files"

BACKLOG = 1024
"""Connections that may wait to be accepted."""

SAVE_EVERY_S = 30.0
"""Checkpoints that clients ask for are at least so far apart, however often they do."""

STOP_S = 10.0
"""A clean stop takes at most this long; then processes are ended."""


Answer = TypeVar("Answer", Saved, Dumped, Recorded)


class ChildDied(RuntimeError):
    """A process of the server ended although nobody asked it to."""


class Supervisor:
    """Owns the run's processes and its shared memory."""

    def __init__(
        self,
        config: Config,
        folder: RunFolder,
        *,
        resume: bool = False,
        record: bool = False,
        best: bool = False,
        keep_rows: bool = False,
    ) -> None:
        """`resume`: go on from the newest checkpoint, or with `best` from the one that evaluated
        best. `record`: keep what every batch held, for `dump`. `keep_rows`: keep every row, for
        `write_recording`."""
        config = with_secrets(config)
        self.config = config
        self.folder = folder
        self.controls = Controls(self)
        """What can be done to the run while it runs, for whoever is in this thread."""
        self.mailbox = Mailbox(self.controls.handle)
        """The same for other threads."""
        self.row: dict[str, float] = {}
        """The newest metrics; empty until the first interval has passed."""
        self.last: dict[str, float] = {}
        """For each metric the newest value that was a number: a mean over no rows is none."""
        self.lines: deque[str] = deque(maxlen=100)
        """The newest [BATCH] and [BUFFER] lines."""
        self.on_row: Callable[[dict[str, float]], None] | None = None
        """Called after each interval with `last`."""
        evaluated = folder.evaluated()
        self.board = Board(config, folder, evaluated)
        """What other threads may look at."""
        self.port = 0
        self.tempest_port: int | None = None
        """Where older clients for Tempest connect."""
        self._resume = resume
        self._record = record
        self._best = best
        self._keep_rows = keep_rows
        self._context = multiprocessing.get_context("spawn")
        self._spec: GameSpec | None = folder.game()
        self._ready: Ready | None = None
        self._rings: list[StepRing] = []
        self._gateways: list[Pipe] = []
        self._trainer: Pipe | None = None
        self._processes: dict[Pipe, BaseProcess] = {}
        self._control: ControlSocket | None = None
        self._base_frames: int | None = None if resume else 0
        """Stored frames before this start; None while that is not known."""
        self._collector = Collector(Evaluations(evaluated))
        there = checkpoint.best(folder.checkpoints) is not None
        self._best_saved = self.evaluations.best if there else math.nan
        """Mean of the evaluation whose network the best checkpoint has; NaN without one."""
        self._samples = SampleWatch()
        self._players = Players()
        self._events: EventFiles | None = None
        if config.metrics.tensorboard:
            self._events = EventFiles(folder.path / "tensorboard")
        self._reported: set[int] = set()
        """Gateways that have reported: their sockets are served."""
        self._next_row = 0.0
        self._save_wanted = False
        self._next_save = 0.0
        self._answers: deque[Saved | Dumped | Recorded] = deque(maxlen=100)
        self._writes = Writes(log, "serving and training go on")
        self._game_kept = True
        self._stopping = False

    # Starting.

    def start(self) -> None:
        """Listen, and start the processes. Errors: ConfigError if the port or a device cannot be
        had."""
        self._check_devices()
        expert_plugin.check(self.config)
        for reminder in exposure.check(self.config):
            log.warning("%s", reminder)
        certificate(self.config.server)  # the gateways load it again: here it is only looked at
        for index, sockets in enumerate(self._listen()):
            args = (self.config, index, self.folder.launch)
            pipe = self._spawn(f"gateway-{index}", gateway.main, *args, last=sockets)
            self._gateways.append(pipe)
            for sock in sockets:
                if sock is not None:
                    sock.close()
        self._trainer = self._spawn(
            "trainer",
            trainer.main,
            self.config,
            last=(self.folder.path, self._resume, self._record, self._best, self._keep_rows),
        )
        self._tell_ratio()
        if warning := unwise(self.config.advantage):
            log.warning("%s", warning)
        self.mailbox.open()
        try:
            self._control = ControlSocket(
                self.folder.path, lambda request: self.controls.handle(request, "cli")
            )
        except OSError as error:
            log.warning("settings cannot be changed while this run runs: no socket: %s", error)
        if self._spec is not None:
            self._decide(self._spec)
        self._next_row = time.monotonic() + self.config.metrics.every_s

    def _check_devices(self) -> None:
        config = self.config
        devices = {
            "server.device": config.server.device,
            "trainer.device": config.trainer.device,
            "replay.device": config.replay.device,
        }
        for field, name in devices.items():
            try:
                device = resolve_device(name, field)
            except RuntimeError as error:
                raise ConfigError(str(error)) from None
            if field == "trainer.device":
                self.board.device = str(device)

    def _listen(self) -> list[tuple[socket.socket, socket.socket | None]]:
        """For each gateway where games connect, and where older clients for Tempest do."""
        server, tempest = self.config.server, self.config.tempest
        sockets = _listening("server", server.host, server.port, server.gateways)
        self.port = sockets[0].getsockname()[1]
        if tempest.port is None:
            return [(sock, None) for sock in sockets]
        try:
            older = _listening("tempest", tempest.host, tempest.port, server.gateways)
        except ConfigError:
            for sock in sockets:
                sock.close()
            raise
        self.tempest_port = older[0].getsockname()[1]
        return list(zip(sockets, older, strict=True))

    def _spawn(self, name: str, target: Callable[..., None], *first: Any, last: Any) -> Pipe:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=target, args=(*first, theirs, *last), name=name)
        process.start()
        theirs.close()
        self._processes[ours] = process
        return ours

    def _consider(self, spec: GameSpec) -> None:
        """A game was proposed: it becomes the run's, or is refused."""
        text = bounds.refusal(spec, self.config)
        if text is None:
            try:
                self._decide(spec)
                return
            except ConfigError as error:  # there is less shared memory than there is memory
                text = str(error)
        self._spec = self.board.spec = None
        self.tell_gateways(Refused(spec, text))

    def _decide(self, spec: GameSpec) -> None:
        """This is the run's game: make its rings, and tell the trainer. Errors: ConfigError where
        there is no memory for that."""
        self._spec = self.board.spec = spec
        capacity = self.config.server.ring_steps
        try:
            for _ in self._gateways:
                self._rings.append(StepRing.create(spec, capacity))
        except MemoryError as error:
            for ring in self._rings:
                ring.close()
                ring.unlink()
            self._rings.clear()
            raise ConfigError(str(error)) from None
        self._keep_game()
        assert self._trainer is not None
        self._trainer.send(GameDecided(spec, tuple(ring.name for ring in self._rings)))
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
        self.board.beat()
        pipes = list(self._processes)
        sentinels = {p.sentinel: p for p in self._processes.values()}
        asking = {
            each: ear
            for ear in (self._control, self.mailbox)
            if ear is not None
            for each in ear.waitables
        }
        for ready in multiprocessing.connection.wait([*pipes, *sentinels, *asking], timeout_s):
            if isinstance(ready, multiprocessing.connection.Connection):
                self._take_in(ready)
            elif isinstance(ready, socket.socket):
                asking[ready].serve(ready)
            elif not self._stopping:
                self._take_in_all()
                process = sentinels[ready]  # type: ignore[index]
                process.join()
                self.board.ended = (
                    f"{process.name} ended by itself (exit code {process.exitcode}); see "
                    f"{self.folder.log}"
                )
                raise ChildDied(self.board.ended)
        self._close_evaluation()
        now = time.monotonic()
        if self._save_wanted and now >= self._next_save:
            assert self._trainer is not None
            self._save_wanted, self._next_save = False, now + SAVE_EVERY_S
            log.info("a client asked for a checkpoint")
            self._say(self._trainer, Checkpoint())
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
        return sum(ring.steps for ring in self._rings)

    @property
    def frames(self) -> int | None:
        """Stored frames of the whole run, as of now; None while a resumed run is being loaded."""
        return None if self._base_frames is None else self._base_frames + self.steps

    @property
    def evaluations(self) -> Evaluations:
        """What the run's evaluations found so far."""
        return self._collector.evaluations

    @property
    def training_games(self) -> int:
        """Connections of games in training."""
        return self._players.training

    def adopt(self, config: Config) -> None:
        """Go on with another configuration: the processes are told. See `controls`, which records
        it."""
        self.config = self.board.config = config
        for pipe in self._processes:
            self._say(pipe, Changed(config))
        self._tell_ratio()

    def tell_trainer(self, message: Any) -> None:
        """Send it a message."""
        assert self._trainer is not None
        self._say(self._trainer, message)

    def tell_gateways(self, message: Any) -> None:
        """Send each of them a message."""
        for pipe in self._gateways:
            self._say(pipe, message)

    def settle(self, timeout_s: float = 60.0) -> None:
        """Wait until all that was played is stored, learnt from, and published. The games must
        have ended."""
        deadline = time.monotonic() + timeout_s
        quiet = 0
        while quiet < 2 and time.monotonic() < deadline:
            before = self.row.get("time")
            self.poll()
            row = self.row
            if row.get("time") != before:
                done = not (row["slots"] or row["transitions_dropped"] or row.get("updates_due"))
                # Twice: the second row comes after the weights of the first were published.
                quiet = quiet + 1 if done else 0

    def _tell_ratio(self) -> None:
        """Tell the gateways how often the expert plays, where evaluations decide that."""
        ratio, found = self.config.expert.ratio, self.evaluations
        value = expert_ratio(ratio.start, ratio.end, found.mean, found.expert_mean, found.first)
        for pipe in self._gateways:
            self._say(pipe, ExpertRatio(value))

    def _close_evaluation(self) -> None:
        """Close the evaluation if it is over, when all that is under way has been heard: another
        gateway may have told meanwhile that it has games of it too."""
        if self.evaluations.over:
            self._take_in_all()
        if self.evaluations.over:
            for evaluation in self.evaluations.close(time.time()):
                self._evaluated(evaluation)
            self.board.evaluating = False

    def _evaluated(self, evaluation: Evaluation) -> None:
        """An evaluation has ended: keep it, and act on it."""
        log.info("%s", evaluation.text())
        self.board.evaluated(evaluation)
        with self._writes.tried(str(self.folder.evaluations)):
            append_lines(self.folder.evaluations, [evaluation.line()])
        mean, partial = evaluation.mean, evaluation.partial
        if mean is not None and not partial and not mean <= self._best_saved:
            assert self._trainer is not None
            self._say(self._trainer, SaveBest(evaluation.line()))
        self._tell_ratio()

    def _ask(self, message: Any, kind: type[Answer], timeout_s: float) -> Answer:
        assert self._trainer is not None
        self._answers.clear()  # checkpoints that nobody asked for
        self._say(self._trainer, message)
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            self.poll(0.05)
            if self._trainer not in self._processes:
                raise ChildDied(f"the trainer ended; see {self.folder.log}")
            for answer in self._answers:
                if isinstance(answer, kind):
                    self._answers.remove(answer)
                    return answer
        raise TimeoutError(f"expected the trainer to answer {message} within {timeout_s:g} s")

    def _take_in_all(self) -> None:
        for pipe in list(self._processes):
            self._take_in(pipe)

    def _take_in(self, pipe: Pipe) -> None:
        try:
            while pipe.poll():
                self._handle(pipe.recv())
        except (EOFError, OSError):
            if self._stopping:
                self._processes.pop(pipe, None)

    def _handle(self, message: Any) -> None:
        match message:
            case GatewayReport():
                self._players.report(message)
                self._reported.add(message.index)
                self.board.ready = len(self._reported) == len(self._gateways)
                for evaluation in self._collector.gateway(message):
                    self._evaluated(evaluation)
                self.board.evaluating = self.evaluations.under_way
            case TrainerReport():
                self._collector.trainer(message.metrics)
                for warning in self._samples.look(message.metrics):
                    log.warning("%s", warning)
                for line in message.lines:
                    self.lines.append(line)
                    log.info("%s", line)
            case Joined():
                self._players.joined(message)
            case Left():
                self._players.left(message.session)
            case Log():
                logging.getLogger(message.source).log(message.level, "%s", message.text)
            case Proposed():
                if self._spec is None:
                    self._consider(message.spec)
            case Ready():
                self._ready = message
                self._base_frames = message.base_frames
                self._keep_start()
                assert self._spec is not None
                rings = tuple(ring.name for ring in self._rings)
                for pipe in self._gateways:
                    pipe.send(Open(self._spec, rings, message.weights, message.size))
            case Saved():
                if not self._stopping:
                    self.controls.saved(message)
                    self._answers.append(message)
            case SaveWanted():
                self._save_wanted = True
            case SavedBest():
                if message.error is None:
                    self._best_saved = message.mean
            case Dumped() | Recorded():
                self._answers.append(message)
            case Failed():
                log.error("%s", message.text)
                if not self._stopping:
                    # Before it was ready, it is the configuration that it cannot start with.
                    raise ChildDied(message.text) if self._ready else ConfigError(message.text)
            case _:
                raise TypeError(f"expected a message of server.control, got {message!r}")

    def _keep_start(self) -> None:
        """Write down that the run was started, now that it is known where it goes on from."""
        record = {
            "time": self.board.started,
            "launch": self.folder.launch,
            "frames": self._base_frames,
        }
        with self._writes.tried(str(self.folder.starts)):
            append_lines(self.folder.starts, [record])
        self.board.began(record)

    def _write_row(self) -> None:
        self.row = self._collector.row()
        self.row["writes_failed"] = float(self._writes.failed + LogFile.failed)
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
            append_lines(self.folder.metrics, [plain(self.row)])
        if self._events is not None:
            with self._writes.tried(_EVENTS):
                self._events.add(self.row)
        self.board.show(self.row, self.last, self._players.rows(time.time()))
        if self.on_row:
            self.on_row(self.last)

    # Stopping.

    def end_games(self) -> None:
        """Say goodbye to all games, and end the gateways; what was played is stored, or about to
        be. `stop` does it too. Again has no effect."""
        self._stopping = True
        self.board.ended = self.board.ended or "the server is stopping"
        self.controls.close()
        self.mailbox.close()
        if self._control is not None:
            self._control.close()
            self._control = None
        deadline = time.monotonic() + STOP_S / 2
        if self._trainer is not None:
            self._say(self._trainer, Ending())
        for index, pipe in enumerate(self._gateways):
            self._say(pipe, Stop())
            starting = self._ready is None and index not in self._reported
            if starting and (process := self._processes.get(pipe)) is not None:
                process.kill()  # it has nothing yet, and cannot hear
        for pipe in self._gateways:
            self._end(pipe, deadline)

    def stop(self) -> None:
        """End all processes in order: first the games, then, when all their steps are stored and a
        checkpoint is written, the trainer."""
        deadline = time.monotonic() + STOP_S
        self.end_games()
        if self._trainer is not None:
            self._say(self._trainer, Stop())
            self._end(self._trainer, deadline)
        self._write_row()
        log.info("stopped; the run is in %s", self.folder.path)
        for ring in self._rings:
            ring.close()
            ring.unlink()
        self._rings.clear()
        self.folder.close()
        if self._events is not None:
            with self._writes.tried(_EVENTS):
                self._events.close()
            self._events = None
        if self._ready is not None:  # the trainer's to remove, unless it was killed
            with contextlib.suppress(FileNotFoundError):
                slot = WeightSlot.attach(self._ready.weights, self._ready.size)
                slot.close()
                slot.unlink()

    def _say(self, pipe: Pipe, message: Any) -> None:
        if pipe in self._processes:
            with contextlib.suppress(OSError):  # it is gone already
                pipe.send(message)

    def _end(self, pipe: Pipe, deadline: float) -> None:
        process = self._processes.get(pipe)
        if process is None:
            return
        while process.is_alive() and time.monotonic() < deadline:
            multiprocessing.connection.wait([pipe, process.sentinel], 0.1)
            self._take_in(pipe)
        if process.is_alive():
            log.error("%s did not end in time; killed", process.name)
            process.kill()
        process.join()
        self._take_in(pipe)
        self._processes.pop(pipe, None)
        pipe.close()


def _listening(group: str, host: str, port: int, gateways: int) -> list[socket.socket]:
    """A listening socket for each gateway, all on one port. Errors: ConfigError that names the
    settings' group."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # Without SO_REUSEPORT first: another server on this port must be noticed.
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            port = probe.getsockname()[1]
            if gateways == 1:
                # From here on connections queue until the gateway has started.
                probe.listen(BACKLOG)
                return [probe.dup()]
        sockets = []
        for _ in range(gateways):
            sock = socket.socket(family)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind((host, port))
            sock.listen(BACKLOG)
            sockets.append(sock)
    except OSError as error:
        raise ConfigError(
            f"{group}.port: cannot listen on {host}:{port}: {error.strerror}; stop what uses it, "
            "or choose another port"
        ) from None
    return sockets


def plain(row: dict[str, float]) -> dict[str, float | int | None]:
    """A row as JSON can hold it: what is no number becomes null, whole numbers lose their point."""
    return {
        name: None if not math.isfinite(value) else int(value) if value == int(value) else value
        for name, value in row.items()
    }

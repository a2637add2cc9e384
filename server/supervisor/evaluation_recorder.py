"""Evaluations as they end: recorded, the best one's network kept, the expert's share told.

Whoever plays evaluations has all of them counted, and what that costs is bounded: beyond a burst,
of those that end within an interval only some are recorded, and the best network is written once.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

from agent import checkpoint
from agent.handover import expert_ratio
from config.models import Config
from server.ipc.expert_messages import ExpertRatio, Trusted
from server.ipc.messages import TRAINER, Evaluate, SavedBest
from server.monitor.clients import Clients
from server.monitor.status_publisher import StatusPublisher
from server.net.rate_limits import TokenBucket
from server.run.directory import RunDirectory
from server.run.disk import Writes
from server.run.evaluation import Evaluation
from server.run.evaluation_log import EvaluationLog
from server.run.evaluations import Evaluations
from server.supervisor.best_network import BestNetwork
from server.supervisor.child import Child
from server.supervisor.processes import Processes

log = logging.getLogger("supervisor")

BEGIN_S = 30.0
"""If nobody has begun an evaluation this long after it was asked for, that is said."""

LONG_S = 30.0
"""An evaluation that takes longer says for whom it waits, ..."""

AGAIN_S = 60.0
"""... and again after each of these."""

BURST, EVERY_S = 30, 5.0
"""Evaluations that are recorded one by one as they come, and after so many the time in which those
that end are combined: their best one and their newest ones are recorded."""


class EvaluationRecorder:
    """Closes and records the run's evaluations, and has them acted on."""

    def __init__(
        self,
        config: Config,
        folder: RunDirectory,
        evaluations: Evaluations,
        processes: Processes,
        status: StatusPublisher,
        writes: Writes,
        clients: Clients,
    ) -> None:
        """`evaluations`: those of the run so far, to which gateways' reports are added. `clients`:
        who is connected."""
        self.found = evaluations
        self.asked: Evaluate | None = None
        """The newest request to evaluate."""
        self._config = config
        self._folder = folder
        self._processes = processes
        self._status = status
        self._writes = writes
        self._clients = clients
        self._trust = 1.0
        """In the expert, by play."""
        self._asked_at: float | None = None
        """When an evaluation was asked for that nobody has begun, by `time.monotonic`."""
        self._say_at: float | None = None
        """When the log says next for whom an evaluation waits."""
        self._kept = EvaluationLog(folder.evaluations)
        self._pace = TokenBucket(1 / EVERY_S, BURST - 1, time.monotonic())
        self._next = 0.0
        """When the next one is recorded, by `time.monotonic`."""
        self._held: dict[str, Evaluation] = {}
        """Those that wait to be recorded, by what they are."""
        self._left_out = 0
        """Those that came meanwhile and are not."""
        self._best = BestNetwork(
            processes.trainer,
            evaluations.best if checkpoint.best(folder.checkpoints) is not None else math.nan,
        )

    def ask(self, request: Evaluate) -> None:
        """Have the gateways ask the games to evaluate; those that are started later too."""
        self.asked = request
        self._asked_at = time.monotonic()
        self._status.update(evaluation_note="evaluation: asked for, not begun")
        self._processes.tell_gateways(request)

    def greet(self, child: Child) -> None:
        """Tell a child that has just been started what others have been told before."""
        if child.kind == TRAINER:
            child.send(Trusted(self.found.trust))
            return
        child.send(self._ratio())
        if self.asked is not None:
            child.send(self.asked)

    def adopt(self, config: Config) -> None:
        """Go on with another configuration."""
        self._config = config
        self._processes.tell_gateways(self._ratio())

    def hear_trust(self, trust: float) -> None:
        """The trainer has said how much the expert is to be trusted by play."""
        if trust != self._trust:
            self._trust = trust
            self._processes.tell_gateways(self._ratio())

    def add(self, complete: list[Evaluation]) -> None:
        """A gateway has reported: these have reached their most episodes with it."""
        for evaluation in complete:
            self._record(evaluation)
        if self.found.under_way:
            self._asked_at = None
            note = self.found.progress(self._clients.peers)
            self._status.update(evaluating=True, evaluation_note=note)

    def poll(self, listen: Callable[[], None]) -> None:
        """Close the evaluation if it is over, and say what takes long. `listen`: takes in all that
        processes have sent: another gateway may have reported meanwhile that it has games of it
        too."""
        clock = time.monotonic()
        if self.found.over(clock):
            listen()
            if self.found.over(clock):
                self.close()
        if not self.found.under_way:
            self._say_at = None
        elif self._say_at is None:
            self._say_at = clock + LONG_S
        elif clock >= self._say_at:
            self._say_at = clock + AGAIN_S
            log.info("%s", self.found.progress(self._clients.peers))
        if self._held and clock >= self._next:
            self._record_held(clock)
        self._best.poll(clock)
        if self._asked_at is not None and clock - self._asked_at >= BEGIN_S:
            self._asked_at = None
            note = f"no client has begun the evaluation that was asked for {BEGIN_S:.0f} s ago"
            log.warning("%s; see docs/evaluating.md", note)
            self._status.update(evaluation_note=note)

    def close(self) -> None:
        """The evaluation that is going on is over, if there is one."""
        if not self.found.under_way:
            return
        for evaluation in self.found.close(time.time()):
            self._record(evaluation)
        self._status.update(evaluating=False, evaluation_note="")

    def end(self) -> None:
        """The server stops: what waits is recorded now, and the best network written."""
        self.close()
        if self._held:
            self._record_held(time.monotonic())
        self._best.poll(math.inf)

    def _record(self, evaluation: Evaluation) -> None:
        """An evaluation has ended: log it, keep it, and act on it; or have it wait for that."""
        self._best.consider(evaluation)
        now = time.monotonic()
        if not self._held and now >= self._next:
            self._next = now + self._pace.take(1, now)
            self._write([evaluation])
            return
        # By each of these the run goes on after a restart as if all had been recorded.
        held, before = self._held, set(map(id, self._held.values()))
        held["newest"] = evaluation
        best = held.get("best")
        if evaluation.mean is not None and evaluation.counts:
            held["student"] = evaluation
            if best is None or best.mean is None or evaluation.mean > best.mean:
                held["best"] = evaluation
        if evaluation.expert_counts:
            held["teacher"] = evaluation
        self._left_out += len(before | {id(evaluation)}) - len(set(map(id, held.values())))

    def _record_held(self, clock: float) -> None:
        """The time is over in which evaluations are combined."""
        self._next = clock + self._pace.take(1, clock)
        one_each = {id(one): one for one in self._held.values()}
        self._held = {}
        if self._left_out:
            log.warning(
                "%d more evaluations have ended within %g s: they are counted, and not kept",
                self._left_out, EVERY_S,
            )  # fmt: skip
            self._left_out = 0
        self._write(sorted(one_each.values(), key=lambda one: one.time))

    def _write(self, evaluations: list[Evaluation]) -> None:
        for evaluation in evaluations:
            partial = evaluation.partial or evaluation.expert_partial
            log.log(logging.WARNING if partial else logging.INFO, "%s", evaluation.text())
            self._status.add_evaluation(evaluation)
        with self._writes.tried(str(self._folder.evaluations)):
            self._kept.add(evaluations)
        self._processes.tell_gateways(self._ratio())
        self._processes.trainer.send(Trusted(self.found.trust))

    def saved_best(self, message: SavedBest) -> None:
        """The trainer has saved the network of the best evaluation, or could not."""
        self._best.saved(message)

    def _ratio(self) -> ExpertRatio:
        """What moves the share of frames that the expert plays."""
        ratio, found = self._config.expert.ratio, self.found
        share = expert_ratio(ratio.start, ratio.end, found.mean, found.expert_mean, found.first)
        return ExpertRatio(share, self._trust)

"""Evaluations as they end: recorded, the best one's network kept, the expert's share told."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

from agent import checkpoint
from agent.handover import expert_ratio
from config.models import Config
from server.ipc.messages import Evaluate, ExpertRatio, SaveBest, SavedBest
from server.monitor.clients import Clients
from server.monitor.status_publisher import StatusPublisher
from server.run.directory import RunDirectory, append_lines
from server.run.disk import Writes
from server.run.evaluation import Evaluation
from server.run.evaluations import Evaluations
from server.supervisor.child import Child
from server.supervisor.processes import Processes

log = logging.getLogger("supervisor")

BEGIN_S = 30.0
"""If nobody has begun an evaluation this long after it was asked for, that is said."""

LONG_S = 30.0
"""An evaluation that takes longer says for whom it waits, ..."""

AGAIN_S = 60.0
"""... and again after each of these."""


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
        self._asked_at: float | None = None
        """When an evaluation was asked for that nobody has begun, by `time.monotonic`."""
        self._say_at: float | None = None
        """When the log says next for whom an evaluation waits."""
        saved = checkpoint.best(folder.checkpoints) is not None
        self._best_saved = evaluations.best if saved else math.nan
        """Mean of the evaluation whose network the best checkpoint has; NaN without one."""

    def ask(self, request: Evaluate) -> None:
        """Have the gateways ask the games to evaluate; those that are started later too."""
        self.asked = request
        self._asked_at = time.monotonic()
        self._status.update(evaluation_note="evaluation: asked for, not begun")
        self._processes.tell_gateways(request)

    def greet(self, gateway: Child) -> None:
        """Tell a gateway that has just been started what others have been told before."""
        gateway.send(self._ratio())
        if self.asked is not None:
            gateway.send(self.asked)

    def adopt(self, config: Config) -> None:
        """Go on with another configuration."""
        self._config = config
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

    def _record(self, evaluation: Evaluation) -> None:
        """An evaluation has ended: log it, keep it, and act on it."""
        partial = evaluation.partial or evaluation.expert_partial
        log.log(logging.WARNING if partial else logging.INFO, "%s", evaluation.text())
        self._status.add_evaluation(evaluation)
        with self._writes.tried(str(self._folder.evaluations)):
            append_lines(self._folder.evaluations, [evaluation.line()])
        mean = evaluation.mean
        if mean is not None and not evaluation.partial and not mean <= self._best_saved:
            self._processes.trainer.send(SaveBest(evaluation.line()))
        self._processes.tell_gateways(self._ratio())

    def saved_best(self, message: SavedBest) -> None:
        """The trainer has saved the network of the best evaluation, or could not."""
        if message.error is None:
            self._best_saved = message.mean

    def _ratio(self) -> ExpertRatio:
        """The share of frames that the expert plays, where evaluations decide it."""
        ratio, found = self._config.expert.ratio, self.found
        share = expert_ratio(ratio.start, ratio.end, found.mean, found.expert_mean, found.first)
        return ExpertRatio(share)

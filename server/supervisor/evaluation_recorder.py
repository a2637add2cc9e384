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
from server.monitor.status_publisher import StatusPublisher
from server.run.directory import RunDirectory, append_lines
from server.run.disk import Writes
from server.run.evaluations import Evaluation, Evaluations
from server.supervisor.child import Child
from server.supervisor.processes import Processes

log = logging.getLogger("supervisor")


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
    ) -> None:
        """`evaluations`: those of the run so far, to which gateways' reports are added."""
        self.found = evaluations
        self.asked: Evaluate | None = None
        """The newest request to evaluate."""
        self._config = config
        self._folder = folder
        self._processes = processes
        self._status = status
        self._writes = writes
        saved = checkpoint.best(folder.checkpoints) is not None
        self._best_saved = evaluations.best if saved else math.nan
        """Mean of the evaluation whose network the best checkpoint has; NaN without one."""

    def ask(self, request: Evaluate) -> None:
        """Have the gateways ask the games to evaluate; those that are started later too."""
        self.asked = request
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

    def close_if_over(self, listen: Callable[[], None]) -> None:
        """Close the evaluation if it is over. `listen`: takes in all that processes have sent:
        another gateway may have reported meanwhile that it has games of it too."""
        if self.found.over:
            listen()
        if self.found.over:
            for evaluation in self.found.close(time.time()):
                self.record(evaluation)
            self._status.update(evaluating=False)

    def record(self, evaluation: Evaluation) -> None:
        """An evaluation has ended: log it, keep it, and act on it."""
        log.info("%s", evaluation.text())
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

"""Every metric: its name, unit and meaning, and how a row of them is put together.

`docs/metrics.md` is made from `METRICS` (`python -m server.monitor.metrics` prints it), and
a test fails if a row has a metric that is not here.
"""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Iterable

from protocol.actor import NAMES
from protocol.errors import CODES
from server.ipc.inflight import InFlight
from server.ipc.messages import GATEWAY, TRAINER, Episode, GatewayReport
from server.run.evaluations import STUDENT, TEACHER, Evaluation, Evaluations

_EPISODES = 100
"""Episode returns are means over this many of the newest."""

_BY_ACTOR = {
    "batch_n": ("rows", "rows of the actor in a batch, mean over the interval's batches"),
    "td_err_mean": ("", "mean of |TD error| over the actor's rows"),
    "reward_mean": ("", "mean one-step reward of the actor's rows in the batches"),
    "q_mean": ("", "mean Q of the actions taken, over the actor's rows"),
    "grad_norm": ("", "norm of the gradient that the actor's rows make, every k-th update"),
    "grad_share": (
        "fraction",
        "that norm over the sum of both actors' norms: how much of what moves the network comes "
        "from the actor's rows",
    ),
    "weight_mean": ("", "mean advantage weight of the actor's rows"),
    "weight_ess": (
        "fraction",
        "effective sample size of the actor's advantage weights, of its rows: "
        "(sum w)^2 / (n sum w^2)",
    ),
    "reward_frame_mean": ("", "mean reward of the actor's frames as they came in"),
}

METRICS: dict[str, tuple[str, str]] = (
    {
        "time": ("s", "seconds since 1970, UTC"),
        "frames": ("frames", "stored frames of the whole run: what schedules count"),
        "frames_per_s": ("1/s", "stored frames a second"),
        "answers_per_s": ("1/s", "answered frames a second, evaluation included"),
        "frames_eval": ("frames", "frames answered in the role eval, since the start"),
        "frames_eval_expert": (
            "frames",
            "frames answered in the role eval_expert, since the start",
        ),
        "clients": ("", "connections"),
        "slots": ("", "games in play, all connections together"),
        "errors": ("", "connections that ended in an error, since the start"),
        "turn_p50_ms": ("ms", "first frame of a loop turn to its last answer, median"),
        "turn_p99_ms": ("ms", "the same, 99th percentile; of the slowest gateway"),
        "expert_failures": ("", "how often the server's own expert (expert.plugin) failed"),
        "stalls": ("", "how often a full ring stopped the reading, since the start"),
        "policy_version": ("", "the weights that the gateways play with"),
        "expert_ratio": ("fraction", "share of frames that the expert plays, where it recommends"),
        "epsilon": ("fraction", "share of dqn frames whose discrete heads are random"),
        "restarts_gateway": (
            "",
            "how often a gateway that died or hung was started again, since the start",
        ),
        "restarts_trainer": ("", "the same of the trainer"),
        "steps_lost": (
            "steps",
            "complete steps that were on their way to the replay when a gateway died, or when the "
            "server did before this start",
        ),
        "frames_lost": (
            "frames",
            "frames that had been answered then, and that no other frame completed",
        ),
        "episodes": ("", "training episodes that ended since the start"),
        "episode_return_mean": ("", f"mean return of the last {_EPISODES} training episodes"),
        "episode_length_mean": ("frames", f"mean length of the last {_EPISODES} training episodes"),
        "eval_return_mean": ("", "mean return of the newest evaluation of the network alone"),
        "eval_episodes": ("", "over so many episodes"),
        "eval_frames": ("frames", "stored frames of the run when that evaluation began"),
        "eval_return_best": ("", "the best eval_return_mean of the run"),
        "expert_return_mean": ("", "mean return of the newest evaluation of the expert alone"),
        "expert_episodes": ("", "over so many episodes of the expert"),
        "updates": ("", "optimiser steps of the whole run"),
        "updates_per_s": ("1/s", "optimiser steps a second"),
        "samples_per_s": ("1/s", "rows learnt from a second: updates_per_s x batch size"),
        "paused": ("", "1 while training is paused, else 0"),
        "updates_due": (
            "",
            "optimiser steps that the replay ratio allows and that are yet to be made",
        ),
        "buffer_total": ("steps", "steps in the replay"),
        "buffer_dqn": ("steps", "of those, of the network"),
        "buffer_expert": ("steps", "of those, of the expert"),
        "buffer_frac_dqn": ("fraction", "share of the network in the replay"),
        "buffer_frac_expert": ("fraction", "share of the expert in the replay"),
        "buffer_fill": ("fraction", "share of the replay's capacity that is in use"),
        "priority_max": (
            "",
            "with replay.prioritized: the largest priority so far, which new steps get",
        ),
        "priority_mean_dqn": ("", "mean priority of the network's steps in the replay"),
        "priority_mean_expert": ("", "mean priority of the expert's steps in the replay"),
        "rows_unkept": (
            "rows",
            "rows of the replay that could not be written to the run's folder, since the start",
        ),
        "ring_fill": ("fraction", "share of the fullest step ring that waits for the trainer"),
        "steps_completed": ("steps", "steps that the gateways completed, since the start"),
        "steps_stored": ("steps", "steps that the trainer appended to the replay, since the start"),
        "transitions_dropped": (
            "steps",
            "completed and not stored; while games play, that includes those on their way",
        ),
        "loss": ("", "the loss that is minimised"),
        "loss_td": ("", "its part of the values: Huber loss of the TD error, or learner.value's"),
        "loss_continuous": (
            "",
            "its part of the continuous heads: weighted regression, cloning of the expert, or less "
            "Q of the policy's action",
        ),
        "loss_imitation": ("", "its part of imitation on discrete heads: cloning, actions taken"),
        "learning_rate": ("", "step size of the next update"),
        "td_err_mean": ("", "mean of |TD error| over all rows"),
        "q_mean": ("", "mean Q of the actions taken, over all rows"),
        "grad_norm": ("", "norm of the gradient before clipping, mean over the interval's updates"),
        "batch_frac_dqn": ("fraction", "share of the network's rows in the batches"),
        "updates_skipped": (
            "",
            "updates that changed nothing, for their loss or gradient was not finite, since the "
            "start",
        ),
        "updates_skipped_in_a_row": ("", "the most of them in a row, in the interval"),
        "went_back": (
            "",
            "how often training went back to a good checkpoint because of them, since the start",
        ),
        "learning_rate_factor": (
            "",
            "what the configured learning rate is multiplied by: 1, and less after going back",
        ),
        "q_max": ("", "the largest |Q| of an action taken, in the interval"),
        "q_bound": (
            "",
            "the largest |Q| that the rewards so far can mean: reward / (1 - gamma), and a margin",
        ),
        "values_drift": ("", "1 while it is warned that values drift, else 0"),
        "heads_dead": ("", "heads of which it is warned that they are dead"),
        "checkpoints_failed": ("", "checkpoints that could not be written, since the start"),
        "writes_failed": (
            "",
            "lines of logs and metrics and other files that could not be written, since the start",
        ),
        "disk_free_bytes": ("bytes", "what is free on the disk that the run's folder is on"),
    }
    | {
        f"{name}_{actor}": (unit, f"{meaning}: {actor}")
        for name, (unit, meaning) in _BY_ACTOR.items()
        for actor in ("dqn", "expert")
    }
    | {
        f"errors_{code}": ("", f"connections ended with this error, since the start: {meaning}")
        for code, meaning in CODES.items()
    }
)
"""Name to unit and meaning. A mean over no rows is NaN in memory and null in JSON, never 0."""


def family(name: str) -> tuple[str, str, str]:
    """What a metric is of, for Prometheus and TensorBoard, where what differs by actor or by error
    code stands side by side: the name without that, the label, and its value. Label and value are
    empty where there is none."""
    for actor in NAMES.values():
        base = name.removesuffix(f"_{actor}")
        if base != name and base in _BY_ACTOR:
            return base, "actor", actor
    if name.startswith("errors_"):
        return "errors", "code", name.removeprefix("errors_")
    return name, "", ""


SUMMARY: dict[str, tuple[str, str]] = {
    "run": ("", "the folder"),
    "launch": (
        "",
        "1 for the first start of the run, 2 where it was resumed once, …: what counts since the "
        "start counts since this one, and only frames and updates go on",
    ),
    "buffer": ("", "total, dqn, expert (steps), frac_dqn, frac_expert: what the replay holds"),
    "frames": ("frames", "stored frames of the training games"),
    "seconds": ("s", "from their first frame to their last, less the time that evaluations took"),
    "frames_per_s": ("1/s", "the two above, divided"),
    "updates": ("", "optimiser steps"),
    "updates_per_s": ("1/s", "until the last frames had been learnt from"),
    "samples_per_s": ("1/s", "the same in rows"),
    "eval_return_mean": ("", "mean return of the network alone, without exploration"),
    "eval_episodes": ("", "over so many episodes"),
    "expert_return_mean": ("", "mean return of the expert alone, from the same seeds"),
    "expert_episodes": ("", "over so many episodes"),
    "eval_on_the_way": (
        "",
        "frames and mean return of the network alone, of each evaluation while it was trained",
    ),
    "attribution_compared": ("steps", "rows of the replay compared with the games' own logs"),
    "attribution_mismatches": ("steps", "of those, wrong ones, and steps that were not there"),
}
"""What `summary.json` has beyond, or in place of, the last row."""


_ELSEWHERE = """
## Prometheus

`/metrics` has them all, each the newest value that was a number, as gauges:

| metric | in Prometheus |
|---|---|
| what both actors have: `td_err_mean_dqn` | `understudy_td_err_mean_by_actor{{actor="dqn"}}` |
| an error code: `errors_bad_token` | `understudy_errors_by_code{{code="bad_token"}}` |
| any other: `frames_per_s`, `buffer_dqn` | `understudy_frames_per_s`, `understudy_buffer_dqn` |

Both actors have, as labels: {labelled}. Beside all these there are `understudy_healthy` and
`understudy_ready` (1 while `/healthz` and `/readyz` answer 200), `understudy_started_time` (seconds
since 1970), and `understudy_run_info` with the labels `name`, `game` and `version`.

`deploy/grafana/understudy.json` is a dashboard of them; `deploy/prometheus/alerts.yml` has alert
rules.

## TensorBoard

With `metrics.tensorboard` the run's folder has event files in `tensorboard/`. The step is `frames`.
The actors stand in one group (`td_err_mean/dqn`, `td_err_mean/expert`), so do the error codes
(`errors/bad_token`), and everything else is in the group `run`.
"""


class Collector:
    """Puts the reports of all processes together into one row of metrics."""

    def __init__(self, evaluations: Evaluations | None = None) -> None:
        """`evaluations`: those of the run so far, where it is gone on with."""
        self.evaluations = evaluations or Evaluations()
        self._trainer: dict[str, float] = {}
        self._seen = True
        """A row has been made since the trainer reported."""
        self._gateways: dict[int, GatewayReport] = {}
        self._past: list[GatewayReport] = []
        """The last reports of gateways that have died: their counts go on."""
        self.restarts: Counter[str] = Counter()
        """Of gateways and trainer, by kind; the supervisor counts them."""
        self.lost = InFlight()
        """With gateways that died, and with a server that did not end in order before this one."""
        self._handed_over: Counter[int] = Counter()
        """Steps in the ring of each gateway when the one before it died."""
        self._stored: Counter[int] = Counter()
        """Steps that each gateway has completed, those of the one before it included."""
        self._returns: deque[Episode] = deque(maxlen=_EPISODES)
        self._episodes = 0
        self._last: tuple[float, int, int] | None = None

    def trainer(self, metrics: dict[str, float]) -> None:
        """The trainer reported. Its intervals are not those of the rows: what was measured since
        the last row is not lost when a report comes in which nothing was."""
        unseen = {} if self._seen else self._trainer
        self._trainer = metrics | {
            name: value
            for name, value in unseen.items()
            if math.isnan(metrics.get(name, math.nan)) and not math.isnan(value)
        }
        self._seen = False

    def gateway(self, report: GatewayReport) -> list[Evaluation]:
        """A gateway reported; the evaluations that have reached their most episodes with that."""
        index = report.index
        self._gateways[index] = report
        # One that has just been started again does not know yet where it goes on.
        self._stored[index] = max(report.stored, self._handed_over[index])
        training = [e for e in report.episodes if e.role == "train"]
        self._returns.extend(training)
        self._episodes += len(training)
        playing = sum(
            each.slots_by_role.get(role, 0)
            for each in self._gateways.values()
            for role in (STUDENT, TEACHER)
        )
        return self.evaluations.report(
            playing, report.episodes, report.run_frames, report.policy_version, time.time()
        )

    def gone(self, index: int, stored: int) -> None:
        """A gateway has died: what it counted stays, what it had is no more. `stored`: the steps
        that are in its ring, which the next one counts on from."""
        report = self._gateways.pop(index, None)
        if report is not None:
            self._past.append(report)
        self._stored[index] = self._handed_over[index] = stored

    @property
    def errors(self) -> Counter[str]:
        """Connections that ended in an error, by code."""
        return sum((Counter(r.errors) for r in self._counted()), Counter())

    def _counted(self) -> list[GatewayReport]:
        return [*self._past, *self._gateways.values()]

    def row(self) -> dict[str, float]:
        """All metrics now. Rates are over the time since the last row. (The supervisor adds what it
        knows itself: `writes_failed`, `disk_free_bytes`.)"""
        reports = list(self._gateways.values())
        now = time.monotonic()  # for rates: a clock that is set makes none of them wrong
        stored = self._stored.total()
        frames = sum((Counter(r.frames) for r in self._counted()), Counter())
        answered = frames.total()
        since, stored_then, answered_then = self._last or (now, stored, answered)
        seconds = now - since
        self._last = (now, stored, answered)
        worst = max((r.turn_p99_ms for r in reports), default=0.0)
        row = {
            "time": time.time(),
            "frames": 0.0,
            "frames_per_s": (stored - stored_then) / seconds if seconds else 0.0,
            "answers_per_s": (answered - answered_then) / seconds if seconds else 0.0,
            "frames_eval": float(frames["eval"]),
            "frames_eval_expert": float(frames["eval_expert"]),
            "clients": float(sum(r.clients for r in reports)),
            "slots": float(sum(r.slots for r in reports)),
            "errors": float(self.errors.total()),
            "turn_p50_ms": _mean(r.turn_p50_ms for r in reports),
            "turn_p99_ms": worst,
            "expert_failures": float(sum(r.expert_failures for r in self._counted())),
            "stalls": float(sum(r.stalls for r in self._counted())),
            "policy_version": float(max((r.policy_version for r in reports), default=0)),
            "expert_ratio": _mean(r.expert_ratio for r in reports),
            "epsilon": _mean(r.epsilon for r in reports),
            "episodes": float(self._episodes),
            "episode_return_mean": _mean(e.episode_return for e in self._returns),
            "episode_length_mean": _mean(e.length for e in self._returns),
            "steps_lost": float(self.lost.steps),
            "frames_lost": float(self.lost.frames),
            **{f"restarts_{kind}": float(self.restarts[kind]) for kind in (GATEWAY, TRAINER)},
        }
        row |= self.evaluations.numbers()
        row |= {f"errors_{code}": float(self.errors[code]) for code in CODES}
        row |= self._trainer
        self._seen = True
        row["steps_completed"] = float(stored)
        row["transitions_dropped"] = stored - row.get("steps_stored", 0.0)
        return row


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return sum(numbers) / len(numbers) if numbers else math.nan


def document() -> str:
    """The reference of all metrics, as Markdown."""
    lines = [
        "# Metrics",
        "",
        "Every number that a run writes to `metrics.jsonl`, one row for each interval "
        "(`metrics.every_s`), and to `summary.json`. A mean over no rows is `null`, never 0. "
        "This page is made by `python -m server.monitor.metrics > docs/metrics.md`.",
        "",
        "| metric | unit | meaning |",
        "|---|---|---|",
    ]
    lines += [_table_row(name, METRICS[name]) for name in METRICS]
    lines += [
        "",
        "## In the summary alone",
        "",
        "`summary.json` has the newest value of each metric (of those that were numbers), and the "
        "following beside or instead of them; those from `frames` on are the demo's.",
        "",
        "| field | unit | meaning |",
        "|---|---|---|",
    ]
    lines += [_table_row(name, SUMMARY[name]) for name in SUMMARY]
    labelled = ", ".join(f"`{name}`" for name in _BY_ACTOR)
    lines += ["", _ELSEWHERE.format(labelled=labelled).strip()]
    return "\n".join(lines) + "\n"


def _table_row(name: str, entry: tuple[str, str]) -> str:
    unit, text = entry
    bar = r"\|"  # one that ends no cell
    return f"| `{name}` | {unit} | {text.replace('|', bar)} |"


if __name__ == "__main__":
    print(document(), end="")

"""Training metrics, separate for each actor: added up on the device, fetched once.

An update adds sums over its rows to a small tensor; only `fetch` waits for the device. A number
that nothing was measured for (no row of that actor, no update) is NaN, never 0: an actor that was
absent has not learnt with an error of zero.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from protocol.actor import ACTORS, NAMES, Actor

EACH_ACTOR = (
    "batch_n", "td_err_mean", "q_mean", "reward_mean", "weight_mean", "weight_ess", "grad_norm",
    "grad_share",
)  # fmt: skip
"""Metrics that exist once for each actor, with `_dqn` and `_expert` appended to the name. The
registry (server.monitor.metrics) has the unit and the meaning of each."""

OVERALL = (
    "batch_frac_dqn", "loss", "loss_td", "loss_continuous", "loss_imitation", "td_err_mean",
    "q_mean", "grad_norm", "learning_rate", "updates_skipped", "updates_skipped_in_a_row", "q_max",
)  # fmt: skip
"""Metrics of all rows together."""

METRICS = (*OVERALL, *(f"{name}_{NAMES[actor]}" for name in EACH_ACTOR for actor in ACTORS))
"""Every metric of the learner. Means are since the last fetch."""

MEASURED = 5
"""Numbers that the learner measures of each row."""

_Q = 1
IN_UNITS_OF_VALUES = slice(0, 2)
"""Those among them that the game has a unit for: |TD error| and Q."""

LINES_EVERY = 100
"""Updates between two lines about the make-up of a batch."""


TOGETHER = 32
"""Updates whose rows are kept and then added up together: one sum over all of them costs hardly
more than one over those of an update."""


class Diagnostics:
    """Per-actor sums since the last fetch, on the device."""

    def __init__(self, device: torch.device) -> None:
        shape = (4 + MEASURED, len(ACTORS))
        # float64: float32 stops counting at 2^24 rows.
        self._sums = torch.zeros(shape, dtype=torch.float64, device=device)
        self._grad_norm = torch.zeros(1, dtype=torch.float64, device=device)
        self._actor_norms = torch.full((len(ACTORS),), math.nan, device=device)
        # Skipped updates in all, in a row up to now, and the most in a row; the largest |Q|.
        self._skipped, self._row, self._most = torch.zeros(3, device=device).unbind()
        self._q_max = torch.zeros((), device=device)
        self._actors = torch.tensor(ACTORS, device=device)
        self._kept: list[tuple[Tensor, ...]] = []
        """Of updates that are not in the sums yet: what `update` was given."""
        self._updates = 0
        self._lines: list[tuple[int, Tensor]] = []

    def update(
        self,
        actors: Tensor,
        rewards: Tensor,
        weights: Tensor,
        measured: Tensor,
        grad_norm: Tensor,
        skipped: Tensor,
    ) -> None:
        """What an update was like.

        `actors` int64 [B]: whose rows they are. `rewards`, `weights` [B]. `measured` [B, MEASURED]:
        |TD error|, Q of the action taken, then the losses of values, continuous heads and
        imitation, scaled so that their sum over rows is the loss. `skipped` []: 1 where the update
        changed nothing, else 0. None of them may be changed afterwards.
        """
        self._kept.append((actors, rewards, weights, measured, grad_norm, skipped))
        if len(self._kept) == TOGETHER:
            self.add_up()

    def count(self, step: int, actors: Tensor) -> None:
        """The `step`-th update was made, of these actors' rows, int64 [B]."""
        self._updates += 1
        if step % LINES_EVERY == 0:
            self._lines.append((step, self._masks(actors).sum(0)))

    def _masks(self, actors: Tensor) -> Tensor:
        """1 where a row [B] is the actor's, float64 [B, actors]."""
        return (actors[:, None] == self._actors).double()

    def add_up(self) -> None:
        """Put what is kept into the sums."""
        if not self._kept:
            return
        *rows, grad_norms, skipped_updates = zip(*self._kept, strict=True)
        self._kept = []
        actors, rewards, weights, measured = (torch.cat(column) for column in rows)
        plain = torch.stack((torch.ones_like(rewards), rewards, weights, weights * weights))
        self._sums += torch.cat((plain, measured.T)).double() @ self._masks(actors)
        self._grad_norm += torch.stack(grad_norms).double().sum()
        if len(rewards):
            torch.maximum(self._q_max, measured[:, _Q].abs().amax(), out=self._q_max)

        skipped = torch.stack(skipped_updates)
        self._skipped += skipped.sum()
        number = torch.arange(1, 1 + len(skipped), device=skipped.device)
        # Of the last update up to each that was not skipped; 0: none of these, and the row of
        # before goes on.
        good = torch.where(skipped > 0, 0, number).cummax(0).values
        in_a_row = number - good + torch.where(good == 0, self._row, 0.0)
        torch.maximum(self._most, in_a_row.amax(), out=self._most)
        self._row.copy_(in_a_row[-1])

    def forget_kept(self) -> None:
        """Leave out what is kept and not in the sums: of updates that were not made after all."""
        self._kept = []

    def actor_norms(self, masks: Tensor, norms: Tensor) -> None:
        """Keep the norm of each actor's part of the gradient, [actors]; NaN without rows."""
        self._actor_norms.copy_(torch.where(masks.sum(0) > 0, norms, math.nan))

    def skipped_in_a_row(self) -> float:
        """The most skipped updates in a row since the last fetch, the row that goes on counted
        whole. Waits for the device."""
        self.add_up()
        return float(self._most)

    def begin_anew(self) -> None:
        """The learner is another one from now on: no row of skipped updates goes on."""
        self.add_up()
        self._row.zero_()
        self._most.zero_()

    def fetch(self) -> dict[str, float]:
        """All of METRICS since the last call. Waits for the device, once."""
        self.add_up()
        sums, norm = self._sums.flatten(), self._grad_norm
        others = torch.stack((self._skipped, self._most, self._q_max)).double()
        values = torch.cat((sums, norm, self._actor_norms.double(), others)).tolist()
        n, width, updates = len(sums), len(ACTORS), self._updates
        # One list for each row of the sums: a number for each actor.
        count, reward, weight, weight_squared, *measured = (
            values[i : i + width] for i in range(0, n, width)
        )
        td_err, q, *losses = measured
        loss_td, loss_continuous, loss_imitation = (sum(loss) for loss in losses)
        norms, (skipped, most, q_max) = values[n + 1 : n + 1 + width], values[n + 1 + width :]
        measured_norm = sum(norm for norm in norms if not math.isnan(norm))

        out = {
            "batch_frac_dqn": _ratio(count[ACTORS.index(Actor.DQN)], sum(count)),
            "loss": _ratio(loss_td + loss_continuous + loss_imitation, updates),
            "loss_td": _ratio(loss_td, updates),
            "loss_continuous": _ratio(loss_continuous, updates),
            "loss_imitation": _ratio(loss_imitation, updates),
            "td_err_mean": _ratio(sum(td_err), sum(count)),
            "q_mean": _ratio(sum(q), sum(count)),
            "grad_norm": _ratio(values[n], updates),
            "updates_skipped": skipped,
            "updates_skipped_in_a_row": most,
            "q_max": q_max if updates else math.nan,
        }
        for i, actor in enumerate(ACTORS):
            of_actor = {
                "batch_n": _ratio(count[i], updates),
                "td_err_mean": _ratio(td_err[i], count[i]),
                "q_mean": _ratio(q[i], count[i]),
                "reward_mean": _ratio(reward[i], count[i]),
                "weight_mean": _ratio(weight[i], count[i]),
                # Rounding makes it more than 1 where all weights are equal.
                "weight_ess": min(_ratio(weight[i] ** 2, count[i] * weight_squared[i]), 1.0),
                "grad_norm": norms[i],
                "grad_share": _ratio(0.0 if math.isnan(norms[i]) else norms[i], measured_norm),
            }
            out |= {f"{name}_{NAMES[actor]}": value for name, value in of_actor.items()}

        self._sums.zero_()
        self._grad_norm.zero_()
        self._most.copy_(self._row)
        self._q_max.zero_()
        self._updates = 0
        return out

    def batch_lines(self) -> list[str]:
        """A line on every LINES_EVERY-th batch since the last call, from the rows' own tags."""
        lines, self._lines = self._lines, []
        if not lines:
            return []
        counts = torch.stack([counts for _, counts in lines]).tolist()
        return [_line(step, *row) for (step, _), row in zip(lines, counts, strict=True)]


def _line(step: int, dqn: float, expert: float) -> str:
    total = max(dqn + expert, 1)
    return (
        f"[BATCH] Step {step}: {dqn:.0f} DQN ({dqn / total:.1%}) / "
        f"{expert:.0f} expert ({expert / total:.1%})"
    )


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan

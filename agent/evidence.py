"""Evidence of who plays better, network or expert, from the returns of episodes that each of them
played alone (agent.probes); and what it says about learning from the expert."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from agent.probes import led_alone
from agent.schedules import scheduled
from agent.step import STEP, StepBlock
from agent.trust import Trust
from config.models import ImitationConfig
from protocol.actor import Actor

DQN_EPISODES, EXPERT_EPISODES = 10, 40
"""Newest probes of each that count. The network changes, the expert hardly does."""


@dataclass(slots=True)
class _Episode:
    """What has come of one under way."""

    first: int
    """`seq` of its first frame."""
    earned: float = 0.0
    by_expert: int = 0
    advised: bool = False
    """The expert recommended an action for its first frame."""
    missed: int = 0
    """Frames for which the expert recommended an action that it did not play."""


class Evidence:
    """Adds up rows to episodes, and keeps the returns of probes. Rows of a stream come in their
    order; those of several gateways may be interleaved."""

    def __init__(self) -> None:
        self.dqn: deque[float] = deque(maxlen=DQN_EPISODES)
        """Returns of the network's newest probes: sums of the rewards learnt from."""
        self.expert: deque[float] = deque(maxlen=EXPERT_EPISODES)
        """Those of the expert's."""
        self.evaluated = 1.0
        """The trust by evaluations, which whoever has them says."""
        self.agreed: float | None = None
        """The weight of cloning that several learners agreed on, where they make each step
        together."""
        self._played = Trust()
        self._open: dict[int, _Episode] = {}
        """By stream."""

    @property
    def trust(self) -> float:
        """How much the expert is to be trusted by what was played, 0 to 1."""
        return self._played.value

    def weight(self, imitation: ImitationConfig, frames: int) -> float:
        """Of cloning at `frames` stored steps of the run: `agreed`, else `own_weight`."""
        return self.own_weight(imitation, frames) if self.agreed is None else self.agreed

    def own_weight(self, imitation: ImitationConfig, frames: int) -> float:
        """By its schedule, times the trust."""
        trust = {"schedule": 1.0, "evaluation": self.evaluated, "play": self.trust}
        return scheduled(imitation.expert, frames) * trust[imitation.decay]

    def metrics(self, imitation: ImitationConfig, frames: int) -> dict[str, float]:
        """`expert_trust`, `imitation_weight`; `probe_return_dqn`, `probe_return_expert`: means of
        the returns, NaN without any."""
        return {
            "imitation_weight": self.weight(imitation, frames),
            "expert_trust": self.trust,
            "probe_return_dqn": _mean(self.dqn),
            "probe_return_expert": _mean(self.expert),
        }

    def add(self, block: StepBlock) -> None:
        """Rows that were stored."""
        if not len(block):
            return
        order = np.argsort(block.stream, kind="stable")
        stream, status = block.stream[order], block.status[order]
        steps = block.kind[order] == STEP
        over = (status != 0) | ~steps
        starts = np.flatnonzero(np.r_[True, (stream[1:] != stream[:-1]) | over[:-1]])
        actor = block.actor[order]
        advised = ~np.isnan(block.recommended[order, 0])
        by_expert = actor == Actor.EXPERT
        columns = (
            np.where(steps, block.reward[order], 0.0),
            by_expert,
            advised & ~by_expert & steps,
        )
        sums = [np.add.reduceat(column.astype(np.float64), starts).tolist() for column in columns]
        ends = np.r_[starts[1:], len(order)] - 1
        streams, firsts = stream[starts].tolist(), block.seq[order[starts]].tolist()
        begun_advised = advised[starts].tolist()
        ended, whole = over[ends].tolist(), steps[ends].tolist()
        # As they ended: what is known then of the expert depends on it.
        for i in np.argsort(order[ends]).tolist():
            number = streams[i]
            if (episode := self._open.get(number)) is None:
                episode = self._open[number] = _Episode(firsts[i], advised=begun_advised[i])
            episode.earned += sums[0][i]
            episode.by_expert += int(sums[1][i])
            episode.missed += int(sums[2][i])
            if ended[i]:
                del self._open[number]
                if whole[i]:
                    self._count(number, episode)

    def _count(self, stream: int, episode: _Episode) -> None:
        """An episode has ended by itself; it counts if it was a probe, and played as one."""
        if not episode.advised:
            return
        leader = int(led_alone(np.array([stream]), np.array([episode.first], np.uint32))[0])
        if leader == Actor.DQN and not episode.by_expert:
            self.dqn.append(episode.earned)
            self._played.compare([episode.earned], self.expert)
        elif leader == Actor.EXPERT and episode.by_expert and not episode.missed:
            self.expert.append(episode.earned)


def _mean(numbers: Collection[float]) -> float:
    return math.fsum(numbers) / len(numbers) if numbers else math.nan

"""Expert or dqn: who acts on each of a batch of frames, and what the action is.

Pure: all that varies comes in, the random generator too. Arrays are the caller's and reused, so
that nothing is allocated for each frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from agent.legal_choices import random_legal
from agent.probes import led_alone
from agent.schedules import scheduled
from config.models import Config
from protocol.actor import NOBODY, Actor
from protocol.spaces import Continuous, GameSpec

Unit = Literal["frame", "segment", "episode"]

TRAIN, EVAL, EVAL_EXPERT, PLAY = 0, 1, 2, 3
"""Roles of a slot as numbers: mixed play that is stored; an evaluation of the network alone; one of
the expert alone; a policy alone, of which nothing is kept."""

ROLES = {"train": TRAIN, "eval": EVAL, "eval_expert": EVAL_EXPERT, "play": PLAY}

EVALUATED = (EVAL, EVAL_EXPERT)

WHOLE_EPISODE = 2**62
"""Frames left to whoever plays until the episode ends."""

PROBE = 2**63 - 1
"""The same of a probe (agent.probes): while it is played, more than WHOLE_EPISODE are left."""

_LENGTHS = {"frame": 1, "episode": WHOLE_EPISODE}


@dataclass(frozen=True, slots=True)
class ActingParams:
    """How the frames of training games are played just now."""

    expert_ratio: float
    """The share of frames that the expert plays, of those for which it recommends an action; the
    share of segments or episodes, where they are the unit."""
    epsilon: float
    """The share of dqn frames whose discrete heads are uniformly random."""
    noise: float
    """Standard deviation of the Gaussian noise on continuous heads, as a fraction of half of the
    head's range."""
    unit: Unit = "frame"
    """Who plays is drawn for each frame, for a segment of a slot's frames, or for an episode."""
    segment_frames: int = 50
    """With unit "segment": how many frames of a slot one has."""
    probes: bool = False
    """Some episodes are played by one actor alone (agent.probes)."""


def acting_params_at(
    config: Config, frames: int, evaluated_ratio: float, trust: float
) -> ActingParams:
    """How frames are played at `frames` stored steps of the run. `evaluated_ratio`: the expert's
    ratio by evaluations; `trust`: in the expert, by play (agent.evidence). Each counts where the
    settings want it so."""
    expert, exploration = config.expert, config.exploration
    ratio = scheduled(expert.ratio, frames)
    if expert.decay == "evaluation":
        ratio = evaluated_ratio
    elif expert.decay == "play":
        ratio = expert.ratio.end + (ratio - expert.ratio.end) * trust
    return ActingParams(
        ratio,
        scheduled(exploration.epsilon, frames),
        scheduled(exploration.noise, frames),
        expert.unit,
        expert.segment_frames,
        "play" in (expert.decay, config.imitation.decay),
    )


def begin_probes(
    streams: npt.NDArray[np.int64],
    first: npt.NDArray[np.uint32],
    expert: npt.NDArray[np.float32],
    expert_leads: npt.NDArray[np.bool_],
    frames_left: npt.NDArray[np.int64],
) -> None:
    """Of `n` episodes that begin, have those that are probes played as such.

    `streams`, `first` [n]: their streams, and `seq` of their first frames. `expert`,
    `expert_leads`, `frames_left`: as `ActionSelector.pick` takes them; the last two are written.
    Where nothing is recommended at first there is nobody to compare with, and no probe.
    """
    leaders = np.where(np.isnan(expert[:, 0]), NOBODY, led_alone(streams, first))
    np.equal(leaders, Actor.EXPERT, out=expert_leads)
    np.copyto(frames_left, PROBE, where=leaders != NOBODY)


class ActionSelector:
    """Decides batches of frames for one game. Holds only scratch memory and the generator."""

    def __init__(self, spec: GameSpec, rng: np.random.Generator) -> None:
        self._rng = rng
        self._choices = [
            (column, columns)
            for column, columns in zip(spec.discrete_columns, spec.choice_columns, strict=True)
        ]
        """Of each discrete head: its column in the action row, and its columns among the choices of
        all heads."""
        self._ranges = [
            (column, head)
            for columns, head in zip(spec.columns, spec.actions, strict=True)
            if isinstance(head, Continuous)
            for column in range(columns.start, columns.stop)
        ]
        self._low, self._high = spec.low, spec.high
        self._uniforms = np.empty(0)

    def pick(
        self,
        expert: npt.NDArray[np.float32],
        roles: npt.NDArray[np.uint8],
        params: ActingParams,
        expert_leads: npt.NDArray[np.bool_],
        frames_left: npt.NDArray[np.int64],
    ) -> npt.NDArray[np.bool_]:
        """Which of `n` frames the expert plays, [n]; the others are the network's.

        `expert` [n, action_width] holds the recommendations, NaN first where there is none; `roles`
        [n] numbers from ROLES. Every frame of the role eval_expert must have a recommendation: the
        session sees to that.

        `expert_leads` [n], `frames_left` [n]: of each frame's slot, whether the expert leads in its
        segment or episode, and for how many frames more. Both are updated for the slot's next
        frame; where an episode begins `frames_left` must be 0. Who leads is drawn only where no
        frames are left: a ratio that changes, to 0 or 1 as well, takes effect at the next segment
        or episode (with unit "frame", at the next frame). A frame without a recommendation is the
        network's, and counts: the segment continues around it. Probes are over at once where the
        ratio leaves one actor nothing.
        """
        by_expert: npt.NDArray[np.bool_] = self._draw(len(roles)) < params.expert_ratio
        if not (params.probes and 0 < params.expert_ratio < 1):
            np.copyto(frames_left, 0, where=frames_left > WHOLE_EPISODE)
        if params.unit == "frame":
            np.copyto(frames_left, 0, where=frames_left <= WHOLE_EPISODE)
        over = frames_left == 0
        np.copyto(expert_leads, by_expert, where=over)
        np.copyto(frames_left, _LENGTHS.get(params.unit, params.segment_frames), where=over)
        frames_left -= 1
        by_expert[:] = expert_leads
        by_expert &= roles == TRAIN
        by_expert |= roles == EVAL_EXPERT
        by_expert &= ~np.isnan(expert[:, 0])
        return by_expert

    def decide(
        self,
        actions: npt.NDArray[np.float32],
        expert: npt.NDArray[np.float32],
        by_expert: npt.NDArray[np.bool_],
        explores: npt.NDArray[np.bool_],
        params: ActingParams,
        actors: npt.NDArray[np.uint8],
        explored: npt.NDArray[np.uint8],
        frames_left: npt.NDArray[np.int64],
        legal: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        """Decide `n` frames in place, as `pick` said who plays them. `explores` [n]: where the
        network may explore. `frames_left` [n]: as `pick` left it; nothing is explored in probes.
        `legal` [n, choices]: masks, where the game has them, of which every head has a legal choice
        where something may be explored.

        `actions` [n, action_width] holds the network's actions (anything, where the expert plays)
        and becomes the actions to take. Written: `actors` [n], `explored` [n] (1 where the
        discrete choices were random).
        """
        n = len(actions)
        exploring = explores & ~by_expert
        exploring &= frames_left < WHOLE_EPISODE
        if params.noise > 0 and self._ranges:
            for column, head in self._ranges:
                scale = params.noise * (head.high - head.low) / 2
                noise = self._rng.standard_normal(n, dtype=np.float32)
                actions[:, column] += noise * (scale * exploring)
            np.clip(actions, self._low, self._high, out=actions)
        # A coin of its own: exploring must not depend on how narrowly the expert was missed.
        exploring &= self._draw(n) < params.epsilon
        if exploring.any():
            for column, choices in self._choices:
                if legal is None:
                    random = self._rng.integers(choices.stop - choices.start, size=n)
                    np.copyto(actions[:, column], random, where=exploring, casting="unsafe")
                else:
                    random = random_legal(legal[exploring], choices, self._rng)
                    actions[exploring, column] = random

        np.copyto(actions, expert, where=by_expert[:, None])
        actors[:] = np.where(by_expert, Actor.EXPERT, Actor.DQN)
        explored[:] = exploring if self._choices else 0

    def _draw(self, n: int) -> npt.NDArray[np.float64]:
        """`n` uniform numbers in [0, 1), in memory that the next call reuses."""
        if len(self._uniforms) < n:
            self._uniforms = np.empty(max(n, 2 * len(self._uniforms)))
        uniforms = self._uniforms[:n]
        self._rng.random(out=uniforms)
        return uniforms

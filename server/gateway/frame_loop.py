"""One turn of a gateway: the frames that arrived together are completed, decided by one
forward pass, stored and answered together. No sockets here: connections are asked to send.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.decision import (
    EVAL,
    EVAL_EXPERT,
    ROLES,
    TRAIN,
    ActingParams,
    ActionSelector,
    begin_probes,
)
from agent.policy import Policy
from config.models import RewardConfig
from protocol.actor import NOBODY, Actor
from protocol.messages import RUNNING
from protocol.policies import PolicyName
from protocol.spaces import GameSpec
from server.gateway.answers import encode_answers, send_answers
from server.gateway.checkpoint_shelf import CheckpointShelf
from server.gateway.episode_numbers import finished
from server.gateway.episode_stats import EpisodeStats
from server.gateway.expert_advice import add_advice
from server.gateway.expert_plugin import ExpertPlugin
from server.gateway.frame_batch import FrameBatch, FrameClient
from server.gateway.frame_checks import refuse_bad_observations, refuse_bad_rewards
from server.gateway.frame_masks import refuse_illegal
from server.gateway.frame_stacks import FrameStacks
from server.gateway.named_play import NamedPlay
from server.gateway.reward_parts import RewardParts
from server.gateway.rewards import RewardFunction
from server.gateway.slots import SlotTable
from server.gateway.step_writer import StepSink, StepWriter
from server.gateway.takeovers import Takeovers
from server.gateway.turn_times import TurnTimes


class FrameLoop:
    """The frame path of one gateway."""

    def __init__(
        self,
        spec: GameSpec,
        reward: RewardConfig,
        policy: Policy,
        sink: StepSink,
        acting_params: Callable[[], ActingParams],
        rng: np.random.Generator,
        *,
        most_slots: int,
        frame_stack: int = 1,
        memory: int = 0,
        expert: ExpertPlugin | None = None,
        in_flight: npt.NDArray[np.int64] | None = None,
        shelf: CheckpointShelf | None = None,
    ) -> None:
        """`most_slots`: that there may be; see `room`. `memory`: numbers of the policy's recurrent
        state. `in_flight`: see StepWriter. `shelf`: of checkpoints, where slots may name one."""
        self.expert = expert
        """Asked about frames that come without a recommendation. May be exchanged between turns."""
        self.times = TurnTimes()
        self.episodes = EpisodeStats()
        self._spec, self._masks, self._memory = spec, bool(spec.masks), memory > 0
        self._policy = policy
        self._acting_params = acting_params
        self._selector = ActionSelector(spec, rng)
        self._reward = RewardFunction(spec, reward)
        self.table = SlotTable(spec, most_slots, memory)
        self.named = None if shelf is None else NamedPlay(self.table, shelf, rng.spawn(1)[0])
        self._neutral = np.clip(np.zeros(spec.action_width, np.float32), spec.low, spec.high)
        """What an expert that plays alone does before its first recommendation: the first choice of
        each discrete head, and of a continuous one what is nearest to 0."""
        self._batch = FrameBatch(spec, frame_stack, most_slots, memory)
        self._stacks = FrameStacks(spec, frame_stack, most_slots) if frame_stack > 1 else None
        if in_flight is None:
            in_flight = np.zeros(2, np.int64)
        self._steps = StepWriter(spec, self._reward, sink, most_slots, in_flight, memory)
        # Called for every message, so without a detour.
        self.add_frame = self._batch.add_frame
        self.add_frames = self._batch.add_frames
        self.change_reward = self._reward.change
        self.takeovers = Takeovers()
        self.numbers = finished()
        """What the frames of training episodes that have ended told (server.gateway.connection)."""
        self.reward_parts = RewardParts(spec, self._reward.weights)
        self._lost: list[FrameClient] = []
        self._answered = np.zeros(len(ROLES), np.int64)

    # What the report shows.

    @property
    def slots(self) -> int:
        """Slots in play."""
        return self.table.used

    @property
    def evaluating(self) -> tuple[int, int]:
        """Slots of evaluation in play: of the network alone, and of the expert alone."""
        return self.table.by_role[EVAL], self.table.by_role[EVAL_EXPERT]

    @property
    def leaving(self) -> Sequence[FrameClient]:
        """Those whose connection is gone, and whose last frames wait for a turn."""
        return self._lost

    @property
    def frames(self) -> dict[str, int]:
        """Frames answered, by role."""
        return {name: int(self._answered[number]) for name, number in ROLES.items()}

    @property
    def stored(self) -> int:
        """Steps completed."""
        return self._steps.stored

    def played(self, rows: npt.NDArray[np.int64], starts: list[int]) -> npt.NDArray[np.int64]:
        """Frames of some connections by who acted before them, [n, TAG_COUNT] (see SlotTable):
        `rows` are those of all their slots, one connection after the other, each from one of
        `starts` on.
        """
        return np.add.reduceat(self.table.played[rows], starts, axis=0)

    # Who plays.

    @property
    def room(self) -> int:
        """Slots that may join beside those there are."""
        return self.table.capacity - self.table.used

    def join(
        self,
        streams: list[int],
        role: str,
        *,
        explores: bool = False,
        policy: PolicyName | None = None,
    ) -> npt.NDArray[np.int64]:
        """Rows for a connection's slots; give them back with `leave`. `explores`: though it is no
        training. `policy`: who plays there, if not the newest network."""
        rows = self.table.take(streams, role, explores=explores)
        if policy is not None and self.named is not None:
            self.named.join(rows, policy)
        return rows

    def play_as(self, rows: npt.NDArray[np.int64], role: str) -> None:
        """These slots play in this role from now on; each is between two episodes."""
        self.table.play_as(rows, role)

    def leave(self, client: FrameClient) -> None:
        """The connection is gone. Its waiting frames still count; its episodes are truncated."""
        self._lost.append(client)

    # Frames.

    @property
    def full(self) -> bool:
        """Steps wait for room in the ring: no turn is run until `flush` has placed them."""
        return self._steps.full

    @property
    def idle(self) -> bool:
        """Nothing waits: no frame, no step, no truncation."""
        return not (self.full or self._batch.n or self._lost)

    def run(self) -> None:
        """Answer all that waits, then truncate what was lost. Nothing to do is fine."""
        if self.full:
            return
        if self._batch.n:
            self._check()
        if self._batch.n:
            add_advice(self.expert, self.table, self._batch, self._neutral, self._spec)
        if self._batch.n:
            self._complete()
            self._answer()
            self.times.stop(self._batch.started)
            self._batch.clear()
        if self._lost:
            for client in self._lost:
                self.episodes.cut(self.table, client.rows)
                self._steps.truncate(self.table, client.rows)
                if self.named is not None:
                    self.named.leave(client.rows)
                self.table.give_back(client.rows)
            self._lost.clear()
            self.flush()
            self._shrink()
            return
        self.flush()

    def flush(self) -> None:
        """Hand steps that wait to the ring, as far as there is room."""
        self._steps.flush()

    # The parts of a turn.

    def _check(self) -> None:
        """Work out what the frames earned, and drop those that no network should see."""
        batch = self._batch
        with np.errstate(over="ignore", invalid="ignore"):
            refuse_bad_observations(batch, self._spec)
            self._reward.weigh(batch, self.table.pending[batch.row[: batch.n]])
            refuse_bad_rewards(batch, self._spec)
        if self._masks and batch.n:
            refuse_illegal(batch, self.table, self._spec)

    def _complete(self) -> None:
        """The frames of this turn complete the ones before: those become steps."""
        table, batch, n = self.table, self._batch, self._batch.n
        rows, status = batch.row[:n], batch.status[:n]
        took = batch.took_actor[:n] != NOBODY
        if took.any():
            table.action[rows[took]] = batch.took[:n][took]
            table.actor[rows[took]] = batch.took_actor[:n][took]
        self.takeovers.add(table, rows, batch.took_actor[:n] == Actor.EXPERT)
        pending = table.pending[rows]
        over: npt.NDArray[np.bool_] | None = status != RUNNING
        if over is not None and not over.any():
            over = None
        self.episodes.add(table, rows, batch.earned[:n], pending)
        self.reward_parts.add(table, batch, rows, pending)
        self._steps.complete(table, batch, rows, status, pending, over)
        if over is not None:
            self.episodes.end(table, rows[over], pending[over])

    def _answer(self) -> None:
        """Decide all frames of this turn, make them the pending ones, and send the answers."""
        table, batch, n = self.table, self._batch, self._batch.n
        rows, obs, expert = batch.row[:n], batch.obs[:n], batch.expert[:n]
        roles, acting = table.role[rows], self._acting_params()
        running = batch.status[:n] == RUNNING
        leads, left = batch.expert_leads[:n], batch.frames_left[:n]
        np.take(table.expert_leads, rows, out=leads, mode="clip")
        np.take(table.frames_left, rows, out=left, mode="clip")
        begins = ~table.pending[rows]
        if acting.probes:
            self._begin_probes(np.flatnonzero(running & begins))
        by_expert = self._selector.pick(expert, roles, acting, leads, left)
        if self._stacks is not None:
            self._stacks.add(rows, obs, begins)
        named = self.named if self.named is not None and self.named.slots else None
        if named is not None:
            named.begin(rows[running & begins])
        asked = running & ~by_expert
        if self._memory:
            self._recall(rows, begins)
            asked = running  # the state goes on whoever acts
        self._ask_network(np.flatnonzero(asked), named)
        actions, actors, explored = batch.actions[:n], batch.actors[:n], batch.explored[:n]
        legal = batch.choices[:n] if self._masks else None
        self._selector.decide(
            actions, expert, by_expert, table.explores[rows], acting, actors, explored, left, legal
        )
        if not running.all():
            over = ~running
            actions[over] = np.nan
            actors[over] = NOBODY
            explored[over] = 0
            left[over] = 0  # whoever led: the next episode is drawn anew
        table.expert_leads[rows], table.frames_left[rows] = leads, left
        table.obs[rows] = obs
        table.action[rows] = actions
        table.recommended[rows] = expert
        table.policy_version[rows] = version = self._policy.version
        table.actor[rows] = actors
        table.seq[rows] = batch.seq[:n]
        if self._masks:
            table.legal[rows] = batch.legal[:n]
        table.pending[rows] = running
        self._answered += np.bincount(roles, minlength=len(ROLES))
        self._steps.answering(int(np.count_nonzero(running & (roles == TRAIN))))
        versions = [version] * n if named is None else named.versions(rows, version)
        answers = encode_answers(batch, self._spec, running, versions, actions, actors, explored)
        send_answers(batch.entries, answers)

    def _begin_probes(self, begun: npt.NDArray[np.intp]) -> None:
        """Of the episodes that begin with these frames of the batch, some are probes."""
        batch, n = self._batch, len(begun)
        if n:
            leads, left = np.empty(n, np.bool_), np.zeros(n, np.int64)
            streams, first = self.table.stream[batch.row[begun]], batch.seq[begun]
            begin_probes(streams, first, batch.expert[begun], leads, left)
            batch.expert_leads[begun], batch.frames_left[begun] = leads, left

    def _ask_network(self, asked: npt.NDArray[np.intp], named: NamedPlay | None) -> None:
        """Write the network's actions for these frames of the batch: one pass for all of them; one
        for each policy where some slots have `named` theirs."""
        if not len(asked):
            return
        batch = self._batch
        states = batch.asked[: len(asked)]
        if self._stacks is None:
            np.take(batch.obs[: batch.n], asked, axis=0, out=states, mode="clip")
        else:
            self._stacks.take(batch.row[asked], states)
        legal = batch.choices[asked] if self._masks else None
        if named is None:
            batch.actions[asked] = self._play(self._policy, asked, states, legal)
            return
        for policy, of in named.groups(batch.row[asked]):
            theirs = None if legal is None else legal[of]
            played = self._play(policy or self._policy, asked[of], states[of], theirs)
            batch.actions[asked[of]] = played

    def _play(
        self,
        policy: Policy,
        asked: npt.NDArray[np.intp],
        states: npt.NDArray[Any],
        legal: npt.NDArray[np.bool_] | None,
    ) -> npt.NDArray[np.float32]:
        """A policy's actions for these frames of the batch, whose recurrent states go on."""
        if not self._memory:
            return policy.greedy(states, legal)
        rows = self._batch.row[asked]
        recurrent = self._batch.recurrent[: len(asked)]
        np.take(self.table.recurrent, rows, axis=0, out=recurrent, mode="clip")
        actions = policy.greedy(states, legal, recurrent)
        self.table.recurrent[rows] = recurrent
        return actions

    def _recall(self, rows: npt.NDArray[np.int64], begins: npt.NDArray[np.bool_]) -> None:
        """The states before these frames are those behind the ones before; episodes begin with
        zeros."""
        self.table.recurrent[rows[begins]] = 0
        self.table.state[rows] = self.table.recurrent[rows]

    def _shrink(self) -> None:
        """Give memory back when most slots have gone. Not while steps wait for a full ring: those
        who go later will have it done."""
        if not self.full and self.table.shrink():
            self._batch.memory.give_back(self.table.high_water)
            if self._stacks is not None:
                self._stacks.memory.give_back(self.table.high_water)
            self._steps.give_back()

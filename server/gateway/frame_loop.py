"""One loop turn of a gateway: the frames that arrived together are completed, decided by one
forward pass, stored and answered together. No sockets here: connections are asked to send.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from agent.decision import EVAL, EVAL_EXPERT, ROLES, TRAIN, ActingParams, ActionSelector
from agent.policy import Policy
from agent.step import StepBlock
from config.models import RewardConfig
from protocol import codec
from protocol.actor import NOBODY
from protocol.checks import MAX_VALUE
from protocol.errors import RemoteError
from protocol.messages import RUNNING, Actions, Frame, Frames
from protocol.session import session_of
from protocol.spaces import GameSpec, Part
from protocol.tempest import HEADER, header_fields
from server.gateway.expert_plugin import ExpertPlugin
from server.gateway.slots import FrameBatch, FrameStacks, PendingSteps, SlotTable
from server.gateway.turn_times import TurnTimes
from server.ipc.messages import Episode

_EPISODES = 10_000
_ROLE_NAMES = {number: name for name, number in ROLES.items()}


class StepSink(Protocol):
    """Where steps go: a ring in shared memory here, another machine elsewhere."""

    @property
    def free(self) -> int:
        """Rows that can be written now."""

    def write(self, block: StepBlock) -> None:
        """Append a block that fits."""


class Player(Protocol):
    """What a turn needs of a connection."""

    rows: npt.NDArray[np.int64]
    """The table's rows of its slots."""

    def send(self, data: bytes) -> None:
        """Send bytes, unless the connection is gone."""

    def answered(self, slot: int | None) -> None:
        """The frame of this slot (None: of all slots) is answered."""

    def fail(self, error: RemoteError) -> None:
        """End the connection with an error."""


Encode = Callable[[int, int, Sequence[Part] | None, int, int, bool], bytes]
"""The answer to a frame as bytes: of slot, seq, action, actor, policy version, explored."""


class Waiting(NamedTuple):
    """Who waits for which rows of the batch: one frame of a slot, or one of all slots."""

    player: Player
    slot: int | None
    n: int
    encode: Encode
    """How one frame of a slot is answered."""


class FrameLoop:
    """The frame path of one gateway."""

    def __init__(
        self,
        spec: GameSpec,
        reward: RewardConfig,
        policy: Policy,
        sink: StepSink,
        mix: Callable[[], ActingParams],
        rng: np.random.Generator,
        *,
        most_slots: int,
        frame_stack: int = 1,
        expert: ExpertPlugin | None = None,
        in_flight: npt.NDArray[np.int64] | None = None,
    ) -> None:
        """`most_slots`: that there may be; see `room`. `in_flight`: where completed steps and
        answered frames are counted (server.ipc.inflight)."""
        self.expert = expert
        """Asked about frames that come without a recommendation. May be exchanged between turns."""
        self._spec = spec
        self._policy = policy
        self._sink = sink
        self._mix = mix
        self._decider = ActionSelector(spec, rng)
        self._table = SlotTable(spec, most_slots)
        self._batch = FrameBatch(spec, frame_stack, most_slots)
        self._stacks = FrameStacks(spec, frame_stack, most_slots) if frame_stack > 1 else None
        self._pending_steps = PendingSteps(spec, most_slots)
        self._waiting: list[Waiting] = []
        self._lost: list[Player] = []
        names = [reward.weights.get(name, 1.0) for name in spec.rewards]
        self._reward_weights = np.array(names, np.float32)
        self._clip = reward.clip
        self._checks_finite = spec.observation_dtype.kind == "f"
        # For the report; the gateway reads and resets the last two.
        self._answered = np.zeros(len(ROLES), np.int64)
        self._in_flight = np.zeros(2, np.int64) if in_flight is None else in_flight
        self.stored = int(self._in_flight[0])
        self._open = 0
        """Frames in training that were answered and that the next one is to complete."""
        self.times = TurnTimes()
        self.episodes: deque[Episode] = deque(maxlen=_EPISODES)

    @property
    def slots(self) -> int:
        """Slots in play."""
        return self._table.used

    @property
    def slots_by_role(self) -> dict[str, int]:
        """The same, by role."""
        return {name: self._table.by_role[number] for name, number in ROLES.items()}

    @property
    def evaluating(self) -> bool:
        """A game of evaluation is in play."""
        return self._table.by_role[TRAIN] < self._table.used

    @property
    def frames(self) -> dict[str, int]:
        """Frames answered, by role."""
        return {name: int(self._answered[number]) for name, number in ROLES.items()}

    @property
    def full(self) -> bool:
        """Steps wait for room in the ring: no turn is run until `flush` has placed them."""
        return len(self._pending_steps) > 0

    @property
    def idle(self) -> bool:
        """Nothing waits: no frame, no step, no truncation."""
        return not (self.full or self._batch.n or self._lost)

    def played(self, rows: npt.NDArray[np.int64], starts: list[int]) -> npt.NDArray[np.int64]:
        """Frames of some connections by who acted before them, [n, 3] (see SlotTable): `rows` are
        those of all their slots, one connection behind the other, each from one of `starts` on."""
        return np.add.reduceat(self._table.played[rows], starts, axis=0)

    @property
    def room(self) -> int:
        """Slots that may join beside those there are."""
        return self._table.most - self._table.used

    def join(self, streams: list[int], role: str) -> npt.NDArray[np.int64]:
        """Rows for a connection's slots; give them back with `leave`."""
        return self._table.take(streams, role)

    def leave(self, player: Player) -> None:
        """The connection is gone. Its waiting frames still count; its episodes are truncated."""
        self._lost.append(player)

    def add_frame(
        self,
        player: Player,
        frame: Frame,
        header: memoryview | None = None,
        encode: Encode = codec.encode_action,
    ) -> None:
        """A checked FRAME waits from now on. `header`: what stood before it, in the older format.
        Errors: RemoteError about its actions."""
        spec, batch, slot = self._spec, self._batch, frame.slot
        expert = None if frame.expert is None else spec.action_row(frame.expert)
        took = None if frame.took is None else spec.action_row(frame.took[0])
        i = batch.n
        size = spec.observation_bytes
        batch.obs_bytes[i * size : (i + 1) * size] = frame.obs
        batch.row[i] = player.rows[slot]
        batch.rewards[i] = frame.reward
        batch.status[i] = frame.status
        batch.seq[i] = frame.seq
        if expert is None:
            batch.expert[i, 0] = np.nan
        else:
            batch.expert[i] = expert
        if took is None:
            batch.took_actor[i] = NOBODY
        else:
            assert frame.took is not None
            batch.took[i] = took
            batch.took_actor[i] = frame.took[1]
        batch.headed[i] = header is not None
        if header is not None:
            size = HEADER.itemsize
            batch.header_bytes[i * size : (i + 1) * size] = header
        self._wait(player, slot, 1, encode)

    def add_frames(self, player: Player, frames: Frames) -> None:
        """A checked FRAMES waits from now on."""
        spec, batch = self._spec, self._batch
        count = len(player.rows)
        at = slice(batch.n, batch.n + count)
        batch.obs[at] = np.frombuffer(frames.obs, spec.observation_dtype).reshape(count, -1)
        batch.row[at] = player.rows
        batch.rewards[at] = np.frombuffer(frames.rewards, "<f4").reshape(count, -1)
        batch.status[at] = np.frombuffer(frames.statuses, np.uint8)
        batch.seq[at] = frames.seq
        if frames.experts is None:
            batch.expert[at, 0] = np.nan
        else:
            batch.expert[at] = np.frombuffer(frames.experts, "<f4").reshape(count, -1)
        if frames.took is None:
            batch.took_actor[at] = NOBODY
        else:
            batch.took[at] = np.frombuffer(frames.took[0], "<f4").reshape(count, -1)
            batch.took_actor[at] = np.frombuffer(frames.took[1], np.uint8)
        batch.headed[at] = False
        self._wait(player, None, count, codec.encode_action)

    def run(self) -> None:
        """Answer all that waits, then truncate what was lost. Nothing to do is fine."""
        if self.full:
            return
        if self._batch.n:
            self._refuse_not_finite()
        if self._batch.n:
            self._advise()
        if self._batch.n:
            self._complete()
            self._answer()
            self._batch.n = 0
            self._waiting.clear()
            self.times.stop()
        if self._lost:
            for player in self._lost:
                self._truncate(player)
            self._lost.clear()
            self.flush()
            self._shrink()
            return
        self.flush()

    def flush(self) -> None:
        """Hand the outbox to the ring, as far as there is room."""
        while self.full and (room := self._sink.free):
            block = self._pending_steps.waiting(room)
            self._sink.write(block)
            self._pending_steps.sent(len(block))

    def _shrink(self) -> None:
        """Give memory back when most slots have gone. Not while steps wait for a full ring: those
        who go later will have it done."""
        if not self.full and self._table.shrink():
            self._batch.memory.give_back(self._table.high)
            if self._stacks is not None:
                self._stacks.memory.give_back(self._table.high)
            self._pending_steps.give_back()

    def _wait(self, player: Player, slot: int | None, count: int, encode: Encode) -> None:
        if not self._waiting:
            self.times.start()
        self._waiting.append(Waiting(player, slot, count, encode))
        self._batch.n += count

    def _refuse_not_finite(self) -> None:
        """Work out what the frames earned, and end the connections whose observation or reward is
        NaN, infinite or beyond MAX_VALUE; their frames are dropped."""
        batch = self._batch
        with np.errstate(over="ignore", invalid="ignore"):
            obs = batch.obs[: batch.n]
            # Written so that NaN fails. Smallest and largest need no memory: look closer only then.
            if self._checks_finite and not (obs.min() >= -MAX_VALUE and obs.max() <= MAX_VALUE):
                good: npt.NDArray[np.bool_] = np.asarray((np.abs(obs) <= MAX_VALUE).all(axis=1))
                self._refuse(good, self._bad_observation)
            earned = batch.earned[: batch.n]
            np.matmul(batch.rewards[: batch.n], self._reward_weights, out=earned)
            # The reward of an episode's first frame belongs to nothing.
            earned[~self._table.pending[batch.row[: batch.n]]] = 0
            fair = np.abs(earned) <= MAX_VALUE
            if not fair.all():
                self._refuse(fair, self._bad_reward)

    def _refuse(self, good: npt.NDArray[np.bool_], error: Callable[[int], RemoteError]) -> None:
        """Fail every player that has a frame that is not `good` [n], with `error` of the first."""
        start, waiting = 0, []
        for entry in self._waiting:
            rows = slice(start, start + entry.n)
            start = rows.stop
            if good[rows].all():
                waiting.append(entry)
                continue
            entry.player.fail(error(rows.start + int(np.argmin(good[rows]))))
            good[rows] = False
        self._waiting = waiting
        self._batch.keep(good)

    def _bad_observation(self, i: int) -> RemoteError:
        obs = self._batch.obs[i]
        element = int(np.argmin(np.abs(obs) <= MAX_VALUE))
        return RemoteError(
            "observation_not_finite",
            f"expected numbers from -{MAX_VALUE:g} to {MAX_VALUE:g}, got {obs[element]} in element "
            f"{element}; check the game's state before sending it",
        )

    def _bad_reward(self, i: int) -> RemoteError:
        parts = dict(zip(self._spec.rewards, self._batch.rewards[i].tolist(), strict=True))
        return RemoteError(
            "reward_not_finite",
            f"expected rewards whose weighted sum is from -{MAX_VALUE:g} to {MAX_VALUE:g}, got "
            f"{parts}; check what the game computes, or lower reward.weights",
        )

    def _advise(self) -> None:
        """Ask the server's own expert about the frames that came without a recommendation, and end
        the connections that let the expert alone play and have none."""
        table, batch, n = self._table, self._batch, self._batch.n
        if self.expert is None and not table.by_role[EVAL_EXPERT]:
            return
        rows, headed = batch.row[:n], batch.headed[:n]
        roles = table.role[rows]
        wanted = np.isnan(batch.expert[:n, 0]) & (batch.status[:n] == RUNNING) & (roles != EVAL)
        if self.expert is not None:
            for asked in (np.flatnonzero(wanted & ~headed), np.flatnonzero(wanted & headed)):
                if len(asked):
                    of = rows[asked]
                    batch.expert[asked] = self.expert.ask(
                        batch.obs[asked],
                        table.stream[of],
                        ~table.pending[of],
                        header_fields(batch.header[asked]) if headed[asked[0]] else {},
                    )
        missing = wanted & (roles == EVAL_EXPERT) & np.isnan(batch.expert[:n, 0])
        if missing.any():
            self._refuse(~missing, self._no_advice)

    def _no_advice(self, _row: int) -> RemoteError:
        return RemoteError(
            "expert_missing",
            "the role eval_expert plays the expert alone, and the server's own (expert.plugin) has "
            "no advice for a frame; see the server's log, or recommend an action with every frame",
        )

    def _complete(self) -> None:
        """The frames of this turn complete the ones before: those become steps."""
        table, batch = self._table, self._batch
        rows, status = batch.row[: batch.n], batch.status[: batch.n]
        took = batch.took_actor[: batch.n] != NOBODY
        if took.any():
            table.action[rows[took]] = batch.took[: batch.n][took]
            table.actor[rows[took]] = batch.took_actor[: batch.n][took]
        table.played[rows, table.actor[rows]] += 1
        pending = table.pending[rows]
        earned = batch.earned[: batch.n]
        table.episode_return[rows] += earned
        table.episode_length[rows] += pending

        stored = pending & (table.role[rows] == TRAIN)
        kept = rows[stored]
        reward = earned[stored]
        if self._clip is not None:
            np.clip(reward, -self._clip, self._clip, out=reward)
        self._pending_steps.steps(table, kept, reward, status[stored])
        self.stored += len(kept)
        self._open -= len(kept)
        table.linked[kept] = True

        over = status != RUNNING
        if over.any():
            last = over & stored
            self._pending_steps.finals(
                table, rows[last], batch.obs[: batch.n][last], batch.seq[: batch.n][last]
            )
            ended = rows[over]
            for row in ended[pending[over]].tolist():
                self.episodes.append(
                    Episode(
                        _ROLE_NAMES[int(table.role[row])],
                        float(table.episode_return[row]),
                        int(table.episode_length[row]),
                        session_of(int(table.stream[row])),
                    )
                )
            table.linked[ended] = False
            table.episode_return[ended] = 0
            table.episode_length[ended] = 0

    def _answer(self) -> None:
        """Decide all frames of this turn, make them the pending ones, and send the answers."""
        table, batch, n = self._table, self._batch, self._batch.n
        rows, obs = batch.row[:n], batch.obs[:n]
        expert, roles, mix = batch.expert[:n], table.role[rows], self._mix()
        running = batch.status[:n] == RUNNING
        leads, left = batch.leads[:n], batch.left[:n]
        np.take(table.leads, rows, out=leads, mode="clip")
        np.take(table.left, rows, out=left, mode="clip")
        by_expert = self._decider.pick(expert, roles, mix, leads, left)
        actions, actors, explored = batch.actions[:n], batch.actors[:n], batch.explored[:n]
        if self._stacks is not None:
            self._stacks.add(rows, obs, ~table.pending[rows])
        # The network is asked once, about the frames that are its own to answer.
        asked = np.flatnonzero(running & ~by_expert)
        if len(asked):
            states = batch.asked[: len(asked)]
            if self._stacks is None:
                np.take(obs, asked, axis=0, out=states, mode="clip")
            else:
                self._stacks.take(rows[asked], states)
            actions[asked] = self._policy.greedy(states)
        self._decider.decide(actions, expert, by_expert, roles, mix, actors, explored)
        if not running.all():
            over = ~running
            actions[over] = np.nan
            actors[over] = NOBODY
            explored[over] = 0
            left[over] = 0  # whoever led: the next episode is drawn anew
        table.leads[rows], table.left[rows] = leads, left
        table.obs[rows] = obs
        table.action[rows] = actions
        table.actor[rows] = actors
        table.seq[rows] = batch.seq[:n]
        table.pending[rows] = running
        self._answered += np.bincount(roles, minlength=len(ROLES))
        self._open += int(np.count_nonzero(running & (roles == TRAIN)))
        self._count()  # before anybody knows
        self._send(actions, actors, explored, running)

    def _send(
        self,
        actions: npt.NDArray[np.float32],
        actors: npt.NDArray[np.uint8],
        explored: npt.NDArray[np.uint8],
        running: npt.NDArray[np.bool_],
    ) -> None:
        version = self._policy.version
        # NaN has no integer: the rows without an action are zeroed for the conversion alone.
        parts: list[Any] = self._spec.actions_of_rows(np.where(running[:, None], actions, 0))
        tags, dice, alive = actors.tolist(), explored.tolist(), running.tolist()
        seqs = self._batch.seq[: self._batch.n].tolist()
        replies: list[bytes] = []
        i = 0
        for entry in self._waiting:
            if entry.slot is not None:
                action = parts[i] if alive[i] else None
                replies.append(
                    entry.encode(entry.slot, seqs[i], action, tags[i], version, bool(dice[i]))
                )
            else:
                at = slice(i, i + entry.n)
                replies.append(
                    codec.encode(
                        Actions(
                            seqs[i],
                            actions[at].tobytes(),
                            actors[at].tobytes(),
                            version,
                            explored[at].tobytes(),
                        )
                    )
                )
            i += entry.n
        # Sent behind each other without work in between: a game on this machine that is woken by
        # the first finds the others without falling asleep, and waking it is what costs.
        # The answers to one player's frames that came together go together, too.
        first = 0
        for i, entry in enumerate(self._waiting, 1):
            entry.player.answered(entry.slot)
            if i == len(self._waiting) or self._waiting[i].player is not entry.player:
                entry.player.send(replies[first] if i == first + 1 else b"".join(replies[first:i]))
                first = i

    def _truncate(self, player: Player) -> None:
        """The stream ends in the middle of an episode: its pending frame is the last observation
        of it, and the step before bootstraps from there."""
        table, rows = self._table, player.rows
        ended = rows[table.pending[rows] & table.linked[rows] & (table.role[rows] == TRAIN)]
        if len(ended):
            self._pending_steps.finals(table, ended, table.obs[ended], table.seq[ended])
        self._open -= int(np.count_nonzero(table.pending[rows] & (table.role[rows] == TRAIN)))
        self._count()
        table.give_back(rows)

    def _count(self) -> None:
        self._in_flight[0], self._in_flight[1] = self.stored, self._open

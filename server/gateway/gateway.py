"""The gateway process: listens, admits games, and runs a turn at the end of each loop iteration.

It never waits for the trainer: its weights come from a slot in shared memory, its steps go to a
ring there. When the ring is full it stops reading, and TCP makes the games wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.decision import ActingParams, acting_params_at
from agent.device import resolve_device
from agent.policy import Policy
from config.models import Config
from protocol.actor import TAGS
from protocol.errors import RemoteError
from protocol.messages import EVALUATE, PROTOCOL_VERSION, Settings, Welcome, WelcomeFields
from protocol.session import ServerSession, stream_number
from protocol.spaces import GameSpec
from protocol.spec_diff import refusal
from server.gateway import admission
from server.gateway.connection import Connection
from server.gateway.expert_plugin import ExpertPlugin
from server.gateway.frame_loop import FrameLoop
from server.gateway.slot_memory import slot_bytes
from server.gateway.tempest import replies
from server.gateway.turn_times import TurnTimes
from server.ipc.heartbeat import Heartbeat
from server.ipc.inflight import cells
from server.ipc.messages import (
    Changed,
    Evaluate,
    ExpertRatio,
    GatewayReport,
    Joined,
    Left,
    Open,
    Proposed,
    Refused,
    SaveWanted,
    Settle,
    Settled,
    Stop,
)
from server.ipc.pipe_writer import PipeWriter
from server.ipc.step_ring import StepRing
from server.ipc.weight_slot import WeightSlot
from server.net.rate_limits import AddressLimits, TokenBucket

log = logging.getLogger("gateway")

SWEEP_S = 0.25
"""How often deadlines are checked."""

RING_POLL_S = 0.001
"""How often a full ring is looked at again."""

SAVE_WANTED_S = 1.0
"""How often the supervisor hears that clients want a checkpoint. Its own pause is longer."""

STOP_S = 4.0
"""How long the end may take: for games to read why, and for the ring to take what is left. Less
than the supervisor allows (server.supervisor.supervisor)."""

SERVER_NAME = "understudy/0.1"

_SESSION_BITS = 32


class Gateway:
    """All state of one gateway; collaborators get it passed, nothing is global."""

    def __init__(
        self,
        config: Config,
        index: int,
        launch: int,
        writer: PipeWriter,
        heartbeat: Heartbeat,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.config = config
        self.turn: FrameLoop | None = None
        self.errors: Counter[str] = Counter()
        self.now: Callable[[], float] = loop.time
        self.soon: Callable[..., Any] = loop.call_soon
        """Have something done at the end of what is being done."""
        self.later: Callable[..., Any] = loop.call_later
        """Have something done in so many seconds."""
        self.addresses = AddressLimits(config.server.max_frames_per_address, self.now)
        self.replies = replies(config)
        """To the older clients."""
        self._index = index
        # Unique in a run: each launch has a range of its own, each gateway every n-th number. How
        # many it has begun is in its ring, for one that is started in its place.
        self._first_session = (launch << _SESSION_BITS) + index + 1
        self._pipe = writer
        self._heartbeat = heartbeat
        self._loop = loop
        self._connections: set[Connection] = set()
        self._spec: GameSpec | None = None
        self._proposed: GameSpec | None = None
        self._policy: Policy | None = None
        self._rings: list[StepRing] = []
        self._weights: WeightSlot | None = None
        self._turn_scheduled = False
        self._stalls = 0
        self._evaluating = False
        self._ratio = config.expert.ratio.start
        """Of the expert, where evaluations decide: the supervisor says it."""
        self._asked = 0
        """The newest evaluation that was asked for (server.ipc.messages.Evaluate)."""
        self._stopping = False
        self._quiet_until = 0.0
        """Until then the supervisor need not be told that a checkpoint is wanted."""
        self.stopped = loop.create_future()
        token = config.server.token
        self._token = token.get_secret_value() if token else None

    # What connections call.

    def new_session(self) -> ServerSession:
        """The protocol state for a new connection."""
        return ServerSession(
            max_message_bytes=self.config.server.max_message_bytes,
            token=self._token,
            advised=self.config.expert.plugin is not None,
        )

    def opened(self, connection: Connection) -> TokenBucket | None:
        """A connection was accepted. Returns what its frames are to be taken from, where they are
        limited. Errors: RemoteError if there are too many, after too many wrong tokens, or at the
        end."""
        self._connections.add(connection)
        bucket = self.addresses.came(connection.address)
        if self._stopping:
            raise _stopping()
        admission.check(connection, self._connections, self.addresses, self.config.server)
        if self.turn is not None and self.turn.full:
            connection.ring_full(True)
        return bucket

    @property
    def crowded(self) -> bool:
        """Too many connections are still being told why they were refused."""
        return admission.crowded(self._connections)

    def throttled(self, connection: Connection) -> None:
        """Its address has sent as many frames as it may, and waits."""
        more = self.addresses.log.words(connection.address)
        if more is not None:
            log.warning(
                "%s: held to %d frames a second for its address, server.max_frames_per_address%s",
                connection.peer, self.config.server.max_frames_per_address or 0, more,
            )  # fmt: skip

    def about(self) -> dict[str, Any]:
        """What this server is, for a client of another version."""
        return {"protocol": PROTOCOL_VERSION, "server": SERVER_NAME, "game": self._spec}

    def said_hello(self, connection: Connection) -> None:
        """A HELLO came: propose its game, or admit it, or let it wait for the first weights."""
        spec = connection.session.spec
        assert spec is not None
        if self._spec is not None:
            self._admit(connection)
        elif self._proposed is None:
            self._proposed = spec
            self._pipe.send(Proposed(spec))

    def _refused(self, message: Refused) -> None:
        """A proposed game cannot be the run's: tell who plays it, and propose another one's."""
        self._proposed = None
        error = RemoteError("bad_hello", message.text)
        for connection in list(self._connections):
            if connection.waits_for_welcome:
                if connection.session.spec == message.spec:
                    connection.fail(error)
                else:
                    self.said_hello(connection)

    def save_wanted(self) -> None:
        """A client asked for a checkpoint."""
        if self.now() >= self._quiet_until:
            self._quiet_until = self.now() + SAVE_WANTED_S
            self._pipe.send(SaveWanted())

    def schedule_turn(self) -> None:
        """Run a turn after all that is readable now has been read."""
        if not self._turn_scheduled:
            self._turn_scheduled = True
            self._loop.call_soon(self._run_turn)

    def lost(self, connection: Connection) -> None:
        """The connection is gone."""
        self._connections.discard(connection)
        self.addresses.gone(connection.address)
        if self.turn is not None and len(connection.rows):
            self.turn.leave(connection)
            self.schedule_turn()
            with contextlib.suppress(OSError):  # the supervisor is gone: so will this be
                self._pipe.send(Left(connection.number))

    # The run.

    def _run_turn(self) -> None:
        self._turn_scheduled = False
        turn = self.turn
        if turn is None or turn.full:
            return  # a full ring: `_wait_for_ring` schedules the next turn
        assert self._policy is not None
        self._policy.refresh()
        try:
            turn.run()
        except Exception as error:
            self._crash(error)
            return
        self._note_evaluation()
        if turn.full:
            self._stalls += 1
            for connection in self._connections:
                connection.ring_full(True)
            self._loop.call_later(RING_POLL_S, self._wait_for_ring)

    def _note_evaluation(self) -> None:
        """When the first game of evaluation has come, and when the last one has gone, the
        supervisor hears of it at once: both may happen within one interval."""
        if self.turn is not None and self.turn.evaluating != self._evaluating:
            self._evaluating = self.turn.evaluating
            self.send_report()

    def _wait_for_ring(self) -> None:
        if self.stopped.done():
            return  # it gave up on the ring, which is about to go
        assert self.turn is not None
        self.turn.flush()
        if self.turn.full:
            self._loop.call_later(RING_POLL_S, self._wait_for_ring)
            return
        for connection in self._connections:
            connection.ring_full(False)
        self.schedule_turn()

    def _mix(self) -> ActingParams:
        """How frames are played now: by the stored frames of all gateways of the run, and by what
        evaluations have found."""
        expert = self.config.expert
        handed_over = self._ratio if expert.decay == "evaluation" else None
        return acting_params_at(expert, self.config.exploration, self.run_frames, handed_over)

    @property
    def run_frames(self) -> int:
        """Stored frames of the whole run, all gateways together."""
        base = self._weights.base_frames if self._weights else 0
        return base + sum(ring.steps for ring in self._rings)

    def open(self, message: Open) -> None:
        """The run has a game and weights: admit who waits."""
        self._spec = message.spec
        unknown = self.config.reward.weights.keys() - set(message.spec.rewards)
        if unknown:
            log.warning("reward.weights names %s, which the game does not send", sorted(unknown))
        capacity = self.config.server.ring_steps
        self._rings = [StepRing.attach(name, message.spec, capacity) for name in message.rings]
        ring = self._rings[self._index]
        ring.take_over()
        self._weights = WeightSlot.attach(message.weights, message.size)
        self._policy = Policy(
            message.spec,
            self.config.learner,
            self._weights,
            device=resolve_device(self.config.server.device, "server.device"),
            frame_stack=self.config.replay.frame_stack,
        )
        self._policy.refresh()
        in_flight = np.zeros(2, np.int64)
        if message.in_flight:
            in_flight = cells(Path(message.in_flight), self._index)
        in_flight[:] = ring.steps, 0
        seed = self.config.run.seed
        self.turn = FrameLoop(
            message.spec,
            self.config.reward,
            self._policy,
            ring,
            self._mix,
            np.random.Generator(np.random.SFC64(None if seed is None else [seed, self._index])),
            most_slots=self.config.server.max_slot_bytes
            // slot_bytes(message.spec, self.config.replay.frame_stack),
            frame_stack=self.config.replay.frame_stack,
            expert=ExpertPlugin.load(self.config.expert.plugin, message.spec),
            in_flight=in_flight,
        )
        # What was loaded stays: the collector need not look through it again and again, which
        # takes it long enough for a game to notice.
        gc.collect()
        gc.freeze()
        # The first pass through the network sets up threads and memory: not in a game's time.
        size = self.config.replay.frame_stack * message.spec.observation_size
        blank = np.zeros((1, size), message.spec.observation_dtype)
        self._policy.greedy(blank)
        for connection in list(self._connections):
            if connection.waits_for_welcome:
                self._admit(connection)

    def _change(self, config: Config) -> None:
        """These settings hold from now on."""
        told = self._game_settings()
        before, self.config = self.config, config
        self._tell_games(told)
        self.replies = replies(config)
        if self.turn is not None and config.expert.plugin != before.expert.plugin:
            assert self._spec is not None
            try:
                self.turn.expert = ExpertPlugin.load(config.expert.plugin, self._spec)
            except ValueError as error:
                # The supervisor has imported it; here it may still fail.
                log.error("%s; there is no such expert from now on", error)
                self.turn.expert = None

    def _admit(self, connection: Connection) -> None:
        session = connection.session
        assert self._spec is not None
        assert self._policy is not None
        assert self.turn is not None
        assert session.hello is not None
        assert session.spec is not None
        if session.spec != self._spec:
            connection.fail(RemoteError("spec_mismatch", refusal(session.spec, self._spec)))
            return
        # One spec for all: what it has worked out, with wide actions a megabyte, is there once.
        session.spec = self._spec
        room = self.turn.room
        if session.hello.slots > room:
            connection.fail(self._no_room(session.hello.slots, room))
            return
        begun = self._rings[self._index].count_session()
        number = self._first_session + begun * self.config.server.gateways
        streams = [stream_number(number, slot) for slot in range(session.hello.slots)]
        rows = self.turn.join(streams, session.hello.role)
        self._policy.refresh()  # so that a report says what an evaluation begins with
        self._note_evaluation()
        fields = WelcomeFields(
            session=number,
            protocol=PROTOCOL_VERSION,
            server=SERVER_NAME,
            settings=self._game_settings(),
        )
        connection.welcome(Welcome(fields), rows)
        hello = session.hello
        self._pipe.send(
            Joined(
                session=number,
                gateway=self._index,
                client=hello.client,
                game=hello.game,
                role=hello.role,
                slots=hello.slots,
                peer=connection.peer,
                time=time.monotonic(),
            )
        )

    def _no_room(self, wanted: int, room: int) -> RemoteError:
        assert self.turn is not None
        retry = wanted <= room + self.turn.slots
        return RemoteError(
            "too_many_clients" if retry else "bad_hello",
            f"slots: expected at most {room}, got {wanted}: there is no memory for more of this "
            "game; "
            + ("come back later, or " if retry else "")
            + "ask for fewer slots, or raise server.max_slot_bytes",
            retry=retry,
        )

    def _game_settings(self) -> dict[str, Any]:
        """What games are told now."""
        asked = {EVALUATE: self._asked} if self._asked else {}
        return self.config.server.settings | asked

    def _tell_games(self, before: dict[str, Any]) -> None:
        """Tell the games that play what is no longer as it was before."""
        now = self._game_settings()
        new = {name: now[name] for name in now if name not in before or before[name] != now[name]}
        if new:
            message = Settings(new)
            for connection in self._connections:
                if len(connection.rows):
                    connection.tell(message)

    def sweep(self) -> None:
        """Check all deadlines, and do so again in a moment."""
        self._heartbeat.beat()
        now = self.now()
        for connection in list(self._connections):
            connection.check(now)
        self._loop.call_later(SWEEP_S, self.sweep)

    def report(self) -> None:
        """Report now, and again after each interval: how long turns took is of the interval."""
        if self.stopped.done():
            return  # the last report is sent; what it reads is about to go
        self.send_report()
        if self.turn is not None:
            self.turn.times.new_interval()
        self._loop.call_later(self.config.metrics.every_s, self.report)

    def send_report(self) -> None:
        """Tell the supervisor how it goes."""
        with contextlib.suppress(OSError):  # it is gone: so will this be, but in order
            self._pipe.send(self._report())

    def _report(self) -> GatewayReport:
        turn = self.turn
        times = turn.times if turn else TurnTimes()
        p50_ms, p99_ms = times.percentiles_ms()
        mix = self._mix()
        playing = [each for each in self._connections if len(each.rows)]
        return GatewayReport(
            index=self._index,
            frames=turn.frames if turn else {},
            stored=turn.stored if turn else 0,
            clients=len(self._connections),
            slots=turn.slots if turn else 0,
            errors=dict(self.errors),
            turns=times.turns,
            turn_p50_ms=p50_ms,
            turn_p99_ms=p99_ms,
            stalls=self._stalls,
            policy_version=self._policy.version if self._policy else 0,
            expert_ratio=mix.expert_ratio,
            epsilon=mix.epsilon,
            episodes=turn.episodes.take() if turn else [],
            slots_by_role=turn.slots_by_role if turn else {},
            run_frames=self.run_frames,
            expert_failures=turn.expert.failures if turn and turn.expert else 0,
            sessions=[each.number for each in playing],
            played=self._played(playing),
            turn_buckets=times.buckets,
            turn_seconds=times.seconds,
        )

    def _settle(self) -> None:
        """Answer whether anything is still on its way."""
        settled = self.turn is None or (not self.turn.slots and self.turn.idle)
        if settled:
            self.send_report()
        self._pipe.send(Settled(f"gateway-{self._index}", settled))

    def _played(self, playing: list[Connection]) -> npt.NDArray[np.int64]:
        """Frames of these connections by who acted, [n, TAGS]."""
        if self.turn is None or not playing:
            return np.zeros((0, TAGS), np.int64)
        starts, n = [], 0
        for connection in playing:
            starts.append(n)
            n += len(connection.rows)
        return self.turn.played(np.concatenate([each.rows for each in playing]), starts)

    def heard(self) -> None:
        """The supervisor sent something."""
        try:
            while self._pipe.poll():
                message: Any = self._pipe.recv()
                if isinstance(message, Open):
                    try:
                        self.open(message)
                    except Exception as error:
                        self._crash(error)
                elif isinstance(message, Changed):
                    self._change(message.config)
                elif isinstance(message, Evaluate):
                    before = self._game_settings()
                    self._asked = message.number
                    self._tell_games(before)
                elif isinstance(message, Refused):
                    self._refused(message)
                elif isinstance(message, ExpertRatio):
                    self._ratio = message.ratio
                elif isinstance(message, Settle):
                    self._settle()
                elif isinstance(message, Stop):
                    self.stop()
        except (EOFError, OSError):  # the supervisor is gone
            self.stop()

    def close(self) -> None:
        """Let go of the shared memory."""
        for ring in self._rings:
            ring.close()
        if self._weights is not None:
            self._weights.close()

    def stop(self) -> None:
        """Say goodbye to the games, truncate their episodes, and end when all is in the ring."""
        if self._stopping:
            return
        self._stopping = True
        self._loop.remove_reader(self._pipe.fileno())
        for connection in list(self._connections):
            connection.fail(_stopping())
        self._loop.create_task(self._finish())

    async def _finish(self) -> None:
        deadline = self.now() + STOP_S
        while self._connections and self.now() < deadline:
            await asyncio.sleep(0.02)
        turn = self.turn
        while turn is not None and not turn.idle and self.now() < deadline:
            turn.flush()
            turn.run()
            await asyncio.sleep(RING_POLL_S)
        if turn is not None and not turn.idle:
            log.error("the trainer took no more steps: some could not be handed over")
        if not self.stopped.done():
            self.stopped.set_result(None)

    def failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Something raised in the loop. In a connection's callback that ends the connection, and
        nobody else is harmed; elsewhere the gateway cannot go on."""
        loop.default_exception_handler(context)
        if "protocol" not in context:
            self._crash(context.get("exception") or RuntimeError(context["message"]))

    def _crash(self, error: BaseException) -> None:
        """What must not happen has happened: end, rather than let all games wait for ever."""
        if not self.stopped.done():
            self.stopped.set_exception(error)


def _stopping() -> RemoteError:
    return RemoteError(
        "server_stopping", "the server is shutting down; reconnect when it is back", retry=True
    )

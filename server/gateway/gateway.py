"""The gateway: its connections and its pieces, and how they are put together.

It never waits for the trainer: its weights come from a slot in shared memory, its steps go to a
ring there. When the ring is full it stops reading, and TCP makes the games wait.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

from agent.decision import ActingParams, acting_params_at
from config.load import ConfigError
from config.models import Config
from protocol.messages import PROTOCOL_VERSION, Settings
from server.gateway.admission import ENDING, Admission
from server.gateway.connection import GameConnection
from server.gateway.connection_log import ConnectionLog
from server.gateway.evaluation_watch import EvaluationWatch
from server.gateway.game_settings import GameSettings
from server.gateway.gateway_report import gateway_report
from server.gateway.gateway_run import GatewayRun
from server.gateway.handshake import SERVER_NAME, Handshakes, SessionNumbers
from server.gateway.newcomers import Newcomers
from server.gateway.shutdown import drain, stopping
from server.gateway.supervisor_link import SupervisorLink
from server.gateway.tempest import OlderClients, replies, where_older
from server.gateway.turn_scheduler import TurnScheduler
from server.ipc.expert_messages import ExpertRatio
from server.ipc.heartbeat import Heartbeat
from server.ipc.messages import Changed, Evaluate, Open, Refused, Settle, Stop
from server.ipc.pipe_writer import PipeWriter
from server.net.rate_limits import AddressLimits, TokenBucket

SWEEP_S = 0.25
"""How often deadlines are checked."""

SWEPT = 32
"""Connections whose deadlines are checked at a time: each may have to be ended."""


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
        ports: tuple[int, int | None] = (0, None),
        *,
        room: tuple[int, int] = (sys.maxsize, ENDING),
    ) -> None:
        """`ports`: where clients of the protocol connect, and where older ones for Tempest do.
        `room`: open files for connections, and for those that are being told why they end."""
        self.config = config
        self.elsewhere = f"port {ports[0]} (server.port)"
        self._older = where_older(ports[1])
        self.now: Callable[[], float] = loop.time
        self.soon: Callable[..., Any] = loop.call_soon
        self.later: Callable[..., Any] = loop.call_later
        self.replies = replies(config)
        self.stopped: asyncio.Future[None] = loop.create_future()
        server = config.server
        self._index = index
        self._heartbeat = heartbeat
        self._loop = loop
        self._token = server.token.get_secret_value() if server.token else None
        self._connections: set[GameConnection] = set()
        self._run: GatewayRun | None = None
        self.addresses = AddressLimits(server.max_frames_per_address, self.now)
        self.log = ConnectionLog(self.addresses, server.max_frames_per_address)
        self.older = OlderClients(self.log)
        self._link = SupervisorLink(writer, index, loop, self.stop)
        self._settings = GameSettings(server.settings)
        self._scheduler = TurnScheduler(loop, self._connections, self._note_evaluation, self._crash)
        self._admission = Admission(self.addresses, *room)
        self.newcomers = Newcomers(self.soon, self.later, self._scheduler.run_now)
        self._handshakes = Handshakes(
            index,
            SessionNumbers(launch, index, server.gateways),
            self._link,
            self._settings,
            self._connections,
            self._note_evaluation,
            self._episode_limit,
            config.run.game,
        )
        self._watch = EvaluationWatch()
        self._evaluating = (0, 0)
        """Slots of evaluation that the supervisor has been told of."""
        self._expert_ratio = config.expert.ratio.start
        """Where evaluations decide it: the supervisor says it."""
        self._trust = 1.0
        """In the expert, by play: the supervisor says it."""
        self._stopping = False
        # These go straight to the piece that handles them.
        self.schedule_turn = self._scheduler.schedule
        self.plays = self._scheduler.join
        self.save_wanted = self._link.save_wanted
        self.listen = self._link.listen
        self._link.on(Open, self._open)
        self._link.on(Refused, self._handshakes.refused)
        self._link.on(Changed, self._change)
        self._link.on(Evaluate, self._evaluate)
        self._link.on(ExpertRatio, self._change_ratio)
        self._link.on(Settle, self._settle)
        self._link.on(Stop, self._stop)

    # Connections.

    def session_options(self) -> dict[str, Any]:
        """Those of a ServerSession, the protocol state of a new connection."""
        return {
            "max_message_bytes": self.config.server.max_message_bytes,
            "token": self._token,
            "advised": self.config.expert.plugin is not None,
            "older": self._older,
        }

    def opened(self, connection: GameConnection) -> TokenBucket | None:
        """A connection was accepted. Returns what its frames are to be taken from, where they are
        limited. Errors: RemoteError if there are too many, or at the end."""
        self._connections.add(connection)
        bucket = self.addresses.came(connection.address)
        self._admission.came(connection, self.config.server)
        if self._stopping:
            raise stopping()
        if self._scheduler.full:
            connection.ring_full(True)
        return bucket

    @property
    def crowded(self) -> bool:
        """Too many connections are still being told why they were refused."""
        return self._admission.crowded

    def said_hello(self, connection: GameConnection) -> None:
        """A valid HELLO has come."""
        self._admission.said_hello(connection)
        self._handshakes.hello(connection)

    def ending(self, connection: GameConnection) -> None:
        """All is said to it; it only has to read that."""
        self._admission.ending(connection)

    def about(self) -> dict[str, Any]:
        """What this server is, for a client of another version."""
        game = self._run.spec if self._run else None
        return {"protocol": PROTOCOL_VERSION, "server": SERVER_NAME, "game": game}

    def lost(self, connection: GameConnection) -> None:
        """The connection is gone."""
        self._connections.discard(connection)
        self._admission.gone(connection)
        self.addresses.gone(connection.address)
        if self._run is not None and len(connection.rows):
            self._run.frame_loop.leave(connection)
            if connection.said_bye and connection.announced is not None:
                self.send_report()  # that it will not come back
            self.schedule_turn()
            self._link.left(connection.number)

    def sweep(self) -> None:
        """Check all deadlines, and do so again in a moment."""
        self._heartbeat.beat()
        if self._run is not None:
            table = self._run.frame_loop.table
            self._watch.look(self._connections, table, self.config.evaluation, self.now())
            self._run.shelf.poll(self.now())
        self._check(list(self._connections))

    def _check(self, connections: list[GameConnection]) -> None:
        """Check the deadlines of these, some in each turn of the event loop."""
        now = self.now()
        for connection in connections[-SWEPT:]:
            connection.check(now)
        del connections[-SWEPT:]
        if connections:
            self._loop.call_soon(self._check, connections)
        else:
            self._loop.call_later(SWEEP_S, self.sweep)

    # The run.

    @property
    def run_frames(self) -> int:
        """Stored frames of the whole run, all gateways together."""
        return self._run.frames if self._run else 0

    def _acting_params(self) -> ActingParams:
        """How frames are played now: by the stored frames of all gateways of the run, and by what
        evaluations and play have shown."""
        return acting_params_at(self.config, self.run_frames, self._expert_ratio, self._trust)

    def _note_evaluation(self) -> None:
        """When a game of evaluation has come, and when one has gone, the supervisor hears of it at
        once: both may happen within one interval."""
        if self._run is not None and self._run.frame_loop.evaluating != self._evaluating:
            self._evaluating = self._run.frame_loop.evaluating
            self.send_report()

    def _episode_limit(self) -> tuple[int, float]:
        """Frames and seconds that an episode of evaluation may have."""
        limits = self.config.evaluation
        return limits.episode_frames, limits.episode_s

    def report(self) -> None:
        """Report now, and again after each interval: how long turns took is of the interval."""
        if self.stopped.done():
            return  # the last report is sent; what it reads is about to go
        self.send_report()
        self._scheduler.new_interval()
        if self._run is not None:
            self._run.frame_loop.times.new_interval()
        self._loop.call_later(self.config.metrics.every_s, self.report)

    def send_report(self) -> None:
        """Tell the supervisor how it goes."""
        self._link.report(
            gateway_report(
                self._index,
                self._connections,
                self.log,
                self._scheduler,
                self.older,
                self._acting_params(),
                self._run,
                self._watch,
            )
        )

    # What the supervisor says.

    def _open(self, message: Open) -> None:
        """The run has a game and weights."""
        self._heartbeat.busy()  # an expert of the server's own may load much
        try:
            self._run = run = GatewayRun(
                message, self.config, self._index, self._acting_params, self._in_background
            )
            self._scheduler.open(run)
            self._handshakes.open(run)
            self.send_report()  # so that the supervisor knows at once that games can play
        except Exception as error:
            refused = ConfigError(
                f"expected to open the game {message.spec.game!r}, got {type(error).__name__}: "
                f"{error}; correct what it names (expert.plugin, server.device, ...), or give the "
                "server more memory"
            )
            refused.__cause__ = error
            self._crash(refused)

    def _in_background(self, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """Have `work` done by a thread, and `then` called here with its result."""
        done = self._loop.run_in_executor(None, work)
        done.add_done_callback(lambda done: None if done.cancelled() else then(done.result()))

    def _change(self, message: Changed) -> None:
        """These settings hold from now on."""
        before, self.config = self.config, message.config
        self._tell_games(self._settings.change(self.config.server.settings))
        self.replies = replies(self.config)
        if self._run is None:
            return
        self._run.frame_loop.change_reward(self.config.reward)
        if self.config.expert.plugin != before.expert.plugin:
            self._run.load_expert(self.config.expert.plugin)

    def _evaluate(self, message: Evaluate) -> None:
        self._tell_games(self._settings.ask_evaluation(message.number))

    def _tell_games(self, settings: dict[str, Any]) -> None:
        """Tell the games that play what has changed, if anything has."""
        if settings:
            message = Settings(settings)
            for connection in self._connections:
                if len(connection.rows):
                    connection.tell(message)

    def _change_ratio(self, message: ExpertRatio) -> None:
        self._expert_ratio, self._trust = message.ratio, message.trust

    def _settle(self, _message: Settle) -> None:
        """Answer whether anything is still on its way."""
        loop = self._run.frame_loop if self._run else None
        settled = loop is None or (not loop.slots and loop.idle)
        if settled:
            self.send_report()
        self._link.settled(settled)

    def _stop(self, _message: Stop) -> None:
        self.stop()

    # The end.

    def stop(self) -> None:
        """Say goodbye to the games, truncate their episodes, and end when all is in the ring."""
        if self._stopping:
            return
        self._stopping = True
        self._link.stop_listening()
        for connection in list(self._connections):
            connection.fail(stopping())
        self._loop.create_task(self._finish())

    async def _finish(self) -> None:
        await drain(self._connections, self._run.frame_loop if self._run else None, self.now)
        self._end(None)

    def failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Something raised in the loop. In a connection's callback that ends the connection, and
        nobody else is harmed; elsewhere the gateway cannot go on."""
        loop.default_exception_handler(context)
        if "protocol" not in context:
            self._crash(context.get("exception") or RuntimeError(context["message"]))

    def _crash(self, error: BaseException) -> None:
        """What must not happen has happened: end, rather than let all games wait for ever."""
        self._end(error)

    def _end(self, error: BaseException | None) -> None:
        self._scheduler.close()
        if self.stopped.done():
            return
        if error is None:
            self.stopped.set_result(None)
        else:
            self.stopped.set_exception(error)

    def close(self) -> None:
        """Let go of the shared memory."""
        if self._run is not None:
            self._run.close()

"""From HELLO to WELCOME: which game is played, room for slots, and the session's number."""

from __future__ import annotations

import time
from collections.abc import Callable, Set

import msgspec

from protocol.errors import RemoteError
from protocol.messages import PROTOCOL_VERSION, Welcome, WelcomeFields
from protocol.spaces import GameSpec
from protocol.spec_diff import other_game, refusal
from protocol.streams import stream_number
from server.gateway.connection import GameConnection
from server.gateway.frame_loop import FrameLoop
from server.gateway.game_settings import GameSettings
from server.gateway.gateway_run import GatewayRun
from server.gateway.supervisor_link import SupervisorLink
from server.ipc.messages import Joined, Refused

SERVER_NAME = "understudy/0.1"

_SESSION_BITS = 32


class SessionNumbers:
    """Numbers of sessions, unique in a run: each launch of the server has a range of its own, and
    each gateway every n-th number of it."""

    def __init__(self, launch: int, index: int, gateways: int) -> None:
        self._first = (launch << _SESSION_BITS) + index + 1
        self._gateways = gateways

    def number(self, begun: int) -> int:
        """The number of the session before which this gateway has begun so many. The step ring
        counts them, for a gateway that is started in another's place."""
        return self._first + begun * self._gateways


class Handshakes:
    """The games of a gateway that have said HELLO and wait for WELCOME.

    Before the run has a game, the first HELLO's is proposed to the supervisor and all wait. From
    then on a game is admitted at once, or refused.
    """

    def __init__(
        self,
        index: int,
        numbers: SessionNumbers,
        link: SupervisorLink,
        settings: GameSettings,
        connections: Set[GameConnection],
        joined: Callable[[], None],
        episode_limit: Callable[[], tuple[int, float]],
        game: str | None = None,
    ) -> None:
        """`connections`: all of the gateway's; `joined`: called when slots have joined, and their
        connection knows its rows; `episode_limit`: of evaluation, frames and seconds; `game`: that
        the run is for, any if none."""
        self._game = game
        self._index = index
        self._numbers = numbers
        self._link = link
        self._settings = settings
        self._connections = connections
        self._joined = joined
        self._episode_limit = episode_limit
        self._run: GatewayRun | None = None
        self._proposed: GameSpec | None = None

    def hello(self, connection: GameConnection) -> None:
        """A HELLO came: propose its game, or admit it, or let it wait for the first weights."""
        spec = connection.session.spec
        assert spec is not None
        if self._game is not None and (text := other_game(spec, self._game)):
            connection.fail(RemoteError("spec_mismatch", text))
        elif self._run is not None:
            self._admit(connection, self._run)
        elif self._proposed is None:
            self._proposed = spec
            self._link.propose(spec)

    def refused(self, message: Refused) -> None:
        """A proposed game cannot be the run's: tell who plays it, and propose another one's."""
        self._proposed = None
        code = "too_many_attempts" if message.later else "bad_hello"
        error = RemoteError(code, message.text, retry=message.later)
        for connection in self._waiting():
            if connection.session.spec == message.spec:
                connection.fail(error)
            else:
                self.hello(connection)

    def open(self, run: GatewayRun) -> None:
        """The run has a game and weights: admit who waits."""
        self._run = run
        for connection in self._waiting():
            self._admit(connection, run)

    def _waiting(self) -> list[GameConnection]:
        return [each for each in self._connections if each.waits_for_welcome]

    def _admit(self, connection: GameConnection, run: GatewayRun) -> None:
        session, loop = connection.session, run.frame_loop
        hello = session.hello
        assert hello is not None
        assert session.spec is not None
        if session.spec != run.spec:
            connection.fail(RemoteError("spec_mismatch", refusal(session.spec, run.spec)))
            return
        # One spec for all: what it has worked out, with wide actions a megabyte, is there once.
        session.spec = run.spec
        if hello.slots > loop.room:
            connection.fail(_no_room(hello.slots, loop))
            return
        if session.policy is None:
            self._welcome(connection, run)
        else:
            run.shelf.want(session.policy, lambda lacks: self._found(connection, run, lacks))

    def _found(
        self, connection: GameConnection, run: GatewayRun, lacks: RemoteError | None
    ) -> None:
        """The policy that a game has named was looked for; `lacks`: why it cannot have it."""
        name = connection.session.policy
        assert name is not None
        waits, hello = connection.waits_for_welcome, connection.session.hello
        assert hello is not None
        if waits and lacks is None and hello.slots <= run.frame_loop.room:
            self._welcome(connection, run)
            return
        run.shelf.drop(name)
        if waits and lacks is None:  # others have come meanwhile
            connection.fail(_no_room(hello.slots, run.frame_loop))
        elif waits and lacks is not None:
            connection.fail(lacks)

    def _welcome(self, connection: GameConnection, run: GatewayRun) -> None:
        session, loop = connection.session, run.frame_loop
        hello = session.hello
        assert hello is not None
        number = self._numbers.number(run.count_session())
        rows = loop.join(
            [stream_number(number, slot) for slot in range(hello.slots)],
            hello.role,
            explores=hello.explores,
            policy=session.policy,
        )
        run.policy.refresh()  # so that a report says what an evaluation begins with
        evaluates = hello.role in ("eval", "eval_expert")
        fields = WelcomeFields(
            session=number,
            protocol=PROTOCOL_VERSION,
            server=SERVER_NAME,
            settings=self._settings.current,
            episode_limit=self._episode_limit() if evaluates else msgspec.UNSET,
        )
        connection.announced = hello.episodes if evaluates else None
        connection.welcome(Welcome(fields), rows, loop)
        self._link.joined(
            Joined(
                session=number,
                gateway=self._index,
                client=hello.client,
                game=hello.game,
                role=hello.role,
                slots=hello.slots,
                peer=connection.peer,
                time=time.monotonic(),
                evaluates=hello.evaluates,
            )
        )
        self._joined()


def _no_room(wanted: int, loop: FrameLoop) -> RemoteError:
    room = loop.room
    retry = wanted <= room + loop.slots
    return RemoteError(
        "too_many_clients" if retry else "bad_hello",
        f"slots: expected at most {room}, got {wanted}: the server has no memory for more slots of "
        "this game; " + ("retry later, " if retry else "") + "ask for fewer slots, or raise "
        "server.max_slot_bytes",
        retry=retry,
    )

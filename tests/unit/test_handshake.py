from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from protocol.errors import RemoteError
from protocol.messages import HelloFields, Welcome
from protocol.policies import PolicyName
from protocol.spaces import GameSpec
from protocol.streams import stream_number
from server.gateway.game_settings import GameSettings
from server.gateway.handshake import Handshakes, SessionNumbers
from server.ipc.messages import Joined, Refused
from tests.support.worlds import SPEC

OTHER = msgspec.structs.replace(SPEC, game="other").checked()


class FakeSession:
    def __init__(self, spec: GameSpec, slots: int, role: str) -> None:
        self.spec: GameSpec | None = spec
        self.policy: PolicyName | None = None
        self.hello = HelloFields(
            protocol=1, client="c/1", game=spec.game, observation=spec.observation,
            actions=spec.actions, slots=slots, role=role,
        )  # fmt: skip


class FakeConnection:
    peer = "10.0.0.1:5"

    def __init__(self, spec: GameSpec = SPEC, slots: int = 1, role: str = "train") -> None:
        self.session = FakeSession(spec, slots, role)
        self.waits_for_welcome = True
        self.welcomed: Welcome | None = None
        self.rows: list[int] = []
        self.error: RemoteError | None = None

    def fail(self, error: RemoteError) -> None:
        self.error = error
        self.waits_for_welcome = False

    def welcome(self, message: Welcome, rows: Any, frame_loop: Any) -> None:
        assert frame_loop is not None
        self.welcomed, self.rows = message, rows.tolist()
        self.waits_for_welcome = False


class FakeLink:
    def __init__(self) -> None:
        self.proposed: list[GameSpec] = []
        self.said: list[Joined] = []

    def propose(self, spec: GameSpec) -> None:
        self.proposed.append(spec)

    def joined(self, message: Joined) -> None:
        self.said.append(message)


class FakeRun:
    """A game, room for some slots, and sessions that are counted."""

    def __init__(self, room: int = 10) -> None:
        self.spec = SPEC
        self.frame_loop = self
        self.policy = self
        self.room, self.slots = room, 0
        self.streams: list[int] = []
        self.refreshed = self.begun = 0

    def refresh(self) -> None:
        self.refreshed += 1

    def count_session(self) -> int:
        self.begun += 1
        return self.begun - 1

    def join(self, streams: list[int], _role: str, **_options: Any) -> Any:
        first = self.slots
        self.streams += streams
        self.slots += len(streams)
        self.room -= len(streams)
        return np.arange(first, self.slots)


class Lobby:
    def __init__(self, *connections: FakeConnection, game: str | None = None) -> None:
        self.link = FakeLink()
        self.joined = 0
        self.connections = list(connections)
        make: Any = Handshakes
        self.handshakes = make(
            1, SessionNumbers(2, 1, 3), self.link, GameSettings({"level": 3}), self.connections,
            self._joined, lambda: (500, 60.0), game,
        )  # fmt: skip

    def _joined(self) -> None:
        self.joined += 1

    def hello(self) -> Lobby:
        for connection in self.connections:
            self.handshakes.hello(connection)
        return self


def test_session_numbers_unique_across_launches_and_gateways() -> None:
    numbers = [
        SessionNumbers(launch, index, 2).number(begun)
        for launch in (1, 2)
        for index in (0, 1)
        for begun in range(5)
    ]
    assert len(set(numbers)) == len(numbers)
    assert min(numbers) > 0


def test_first_game_is_proposed_and_connections_wait() -> None:
    lobby = Lobby(FakeConnection(), FakeConnection(OTHER), FakeConnection()).hello()
    assert lobby.link.proposed == [SPEC]
    assert all(each.waits_for_welcome for each in lobby.connections)


def test_game_of_another_name_cannot_claim_the_run() -> None:
    other, ours, again = FakeConnection(OTHER), FakeConnection(), FakeConnection()
    lobby = Lobby(other, ours, again, game="test").hello()
    assert other.error is not None
    assert other.error.code == "spec_mismatch"
    assert "the game is 'other', this run is for 'test' (run.game)" in other.error.message
    assert "set run.game to 'other'" in other.error.message
    assert lobby.link.proposed == [SPEC]
    assert ours.waits_for_welcome
    assert again.waits_for_welcome


def test_refused_game_fails_its_connections_and_next_is_proposed() -> None:
    first, second, third = FakeConnection(), FakeConnection(OTHER), FakeConnection()
    lobby = Lobby(first, second, third).hello()
    lobby.handshakes.refused(Refused(SPEC, "too large"))
    for connection in (first, third):
        assert connection.error is not None
        assert (connection.error.code, connection.error.message) == ("bad_hello", "too large")
    assert second.waits_for_welcome
    assert lobby.link.proposed == [SPEC, OTHER]


def test_run_opened_admits_matching_game_and_refuses_others() -> None:
    ours, theirs = FakeConnection(slots=2), FakeConnection(OTHER)
    lobby, run = Lobby(ours, theirs).hello(), FakeRun()
    lobby.handshakes.open(run)
    number = SessionNumbers(2, 1, 3).number(0)
    assert ours.welcomed is not None
    assert ours.welcomed.fields.session == number
    assert ours.welcomed.fields.settings == {"level": 3}
    assert ours.welcomed.fields.episode_limit is msgspec.UNSET
    assert ours.rows == [0, 1]
    assert ours.session.spec is run.spec
    assert run.streams == [stream_number(number, 0), stream_number(number, 1)]
    assert (run.refreshed, lobby.joined) == (1, 1)
    (joined,) = lobby.link.said
    assert (joined.session, joined.gateway, joined.slots) == (number, 1, 2)
    assert (joined.client, joined.peer) == ("c/1", "10.0.0.1:5")
    assert theirs.error is not None
    assert theirs.error.code == "spec_mismatch"
    assert SPEC.describe() in theirs.error.message


def test_hello_after_run_opened_is_admitted_at_once() -> None:
    lobby, run = Lobby(), FakeRun()
    lobby.handshakes.open(run)
    numbers = []
    for _ in range(3):
        connection: Any = FakeConnection()
        lobby.handshakes.hello(connection)
        numbers.append(connection.welcomed.fields.session)
    assert numbers == [SessionNumbers(2, 1, 3).number(begun) for begun in range(3)]
    assert lobby.link.proposed == []


def test_game_of_evaluation_is_told_the_limit_and_what_it_announced_is_kept() -> None:
    lobby, run = Lobby(), FakeRun()
    lobby.handshakes.open(run)
    for role, limit, announced in (("eval", (500, 60.0), 7), ("train", msgspec.UNSET, None)):
        connection: Any = FakeConnection(role=role)
        hello = connection.session.hello
        connection.session.hello = msgspec.structs.replace(hello, episodes=7, evaluates=True)
        lobby.handshakes.hello(connection)
        assert connection.welcomed.fields.episode_limit == limit
        assert connection.announced == announced
        assert lobby.link.said[-1].evaluates


def test_too_many_slots_refused_with_retry_only_if_they_could_fit() -> None:
    lobby, run = Lobby(), FakeRun(room=4)
    lobby.handshakes.open(run)
    lobby.handshakes.hello(FakeConnection(slots=3))
    for slots, code in ((2, "too_many_clients"), (4, "too_many_clients"), (5, "bad_hello")):
        connection: Any = FakeConnection(slots=slots)
        lobby.handshakes.hello(connection)
        assert connection.error.code == code
        assert connection.error.retry is (code == "too_many_clients")
        assert ("retry later" in connection.error.message) is connection.error.retry
        assert f"expected at most 1, got {slots}" in connection.error.message
    assert run.begun == 1

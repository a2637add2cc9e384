"""Older clients at a gateway: what they play becomes the steps that it should, however its bytes
arrive; in one process, with the gateway's own turn."""

from __future__ import annotations

import random
import struct
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from agent.decision import ActingParams
from agent.step import FINAL, STEP
from config.models import Config, FractionSchedule, RewardConfig, ServerConfig, TempestConfig
from protocol.errors import RemoteError
from protocol.messages import Welcome, WelcomeFields
from protocol.tempest import REWARDS, tempest_spec
from server.gateway.connection import GameConnection
from server.gateway.connection_log import ConnectionLog
from server.gateway.expert_plugin import ExpertPlugin
from server.gateway.frame_loop import FrameLoop
from server.gateway.tempest import OlderClients, TempestConnection, replies
from server.gateway.tempest_expert import recommend
from server.net.rate_limits import AddressLimits
from tests.support.connection import AtOnce, FakeTransport
from tests.support.tempest_client import framed, old_payload, payload
from tests.support.worlds import DQN, EXPERT, FixedPolicy, ListSink

BY_NETWORK = (1, 0.25)
"""Zap, and turn by 8."""


def config(**tempest: Any) -> Config:
    return Config(
        server=ServerConfig(settings={"start_advanced": True, "start_level": 13}),
        tempest=TempestConfig(port=0, **tempest),
        reward=RewardConfig(weights={"objective": 0.01, "subjective": 0.005}, clip=10.0),
    )


class FakeGateway:
    """What connections know of it: a real turn, a loop that is a list, and a clock."""

    def __init__(
        self,
        settings: Config | None = None,
        *,
        ratio: float = 0.0,
        expert: Callable[..., Any] = recommend,
    ) -> None:
        self.expert = expert
        self.config = settings or config()
        self.replies = replies(self.config)
        self.frame_loop: FrameLoop | None = None
        self.sink = ListSink()
        self.policy = FixedPolicy(BY_NETWORK)
        self.params = ActingParams(expert_ratio=ratio, epsilon=0.0, noise=0.0)
        self.log = ConnectionLog(AddressLimits(None, self.now), None)
        self.newcomers = AtOnce()
        self.older = OlderClients(self.log)
        self.saves = 0
        self.run_frames = 0
        self.admits = True
        self.said: list[GameConnection] = []
        self.playing: list[GameConnection] = []
        self.plays = self.playing.append
        self._todo: deque[Callable[[], None]] = deque()
        self._sessions = 0

    def now(self) -> float:
        return 1000.0

    def soon(self, what: Callable[[], None]) -> None:
        self._todo.append(what)

    def opened(self, connection: GameConnection) -> None: ...

    def ending(self, connection: GameConnection) -> None: ...

    crowded = False
    elsewhere = "port 7777 (server.port)"

    def save_wanted(self) -> None:
        self.saves += 1

    def schedule_turn(self) -> None:
        assert self.frame_loop is not None
        self.soon(self.frame_loop.run)

    def said_hello(self, connection: GameConnection) -> None:
        self.said.append(connection)
        if self.admits:
            self.admit()

    def admit(self) -> None:
        for connection in self.said:
            spec, hello = connection.session.spec, connection.session.hello
            assert spec is not None
            assert hello is not None
            if self.frame_loop is None:
                self.frame_loop = FrameLoop(
                    spec,
                    self.config.reward,
                    self.policy,  # type: ignore[arg-type]
                    self.sink,
                    lambda: self.params,
                    np.random.default_rng(0),
                    most_slots=100,
                    expert=ExpertPlugin("test", self.expert, spec),
                )
            self._sessions += 1
            rows = self.frame_loop.join([self._sessions << 16], hello.role)
            fields = WelcomeFields(session=self._sessions, protocol=1, server="test", settings={})
            connection.welcome(Welcome(fields), rows, self.frame_loop)
        self.said.clear()

    def lost(self, connection: GameConnection) -> None:
        assert self.frame_loop is not None
        self.frame_loop.leave(connection)
        self.schedule_turn()

    def rows(self, rewards: tuple[str, ...] = REWARDS) -> list[dict[str, Any]]:
        """What was stored."""
        return self.sink.rows(tempest_spec(2, self.config.tempest.spinner, rewards))

    def work(self) -> None:
        """Until nothing is left to do."""
        while self._todo:
            self._todo.popleft()()


class TempestClient:
    """An older client at this gateway."""

    def __init__(self, gateway: FakeGateway) -> None:
        self.gateway = gateway
        self.transport = FakeTransport()
        self.connection = TempestConnection(gateway)  # type: ignore[arg-type]
        self.connection.connection_made(self.transport)

    def send(self, data: bytes) -> None:
        self.connection.data_received(data)
        self.gateway.work()

    def frame(self, *values: float, **header: Any) -> tuple[int, ...]:
        """Send a frame; its reply."""
        before = len(self.transport.sent)
        self.send(framed(payload(list(values) or [0.0, 0.0], **header)))
        reply = bytes(self.transport.sent[before:])
        return struct.unpack("bbbBB"[: len(reply)], reply)

    def replies(self) -> list[tuple[int, ...]]:
        return [*struct.iter_unpack("bbbBB", bytes(self.transport.sent))]

    def leave(self) -> None:
        self.connection.connection_lost(None)
        self.gateway.work()


FRAMES: list[dict[str, Any]] = [
    {"objective": 999.0},  # the reward of an episode's first frame belongs to nothing
    {"objective": 300.0, "subjective": 20.0, "target": 3, "fire": 1},
    {"objective": 0.0, "subjective": -40.0, "target": 12, "save": 1},
    {"objective": -5000.0, "target": -32768, "fire": 1, "zap": 1},
    {"objective": 50.0, "subjective": 1.5, "done": 1},
    {"subjective": 1e6, "target": 7, "is_open": 1},
    {"objective": 1.0, "target": 8},
    {"subjective": 2.0, "target": 1, "save": 1},
]
"""A recording: an episode that ends, and one that goes on."""

PAYLOADS = [payload([k / 10, -k / 10], frame=k, **frame) for k, frame in enumerate(FRAMES)]
STREAM = b"\x00\x00" + b"".join(map(framed, PAYLOADS))

ADVICE = [(0, 0.0), (2, -0.45), (0, 0.5), (3, 0.0), None, (0, -0.65), (0, -0.7), (0, -0.35)]
"""What the client's expert would have done on these frames, worked out by hand: distances 3, -4,
none, 7 on an open level, 8, 1."""

EARNED = [3.1, -0.2, -10.0, 0.5075, None, 0.01, 0.01]
"""What the action on each frame earned: 0.01 and 0.005 of the next frame's rewards, at most 10."""


def reply_fields(action: tuple[float, float]) -> tuple[int, ...]:
    buttons, knob = int(action[0]), action[1]
    return (buttons >> 1, buttons & 1, round(32 * knob), 1, 13)


def play_recording(
    pieces: list[bytes], *, late: bool = False
) -> tuple[list[dict[str, Any]], list[Any]]:
    """The rows and replies that come of these bytes; `late`: WELCOME comes behind them all."""
    gateway = FakeGateway(ratio=0.5)
    gateway.admits = not late
    game = TempestClient(gateway)
    for piece in pieces:
        game.send(piece)
    gateway.admits = True
    gateway.admit()
    gateway.work()
    assert gateway.log.errors == {}
    assert gateway.saves == 2
    game.leave()
    return gateway.rows(), game.replies()


def test_tempest_recording_gives_expected_steps_and_actor_tags() -> None:
    rows, replies = play_recording([STREAM])
    assert len(replies) == len(FRAMES)
    assert replies[4] == (0, 0, 0, 1, 13), "a frame that ends an episode is answered with zeros"
    by = [
        None if advice is None else EXPERT if reply == reply_fields(advice) else DQN
        for reply, advice in zip(replies, ADVICE, strict=True)
    ]
    assert {DQN, EXPERT, None} == set(by), "both played, so that tags can be wrong"
    for reply, actor in zip(replies, by, strict=True):
        if actor == DQN:
            assert reply == reply_fields(BY_NETWORK)
    steps = [row for row in rows if row["kind"] == STEP]
    assert [row["seq"] for row in steps] == [0, 1, 2, 3, 5, 6]
    for row in steps:
        seq = row["seq"]
        advice = ADVICE[seq]
        assert advice is not None
        assert row["actor"] == by[seq]
        wanted = advice if by[seq] == EXPERT else BY_NETWORK
        assert row["action"] == pytest.approx(wanted)
        assert row["reward"] == pytest.approx(EARNED[seq])
        assert row["obs"] == pytest.approx([seq / 10, -seq / 10])
        assert row["status"] == (1 if seq == 3 else 0)
    finals = [row for row in rows if row["kind"] == FINAL]
    assert [(row["seq"], row["actor"]) for row in finals] == [(4, 0), (7, 0)]
    assert finals[0]["obs"] == pytest.approx([0.4, -0.4])


@pytest.mark.parametrize("late", [False, True], ids=["welcome first", "welcome last"])
def test_tempest_recording_split_at_any_byte_gives_same_steps(*, late: bool) -> None:
    """A frame has 49 bytes: of cuts that are 3 or 5 apart one is at each byte of some frame."""
    whole = play_recording([STREAM])
    assert len(framed(PAYLOADS[0])) == 49
    for cut in range(1, len(STREAM), 5 if late else 3):
        assert play_recording([STREAM[:cut], STREAM[cut:]], late=late) == whole, (
            f"split at byte {cut}"
        )


@pytest.mark.parametrize("size", [1, 2, 3, 47, 48])
def test_tempest_recording_in_small_pieces_gives_same_steps(size: int) -> None:
    pieces = [STREAM[at : at + size] for at in range(0, len(STREAM), size)]
    assert play_recording(pieces) == play_recording([STREAM])


def test_tempest_actor_tag_with_expert_ratio_0_or_1_is_that_actor() -> None:
    for ratio, actor in ((0.0, DQN), (1.0, EXPERT)):
        gateway = FakeGateway(ratio=ratio)
        game = TempestClient(gateway)
        game.send(STREAM)
        steps = [row for row in gateway.rows() if row["kind"] == STEP]
        assert len(steps) == 6
        assert {row["actor"] for row in steps} == {actor}


def test_tempest_replies_of_3_bytes() -> None:
    game = TempestClient(FakeGateway(config(reply_bytes=3)))
    game.send(b"\x00\x00")
    assert game.frame() == (0, 1, 8)
    assert game.frame(done=1) == (0, 0, 0)


def test_tempest_replies_with_spinner_levels() -> None:
    gateway = FakeGateway(config(spinner="levels"), ratio=1.0)
    game = TempestClient(gateway)
    game.send(b"\x00\x00")
    assert game.frame(target=2) == (0, 0, -12, 1, 13), "0.4 is more than the level of most"
    assert game.frame(target=-1, fire=1) == (1, 0, 0, 1, 13)


def test_tempest_replies_after_settings_change_have_new_values() -> None:
    gateway = FakeGateway()
    game = TempestClient(gateway)
    game.send(b"\x00\x00")
    assert game.frame() == (0, 1, 8, 1, 13)
    server = ServerConfig(settings={"start_level": 40})
    gateway.replies = replies(gateway.config.model_copy(update={"server": server}))
    assert game.frame() == (0, 1, 8, 0, 40)
    assert game.frame(done=1) == (0, 0, 0, 0, 40)


def test_tempest_save_flag_held_requests_one_checkpoint() -> None:
    gateway = FakeGateway()
    game = TempestClient(gateway)
    game.send(b"\x00\x00")
    asked = []
    for save in (0, 1, 1, 1, 0, 0, 1, 1):
        game.frame(save=save)
        asked.append(gateway.saves)
    assert asked == [0, 1, 1, 1, 1, 1, 2, 2]


def test_tempest_zap_gate_stores_action_as_played() -> None:
    gate = FractionSchedule(start=1.0, end=0.0, frames=100, hold=100)
    gateway = FakeGateway(config(zap_gate=gate))
    game = TempestClient(gateway)
    game.send(b"\x00\x00")
    assert game.frame()[:2] == (0, 0), "the network's zap does not get through"
    assert game.frame(zap=1)[:2] == (0, 1), "its expert would zap as well"
    assert game.frame()[:2] == (0, 0)
    assert game.frame(done=1)[:2] == (0, 0)
    gateway.run_frames = 200
    assert game.frame()[:2] == (0, 1), "the gate is open"
    game.frame()
    steps = [row for row in gateway.rows() if row["kind"] == STEP]
    assert [row["action"][0] for row in steps] == [0, 1, 0, 1]
    assert {row["actor"] for row in steps} == {DQN}


def test_tempest_zap_gate_does_not_block_expert() -> None:
    """Not even that of one who zaps where the client's own would not."""
    gate = FractionSchedule(start=1.0, end=1.0, frames=1)
    gateway = FakeGateway(
        config(zap_gate=gate), ratio=1.0, expert=lambda obs, _: [[1, 0.0]] * len(obs)
    )
    game = TempestClient(gateway)
    game.send(b"\x00\x00")
    assert game.frame(zap=0)[:2] == (0, 1)


def test_tempest_games_answered_together_use_own_headers() -> None:
    """Of those that are answered together."""
    gateway = FakeGateway(ratio=1.0)
    games = [TempestClient(gateway) for _ in range(3)]
    for game in games:
        game.send(b"\x00\x00")
        game.frame()
    for k, game in enumerate(games):
        game.connection.data_received(framed(payload([0.0, 0.0], target=k + 1, fire=k % 2)))
    gateway.work()
    assert gateway.frame_loop is not None
    assert gateway.frame_loop.times.turns == 4, "they are answered together"
    assert [game.replies()[-1][:3] for game in games] == [(0, 0, -11), (1, 0, -13), (0, 0, -14)]


def test_tempest_disconnect_truncates_episode() -> None:
    gateway = FakeGateway()
    game = TempestClient(gateway)
    game.send(b"\x00\x00")
    for k in range(3):
        game.frame(k / 4, 0.0)
    game.leave()
    rows = gateway.rows()
    assert [(row["kind"], row["seq"], row["status"]) for row in rows] == [
        (STEP, 0, 0), (STEP, 1, 0), (FINAL, 2, 0),
    ]  # fmt: skip


def test_tempest_client_sending_ahead_is_paused_and_fully_answered() -> None:
    gateway = FakeGateway()
    game = TempestClient(gateway)
    game.send(b"\x00\x00")
    game.frame()
    frame = framed(payload([0.5, 0.5]))
    count = (1 << 16) // len(frame) + 20
    game.connection.data_received(frame * count)
    assert not game.transport.reading
    gateway.work()
    assert game.transport.reading
    assert len(game.replies()) == 1 + count


def test_tempest_client_sending_ahead_waits_for_the_trainer_and_is_fully_answered() -> None:
    gateway = FakeGateway()
    game = TempestClient(gateway)
    game.send(b"\x00\x00")
    game.frame()
    assert game.connection.lock_step
    game.connection.data_received(framed(payload([0.5, 0.5])) * 5)
    game.connection.hold(True)
    gateway.work()
    assert len(game.replies()) == 1 + 1, "of those that had come, one was in the turn"
    assert not game.transport.reading
    game.connection.hold(False)
    gateway.work()
    assert len(game.replies()) == 1 + 5
    assert game.transport.reading


def test_tempest_client_in_real_time_never_waits_for_the_trainer() -> None:
    gateway = FakeGateway(config(realtime=True))
    game = TempestClient(gateway)
    game.send(b"\x00\x00")
    game.frame()
    game.connection.hold(True)
    assert game.transport.reading
    assert game.frame() is not None


def test_tempest_invalid_frame_closes_only_that_connection() -> None:
    gateway = FakeGateway()
    good, bad = TempestClient(gateway), TempestClient(gateway)
    for game in (good, bad):
        game.send(b"\x00\x00")
        game.frame()
    sent = len(bad.transport.sent)
    bad.send(framed(payload([2.0, 0.0])))
    assert bad.transport.half_closed
    assert len(bad.transport.sent) == sent
    assert gateway.log.errors == {"observation_not_finite": 1}
    bad.send(framed(payload([0.0, 0.0])))
    assert len(bad.transport.sent) == sent
    assert good.frame() == (0, 1, 8, 1, 13)


def test_tempest_connection_beyond_client_limit_is_closed() -> None:
    gateway = FakeGateway()

    def opened(_connection: GameConnection) -> None:
        raise RemoteError("too_many_clients", "expected fewer")

    gateway.opened = opened  # type: ignore[method-assign]
    game = TempestClient(gateway)
    assert game.transport.half_closed
    assert game.transport.sent == b""
    assert gateway.log.errors == {"too_many_clients": 1}


class ReadingClient(TempestClient):
    """One that reads so many bytes for a reply, and whose next header repeats what it read."""

    def __init__(self, gateway: FakeGateway, reads: int, make: Callable[..., bytes]) -> None:
        super().__init__(gateway)
        self.reads, self.make, self.told, self.read = reads, make, (0, 0, 0), 0
        self.send(b"\x00\x00")

    def play(self, frames: int, **header: Any) -> None:
        for _ in range(frames):
            self.send(framed(self.make([0.5, 0.5], told=self.told, **header)))
            reply = bytes(self.transport.sent[self.read : self.read + self.reads])
            if len(reply) < self.reads:
                return  # it waits, and gives up
            self.told = struct.unpack("bbb", reply[:3])
            self.told = (self.told[0] & 0xFF, self.told[1] & 0xFF, self.told[2])
            self.read += self.reads


def test_tempest_client_of_2025_plays_with_replies_of_3_bytes() -> None:
    gateway = FakeGateway(Config(tempest=TempestConfig(port=0)))
    game = ReadingClient(gateway, 3, old_payload)
    for total in (9.0, 2.0, -1.0, 4.5):
        game.play(1, total=total, objective=100.0, subjective=50.0)
    assert len(game.transport.sent) == 4 * 3
    assert [row["reward"] for row in gateway.rows(("total",))] == [2.0, -1.0, 4.5]
    assert gateway.older.misreads.count == 0
    assert gateway.log.errors == {}


def test_tempest_client_of_2025_expert_steers_towards_its_enemy() -> None:
    gateway = FakeGateway(ratio=1.0)
    game = ReadingClient(gateway, 3, old_payload)
    game.play(1, target=3, player=1, fire=1)
    assert game.told == (1, 0, -13)
    game.play(1, target=1, player=3, zap=1)
    assert game.told == (0, 1, 13)
    game.play(1, target=-32768, player=3)
    assert game.told == (0, 0, 0)


@pytest.mark.parametrize(
    ("sent", "read", "make"), [(5, 3, payload), (5, 3, old_payload)], ids=["39", "48"]
)
def test_tempest_client_that_reads_fewer_bytes_is_noticed(
    sent: int, read: int, make: Callable[..., bytes]
) -> None:
    gateway = FakeGateway(config(reply_bytes=sent))
    game = ReadingClient(gateway, read, make)
    game.play(30)
    assert gateway.older.misreads.count == 1, "once for a connection"
    (found,) = gateway.log.take_findings()
    assert found.cure == f"start the server with --tempest.reply_bytes {read}"
    game.play(5)
    assert gateway.log.take_findings() == [found], "for as long as it holds"


@pytest.mark.parametrize(("reads", "make"), [(5, payload), (3, old_payload)], ids=["39", "48"])
def test_tempest_client_that_reads_what_it_is_sent_is_not_noticed(
    reads: int, make: Callable[..., bytes]
) -> None:
    gateway = FakeGateway(config(), ratio=0.5)
    game = ReadingClient(gateway, reads, make)
    for k in range(60):
        game.play(1, target=k % 16, player=3, fire=k % 2, done=int(k % 7 == 6))
    assert len(game.transport.sent) == 60 * reads
    assert gateway.older.misreads.count == 0


@pytest.mark.parametrize("frames", [1, 3, 5])
def test_tempest_client_that_leaves_after_few_frames_each_time_is_noticed(frames: int) -> None:
    """It waits for two bytes more, gives up, and connects again; or it ends as soon as what it has
    read makes no sense to it."""
    gateway = FakeGateway(config(reply_bytes=3))
    for visit in range(3):
        assert gateway.older.misreads.count == 0, f"visit {visit}"
        game = ReadingClient(gateway, 5 if frames == 1 else 3, payload)
        game.play(frames)
        game.leave()
    assert gateway.older.misreads.count == 1
    (found,) = gateway.log.take_findings()
    assert "3 clients of 10.0.0.1 left after at most 5 frames" in found.text
    assert found.cure == "start the server with --tempest.reply_bytes 5"


def test_tempest_clients_that_play_on_are_not_taken_for_those_that_leave() -> None:
    gateway = FakeGateway()
    for visit in range(6):
        game = ReadingClient(gateway, 5, payload)
        game.play(6 if visit % 2 else 1)
        game.leave()
    assert gateway.older.misreads.count == 0


IDLE: list[dict[str, Any]] = [{"mode": 0}, {"state": 0x16}, {"state": 0x12}]
"""Headers of the attract mode, the level select and the high score entry."""

ALL = ("attract", "level_select", "high_score")


def test_tempest_frames_that_are_no_play_are_answered_and_not_stored() -> None:
    gateway = FakeGateway(config(skip=ALL))
    game = TempestClient(gateway)
    game.send(b"\x00\x00")
    for header in IDLE:
        assert game.frame(score=999_999, level=98, **header) == (0, 0, 0, 1, 13)
    assert gateway.rows() == []
    assert gateway.frame_loop is not None
    assert gateway.frame_loop.frames == {"train": 0, "eval": 0, "eval_expert": 0, "play": 0}
    for k in range(3):
        assert game.frame(k / 4, 0.0, objective=100.0)[:2] == (0, 1)
    for header in IDLE:
        assert game.frame(0.9, 0.9, objective=100.0, **header) == (0, 0, 0, 1, 13)
    game.frame(0.5, 0.0)
    game.frame(0.75, 0.0, done=1)
    steps = [row for row in gateway.rows() if row["kind"] == STEP]
    assert [row["obs"][0] for row in steps] == [0.0, 0.25, 0.5, 0.5]
    assert [row["reward"] for row in steps] == [1.0, 1.0, 1.0, 0.0], "the last one is paid, too"
    assert [row["status"] for row in steps] == [0, 0, 2, 1], "the episode was cut there"
    assert gateway.frame_loop.frames["train"] == 6, "three of each, and where the episode was cut"
    assert gateway.older.numbers.take().skipped == 5


def test_tempest_done_frame_that_is_no_play_terminates_the_episode() -> None:
    gateway = FakeGateway(config(skip=ALL))
    game = TempestClient(gateway)
    game.send(b"\x00\x00")
    game.frame()
    game.frame(done=1, state=0x12)
    (step,) = [row for row in gateway.rows() if row["kind"] == STEP]
    assert step["status"] == 1
    game.frame(done=1, state=0x12)
    assert gateway.older.numbers.take().skipped == 1


def test_tempest_frames_that_are_no_play_are_stored_by_default() -> None:
    gateway = FakeGateway()
    game = TempestClient(gateway)
    game.send(b"\x00\x00")
    for header in [*IDLE, {}]:
        game.frame(**header)
    assert len([row for row in gateway.rows() if row["kind"] == STEP]) == 3


def test_tempest_frames_that_are_no_play_may_come_ahead_of_answers() -> None:
    gateway = FakeGateway(config(skip=ALL))
    game = TempestClient(gateway)
    headers = [*IDLE, {}, {}, *IDLE, {}]
    game.send(b"\x00\x00" + b"".join(framed(payload([0.0, 0.0], **h)) for h in headers))
    assert len(game.replies()) == len(headers)
    assert [reply[:2] for reply in game.replies()] == [
        (0, 0), (0, 0), (0, 0), (0, 1), (0, 1), (0, 0), (0, 0), (0, 0), (0, 1),
    ]  # fmt: skip


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_tempest_random_zaps_are_carried_out_as_configured(share: float) -> None:
    random.seed(1)
    gateway = FakeGateway(config(random_zaps=share))
    gateway.params = ActingParams(expert_ratio=0.0, epsilon=1.0, noise=0.0)
    game = TempestClient(gateway)
    game.send(b"\x00\x00")
    replies = [game.frame(zap=1) for _ in range(400)]
    assert sum(fire for fire, *_ in replies) == pytest.approx(200, abs=50)
    assert sum(zap for _, zap, *_ in replies) == pytest.approx(200 * share, abs=50 * share)
    steps = [row for row in gateway.rows() if row["kind"] == STEP]
    stored = [(int(row["action"][0]) >> 1, int(row["action"][0]) & 1) for row in steps]
    assert stored == [reply[:2] for reply in replies[:-1]], "what was carried out is stored"


def test_tempest_zaps_of_the_network_itself_are_none_of_chance() -> None:
    game = TempestClient(FakeGateway(config(random_zaps=0.0)))
    game.send(b"\x00\x00")
    assert [game.frame()[1] for _ in range(5)] == [1] * 5


def test_tempest_scores_and_levels_are_reported_with_their_peaks() -> None:
    gateway = FakeGateway()
    assert np.isnan(gateway.older.numbers.take().score_peak)
    games = [TempestClient(gateway), TempestClient(gateway)]
    for game in games:
        game.send(b"\x00\x00")
        game.frame(score=100, level=1)
        game.frame(score=99_999, level=50, mode=0)  # the attract mode: nobody's
    games[0].frame(score=700, level=3)
    games[0].frame(score=600, level=2, done=1)
    games[1].frame(score=5000, level=7)
    taken = gateway.older.numbers.take()
    assert (taken.score_peak, taken.level_peak, taken.finished) == (5000.0, 7.0, [(700, 3)])
    games[0].frame(score=0, level=0)
    games[0].frame(score=50, level=0, done=1)
    taken = gateway.older.numbers.take()
    assert (taken.score_peak, taken.finished) == (5000.0, [(50, 0)])


def episode(game: TempestClient, frames: int = 4) -> list[tuple[int, ...]]:
    """A whole one."""
    return [game.frame(done=int(k == frames - 1), target=7) for k in range(frames)]


def roles(gateway: FakeGateway) -> list[str]:
    """Of the episodes that have ended since this was last asked."""
    assert gateway.frame_loop is not None
    return [finished.role for finished in gateway.frame_loop.episodes.take()]


def test_tempest_client_plays_whole_episodes_of_evaluation_at_intervals() -> None:
    gate = FractionSchedule(start=1.0, end=1.0, frames=1)
    gateway = FakeGateway(
        config(eval_every=1000, eval_expert_every=1000, eval_episodes=2, zap_gate=gate)
    )
    gateway.params = ActingParams(expert_ratio=0.5, epsilon=1.0, noise=0.5)
    game = TempestClient(gateway)
    game.send(b"\x00\x00")
    episode(game)
    episode(game)
    assert roles(gateway) == ["train"] * 2
    stored = len(gateway.rows())
    gateway.run_frames = 1000
    assert game.connection.announced is None
    game.frame()
    assert game.connection.announced == 2
    network = game.replies()[-1:]
    game.frame(done=1)
    network += episode(game)[:-1]
    assert {reply[:3] for reply in network} == {(0, 1, 8)}, "greedy, without expert, chance or gate"
    assert len(gateway.rows()) == stored, "none of it is stored"
    episode(game)
    assert game.connection.announced is None
    expert = episode(game)[:-1] + episode(game)[:-1]
    assert {reply[:3] for reply in expert} == {(0, 0, -21)}, "towards 7, from 0: 0.3 + 7 x 0.05"
    episode(game)
    assert roles(gateway) == ["eval"] * 2 + ["train"] + ["eval_expert"] * 2 + ["train"]
    episode(game)
    assert roles(gateway) == ["train"], "until the next interval"
    gateway.run_frames = 2500
    episode(game)
    assert roles(gateway) == ["eval"]


def test_tempest_evaluation_is_played_by_one_client_and_only_from_an_episodes_beginning() -> None:
    gateway = FakeGateway(config(eval_every=1000, eval_episodes=2))
    games = [TempestClient(gateway), TempestClient(gateway)]
    for game in games:
        game.send(b"\x00\x00")
        episode(game)
    roles(gateway)
    games[0].frame()  # in the middle of one
    late = TempestClient(gateway)
    gateway.run_frames = 1000
    late.send(b"\x00\x00")
    episode(late)  # it may have connected in the middle of one
    games[0].frame(done=1)
    assert roles(gateway) == ["train"] * 2
    for game in (games[1], games[0], late):
        episode(game)
    assert roles(gateway) == ["eval", "train", "train"]
    games[1].leave()
    for game in (games[0], late):
        episode(game)
    assert roles(gateway) == ["train"] * 2, "what has been broken off is not made up for"
    gateway.run_frames = 2000
    episode(late)
    assert roles(gateway) == ["eval"]
    assert gateway.frame_loop is not None
    assert gateway.frame_loop.slots == 2


def test_tempest_expert_is_not_evaluated_where_there_is_none() -> None:
    gateway = FakeGateway(config(eval_expert_every=10))
    game = TempestClient(gateway)
    game.send(b"\x00\x00")
    episode(game)
    assert gateway.frame_loop is not None
    gateway.frame_loop.expert = None
    gateway.run_frames = 1000
    episode(game)
    assert roles(gateway) == ["train"] * 2

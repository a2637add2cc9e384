"""A frame loop with fakes around it: players, policy, sink."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from agent.decision import ActingParams
from agent.policy import Policy
from agent.step import FINAL, STEP
from config.models import RewardConfig
from protocol import codec
from protocol.errors import RemoteError
from protocol.messages import NOT_SENT, Frame, Frames
from protocol.spaces import Discrete, GameSpec, Observation
from server.gateway.checkpoint_shelf import CheckpointShelf
from server.gateway.frame_loop import FrameLoop
from server.ipc.messages import FinishedEpisode
from tests.support.masked import bits
from tests.support.worlds import SPEC, FixedPolicy, ListSink

MOST_SLOTS = 4096

POLICY_ACTION = (2, 0.25, -0.5)

EXPERT_ACTION: list[Any] = [1, [0.5, 0.75]]

EXPERT_ROW = [1.0, 0.5, 0.75]

REWARDS = GameSpec(
    "rewards", Observation("float32", (1,)), (Discrete("fire", 4),), ("score", "life", "time")
).checked()
"""A game whose reward has three components."""


class FakePlayer:
    """A connection that notes what the turn does with it."""

    def __init__(self, world: World, slots: int, role: str, session: int, **options: Any) -> None:
        self.world = world
        self.slots = slots
        self.streams = [session << 16 | slot for slot in range(slots)]
        self.rows = world.frame_loop.join(self.streams, role, **options)
        self.answers: list[Any] = []
        self.sends = 0
        self.released: list[int | None] = []
        self.error: RemoteError | None = None
        self.gone = False
        self.seqs = [0] * slots

    def send(self, data: bytes) -> None:
        if self.error is None and not self.gone:
            self.sends += 1
            while data:
                end = 4 + int.from_bytes(data[:4], "big")
                self.answers.append(codec.decode_server(data[4:end]))
                data = data[end:]

    def answered(self, slot: int | None) -> None:
        self.released.append(slot)

    def fail(self, error: RemoteError) -> None:
        self.error = error

    def frame(
        self,
        obs: Any = 0.0,
        reward: Any = 0.0,
        status: int = 0,
        expert: Any = None,
        took: Any = None,
        slot: int = 0,
        legal: Any = None,
    ) -> None:
        """`legal`: a mask, bool [choices]."""
        spec = self.world.spec
        data = np.full(spec.observation_size, obs, spec.observation_dtype)
        seq = self.seqs[slot]
        self.seqs[slot] += 1
        obs = memoryview(data.tobytes())
        frame = Frame(slot, seq, obs, reward, status, expert, took, _sent(legal))
        self.world.frame_loop.add_frame(self, frame)

    def frames(
        self,
        obs: list[float],
        rewards: list[float],
        statuses: list[int],
        experts: Any = None,
        took: Any = None,
        legal: Any = None,
    ) -> None:
        spec, n = self.world.spec, self.slots
        pixels = np.repeat(np.array(obs, spec.observation_dtype), spec.observation_size)
        message = Frames(
            self.seqs[0],
            memoryview(pixels.tobytes()),
            memoryview(np.array(rewards, np.float32).tobytes()),
            memoryview(bytes(statuses)),
            None if experts is None else memoryview(np.array(experts, np.float32).tobytes()),
            None
            if took is None
            else (memoryview(np.array(took[0], np.float32).tobytes()), memoryview(bytes(took[1]))),
            _sent(legal),
        )
        assert len(statuses) == n
        self.seqs[0] += 1
        self.world.frame_loop.add_frames(self, message)

    def leave(self) -> None:
        self.gone = True
        self.world.frame_loop.leave(self)

    @property
    def last(self) -> Any:
        return self.answers[-1]


class World:
    """A frame loop with fakes around it. The expert never acts unless `params` say so."""

    def __init__(
        self,
        spec: GameSpec = SPEC,
        *,
        room: int = 10**9,
        reward: RewardConfig | None = None,
        action: tuple[float, ...] = POLICY_ACTION,
        frame_stack: int = 1,
        shelf: CheckpointShelf | None = None,
        policy: Policy | None = None,
        memory: int = 0,
    ) -> None:
        self.spec = spec
        self.sink = ListSink(room)
        self.policy: Any = policy or FixedPolicy(action)
        self.params = ActingParams(expert_ratio=0.0, epsilon=0.0, noise=0.0)
        self.frame_loop = FrameLoop(
            spec,
            reward or RewardConfig(),
            self.policy,
            self.sink,
            lambda: self.params,
            np.random.default_rng(0),
            most_slots=MOST_SLOTS,
            frame_stack=frame_stack,
            memory=memory,
            shelf=shelf,
        )
        self.sessions = 0

    def player(self, slots: int = 1, role: str = "train", **options: Any) -> FakePlayer:
        """`options`: of FrameLoop.join."""
        self.sessions += 1
        return FakePlayer(self, slots, role, self.sessions, **options)

    def run(self) -> None:
        self.frame_loop.run()

    def rows(self) -> list[dict[str, Any]]:
        return self.sink.rows(self.spec)

    def episodes(self) -> list[FinishedEpisode]:
        return list(self.frame_loop.episodes.finished)


def _sent(legal: Any) -> msgspec.Raw:
    """A mask, or those of all slots, as an element of a frame."""
    if legal is None:
        return NOT_SENT
    return msgspec.Raw(msgspec.msgpack.encode(bits(*np.atleast_2d(legal))))


def brief(row: dict[str, Any]) -> tuple[Any, ...]:
    kind = {STEP: "step", FINAL: "final"}[row["kind"]]
    return kind, row["stream"], row["seq"], row["obs"][0], row["reward"], row["status"]

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from protocol.errors import RemoteError
from protocol.messages import RUNNING, TERMINATED, Frame
from server.gateway.expert_advice import add_advice
from server.gateway.expert_plugin import ExpertPlugin, Situation
from server.gateway.frame_batch import FrameBatch
from server.gateway.slots import SlotTable
from tests.support.worlds import SPEC

ADVICE = [1.0, 0.5, -0.5]
NEUTRAL = [0.0, -0.25, 0.0]


class Client:
    def __init__(self, rows: npt.NDArray[np.int64]) -> None:
        self.rows = rows
        self.error: RemoteError | None = None

    def send(self, data: bytes) -> None: ...

    def answered(self, slot: int | None) -> None: ...

    def fail(self, error: RemoteError) -> None:
        self.error = error


class Lives:
    """A context that tells the expert a number."""

    def __init__(self, lives: int) -> None:
        self.lives = lives

    def encode(self, _action: Any, _actor: int, _explored: bool) -> bytes:
        return b""

    @staticmethod
    def expert_fields(contexts: Sequence[Any]) -> dict[str, npt.NDArray[Any]]:
        return {"lives": np.array([context.lives for context in contexts])}


class Level(Lives):
    @staticmethod
    def expert_fields(contexts: Sequence[Any]) -> dict[str, npt.NDArray[Any]]:
        return {"level": np.array([context.lives for context in contexts])}


class AdviceFixture:
    """A table, a batch, and a plugin that notes what it is asked."""

    def __init__(self, advice: Any = ADVICE) -> None:
        self.table, self.batch = SlotTable(SPEC, 100), FrameBatch(SPEC, 1, 100)
        self.asked: list[tuple[list[int], dict[str, list[int]]]] = []
        self.advice = advice
        self.plugin = ExpertPlugin("test", self._expert, SPEC)

    def _expert(self, obs: npt.NDArray[Any], situation: Situation) -> Any:
        fields = {name: values.tolist() for name, values in situation.fields.items()}
        self.asked.append((situation.streams.tolist(), fields))
        return np.tile(np.array(self.advice), (len(obs), 1))

    def frame(
        self,
        stream: int,
        context: Lives | None = None,
        *,
        role: str = "train",
        status: int = RUNNING,
        expert: Any = None,
    ) -> Client:
        client = Client(self.table.take([stream], role))
        obs = memoryview(bytes(SPEC.observation_bytes))
        self.batch.add_frame(client, Frame(0, 0, obs, 0.0, status, expert, None), context)
        return client

    def add(self, plugin: ExpertPlugin | None) -> None:
        add_advice(plugin, self.table, self.batch, np.array(NEUTRAL, np.float32), SPEC)

    def advised(self) -> list[bool]:
        return (~np.isnan(self.batch.expert[: self.batch.n, 0])).tolist()


def test_training_frames_without_recommendation_get_plugin_advice() -> None:
    room = AdviceFixture()
    room.frame(1)
    room.frame(2, expert=[3, [0.25, 0.25]])
    room.frame(3, role="eval")
    room.frame(4, status=TERMINATED)
    room.frame(5)
    room.add(room.plugin)
    assert room.asked == [([1, 5], {})]
    assert room.advised() == [True, True, False, False, True]
    assert room.batch.expert[0].tolist() == ADVICE
    assert room.batch.expert[1].tolist() == [3, 0.25, 0.25]


def test_frames_grouped_by_context_type_query_plugin_separately() -> None:
    room = AdviceFixture()
    room.frame(1, Lives(3))
    room.frame(2)
    room.frame(3, Level(7))
    room.frame(4, Lives(5), expert=[3, [0.25, 0.25]])
    room.frame(5, Lives(6))
    room.frame(6)
    room.add(room.plugin)
    assert room.asked == [([2, 6], {}), ([1, 5], {"lives": [3, 6]}), ([3], {"level": [7]})]
    assert all(room.advised())


def test_all_frames_recommended_plugin_is_not_called() -> None:
    for context in (None, Lives(1)):
        room = AdviceFixture()
        room.frame(1, context, expert=[3, [0.25, 0.25]])
        room.add(room.plugin)
        assert room.asked == []


def test_gap_of_an_expert_that_plays_alone_is_filled_and_counted() -> None:
    for has_plugin in (True, False):
        room = AdviceFixture(advice=[np.nan] * 3)
        first, later = room.frame(1, role="eval_expert"), room.frame(2, role="eval_expert")
        trains = room.frame(3)
        room.table.pending[later.rows] = True
        room.table.action[later.rows] = [3.0, 0.25, 0.75]
        room.add(room.plugin if has_plugin else None)
        assert room.batch.expert[0].tolist() == NEUTRAL, "an episode's first frame"
        assert room.batch.expert[1].tolist() == [3.0, 0.25, 0.75], "its last action again"
        assert room.advised() == [True, True, False]
        assert room.table.filled[[*first.rows, *later.rows, *trains.rows]].tolist() == [1, 1, 0]


def test_episode_without_any_advice_fails_with_expert_missing() -> None:
    for filled, code in ((3, "expert_missing"), (2, None)):
        room = AdviceFixture()
        alone = room.frame(1, role="eval_expert", status=TERMINATED)
        trains = room.frame(2)
        room.table.pending[alone.rows] = True
        room.table.episode_length[alone.rows], room.table.filled[alone.rows] = 2, filled
        room.add(room.plugin)
        assert (alone.error.code if alone.error else None) == code
        assert trains.error is None
        assert room.batch.n == (1 if code else 2)

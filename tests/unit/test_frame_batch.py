from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from protocol.errors import RemoteError
from protocol.messages import Frame
from server.gateway.frame_batch import FrameBatch
from tests.support.worlds import SPEC

MOST = 2048


def test_keep_mask_removes_rows_from_every_column() -> None:
    batch = FrameBatch(SPEC, 1, MOST)
    batch.n = 5
    batch.obs[:5, 0] = batch.rewards[:5, 0] = batch.seq[:5] = batch.row[:5] = np.arange(5)
    batch.keep(np.array([True, False, True, False, True]))
    assert batch.n == 3
    for column in (batch.obs[:3, 0], batch.rewards[:3, 0], batch.seq[:3], batch.row[:3]):
        assert column.tolist() == [0, 2, 4]


class Client:
    """Has one slot, and notes how it was failed."""

    def __init__(self, row: int) -> None:
        self.rows = np.array([row])
        self.error: RemoteError | None = None

    def send(self, data: bytes) -> None: ...

    def answered(self, slot: int | None) -> None: ...

    def fail(self, error: RemoteError) -> None:
        self.error = error


class Context:
    def encode(self, _action: Any, _actor: int, _explored: bool) -> bytes:
        return b""

    @staticmethod
    def expert_fields(_contexts: Any) -> dict[str, Any]:
        return {}


def frame(seq: int) -> Frame:
    return Frame(0, seq, memoryview(bytes(SPEC.observation_bytes)), 0.0, 0, None, None)


def test_refuse_removes_entry_and_context_and_fails_client() -> None:
    batch = FrameBatch(SPEC, 1, MOST)
    clients = [Client(row) for row in range(4)]
    contexts = [None, Context(), None, Context()]
    for i, (client, context) in enumerate(zip(clients, contexts, strict=True)):
        batch.add_frame(client, frame(i), context)
    assert batch.contexts() == {1: contexts[1], 3: contexts[3]}
    batch.refuse(
        np.array([True, False, True, True]), lambda row: RemoteError("bad_hello", f"row {row}")
    )
    assert [client.error and client.error.message for client in clients] == [
        None, "row 1", None, None
    ]  # fmt: skip
    assert [entry.client for entry in batch.entries] == [clients[0], clients[2], clients[3]]
    assert batch.seq[: batch.n].tolist() == [0, 2, 3]
    assert batch.contexts() == {2: contexts[3]}


def test_clear_discards_contexts_of_previous_batch() -> None:
    batch = FrameBatch(SPEC, 1, MOST)
    batch.add_frame(Client(0), frame(0), Context())
    batch.clear()
    batch.add_frame(Client(0), frame(1))
    assert not batch.has_contexts
    assert batch.contexts() == {}


def test_batch_start_time_is_that_of_first_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([1.0, 2.0])
    monkeypatch.setattr("server.gateway.frame_batch.perf_counter", lambda: next(clock))
    batch = FrameBatch(SPEC, 1, MOST)
    batch.add_frame(Client(0), frame(0))
    batch.add_frame(Client(1), frame(0))
    assert batch.started == 1.0
    batch.clear()
    batch.add_frame(Client(0), frame(1))
    assert batch.started == 2.0

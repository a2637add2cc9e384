"""What agent/cuda_graph.py asks of torch.cuda, with a stand-in for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from agent.cuda_graph import GraphMemory


class FakeCuda:
    """Writes down what it is asked. A graph's replay calls nothing: its results stay."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.log: list[str] = []
        self.broken_end = False
        self.streams = [FakeStream(self, "main")]
        log = self.log

        class Graph:
            def register_generator_state(self, generator: torch.Generator) -> None:
                assert isinstance(generator, torch.Generator)
                log.append("generator")

            def replay(self) -> None:
                log.append("replay")

        patch.setattr(torch.cuda, "Stream", lambda _: FakeStream(self, "side"))
        patch.setattr(torch.cuda, "current_stream", lambda _: self.streams[-1])
        patch.setattr(torch.cuda, "stream", self.stream)
        patch.setattr(torch.cuda, "graph", self.graph)
        patch.setattr(torch.cuda, "CUDAGraph", Graph)
        patch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 7))

    @contextmanager
    def stream(self, stream: FakeStream) -> Iterator[None]:
        depth = len(self.streams)
        self.streams.append(stream)
        try:
            yield
        finally:
            del self.streams[depth:]

    @contextmanager
    def graph(
        self, graph: Any, *, pool: Any, stream: FakeStream, capture_error_mode: str
    ) -> Iterator[None]:
        assert isinstance(graph, torch.cuda.CUDAGraph)
        assert (pool, capture_error_mode) == ((0, 7), "thread_local")
        self.log.append("begin")
        self.streams.append(stream)
        try:
            yield
        finally:
            if self.broken_end:  # as torch does, which then stays on the stream
                raise RuntimeError("operation failed due to a previous error during capture")
        self.streams.pop()
        self.log.append("end")


class FakeStream:
    def __init__(self, cuda: FakeCuda, name: str) -> None:
        self._cuda, self.name = cuda, name

    def wait_stream(self, other: FakeStream) -> None:
        self._cuda.log.append(f"{self.name} waits for {other.name}")


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return FakeCuda(monkeypatch)


def memory() -> GraphMemory:
    return GraphMemory(torch.device("cuda"), [torch.Generator()])


def test_first_call_runs_on_the_side_stream_and_each_waits_for_the_other(cuda: FakeCuda) -> None:
    assert memory().begin(lambda: cuda.streams[-1].name) == "side"
    assert cuda.log == ["side waits for main", "main waits for side"]
    assert [each.name for each in cuda.streams] == ["main"]


def test_captured_function_is_called_once_and_replayed_each_time(cuda: FakeCuda) -> None:
    calls, x = [], torch.ones(3)

    def double() -> torch.Tensor:
        calls.append(cuda.streams[-1].name)
        return x * 2

    graph = memory().capture(double)
    graph.run()
    assert calls == ["side"]
    assert cuda.log == ["generator", "begin", "end", "replay", "replay"]
    assert graph.result.tolist() == [2, 2, 2]


def test_graph_keeps_the_memory_that_it_reads(cuda: FakeCuda) -> None:
    x = torch.ones(3)
    graph = memory().capture(lambda: (x * 2 + 1) * 3)
    assert [each.data_ptr() for each in graph._held] == [x.untyped_storage().data_ptr()]
    assert cuda.log[-1] == "replay"


@pytest.mark.parametrize("broken_end", [False, True])
def test_failed_capture_raises_what_went_wrong_first(cuda: FakeCuda, broken_end: bool) -> None:
    cuda.broken_end = broken_end
    with pytest.raises(RuntimeError, match="asks for a value"):
        memory().capture(lambda: float(torch.ones(()) + 1))
    assert [each.name for each in cuda.streams] == ["main"]
    assert "replay" not in cuda.log

"""CUDA graphs: a captured call on a cuda device, which runs with one launch.

Nothing of it has run on a GPU yet. Its rules are those of agent.captured.Tape, which runs the same
functions on the cpu.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import torch

from agent.captured import OperationWatch

T = TypeVar("T")


class GraphMemory:
    """What the graphs of one device share: a stream that is captured, and memory. One graph's
    results hold until another one runs."""

    def __init__(self, device: torch.device, generators: Sequence[torch.Generator]) -> None:
        """`generators`: that captured functions draw from, each run other numbers."""
        self._device, self._generators = device, generators
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    def begin(self, function: Callable[[], T]) -> T:
        """Call it without capturing, on the stream that is captured later: libraries load then,
        and what it keeps for later is made."""
        using = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(using)
        with torch.cuda.stream(self._stream):
            result = function()
        using.wait_stream(self._stream)
        return result

    def capture(self, function: Callable[[], T]) -> CudaGraph[T]:
        """Capture and run it. Errors: RuntimeError where it cannot be captured; the device has done
        nothing then."""
        graph = CudaGraph(function, self._device, self._generators, self._stream, self._pool)
        graph.run()
        return graph


class CudaGraph(Generic[T]):
    """A captured call. To make it does nothing yet: `run` does."""

    def __init__(
        self,
        function: Callable[[], T],
        device: torch.device,
        generators: Sequence[torch.Generator],
        stream: torch.cuda.Stream,
        pool: Any,
    ) -> None:
        """Errors: as of GraphMemory.capture."""
        self._graph = torch.cuda.CUDAGraph()
        for generator in generators:
            self._graph.register_generator_state(generator)
        watch = OperationWatch()
        # Around it: where the end of a capture fails, torch does not come back from its stream.
        with torch.cuda.stream(torch.cuda.current_stream(device)):
            try:
                # Other threads (checkpoints, the journal) may do what they like meanwhile.
                with (
                    torch.cuda.graph(
                        self._graph, pool=pool, stream=stream, capture_error_mode="thread_local"
                    ),
                    watch,
                ):
                    self.result = function()
            except RuntimeError as error:
                # The end of a broken capture fails too, and says less.
                raise _first(error) from None
        # The graph knows addresses alone: what lies there must stay.
        self._held = list(watch.from_before.values())

    def run(self) -> None:
        self._graph.replay()


def _first(error: BaseException) -> BaseException:
    while error.__context__ is not None:
        error = error.__context__
    return error

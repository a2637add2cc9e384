"""Operations on tensors that are captured once and then run again without Python.

A captured call is what a CUDA graph is (agent.cuda_graph): the same operations on the same memory.
So what changes between two runs must lie in that memory, nothing may ask for a value there, and no
shape may depend on one. `Tape` is its twin for the cpu, and has the same rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_WAIT = (
    "_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "nonzero_static", "argwhere",
    "masked_select", "unique_dim", "unique_consecutive", "_unique", "_unique2", "bincount",
)  # fmt: skip
"""Operations that ask for a value, or whose result has a shape that depends on one."""


class NotCapturable(RuntimeError):
    """An operation asks for what a captured call does not have."""


class CapturedCall(Protocol[T_co]):
    """Of a function that was called once."""

    @property
    def result(self) -> T_co:
        """What it returned; its tensors have new values after each run, in the same memory."""

    def run(self) -> None:
        """Do it again."""


class OperationWatch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees each operation, and refuses those that cannot be captured: NotCapturable."""

    def __init__(self, operations: list[Any] | None = None) -> None:
        """`operations`: where to write them down, with their results."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._operations = operations
        self.from_before: dict[int, torch.UntypedStorage] = {}
        """The memory that operations use and did not make, by its address."""
        self._made: set[int] = set()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch imports its compiler

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = [*_tensors(args), *_tensors(kwargs)]
        refuse(func, args, given)
        result = func(*args, **kwargs)
        found = list(_tensors(result))
        for tensor in (*given, *found):
            # A number of the host is part of a captured call, as it was.
            of_host = tensor.device.type == "cpu" and not tensor.dim() and "copy" not in str(func)
            if given and not of_host and tensor.device.type != given[0].device.type:
                raise NotCapturable(f"{func} copies from {given[0].device} to {tensor.device}")
        known = {_address(tensor) for tensor in given}
        for tensor in given:
            if _address(tensor) not in self._made:
                self.from_before[_address(tensor)] = tensor.untyped_storage()
        self._made |= {_address(tensor) for tensor in found} - known
        if self._operations is not None:
            self._operations.append((func, args, kwargs, found))
        return result


def refuse(func: Any, args: Any, given: list[Tensor]) -> None:
    """Errors: NotCapturable where an operation waits for a value or takes one from the host."""
    name = func._schema.name.removeprefix("aten::")
    if name in _WAIT or (name == "repeat_interleave" and len(given) == 1):
        raise NotCapturable(f"{func} asks for a value on the device")
    if name == "lift_fresh":
        raise NotCapturable("a tensor is made from numbers of the host")
    # A mask as an index is a nonzero in disguise.
    indices = _tensors(args[1]) if name.startswith(("index", "_index")) else ()
    if any(each.dtype in (torch.bool, torch.uint8) for each in indices):
        raise NotCapturable(f"{func} asks where a mask is set")


class Tape(Generic[T]):
    """A captured call on the cpu."""

    def __init__(self, function: Callable[[], T]) -> None:
        """Calls the function, which does its work. Errors: NotCapturable."""
        operations: list[Any] = []
        with OperationWatch(operations):
            self.result = function()
        # The tape holds every tensor, so that no memory is used for something else.
        self._operations = [each for each in operations if not _is_view(*each)]

    @torch.no_grad()
    def run(self) -> None:
        for func, args, kwargs, results in self._operations:
            found = func(*args, **kwargs)
            if not func._schema.is_mutable:
                for kept, new in zip(results, _tensors(found), strict=True):
                    kept.copy_(new)

    def __len__(self) -> int:
        """Operations of a run."""
        return len(self._operations)


class Tapes:
    """Captures on the cpu (agent.captured_updates)."""

    def begin(self, function: Callable[[], T]) -> T:
        return function()

    def capture(self, function: Callable[[], T]) -> Tape[T]:
        """Errors: NotCapturable, after a part of it was done."""
        return Tape(function)


def _is_view(func: Any, args: Any, kwargs: Any, results: list[Tensor]) -> bool:
    """Whether an operation only says how to look at memory that there is."""
    given = {_address(tensor) for tensor in (*_tensors(args), *_tensors(kwargs))}
    return not func._schema.is_mutable and all(_address(each) in given for each in results)


def _address(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _tensors(found: Any) -> Iterator[Tensor]:
    if isinstance(found, Tensor):
        yield found
    elif isinstance(found, list | tuple):
        for each in found:
            yield from _tensors(each)
    elif isinstance(found, dict):
        yield from _tensors(list(found.values()))

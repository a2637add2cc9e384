"""A network as an ONNX file, and the comparison of the two."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from agent.networks import QNetwork
from agent.targets import best_choices
from agent.values import CategoricalValues
from protocol.spaces import GameSpec
from server.play.policy_file import FORMAT, VERSION, PolicyError, PolicyFile, sealed

TOLERANCE = 1e-5
"""How far an output may be off, as a fraction of its scale (see `scales`)."""


class ExportError(Exception):
    """A network that cannot be exported; the message says why."""


@dataclass(frozen=True)
class Trained:
    """A network and where it is from."""

    network: QNetwork
    spec: GameSpec
    frame_stack: int
    run: str
    updates: int
    frames: int


class Exported(nn.Module):
    """The network as the file has it: named outputs, and the action row among them."""

    _low: Tensor
    _high: Tensor

    def __init__(self, network: QNetwork, spec: GameSpec) -> None:
        super().__init__()
        self.network = network
        self._heads = len(spec.discrete)
        self._columns = len(spec.continuous_columns)
        columns = list(spec.continuous_columns)
        self.register_buffer("_low", torch.from_numpy(spec.low[columns]))
        self.register_buffer("_high", torch.from_numpy(spec.high[columns]))
        # Discrete heads come first in the network; the action row has the order of the game.
        order = [*spec.discrete_columns, *spec.continuous_columns]
        self._order = [order.index(column) for column in range(len(order))]
        self.names = ["q"] * bool(network.sizes) + ["continuous"] * bool(self._columns) + ["action"]

    def forward(self, observation: Tensor) -> tuple[Tensor, ...]:
        q, _, continuous = self.network(observation)
        # The tanh of a runtime may be a rounding error beyond 1; an action must not be.
        continuous = torch.clamp(continuous, self._low, self._high)
        pieces = []
        if self._heads:
            choices = best_choices(q, self.network.sizes)[:, : self._heads]
            pieces.append(choices.to(torch.float32))
        if self._columns:
            pieces.append(continuous)
        rows = torch.cat(pieces, dim=1)[:, self._order]
        found = {"q": q, "continuous": continuous, "action": rows}
        return tuple(found[name] for name in self.names)


def exported(trained: Trained) -> bytes:
    """The network as the bytes of an ONNX file. Errors: ExportError."""
    import onnx

    spec = trained.spec
    model = Exported(trained.network, spec).eval()
    sides = (trained.frame_stack,) * (trained.frame_stack > 1) + spec.observation.shape
    example = torch.zeros((2, *sides), dtype=getattr(torch, spec.observation.dtype))
    try:
        with _quiet():
            program = torch.onnx.export(
                model,
                (example,),
                dynamo=True,
                input_names=["observation"],
                output_names=model.names,
                dynamic_shapes={"observation": {0: torch.export.Dim("batch")}},
                verbose=False,
            )
    except Exception as error:  # the exporter's own, and what comes out of torch
        raise ExportError(f"the network cannot be written as ONNX: {error}") from error
    assert program is not None
    proto = program.model_proto
    proto.doc_string = f"A policy for {spec.describe()}, trained by understudy."
    onnx.helper.set_model_props(
        proto,
        {
            "format": FORMAT,
            "version": VERSION,
            "game": msgspec.json.encode(spec).decode(),
            "frame_stack": str(trained.frame_stack),
            "run": trained.run,
            "updates": str(trained.updates),
            "frames": str(trained.frames),
        },
    )
    onnx.checker.check_model(proto, full_check=True)
    return sealed(proto.SerializeToString())


def check(data: bytes, trained: Trained, observations: Sequence[npt.NDArray[Any]]) -> float:
    """Run the file and compare what it says with what the network does; the largest difference, as
    a fraction of `scales`.

    Errors: ExportError where an output differs by more than TOLERANCE of its scale, or a choice
    that is no tie is another.
    """
    try:
        policy = PolicyFile(data, "the exported file")
    except PolicyError as error:
        raise ExportError(str(error)) from error
    network, worst = trained.network, 0.0
    for batch in observations:
        try:
            here = policy.run(batch)
        except Exception as error:  # the runtime's errors have no class in common
            raise ExportError(
                f"the exported file cannot be run on {len(batch)} observations: {error}"
            ) from error
        states = torch.from_numpy(batch)
        with torch.inference_mode():
            q, _, continuous = (tensor.numpy() for tensor in network(states))
        there = {"q": q, "continuous": continuous, "action": network.greedy(states).numpy()}
        scale = scales(trained, q)
        clear = _no_ties(q, network.sizes, scale["q"])
        for name in policy.outputs:
            if here[name].shape != there[name].shape:
                raise ExportError(
                    f"{name}: expected {list(there[name].shape)} for {len(batch)} observations, "
                    f"got {list(here[name].shape)}"
                )
            off = np.abs(here[name].astype(np.float64) - there[name]) / scale[name]
            # Where two choices are equally good, either will do; bins make numbers of choices.
            largest = float((off if name == "q" else off[clear]).max(initial=0.0))
            if not largest <= TOLERANCE:  # false for NaN
                raise ExportError(
                    f"{name} of the exported file differs from the network's by {largest:.1e} of "
                    f"its scale, more than {TOLERANCE:g}: it is not written"
                )
            worst = max(worst, largest)
    return worst


def scales(trained: Trained, q: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.float64]]:
    """What differences are measured by, for each output, at least 1.

    For Q that is the largest |Q| of the observation: Q of a choice is a difference of larger
    numbers, which is exact to their last digit and not to its own. Where Q is a mean of fixed
    returns, these are such numbers too. For a continuous action it is the end of its range.
    """
    spec, values = trained.spec, trained.network.values
    row = np.abs(q).max(axis=1, keepdims=True, initial=1.0).astype(np.float64)
    if isinstance(values, CategoricalValues):
        row = np.maximum(row, float(values.support.abs().max()))
    action = np.maximum(np.maximum(np.abs(spec.low), np.abs(spec.high)), 1.0).astype(np.float64)
    action[list(spec.discrete_columns)] = 1.0
    return {"q": row, "continuous": action[list(spec.continuous_columns)], "action": action}


def _no_ties(
    q: npt.NDArray[np.float32], sizes: Sequence[int], scale: npt.NDArray[np.float64]
) -> npt.NDArray[np.bool_]:
    """For which rows the best choice of every branch is ahead of the next by more than rounding
    could make up for, [n]."""
    clear, start = np.ones(len(q), np.bool_), 0
    for size in sizes:
        second, best = np.sort(q[:, start : start + size], axis=1)[:, -2:].T
        clear &= best - second > 2 * TOLERANCE * scale[:, 0]
        start += size
    return clear


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's words about its own insides."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)

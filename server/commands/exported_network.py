"""A trained network as an exported file has it, and the comparison of the two."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from agent.checkpoint import spec_text
from agent.legal import masked
from agent.networks import QNetwork
from agent.targets import best_choices
from agent.values import CategoricalValues
from protocol.spaces import GameSpec
from server.play.policy_file import FORMAT, LEGAL, MEMORY, NEXT_MEMORY, VERSION

TOLERANCE = 1e-5
"""How far an output may be off, as a fraction of its scale (see `scales`)."""


STEPS = 3
"""Steps, one after the other, in which a network with a memory is compared."""


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

    @property
    def inputs(self) -> list[str]:
        """What the exported file calls its inputs: the names of the game's observations, `legal`
        behind them, where it has masks, and `memory`, where the network has one."""
        names = [observation.name for observation in self.spec.observations]
        return names + [LEGAL] * bool(self.spec.masks) + [MEMORY] * (self.memory > 0)

    @property
    def memory(self) -> int:
        """Numbers of the network's recurrent state."""
        return 0 if self.network.memory is None else self.network.memory.size

    def parts(self, rows: npt.NDArray[Any]) -> tuple[Tensor, ...]:
        """Rows of observations, [n, frame_stack * observation_size], as the network takes them."""
        shown = zip(self.network.looks, self.spec.parts(rows), strict=True)
        return tuple(torch.from_numpy(look.shaped(part)) for look, part in shown)

    def example(self, *, float_input: bool) -> tuple[Tensor, ...]:
        """Two states, as the exported file takes them."""
        shape = (2, self.frame_stack * self.spec.observation_size)
        parts = self.parts(np.zeros(shape, self.spec.observation_dtype))
        shown = tuple(part.float() if float_input else part for part in parts)
        if self.spec.masks:
            shown = (*shown, torch.ones(2, self.spec.choices))
        return (*shown, torch.zeros(2, self.memory)) if self.memory else shown

    def metadata(self) -> dict[str, str]:
        """What a file says of itself."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "game": spec_text(self.spec),
            "frame_stack": str(self.frame_stack),
            **({"memory": str(self.memory)} if self.memory else {}),
            "run": self.run,
            "updates": str(self.updates),
            "frames": str(self.frames),
        }


class Exported(nn.Module):
    """The network as the file has it: named outputs, and the action row among them."""

    _low: Tensor
    _high: Tensor

    def __init__(self, network: QNetwork, spec: GameSpec) -> None:
        super().__init__()
        self.network = network
        self._heads, self._masks = len(spec.discrete), bool(spec.masks)
        self._columns = len(spec.continuous_columns)
        columns = list(spec.continuous_columns)
        self.register_buffer("_low", torch.from_numpy(spec.low[columns]))
        self.register_buffer("_high", torch.from_numpy(spec.high[columns]))
        # Discrete heads come first in the network; the action row has the order of the game.
        order = [*spec.discrete_columns, *spec.continuous_columns]
        self._order = [order.index(column) for column in range(len(order))]
        self.names = ["q"] * bool(network.sizes) + ["continuous"] * bool(self._columns) + ["action"]
        self._remembers = network.memory is not None
        self.names += [NEXT_MEMORY] * self._remembers

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        state = None
        if self._remembers:
            *inputs, state = inputs  # type: ignore[assignment]
        observations = inputs[:-1] if self._masks else inputs
        x = self.network.encode(*observations, state=state)
        q, _, continuous = self.network.outputs(x)
        # The tanh of a runtime may be a rounding error beyond 1; an action must not be.
        continuous = torch.clamp(continuous, self._low, self._high)
        pieces = []
        if self._heads:
            allowed = q
            if self._masks:
                # Bins behind the heads have no mask.
                behind = torch.ones_like(q[:, inputs[-1].shape[1] :])
                legal = torch.cat((inputs[-1], behind), dim=1) > 0.5
                allowed = torch.where(legal, q, torch.full_like(q, -torch.inf))
            choices = best_choices(allowed, self.network.sizes)[:, : self._heads]
            pieces.append(choices.to(torch.float32))
        if self._columns:
            pieces.append(continuous)
        rows = torch.cat(pieces, dim=1)[:, self._order]
        found = {"q": q, "continuous": continuous, "action": rows}
        if self._remembers:
            found[NEXT_MEMORY] = self.network.state_of(x)
        return tuple(found[name] for name in self.names)


class Runner(Protocol):
    """An exported file that can be run."""

    outputs: list[str]

    def run(
        self,
        observations: npt.NDArray[Any],
        legal: npt.NDArray[np.bool_] | None = None,
        memory: npt.NDArray[np.float32] | None = None,
    ) -> dict[str, npt.NDArray[np.float32]]:
        """All outputs for rows of observations, [n, frame_stack * observation_size], masks,
        [n, choices], and recurrent states, [n, memory]."""


def check(policy: Runner, trained: Trained, observations: Sequence[npt.NDArray[Any]]) -> float:
    """Run an exported file and compare what it says with what the network does; the largest
    difference, as a fraction of `scales`.

    Errors: ExportError where an output differs by more than TOLERANCE of its scale, or a choice
    that is no tie is another.
    """
    worst = 0.0
    rng = np.random.default_rng(0)
    for batch in observations:
        memory = np.zeros((len(batch), trained.memory), np.float32) if trained.memory else None
        for _ in range(STEPS if trained.memory else 1):
            legal = random_masks(trained.spec, len(batch), rng) if trained.spec.masks else None
            try:
                here = policy.run(batch, legal, memory)
            except Exception as error:  # the runtime's errors have no class in common
                raise ExportError(
                    f"the exported file cannot be run on {len(batch)} observations: {error}"
                ) from error
            there = _outputs(trained, batch, legal, memory)
            worst = max(worst, _compare(trained, policy.outputs, here, there, legal))
            memory = there.get(NEXT_MEMORY)
    return worst


def _outputs(
    trained: Trained,
    batch: npt.NDArray[Any],
    legal: npt.NDArray[np.bool_] | None,
    memory: npt.NDArray[np.float32] | None,
) -> dict[str, npt.NDArray[np.float32]]:
    """What the network itself says."""
    network = trained.network
    with torch.inference_mode():
        state = None if memory is None else torch.from_numpy(memory)
        x = network.encode(*trained.parts(batch), state=state)
        q, _, continuous = (tensor.numpy() for tensor in network.outputs(x))
        actions = network.choose(x, None if legal is None else torch.from_numpy(legal)).numpy()
        found = {"q": q, "continuous": continuous, "action": actions}
        return found if memory is None else found | {NEXT_MEMORY: network.state_of(x).numpy()}


def _compare(
    trained: Trained,
    outputs: Sequence[str],
    here: Mapping[str, npt.NDArray[np.float32]],
    there: Mapping[str, npt.NDArray[np.float32]],
    legal: npt.NDArray[np.bool_] | None,
) -> float:
    """The largest difference. Errors: as of `check`."""
    q, worst = there["q"], 0.0
    scale = scales(trained, q)
    allowed = None if legal is None else torch.from_numpy(legal)
    sizes = trained.network.sizes
    clear = _no_ties(masked(torch.from_numpy(q), allowed).numpy(), sizes, scale["q"])
    for name in outputs:
        if here[name].shape != there[name].shape:
            raise ExportError(
                f"{name}: expected {list(there[name].shape)} for {len(q)} observations, "
                f"got {list(here[name].shape)}"
            )
        off = np.abs(here[name].astype(np.float64) - there[name]) / scale[name]
        # Where two choices are equally good, either will do; bins make numbers of choices.
        every = name in ("q", NEXT_MEMORY)
        largest = float((off if every else off[clear]).max(initial=0.0))
        if not largest <= TOLERANCE:  # false for NaN
            raise ExportError(
                f"{name} of the exported file differs from the network's by {largest:.1e} of "
                f"its scale, more than {TOLERANCE:g}: it is not written"
            )
        worst = max(worst, largest)
    return worst


def random_masks(spec: GameSpec, n: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Masks, bool [n, choices], in which each head has a legal choice."""
    legal = rng.random((n, spec.choices)) < 0.5
    for columns in spec.choice_columns:
        legal[np.arange(n), rng.integers(columns.start, columns.stop, n)] = True
    return legal


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
    of_columns = action[list(spec.continuous_columns)]
    found = {"q": row, "continuous": of_columns, "action": action}
    return found | {NEXT_MEMORY: np.ones(trained.memory)}


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
def quiet() -> Iterator[None]:
    """Without the words of torch's exporters about their own insides."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)

"""Hypothesis strategies that several test modules share."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from protocol.spaces import Continuous, Discrete, GameSpec, Head, Observation, Part

BOUND = st.floats(-1e6, 1e6, width=32)


@st.composite
def heads(draw: st.DrawFn, name: str) -> Head:
    if draw(st.booleans()):
        return Discrete(name, draw(st.integers(2, 2**24)))
    low, high = sorted(draw(st.lists(BOUND, min_size=2, max_size=2, unique=True)))
    return Continuous(name, low, high, draw(st.integers(1, 4)))


@st.composite
def specs(draw: st.DrawFn) -> GameSpec:
    names = [f"head{i}" for i in range(draw(st.integers(1, 5)))]
    actions = tuple(draw(heads(name)) for name in names)
    dtype = draw(st.sampled_from(["float32", "uint8"]))
    return GameSpec("g", Observation(dtype, (3,)), actions).checked()


@st.composite
def parts(draw: st.DrawFn, head: Head) -> Part:
    """A part of an action in the form in which the server sends it."""
    if isinstance(head, Discrete):
        return draw(st.integers(0, head.n - 1))
    value = st.floats(head.low, head.high, width=32)
    if head.size == 1:
        return draw(value)
    return draw(st.lists(value, min_size=head.size, max_size=head.size))


@st.composite
def actions(draw: st.DrawFn, spec: GameSpec) -> tuple[Part, ...]:
    return tuple(draw(parts(head)) for head in spec.actions)


def rows_of(spec: GameSpec, many: list[tuple[Part, ...]]) -> npt.NDArray[Any]:
    return np.array([spec.action_row(one) for one in many], np.float32).reshape(
        len(many), spec.action_width
    )

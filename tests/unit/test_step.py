from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from agent.step import FINAL, STEP, StepBlock
from protocol.spaces import Continuous, Discrete, GameSpec, Observation

SPEC = GameSpec(
    "g",
    Observation("float32", (3, 5)),
    (Discrete("fire", 2), Continuous("aim", -1, 1, 2)),
)
PIXELS = GameSpec("p", Observation("uint8", (7,)), (Discrete("fire", 2),))
MASKED = GameSpec(
    "m", Observation("uint8", (7,)), (Discrete("row", 3), Discrete("column", 7)), masks=True
)


def filled(block: StepBlock, seed: int = 0) -> StepBlock:
    """Every byte of every column another, so that an overlap shows."""
    rng = np.random.default_rng(seed)
    for field in fields(block):
        array = getattr(block, field.name)
        array[...] = rng.integers(0, 200, array.shape)
    return block


def test_step_kinds_do_not_use_zero() -> None:
    assert 0 not in (STEP, FINAL)
    assert STEP != FINAL


@pytest.mark.parametrize(
    ("spec", "dtype"), [(SPEC, np.float32), (PIXELS, np.uint8), (MASKED, np.uint8)]
)
def test_step_block_columns_have_dtypes_and_shapes_of_spec(spec: GameSpec, dtype: type) -> None:
    block = StepBlock.empty(spec, 4)
    assert len(block) == 4
    got = {
        f.name: (getattr(block, f.name).dtype, getattr(block, f.name).shape[1:])
        for f in fields(block)
    }
    assert got == {
        "obs": (dtype, (spec.observation_size,)),
        "action": (np.float32, (spec.action_width,)),
        "recommended": (np.float32, (spec.action_width,)),
        "reward": (np.float32, ()),
        "stream": (np.int64, ()),
        "seq": (np.uint32, ()),
        "policy_version": (np.uint32, ()),
        "actor": (np.uint8, ()),
        "kind": (np.uint8, ()),
        "status": (np.uint8, ()),
        "legal": (np.uint8, (spec.legal_bytes,)),
        "state": (np.float16, (0,)),
    }
    assert np.isnan(block.recommended).all()
    assert (block.legal == 255).all()
    block.recommended[:] = block.legal[:] = 0
    assert all(not getattr(block, f.name).any() for f in fields(block))


@pytest.mark.parametrize("n", [0, 1, 3, 64, 65])
@pytest.mark.parametrize("spec", [SPEC, PIXELS, MASKED])
def test_step_block_columns_do_not_overlap_and_fit_nbytes(spec: GameSpec, n: int) -> None:
    buffer = bytearray(StepBlock.nbytes(spec, n))
    block = filled(StepBlock.over(buffer, spec, n))
    again = filled(StepBlock.empty(spec, n))
    for field in fields(block):
        np.testing.assert_array_equal(getattr(block, field.name), getattr(again, field.name))
    if n:
        with pytest.raises(ValueError, match="buffer"):
            StepBlock.over(buffer[: -64 - n], spec, n)


def test_step_block_over_buffer_shares_its_memory() -> None:
    buffer = bytearray(StepBlock.nbytes(SPEC, 4))
    filled(StepBlock.over(buffer, SPEC, 4))
    other = StepBlock.over(buffer, SPEC, 4)
    np.testing.assert_array_equal(other.stream, filled(StepBlock.empty(SPEC, 4)).stream)


def test_step_block_columns_start_on_cache_lines() -> None:
    block = StepBlock.empty(SPEC, 5)
    start = block.obs.ctypes.data
    for field in fields(block):
        assert (getattr(block, field.name).ctypes.data - start) % 64 == 0


def test_step_block_rows_are_views() -> None:
    block = filled(StepBlock.empty(SPEC, 6))
    part = block.rows(2, 5)
    assert len(part) == 3
    for field in fields(block):
        whole, view = getattr(block, field.name), getattr(part, field.name)
        np.testing.assert_array_equal(view, whole[2:5])
        assert np.shares_memory(view, whole) or not view.size
    part.actor[0] = 250
    assert block.actor[2] == 250


def test_step_block_of_195_floats_needs_under_840_bytes_per_step() -> None:
    spec = GameSpec("g", Observation("float32", (195,)), (Discrete("fire", 4),))
    assert StepBlock.nbytes(spec, 10_000) / 10_000 < 840

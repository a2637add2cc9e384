from __future__ import annotations

import numpy as np
import pytest
import torch

from agent.storage import Buffers, gather, put, zeros

CPU = torch.device("cpu")
DEVICES = [CPU, *([torch.device("cuda")] if torch.cuda.is_available() else [])]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("at", [0, 3, 9])
@pytest.mark.parametrize("rows", [0, 1, 7, 10])
def test_put_past_end_wraps_around(device: torch.device, at: int, rows: int) -> None:
    store = zeros((10, 2), np.float32, device)
    new = np.arange(1, 2 * rows + 1, dtype=np.float32).reshape(rows, 2)
    put(store, at, new)
    want = np.zeros((10, 2), np.float32)
    want[(at + np.arange(rows)) % 10] = new
    assert np.array_equal(store.cpu(), want)


@pytest.mark.parametrize("device", DEVICES)
def test_put_accepts_read_only_memory(device: torch.device) -> None:
    store = zeros((4,), np.int64, device)
    put(store, 1, np.frombuffer(np.arange(2).tobytes(), np.int64))
    assert store.tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("width", range(1, 20))
@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.int64])
def test_gather_equals_indexing(device: torch.device, width: int, dtype: type) -> None:
    store = zeros((50, width), dtype, device)
    put(store, 0, np.random.default_rng(width).integers(0, 250, (50, width)).astype(dtype))
    places = torch.randint(50, (30,), device=device)
    for buffers in (None, Buffers() if device == CPU else None):
        got = gather(store, places, buffers)
        assert got.dtype == store.dtype
        assert torch.equal(got, store[places])


def test_gather_keeps_bits_of_nan_values() -> None:
    """Rows gathered as one element are moved, not computed with."""
    bits = np.array([[0x7FF0_0000_0000_0001, 0x7FF8_DEAD_BEEF_0001]], np.int64)
    store = zeros((1, 2), np.int64, CPU)
    put(store, 0, bits)
    assert np.array_equal(gather(store, torch.zeros(3, dtype=torch.int64)), bits.repeat(3, 0))


def test_buffer_is_reused_only_when_no_view_is_held() -> None:
    buffers = Buffers(keep=2)
    first = buffers.take((4, 3), torch.float32).fill_(1)
    address = first.data_ptr()
    view = first.view(2, 6)[1:]  # a view of a view holds the memory too
    del first
    second = buffers.take((4, 3), torch.float32).fill_(2)
    assert second.data_ptr() != address
    assert view.eq(1).all()
    del view
    assert buffers.take((4, 3), torch.float32).data_ptr() == address


def test_buffers_held_beyond_pool_size_stay_valid() -> None:
    buffers = Buffers(keep=2)
    held = [buffers.take((8,), torch.uint8).fill_(i) for i in range(6)]
    assert [int(t[0]) for t in held] == list(range(6))
    assert len({t.data_ptr() for t in held}) == 6
    assert len(buffers._pool) == 2


def test_buffers_of_other_size_replace_pooled_ones() -> None:
    buffers = Buffers()
    big = buffers.take((100,), torch.float32)
    assert buffers.take((10,), torch.float32).shape == (10,)
    assert {len(b) for b in buffers._pool} == {40}
    assert big.fill_(1).sum() == 100


def test_buffer_held_by_autograd_is_not_reused() -> None:
    buffers = Buffers()
    weight = torch.ones(3, requires_grad=True)
    loss = (weight * buffers.take((3,), torch.float32).fill_(5)).sum()
    buffers.take((3,), torch.float32).fill_(7)
    loss.backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    assert weight.grad.tolist() == [5, 5, 5]

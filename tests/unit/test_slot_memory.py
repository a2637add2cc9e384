from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from server.gateway.frame_batch import FrameBatch
from server.gateway.frame_stacks import FrameStacks
from server.gateway.pending_steps import PendingSteps
from server.gateway.slot_memory import slot_bytes
from server.gateway.slots import SlotTable
from tests.support.worlds import PIXELS, SPEC

MOST = 2048


def test_slot_bytes_matches_size_of_arrays() -> None:
    n = 1024
    for spec, stack in ((SPEC, 1), (PIXELS, 4)):
        holders: list[Any] = [SlotTable(spec, n), FrameBatch(spec, stack, n)]
        if stack > 1:
            holders.append(FrameStacks(spec, stack, n))
        held = sum(
            array.nbytes
            for holder in holders
            for name, array in vars(holder).items()
            if isinstance(array, np.ndarray) and name != "_order"
        )
        block = PendingSteps(spec, n)._block
        held += sum(getattr(block, name).nbytes for name in type(block).__slots__)
        assert slot_bytes(spec, stack) == pytest.approx(held / n, rel=0.05, abs=64)

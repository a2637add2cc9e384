"""How much memory a gateway has for each slot."""

from __future__ import annotations

from agent.step import StepBlock
from protocol.spaces import GameSpec
from server.gateway.frame_batch import FrameBatch
from server.gateway.frame_stacks import FrameStacks
from server.gateway.pending_steps import ROWS_PER_SLOT
from server.gateway.slots import SlotTable


def slot_bytes(spec: GameSpec, frame_stack: int = 1, memory: int = 0) -> int:
    """Memory that a gateway has for each slot, in bytes. `memory`: numbers of the network's
    recurrent state."""
    holders: list[SlotTable | FrameBatch | FrameStacks] = [
        SlotTable(spec, 1, memory),
        FrameBatch(spec, frame_stack, 1, memory),
    ]
    if frame_stack > 1:
        holders.append(FrameStacks(spec, frame_stack, 1))
    each = sum(holder.memory.row_bytes for holder in holders)
    # The columns of pending steps are aligned, so that a single row would look too long.
    return each + ROWS_PER_SLOT * StepBlock.nbytes(spec, 1024, memory) // 1024

"""Whether the devices have memory for a game, before any of it is taken."""

from __future__ import annotations

from collections.abc import Callable

from agent.device import free_memory
from agent.game_memory import device_bytes, shown, to_lower
from config.models import Config
from protocol.spaces import GameSpec


def check(
    spec: GameSpec,
    config: Config,
    memory_of: Callable[[str], tuple[int, int]] = free_memory,
) -> None:
    """Errors: MemoryError where a cuda device has less free memory than the game takes of it at
    least. `memory_of`: free and all bytes of the device of this name."""
    for device, parts in device_bytes(spec, config).items():
        free, everything = memory_of(device)
        total = sum(parts.values())
        if total > free:
            largest = max(parts, key=lambda name: parts[name])
            raise MemoryError(
                f"expected at most {shown(free)} on {device}, what is free there of "
                f"{shown(everything)}, and it takes {shown(total)}; the most of it, "
                f"{shown(parts[largest])}, is that of {to_lower(largest, config)}: lower it, or "
                "set replay.device or trainer.device to cpu"
            )

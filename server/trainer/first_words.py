"""What a trainer says when it begins: how the network looks at what the game shows, and how many
steps the replay keeps."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from agent.game_memory import shown, step_bytes
from agent.looks import Look
from config.models import Config
from protocol.spaces import GameSpec

log = logging.getLogger("trainer")


def say_looks(looks: Sequence[Look]) -> None:
    """A line for each observation, and a warning where what may be a picture is not seen as one."""
    for look in looks:
        log.info("sees %s", look)
        if look.is_flattened:
            log.warning(
                "observation %s has %d sides and goes to plain layers, which see no neighbours; if "
                'it is a picture, have the game say so in HELLO (kind "picture", or its low and '
                "high: protocol/SPEC.md, Observations), or use learner.trunk auto",
                look.observation.name,
                len(look.observation.shape),
            )


def say_capacity(spec: GameSpec, asked: Config, config: Config) -> None:
    """How many steps the replay keeps. `asked`: the configuration that was asked for, `config`: as
    it fits (agent.game_memory.fitted)."""
    steps = config.replay.capacity_steps
    text = f"the replay keeps {steps:,} steps of {shown(step_bytes(spec, config))}"
    if steps < asked.replay.capacity_steps:
        text += (
            f", what fits into {asked.replay.memory_share:g} of the free memory "
            f"(replay.memory_share); replay.capacity_steps allows {asked.replay.capacity_steps:,}"
        )
    log.info("%s", text)

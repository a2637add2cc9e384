"""Settings `trainer.*`: the training process."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from config.settings.base import (
    Device,
    Live,
    OrNone,
    Positive,
    Seconds,
    Section,
    Steps,
    Unit,
    Updates,
)


class TrainerConfig(Section):
    """The training process."""

    enabled: bool = True
    """Train. If off, the server plays with the weights it has."""
    device: Device = "auto"
    """Device of training: cpu, cuda, cuda:N, or auto (cuda if available)."""
    cuda_graphs: bool = True
    """Record updates on a GPU as CUDA graphs, which run with one launch. Off: each operation is
    launched by itself."""
    threads: Annotated[int, Field(ge=0, le=1024), Unit("threads")] = 0
    """Threads of the trainer's computations. 0: one for each core but those of the gateways."""
    replay_ratio: Annotated[Positive, Unit("updates per stored step"), Live()] = 1.0
    """Updates for each stored step."""
    min_steps: Steps = 1000
    """Stored steps before training starts."""
    max_lag_updates: Annotated[Updates | None, OrNone, Unit("updates"), Live()] = 50
    """Updates that training may be behind, counting every answered frame; then games in lock step
    wait. Games in real time (HELLO) never wait. none: no game waits."""
    publish_every_s: Seconds = 0.1
    """Time between new weights for the gateways."""
    nice: Annotated[int, Field(ge=0, le=19)] = 5
    """Niceness of the process: a higher value leaves more of a busy machine to the gateways."""

"""Settings `cluster.*`: the server on several machines (`understudy serve --cluster auto`)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from config.settings.base import Count, NotNegative, Seconds, Section, Unit


class ClusterConfig(Section):
    """The server on several machines. Read with `understudy serve --cluster auto`."""

    gateways: Annotated[Count, Unit("nodes")] = 1
    """Nodes that serve games, each with server.gateways processes."""
    learners: Annotated[Count, Unit("processes")] = 1
    """Learners, which make each update together. Each keeps the rows of the nodes that belong to
    it: node i those of learner i mod learners."""
    gpus_per_learner: Annotated[NotNegative, Unit("GPUs")] = 0.0
    """GPUs that Ray reserves for each learner. 0: it learns on the processor, or on whatever
    trainer.device names there."""
    ack: Literal["written", "synced"] = "written"
    """When a gateway may let go of rows: once the operating system of the learner's machine has
    them, or once its disk has. On one machine too."""
    start_timeout_s: Seconds = 60.0
    """How long a start waits for the nodes that it needs."""
    rank_timeout_s: Annotated[Seconds, Field(ge=1)] = 30.0
    """How long one learner may keep the others waiting in an update. Then all begin anew from the
    newest checkpoint."""

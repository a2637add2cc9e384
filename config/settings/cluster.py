"""Settings `cluster.*`: the server on several machines (`understudy serve --cluster auto`)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from config.settings.base import Count, NotNegative, Seconds, Section, Unit, Unsaved


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
    allreduce: Literal["float32", "bfloat16"] = "float32"
    """What gradients are added up in, over the network, where there are several learners. bfloat16
    is half as many bytes, and rounds each number to 8 bits: the learners stay the same to the bit,
    but are no longer, to 1e-6, what one learner would be."""
    insecure: Annotated[bool, Unsaved()] = False
    """Use a cluster of several machines whose Ray asks for no token: whoever reaches its ports can
    run programs on every node. Never saved: each start is told anew."""
    start_timeout_s: Seconds = 60.0
    """How long a start waits for the nodes that it needs."""
    rank_timeout_s: Annotated[Seconds, Field(ge=1)] = 30.0
    """How long one learner may keep the others waiting in an update. Then all begin anew from the
    newest checkpoint."""

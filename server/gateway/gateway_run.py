"""The run as a gateway has it once there is a game: rings, weights, policy and frame loop."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np

from agent.decision import ActingParams
from agent.device import resolve_device
from agent.policy import Policy
from agent.stored_policy import stored_policy
from config.models import Config
from server.gateway.checkpoint_shelf import Background, CheckpointShelf
from server.gateway.expert_plugin import ExpertPlugin
from server.gateway.frame_loop import FrameLoop
from server.gateway.slot_memory import slot_bytes
from server.ipc.inflight import cells
from server.ipc.messages import Open
from server.ipc.step_ring import StepRing
from server.ipc.weight_slot import WeightSlot

log = logging.getLogger("gateway")


class GatewayRun:
    """Opened by a message of the supervisor, closed at the gateway's end."""

    def __init__(
        self,
        message: Open,
        config: Config,
        index: int,
        acting_params: Callable[[], ActingParams],
        background: Background,
    ) -> None:
        """`index`: which gateway this is; `acting_params`: how frames are played now; `background`:
        where checkpoints are loaded."""
        self.spec = spec = message.spec
        frame_stack, memory = config.replay.frame_stack, config.learner.state_size
        self._rings = [
            StepRing.attach(name, spec, config.server.ring_steps, memory) for name in message.rings
        ]
        self._ring = ring = self._rings[index if message.own is None else message.own]
        ring.take_over()
        self._weights = WeightSlot.attach(message.weights, message.size)
        device = resolve_device(config.server.device, "server.device")
        self.policy = Policy(
            spec, config.learner, self._weights, device=device, frame_stack=frame_stack
        )
        self.policy.refresh()

        def load(path: Path) -> Policy:
            return stored_policy(path, spec, config.learner, device=device, frame_stack=frame_stack)

        folder = Path(message.checkpoints) if message.checkpoints else None
        self.shelf = CheckpointShelf(folder, load, background)
        in_flight = np.zeros(2, np.int64)
        if message.in_flight:
            in_flight = cells(Path(message.in_flight), index)
        in_flight[:] = ring.steps, 0
        seed = config.run.seed
        self.frame_loop = FrameLoop(
            spec,
            config.reward,
            self.policy,
            ring,
            acting_params,
            np.random.Generator(np.random.SFC64(None if seed is None else [seed, index])),
            most_slots=config.server.max_slot_bytes // slot_bytes(spec, frame_stack, memory),
            frame_stack=frame_stack,
            memory=memory,
            expert=ExpertPlugin.load(config.expert.plugin, spec),
            in_flight=in_flight,
            shelf=self.shelf,
        )
        self._failures_before = 0
        # What was loaded stays: the collector need not look through it again and again, which
        # takes it long enough for a game to notice.
        gc.collect()
        gc.freeze()
        # The first pass through the network sets up threads and memory: not in a game's time.
        self.policy.greedy(
            np.zeros((1, frame_stack * spec.observation_size), spec.observation_dtype)
        )

    @property
    def frames(self) -> int:
        """Stored frames of the whole run, all gateways together."""
        return self._weights.base_frames + sum(ring.steps for ring in self._rings)

    @property
    def ahead(self) -> bool:
        """All gateways together have answered as many frames as training lets games in lock step
        play."""
        return sum(ring.answered for ring in self._rings) >= self._weights.allowed

    def count_session(self) -> int:
        """How many sessions this gateway, and those in whose place it is, have begun before."""
        return self._ring.count_session()

    def load_expert(self, plugin: str | None) -> None:
        """Ask this expert from now on. One that cannot be loaded is logged, and none is asked."""
        self._failures_before = self.expert_failures
        try:
            self.frame_loop.expert = ExpertPlugin.load(plugin, self.spec)
        except ValueError as error:
            # The supervisor has imported it; here it may still fail.
            log.error("%s; expert plugin disabled", error)
            self.frame_loop.expert = None

    @property
    def expert_failures(self) -> int:
        """Of this gateway's experts: the one that is asked now, and those before it."""
        expert = self.frame_loop.expert
        return self._failures_before + (expert.failures if expert else 0)

    def close(self) -> None:
        """Let go of the shared memory."""
        for ring in self._rings:
            ring.close()
        self._weights.close()

"""What the driver and the actors of a cluster say to each other: orders, and replies to them.

Plain data of our own making. What games sent travels between machines as columns of numbers alone
(server.cluster.blocks).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from config.models import Config
from protocol.spaces import GameSpec
from server.trainer.task import Task


@dataclass(frozen=True)
class Setup:
    """To an actor that has just been made, by the driver or anew by Ray."""

    config: Config
    folder: str
    """The run's, on storage that all nodes share."""
    launch: int
    """Which start of the run this is."""
    made: int = 0
    """How often this actor was made anew before, in this start."""


@dataclass(frozen=True)
class Decide:
    """The run's game: make what it needs on this machine."""

    spec: GameSpec


@dataclass(frozen=True)
class Forget:
    """The game could not be opened: remove what was made for it."""


@dataclass(frozen=True)
class Start:
    """Start a process."""

    name: str
    generation: int
    """Rises with each start of a process of this name: what an earlier one said is not meant."""
    config: Config
    task: Task | None = None
    """Of a trainer."""


@dataclass(frozen=True)
class Relay:
    """Send a message of server.ipc to a process."""

    name: str
    generation: int
    message: Any


@dataclass(frozen=True)
class Kill:
    """Kill a process."""

    name: str
    generation: int


@dataclass(frozen=True)
class Elsewhere:
    """To a node's gateways: stored frames of the run that they do not count themselves, those of
    other nodes and of earlier starts."""

    elsewhere: int


@dataclass(frozen=True)
class StopListening:
    """To a node: whoever comes from now on is refused."""


class RingNumbers(NamedTuple):
    """A gateway's ring, at one moment."""

    steps: int
    """STEP rows written."""
    steps_read: int
    """STEP rows that the learner has kept."""
    used: int
    """Rows that it has not acknowledged."""
    capacity: int
    completed: int
    """Steps that the gateway has answered for."""
    open_frames: int
    """Frames that it has answered and that are not complete."""


class Answered(NamedTuple):
    """What a gateway had answered for whose actor was killed."""

    launch: int
    made: int
    """Of the actor, as Setup has them."""
    steps: int
    """That it had completed."""
    frames: int
    """That it had answered beyond them."""
    generation: int
    """Of its newest process, as Start has it."""


@dataclass
class Reply:
    """What an actor says in an exchange."""

    incarnation: str
    """Of the actor: another one after Ray has made it anew."""
    now: float
    """By its `time.monotonic`."""
    host: str
    node: str = ""
    """Of Ray, on which it runs."""
    pid: int = 0
    messages: list[tuple[str, int, Any]] = field(default_factory=list)
    """Of its processes: name, generation, and what was said."""
    ended: list[tuple[str, int, int | None]] = field(default_factory=list)
    """Processes that have ended: name, generation, exit code."""
    beats: dict[str, tuple[int, int, tuple[int, int]]] = field(default_factory=dict)
    """Of processes that run: generation, process ID, and HeartbeatMonitor.numbers."""
    ports: tuple[int, int | None, int | None] | None = None
    """Where games connect, on a node that serves them."""
    rings: dict[int, RingNumbers] = field(default_factory=dict)
    """Of its gateways."""
    left: dict[int, Answered] = field(default_factory=dict)
    """Once, of gateways whose actor was killed on this machine."""
    version: int = 0
    """Of the weights that its gateways have."""
    weights_age_s: float = 0.0
    """Since they came."""
    error: str = ""
    """What could not be done."""


@dataclass(frozen=True)
class Delivery:
    """Rows of one gateway on their way to its learner."""

    gateway: int
    incarnation: int
    first: int
    """The number of the first row."""
    rows: int
    columns: Any
    """Of agent.step.StepBlock, one after the other, uint8 [bytes]; None without rows."""
    answered: int
    """Frames that the gateway has answered for training."""
    oldest: int
    """The number of the first row that was not acknowledged."""
    steps_kept: int
    """STEP rows before that."""
    node: int


class Receipt(NamedTuple):
    """What a learner has of a gateway's rows."""

    wanted: int
    """The number of the row that is to be sent next."""
    kept: int
    """Rows before this one are kept: the gateway may let go of them."""
    allowed: int
    """Frames that this node's gateways may have answered (WeightSlot.allowed)."""

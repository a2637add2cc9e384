"""What the processes of one server say to each other over pipes. Plain data, pickled by
multiprocessing between processes of our own making only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.finding import Finding
from config.models import Config
from protocol.actor import TAG_COUNT
from protocol.spaces import GameSpec
from server.ipc.game_report import GameReport
from server.ipc.turn_buckets import TURN_BUCKETS_S

GATEWAY, TRAINER = "gateway", "trainer"
"""Kinds of the supervisor's children."""


@dataclass(frozen=True)
class Proposed:
    """A gateway: a game came whose spec could become the run's."""

    spec: GameSpec


@dataclass(frozen=True)
class Refused:
    """The supervisor to the gateways: a proposed game cannot be the run's."""

    spec: GameSpec
    text: str
    """Why, for whoever proposed it."""
    later: bool = False
    """It may be proposed again."""


@dataclass(frozen=True)
class Ranks:
    """How a learner finds the others (agent.collective)."""

    host: str
    port: int
    """Where the first one listens, with a store of torch.distributed."""
    rank: int
    size: int
    timeout_s: float
    """How long one may keep the others waiting."""
    interface: str | None = None
    """Of the network between them; None: that of the host's name."""
    allreduce: str = "float32"
    """What gradients are added up in (agent.collective.Gloo)."""


@dataclass(frozen=True)
class GameDecided:
    """The supervisor to the trainer: this is the run's game, and these are the rings to drain."""

    spec: GameSpec
    rings: tuple[str, ...]
    accepted: bool = False
    """The start is, so there is nothing to wait for."""
    version: int = 0
    """Gateways have weights of this version, so the next one is above it."""
    ranks: Ranks | None = None
    """Of the learners that make each step together, where there are several."""


@dataclass(frozen=True)
class Begin:
    """The supervisor to the trainer: the start is accepted, so it may write to the run's folder."""


@dataclass(frozen=True)
class Ready:
    """The trainer: the first weights are in this slot."""

    weights: str
    size: int
    base_frames: int = 0
    """Stored frames of the run before this start."""


@dataclass(frozen=True)
class Changed:
    """The supervisor to all: these settings hold from now on (see config.changes)."""

    config: Config


@dataclass(frozen=True)
class Open:
    """The supervisor to a gateway: let games of this spec play."""

    spec: GameSpec
    rings: tuple[str, ...]
    weights: str
    size: int
    in_flight: str = ""
    """The file where the gateway counts (server.ipc.inflight); empty for none."""
    checkpoints: str = ""
    """The folder of the run's; empty for none."""
    own: int | None = None
    """Which of the rings is the gateway's; None: that of its index."""


@dataclass(frozen=True)
class FinishedEpisode:
    """One finished episode, as the gateway saw it. The return is before the clip."""

    role: str
    episode_return: float
    length: int
    session: int = 0
    """The connection's."""
    cut: str = ""
    """Of evaluation, where it did not end by itself: LIMIT or LEFT. The return is that so far."""
    filled: int = 0
    """In the role eval_expert: frames for which nothing was recommended."""


LIMIT, LEFT = "limit", "left"
"""Why an episode of evaluation was cut: it went beyond a limit (`evaluation.*`), or its game left
in the middle of it."""


@dataclass(frozen=True)
class EvaluationGame:
    """A connection that plays evaluation."""

    session: int
    role: str
    slots: int
    episodes: int | None
    """That it has announced; None where it has not."""
    frames: int = 0
    """Of its longest episode under way."""
    seconds: float = 0.0
    """How long that has taken, or how long it has done nothing."""
    bye: bool = False
    """It has said that it is done: it is leaving, and will not come back."""


@dataclass(frozen=True)
class Joined:
    """A gateway: a client was welcomed."""

    session: int
    gateway: int
    client: str
    """Name and version of its program, as it says."""
    game: str
    role: str
    slots: int
    peer: str
    """host:port."""
    time: float
    """When, by `time.monotonic`, which is one clock for all processes of a machine."""
    evaluates: bool = False
    """It evaluates when asked to."""


@dataclass(frozen=True)
class Left:
    """A gateway: a client that had joined is gone."""

    session: int


@dataclass(frozen=True)
class FailedConnections:
    """Connections of one address that ended in the same error in an interval."""

    address: str
    """For IPv6 a /64 network."""
    code: str
    times: int
    peer: str
    """host:port of the newest, as are the following."""
    client: str
    """What its program calls itself; empty if it did not say."""
    session: int
    """0 before WELCOME."""
    message: str
    """What it was told."""


def _no_turns() -> list[int]:
    return [0] * (len(TURN_BUCKETS_S) + 1)


def _nobody() -> npt.NDArray[np.int64]:
    return np.zeros((0, TAG_COUNT), np.int64)


@dataclass(frozen=True)
class GatewayReport:
    """A gateway, once each interval; counters are totals since its start."""

    index: int
    frames: dict[str, int]
    """Frames answered, by role."""
    clients: int
    slots: int
    """In play, in any role."""
    errors: dict[str, int]
    """Connections ended with an error, by code."""
    turns: int
    turn_p50_ms: float
    turn_p99_ms: float
    """From the first frame of a loop turn to the last answer of it; NaN where there was no turn in
    the interval."""
    stalls: int
    """How often the ring was full and reading stopped."""
    policy_version: int
    expert_ratio: float
    epsilon: float
    episodes: list[FinishedEpisode] = field(default_factory=list)
    """Those that ended in the interval."""
    evaluating: list[EvaluationGame] = field(default_factory=list)
    """The connections that play evaluation now."""
    run_frames: int = 0
    """Stored frames of the whole run, all gateways together."""
    expert_failures: int = 0
    """How often the server's own expert failed."""
    sessions: list[int] = field(default_factory=list)
    """Of the connections that play now."""
    played: npt.NDArray[np.int64] = field(default_factory=_nobody)
    """Frames of each of those connections, [n, TAG_COUNT]: the first ones of episodes, those that
    ended an action of dqn, and those that ended one of the expert."""
    turn_buckets: list[int] = field(default_factory=_no_turns)
    """Turns since the gateway's start that took at most as long as each of TURN_BUCKETS_S, and last
    the number of all."""
    turn_seconds: float = 0.0
    """What all of them took together."""
    held: float = 0.0
    """The share of the interval in which games in lock step waited for the trainer."""
    findings: list[Finding] = field(default_factory=list)
    """What is worth a warning and was found in the interval."""
    opened: bool = False
    """It would welcome games: it has the run's game, and weights."""
    failures: list[FailedConnections] = field(default_factory=list)
    """Whose connections ended with an error in the interval: the newest of them."""
    time: float = 0.0
    """When all of this was so, by `time.monotonic`."""
    game: GameReport = field(default_factory=lambda: GameReport())
    misreads: int = 0
    """Times that an older client for Tempest was found to read replies of another length."""
    training: int = 0
    """Of the slots in play, those in training."""
    takeovers: tuple[int, int] = (0, 0)
    """Interventions of an expert, and the frames that they lasted."""


@dataclass(frozen=True)
class TrainerReport:
    """The trainer, once each interval."""

    metrics: dict[str, float]
    lines: list[str]
    """[BATCH] and [BUFFER] lines that are due."""
    findings: list[Finding] = field(default_factory=list)
    """What is worth a warning and holds now."""


@dataclass(frozen=True)
class Settle:
    """The supervisor to all: is anything still on its way? The answer is Settled, after a report if
    nothing is."""


@dataclass(frozen=True)
class Settled:
    """A gateway: whether no game plays and all its steps are in the ring. The trainer: whether the
    rings are empty, no update is due and the weights are published."""

    process: str
    settled: bool


@dataclass(frozen=True)
class RolledBack:
    """The trainer: numbers went bad, and learning goes on from an earlier checkpoint."""

    updates: int
    """Of the learner now."""
    rollbacks: int
    """How often that was since the trainer started."""


@dataclass(frozen=True)
class LogLine:
    """A line for the log."""

    level: int
    source: str
    text: str


@dataclass(frozen=True)
class SaveWanted:
    """A gateway: a client asks for a checkpoint, as older ones for Tempest can."""


@dataclass(frozen=True)
class SaveCheckpoint:
    """The supervisor to the trainer: write one now. The trainer answers with CheckpointSaved."""


@dataclass(frozen=True)
class CheckpointSaved:
    """The trainer: a checkpoint was written, or why not."""

    path: str
    error: str | None = None


@dataclass(frozen=True)
class Pause:
    """The supervisor to the trainer: learn no more, or go on. Steps are taken in all the while."""

    on: bool


@dataclass(frozen=True)
class Evaluate:
    """The supervisor to a gateway: ask the games to evaluate."""

    number: int
    """Larger than those before, of earlier starts too."""


@dataclass(frozen=True)
class SaveBest:
    """The supervisor to the trainer: the evaluation was the best so far; keep the network as it is
    now. The trainer answers with SavedBest."""

    evaluation: dict[str, Any]
    """A line of evaluations.jsonl."""


@dataclass(frozen=True)
class SavedBest:
    """The trainer: the best checkpoint was written, or why not."""

    path: str
    mean: float
    """What its network scored."""
    error: str | None = None


@dataclass(frozen=True)
class WriteDump:
    """The supervisor to the trainer: write what the replay holds (stream, seq, actor, action) and
    the rows of the batches recorded so far to this .npz. The trainer answers with DumpWritten."""

    path: str


@dataclass(frozen=True)
class DumpWritten:
    """The trainer to the supervisor: what WriteDump asked for is in this file."""

    path: str


@dataclass(frozen=True)
class ProcessFailed:
    """A process cannot go on; the text says why and what to do."""

    text: str
    final: bool = False
    """Another one in its place would fail alike: the run is to end."""
    cause: str = ""
    """`memory`: there is not enough; `system`: the disk, say; `weights`: nothing of another run's
    fits. Empty for anything else."""
    passing: bool = False
    """It may be over soon (config.passing)."""
    kind: str = TRAINER
    """Which kind of process it is."""


@dataclass(frozen=True)
class Ending:
    """The supervisor to the trainer: the games are being ended. Take in what they leave, however
    far behind learning is, and go on until Stop."""


@dataclass(frozen=True)
class Stop:
    """The supervisor: finish what was taken in, and end."""

"""Every setting there is: frozen models, unknown keys refused, each field with its unit.

The docstring under a field is its documentation: `--help`, `understudy config show` and
docs/configuration.md are made from it. A field without one fails a test.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)

from protocol.messages import RESERVED

NONE = "none"
"""How "no value" is written for an optional field: TOML has no null, and neither has a shell."""


START_ADVANCED, START_LEVEL, MAX_START_LEVEL = "start_advanced", "start_level", 81
"""The names in server.settings that the older clients for Tempest know, and the last level."""


def _none(value: object) -> object:
    return None if value == NONE else value


class Unit(str):
    """What the number of a field counts: metadata of an annotated type, shown in the help."""

    __slots__ = ()


class Expected(str):
    """What a value must look like, where the type and its limits do not say it."""

    __slots__ = ()


_DEEPEST = 16

OrNone = BeforeValidator(_none)
"""Metadata of an optional field: accept the word."""

Count = Annotated[int, Field(ge=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Seconds = Annotated[Positive, Unit("seconds")]
Frames = Annotated[Count, Unit("frames")]
Steps = Annotated[Count, Unit("steps")]
Updates = Annotated[Count, Unit("updates")]
Device = Annotated[
    str, Field(pattern=r"^(auto|cpu|cuda(:[0-9]+)?)$"), Expected("auto, cpu, cuda or cuda:N")
]
File = Annotated[Annotated[Path, Field(strict=False), Expected("a path")] | None, OrNone]
CountOrNone = Annotated[Annotated[int, Field(ge=1)] | None, OrNone]
ActorName = Literal["dqn", "expert"]


class Section(BaseModel):
    """A frozen set of fields. Strict: text is not a number, and a number is not a switch."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True
    )


class Schedule(Section):
    """A value that goes in a straight line from `start` to `end`, and stays there."""

    start: NotNegative
    """Value at frame 0."""
    end: NotNegative
    """Value from frame `hold` + `frames` on."""
    frames: Frames
    """How long the way from start to end takes, in stored frames of all gateways."""
    hold: Annotated[int, Field(ge=0), Unit("frames")] = 0
    """How long it stays at start before it sets out."""


class FractionSchedule(Schedule):
    """A schedule of a fraction: both ends lie within 0 and 1."""

    start: Fraction
    """Value at frame 0."""
    end: Fraction
    """Value from frame `hold` + `frames` on."""


class RunConfig(Section):
    """The folder of the run, and what makes it repeatable."""

    dir: Annotated[Annotated[Path, Field(strict=False), Expected("a path")] | None, OrNone] = None
    """Where the run is kept. none: a new folder runs/<time>-<name>."""
    seed: Annotated[Annotated[int, Field(ge=0, le=2**63 - 1)] | None, OrNone] = None
    """Seed of every random generator. none: another one for each run."""

    @field_validator("dir", mode="before")
    @classmethod
    def _named(cls, path: object) -> object:
        if path == "":
            # Path("") is the current folder, which an unset variable would fill with a run.
            raise ValueError(f"expected a path or {NONE}, got empty text; correct or remove it")
        return path


class ServerConfig(Section):
    """The socket side: where games connect, and what they may do."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """The address to listen on. 0.0.0.0 for every interface; beyond loopback it takes a token."""
    port: Annotated[int, Field(ge=0, le=65_535)] = 7777
    """The TCP port to listen on. 0: any free one."""
    gateways: Annotated[Count, Unit("processes")] = 1
    """Processes that share the port, for when one core is not enough."""
    max_clients: Annotated[Count, Unit("connections")] = 1024
    """Connections at a time; more are refused. Each gateway takes an equal part of them."""
    max_message_bytes: Annotated[int, Field(ge=1024, le=2**32 - 1), Unit("bytes")] = 1_048_576
    """The longest message that a welcomed client may send."""
    max_slot_bytes: Annotated[int, Field(ge=65_536), Unit("bytes")] = 2**30
    """Memory for the slots of all connections of a gateway. Who asks for more slots than fit is
    refused."""
    max_game_bytes: Annotated[
        Annotated[int, Field(ge=2**20), Expected("a whole number of at least 1048576")] | None,
        OrNone,
        Unit("bytes"),
    ] = None
    """Memory that a run's game may take with a full replay, rings and network. The first game to
    connect is refused if it would take more. none: the memory of the machine or the container."""
    handshake_timeout_s: Seconds = 10.0
    """How long a new connection may take until its HELLO is complete."""
    idle_timeout_s: Seconds = 300.0
    """How long a client may send nothing. The clock stops while the server is not reading."""
    write_timeout_s: Seconds = 30.0
    """How long a client may leave its replies unread."""
    token: Annotated[Annotated[SecretStr, Field(min_length=1)] | None, OrNone] = None
    """What a client must say to be let in. none: everybody is. Never shown and never saved;
    best set by environment, for other users see a command line."""
    token_file: File = None
    """A file that holds the token instead, as containers get their secrets."""
    insecure: bool = False
    """Listen beyond loopback without a token all the same, and for the older clients for Tempest,
    which have none: whoever reaches the port plays."""
    tls_cert: File = None
    """A file with the certificate chain (PEM). With it, games and HTTP are served with TLS 1.2 or
    later and no other way. A renewed one is taken up within a minute. none: not encrypted."""
    tls_key: File = None
    """A file with its private key (PEM), without a passphrase. none: it is in tls_cert too."""
    max_clients_per_address: Annotated[CountOrNone, Unit("connections")] = None
    """Connections at a time from one address (in IPv6 from one /64 network). Each gateway takes an
    equal part of them. none: no other limit than max_clients."""
    max_frames_per_address: Annotated[CountOrNone, Unit("frames a second")] = None
    """Frames that one address is answered, all its games together, of each gateway; beyond that its
    games wait. none: as many as there are."""
    http_host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """The address that the dashboard listens on. It shows the run to everybody who can reach it."""
    http_port: Annotated[Annotated[int, Field(ge=0, le=65_535)] | None, OrNone] = 8080
    """The port of dashboard, metrics and health. 0: any free one. none: no HTTP."""
    control_token: Annotated[Annotated[SecretStr, Field(min_length=8)] | None, OrNone] = None
    """What controls over HTTP ask for, another than the games'; at least 8 characters. none: no
    controls over HTTP. Never shown and never saved."""
    control_token_file: File = None
    """A file that holds it instead, as containers get their secrets."""
    device: Device = "cpu"
    """Where forward passes run: cpu, cuda, cuda:N, or auto (cuda where there is one)."""
    log_format: Literal["text", "json"] = "text"
    """Lines of the log, in the run's folder and on the console: text, or JSON objects."""
    ring_steps: Annotated[int, Field(ge=2), Unit("steps")] = 16_384
    """Records in each gateway's ring to the trainer. Full: the games wait."""
    settings: dict[str, Any] = {}
    """Sent to the games when they connect: start level and the like, as they define them."""

    @field_validator("settings")
    @classmethod
    def _plain(cls, settings: dict[str, Any]) -> dict[str, Any]:
        for name, value in settings.items():
            if name.startswith(RESERVED):
                raise ValueError(
                    f"{name!r} begins with {RESERVED!r}, which is kept for the protocol; give it "
                    "another name"
                )
            _check_plain(name, value)
        return settings


class TempestConfig(Section):
    """The older clients for arcade Tempest (docs/tempest.md), which have a format of their own."""

    port: Annotated[
        Annotated[int, Field(ge=0, le=65_535), Expected("a whole number from 0 to 65535")] | None,
        OrNone,
    ] = None
    """The TCP port where they connect. 0: any free one. none: nowhere. With a port, the preset
    tempest is what all settings start from, where no other preset is named."""
    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """The address to listen on. These clients can say no token and no TLS: whoever reaches it can
    play, so beyond loopback it takes server.insecure."""
    reply_bytes: Annotated[int, Unit("bytes"), Expected("3 or 5")] = 5
    """The length of a reply: 5 with the start-level settings, 3 for clients before those. A client
    does not say which one it is."""
    spinner: Literal["continuous", "levels"] = "continuous"
    """How the knob is an action: one number from -0.9 to 0.9, or one of 11 levels."""
    zap_gate: FractionSchedule = FractionSchedule(start=0.0, end=0.0, frames=100_000)
    """The fraction of the network's superzaps that are not carried out where the client's expert
    would not zap. What was done instead is what is stored."""

    @field_validator("reply_bytes")
    @classmethod
    def _known(cls, length: int) -> int:
        if length not in (3, 5):
            raise ValueError(f"expected 3 or 5, got {length}; correct or remove it")
        return length


class RewardConfig(Section):
    """How the components of a reward become the number that is learnt from."""

    weights: dict[str, Finite] = {}
    """Weight of each reward component by its name; 1 for one that is not named."""
    clip: Annotated[Positive | None, OrNone] = None
    """The weighted sum is clipped to [-clip, clip]. none: as it is."""


class ExpertConfig(Section):
    """How often the expert plays, where a frame recommends an action."""

    ratio: FractionSchedule = FractionSchedule(start=0.5, end=0.05, frames=100_000)
    """The fraction of frames (or of segments, or of episodes) that the expert plays."""
    decay: Literal["schedule", "evaluation"] = "schedule"
    """What moves the ratio from start to end: stored frames, or evaluations of the student against
    the expert. Without evaluations it stays at start."""
    unit: Literal["frame", "segment", "episode"] = "frame"
    """What is decided at a time: each frame by itself, segments of a game, or whole episodes."""
    segment_frames: Frames = 50
    """With unit segment: how long one is. Each episode begins with a new one."""
    plugin: Annotated[
        Annotated[
            str,
            Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$"),
            Expected("module:function"),
        ]
        | None,
        OrNone,
    ] = None
    """An expert of the server's own, as `module:function`, for frames that come without a
    recommendation. The gateways import it (docs/experts.md). none: there is no such expert."""


class ExplorationConfig(Section):
    """What the network tries beyond what it thinks best."""

    epsilon: FractionSchedule = FractionSchedule(start=0.2, end=0.02, frames=100_000)
    """The fraction of the network's frames on which the discrete heads choose at random."""
    noise: Schedule = Schedule(start=0.2, end=0.05, frames=100_000)
    """Standard deviation of the noise on continuous heads, as a fraction of half their range."""


class ReplayConfig(Section):
    """The memory that batches are drawn from."""

    capacity_steps: Steps = 1_000_000
    """Steps kept; the oldest are overwritten."""
    device: Device = "auto"
    """Where they are kept: cpu, cuda, cuda:N, or auto (the trainer's device)."""
    stop_at_actor_change: bool = True
    """An n-step return ends where the actor changes: nobody is credited with another's play."""
    actor_share: dict[ActorName, Fraction] = {}
    """Fraction of each batch drawn from an actor's steps; what is left comes as it is stored."""
    prioritized: bool = False
    """Draw steps by their last TD error instead of uniformly, within each actor's share."""
    priority_alpha: Fraction = 0.6
    """With prioritized: how much the TD error counts; priority = |TD error|^alpha."""
    priority_beta: FractionSchedule = FractionSchedule(start=0.4, end=1.0, frames=100_000)
    """With prioritized: how far the losses make up for it, with factors that go as
    probability^-beta."""
    frame_stack: Annotated[Count, Unit("frames")] = 1
    """Frames that the network looks at together: the newest of the episode. Each is stored once."""

    @field_validator("actor_share")
    @classmethod
    def _sum(cls, share: dict[ActorName, float]) -> dict[ActorName, float]:
        total = math.fsum(share.values())
        if total > 1 + 1e-9:
            raise ValueError(f"the shares sum to {total:g}, more than 1; lower one of them")
        return share


class LearnerConfig(Section):
    """The network and its optimiser."""

    hidden: Annotated[tuple[Count, ...], Field(min_length=1, strict=False), Unit("units")] = (
        512,
        512,
        256,
    )
    """Width of each hidden layer of the trunk."""
    n_step: Steps = 3
    """Rewards in a return, at most."""
    gamma: Fraction = 0.99
    """Discount of a reward one step later."""
    batch_size: Steps = 256
    """Steps in a batch."""
    learning_rate: Positive = 5e-4
    """Step size of Adam."""
    warmup_updates: Annotated[int, Field(ge=0), Unit("updates")] = 0
    """How long the learning rate rises in a straight line from 0, at first."""
    cosine_updates: Annotated[Updates | None, OrNone, Unit("updates")] = None
    """How long it then falls along half a cosine to learning_rate_end. none: it stays."""
    cosine_restarts: bool = False
    """With cosine_updates: begin again at learning_rate each time that the cosine has ended."""
    learning_rate_end: Positive = 1e-5
    """With cosine_updates: the learning rate in the end."""
    adam_eps: Positive = 1e-8
    """Epsilon of Adam: what keeps its division finite."""
    value: Literal["scalar", "c51", "quantile"] = "scalar"
    """What is learnt of the return: its mean, or its distribution as probabilities of fixed values
    (c51) or as quantiles."""
    atoms: Annotated[int, Field(ge=2, le=512), Unit("numbers")] = 51
    """With value c51 or quantile: numbers that describe a distribution."""
    value_min: Finite = -100.0
    """With value c51: the smallest return that it can tell."""
    value_max: Finite = 100.0
    """With value c51: the largest return that it can tell."""
    continuous: Literal["regression", "gradient", "bins"] = "regression"
    """How continuous heads learn: by regression towards the actions taken, weighted by advantage;
    by the gradient of Q by the action; or cut into bins, each column a discrete branch."""
    bins: Annotated[int, Field(ge=2, le=1024), Unit("choices")] = 11
    """With continuous bins: choices of each continuous column, ends included."""
    trunk: Literal["auto", "linear"] = "auto"
    """What looks at observations. auto: convolutions where they are pictures (uint8, at least 8 x
    8), linear layers else. linear: always those."""
    normalize_observations: bool = False
    """Show the network float32 observations less their running mean, over their deviation."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the products in the trainer's passes through the network; weights stay float32."""
    huber_delta: Positive = 1.0
    """The error from which the Huber loss grows in a straight line."""
    grad_clip_norm: Positive = 10.0
    """The norm that gradients are clipped to."""
    target: Literal["soft", "hard"] = "soft"
    """How the target network follows: a little each update, or a copy now and then."""
    target_tau: Annotated[float, Field(gt=0, le=1)] = 0.005
    """With target soft: the fraction of the way that it goes at each update."""
    target_every: Updates = 1000
    """With target hard: how often it is copied."""
    continuous_weight: NotNegative = 1.0
    """Weight of the continuous heads' loss beside the TD loss of the discrete heads."""
    grad_norm_every: Updates = 20
    """How often the gradient norm of each actor is measured."""

    @model_validator(mode="after")
    def _support(self) -> Self:
        if self.value_min >= self.value_max:
            raise ValueError(
                f"learner.value_min is {self.value_min:g} and learner.value_max "
                f"{self.value_max:g}; the smallest value must be below the largest"
            )
        return self


class ImitationConfig(Section):
    """Learning what to do from what was done, beside what it earned."""

    expert: Schedule = Schedule(start=1.0, end=1.0, frames=100_000)
    """Weight of cloning: the network is to choose what the expert chose, on the expert's rows."""
    loss: Literal["margin", "cross_entropy"] = "margin"
    """Of cloning on discrete heads: a margin that Q of the expert's choice must keep above the
    others, or cross entropy of the choices, with Q over the temperature as logits."""
    margin: Positive = 0.8
    """With loss margin: how far Q of the expert's choice must be above the others."""
    temperature: Positive = 1.0
    """With loss cross_entropy: the difference in Q that makes one choice e times as likely."""
    taken: NotNegative = 0.0
    """Weight of imitating the actions taken on discrete heads, on all rows, by advantage weight
    where advantage.applies_to has imitation."""


class AdvantageConfig(Section):
    """Weights that favour what went better than usual, each actor compared with itself."""

    signal: Literal["reward", "return", "critic"] = "critic"
    """What is compared: the reward of the step, its n-step return, or what the critic thinks that
    the action is worth beyond the state."""
    mode: Literal["per_actor", "global", "off"] = "per_actor"
    """Compared with whom: the same actor, the whole batch (the old, wrong way), or not at all."""
    beta: NotNegative = 1.5
    """How steeply the weight grows: exp(beta x standard score)."""
    clip: Positive = 3.0
    """Standard scores are clipped to [-clip, clip]."""
    weight_min: Positive = 0.001
    """The smallest weight."""
    weight_max: Positive = 100.0
    """The largest weight."""
    normalize: bool = False
    """Divide the weights by their mean over the actor's rows of the batch."""
    applies_to: Annotated[
        tuple[Literal["continuous", "imitation", "td"], ...], Field(min_length=1, strict=False)
    ] = ("continuous", "imitation")
    """The losses that are weighted: the regression of the continuous heads, the imitation of
    taken actions on discrete heads, the TD loss."""
    actor_factor: dict[ActorName, NotNegative] = {}
    """A constant factor on the loss of an actor's rows; 1 for one that is not named."""

    @model_validator(mode="after")
    def _limits(self) -> Self:
        if self.weight_min > self.weight_max:
            raise ValueError(
                f"advantage.weight_min is {self.weight_min:g} and advantage.weight_max "
                f"{self.weight_max:g}; the smallest weight must not exceed the largest"
            )
        return self


class TrainerConfig(Section):
    """The training process."""

    enabled: bool = True
    """Train. Without it, the server plays with the weights it has."""
    device: Device = "auto"
    """Where training runs: cpu, cuda, cuda:N, or auto (cuda where there is one)."""
    threads: Annotated[int, Field(ge=0), Unit("threads")] = 0
    """Threads of the trainer's computations. 0: torch's choice."""
    replay_ratio: Annotated[Positive, Unit("updates per stored step")] = 0.25
    """How much is learnt from each step."""
    min_steps: Steps = 1000
    """Stored steps with which training begins."""
    max_lag_updates: Annotated[Updates | None, OrNone, Unit("updates")] = None
    """When the trainer is further behind than this, the games wait. none: they never do."""
    publish_every_s: Seconds = 0.1
    """How often the gateways get new weights."""
    nice: Annotated[int, Field(ge=0, le=19)] = 5
    """How far the process gives way to others where cores are short: serving goes first."""


class CheckpointConfig(Section):
    """Saving, to go on later."""

    every_s: Seconds = 300.0
    """How often the run is saved."""
    keep: Annotated[Count, Unit("checkpoints")] = 3
    """How many of the newest are kept; older ones are deleted."""
    keep_every_updates: Annotated[Updates | None, OrNone, Unit("updates")] = None
    """Of the older ones, the first after each so many updates is kept for good. none: none is."""
    replay: bool = True
    """Whether the rows of the replay are written to the run's folder as they come, so that a
    restart goes on with them, whatever ended the run. Takes as much of the disk as of memory."""


class HealthConfig(Section):
    """When a loss or a gradient is NaN or infinite. Such an update is skipped and counted."""

    max_consecutive_skips: Updates = 10
    """Skipped updates in a row that count as divergence: it is more than one bad batch."""
    on_divergence: Literal["rollback", "stop"] = "rollback"
    """What the trainer does then: it returns to the last good checkpoint and continues from there
    with a lower learning rate (rollback), or it stops with a message."""
    lr_factor: Annotated[float, Field(gt=0, le=1)] = 0.5
    """With rollback: the factor on the learning rate, applied once more at each rollback."""
    max_rollbacks: Annotated[Count, Unit("times")] = 3
    """With rollback: how many are allowed since the server was started; one more divergence stops
    training."""


class MetricsConfig(Section):
    """Numbers about the run."""

    every_s: Seconds = 1.0
    """How often they are collected."""
    tensorboard: bool = False
    """Write them as TensorBoard's event files too, into the run's folder tensorboard. Needs the
    package tensorboard."""


class SupervisionConfig(Section):
    """What happens when a process of the server dies or hangs."""

    max_restarts: Annotated[int, Field(ge=0), Unit("restarts")] = 5
    """Restarts of one process within window_s; the next death after those ends the server with
    exit code 1. 0: the first death ends it."""
    window_s: Seconds = 600.0
    """The time in which restarts are counted."""
    backoff_s: Seconds = 0.5
    """Wait before the first restart. It doubles with each further restart within window_s, up to
    30 s."""
    hang_timeout_s: Seconds = 60.0
    """A process that shows no progress for this long is killed and restarted."""


class Config(Section):
    """All settings of a run, a group for each part."""

    run: RunConfig = RunConfig()
    server: ServerConfig = ServerConfig()
    tempest: TempestConfig = TempestConfig()
    reward: RewardConfig = RewardConfig()
    expert: ExpertConfig = ExpertConfig()
    exploration: ExplorationConfig = ExplorationConfig()
    replay: ReplayConfig = ReplayConfig()
    learner: LearnerConfig = LearnerConfig()
    imitation: ImitationConfig = ImitationConfig()
    advantage: AdvantageConfig = AdvantageConfig()
    trainer: TrainerConfig = TrainerConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    health: HealthConfig = HealthConfig()
    metrics: MetricsConfig = MetricsConfig()
    supervision: SupervisionConfig = SupervisionConfig()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.trainer.min_steps > self.replay.capacity_steps:
            raise ValueError(
                f"trainer.min_steps is {self.trainer.min_steps} and replay.capacity_steps "
                f"{self.replay.capacity_steps}; training would never begin"
            )
        return self

    @model_validator(mode="after")
    def _start_levels(self) -> Self:
        if self.tempest.port is not None:
            advanced = self.server.settings.get(START_ADVANCED, False)
            level = self.server.settings.get(START_LEVEL, 1)
            if type(advanced) is not bool:
                raise ValueError(
                    f"server.settings has {START_ADVANCED} = {advanced!r}; with tempest.port "
                    "expected true or false"
                )
            if type(level) is not int or not 1 <= level <= MAX_START_LEVEL:
                raise ValueError(
                    f"server.settings has {START_LEVEL} = {level!r}; with tempest.port expected a "
                    f"whole number from 1 to {MAX_START_LEVEL}"
                )
        return self


def _check_plain(name: str, value: object, depth: int = 0) -> None:
    """Refuse what cannot be both sent to a game and written to TOML."""
    if depth == _DEEPEST and isinstance(value, dict | list):
        raise ValueError(f"{name}: expected at most {_DEEPEST} lists and tables within each other")
    if isinstance(value, dict):
        for key, inner in value.items():
            _check_plain(f"{name}.{key}", inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _check_plain(name, inner, depth + 1)
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError(f"{name} is {value}; expected a whole number that 64 bits can hold")
    elif not isinstance(value, bool | int | float | str):
        raise ValueError(
            f"{name} is {value!r}; expected text, a number, true, false, a list or a table of those"
        )

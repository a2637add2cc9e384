"""The messages, as typed structs that msgspec decodes and encodes. Numbers are never reused.

Elements behind the last field of an array are reserved for later versions and ignored.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

import msgspec

from protocol.observations import wire_form
from protocol.spaces import Head, Part

PROTOCOL_VERSION = 1

HELLO, FRAME, FRAMES, PING, BYE = 1, 2, 3, 4, 5
WELCOME, ACTION, ACTIONS, PONG, ERROR, SETTINGS = 11, 12, 13, 14, 15, 16
"""The types of messages: the first element of each."""

Role = Literal["train", "eval", "eval_expert", "play"]

ROLES: tuple[Role, ...] = get_args(Role)

RESERVED = "understudy."
"""What the protocol's own keys of settings begin with, and no operator's do."""

EVALUATE = f"{RESERVED}evaluate"
"""The key of settings that asks games to evaluate: a number that is larger each time."""

MAX_SEQ = 2**32 - 1
"""A step keeps its `seq` in 32 bits: at 1,000 frames a second a slot gets there in 50 days."""

Seq = Annotated[int, msgspec.Meta(le=MAX_SEQ)]

RUNNING, TERMINATED, TRUNCATED = 0, 1, 2
"""The status of a frame. Termination is an end of the game's making; truncation is not."""


class HelloFields(msgspec.Struct, frozen=True, kw_only=True):
    """The map in HELLO. Unknown keys are ignored."""

    protocol: int
    client: str
    game: str
    observation: Any
    """`[dtype, shape]`, or a map for each observation (protocol.observations); an Observation, or
    several, will do."""
    actions: tuple[Head, ...]
    rewards: tuple[str, ...] = ("reward",)
    slots: int = 1
    token: str | None = None
    role: Role = "train"
    realtime: bool = False
    """The game goes on by itself and cannot be made to wait for the trainer."""
    episodes: int | None = None
    """Of evaluation, that this connection will play."""
    evaluates: bool = False
    """It evaluates when asked to (`EVALUATE`)."""
    masks: bool = False
    """Its frames say which choices are legal (protocol.masks)."""
    metrics: tuple[str, ...] = ()
    """Names of the numbers that its frames carry (protocol.numbers)."""
    policy: str | None = None
    """With the role play: who plays (protocol.policies); None for the newest network."""
    explores: bool = False
    """With the role play: it explores as in training."""

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "observation", wire_form(self.observation))


HELLO_LATER: dict[str, Any] = {
    "realtime": False,
    "episodes": None,
    "evaluates": False,
    "masks": False,
    "metrics": (),
    "policy": None,
    "explores": False,
}
"""Keys of HELLO that came later, and what a HELLO without them means. They are sent only where they
say something else, so that the bytes of all others stay as they were."""


class Hello(msgspec.Struct, frozen=True, array_like=True, tag=HELLO):
    fields: msgspec.Raw
    """The map, decoded in two steps: `HelloGate` first, the rest (`HelloFields`) behind it."""


class HelloGate(msgspec.Struct, frozen=True):
    """What is looked at before any other field of HELLO but the token (protocol.first_message)."""

    protocol: Any = None


NOT_SENT = msgspec.Raw(b"")
"""An element behind the last one that every version has, where a message does not have it."""


class Frame(msgspec.Struct, frozen=True, array_like=True, tag=FRAME):
    slot: int
    seq: Seq
    obs: memoryview
    reward: float | list[float]
    status: int
    expert: list[Part] | None
    took: tuple[list[Part], int] | None
    legal: msgspec.Raw = NOT_SENT
    """As it came: only of a game that has declared masks is it looked at (protocol.masks)."""
    metrics: msgspec.Raw = NOT_SENT
    """As it came: only of a game that has declared some is it looked at (protocol.numbers)."""


class Frames(msgspec.Struct, frozen=True, array_like=True, tag=FRAMES):
    seq: Seq
    obs: memoryview
    rewards: memoryview
    statuses: memoryview
    experts: memoryview | None
    took: tuple[memoryview, memoryview] | None
    legal: msgspec.Raw = NOT_SENT
    """As in Frame, of all slots one behind the other."""
    metrics: msgspec.Raw = NOT_SENT
    """As in Frame."""


class Ping(msgspec.Struct, frozen=True, array_like=True, tag=PING):
    nonce: msgspec.Raw
    """Any value. Its bytes go back as they came: nothing of it is built here."""


class Bye(msgspec.Struct, frozen=True, array_like=True, tag=BYE):
    pass


class WelcomeFields(msgspec.Struct, frozen=True, kw_only=True):
    """The map in WELCOME."""

    session: int
    protocol: int
    server: str
    settings: dict[str, Any]
    episode_limit: tuple[int, float] | msgspec.UnsetType = msgspec.UNSET
    """For games of evaluation: frames and seconds that an episode may have."""


class Welcome(msgspec.Struct, frozen=True, array_like=True, tag=WELCOME):
    fields: WelcomeFields


class Action(msgspec.Struct, frozen=True, array_like=True, tag=ACTION):
    slot: int
    seq: int
    action: list[Part] | None
    actor: int
    policy_version: int
    explored: bool


class Actions(msgspec.Struct, frozen=True, array_like=True, tag=ACTIONS):
    seq: int
    actions: bytes
    actors: bytes
    policy_version: int
    explored: bytes


class Pong(msgspec.Struct, frozen=True, array_like=True, tag=PONG):
    nonce: Any


class Error(msgspec.Struct, frozen=True, array_like=True, tag=ERROR):
    code: str
    message: str
    retry: bool


class VersionError(msgspec.Struct, frozen=True, array_like=True, tag=ERROR):
    """ERROR with the code protocol_version. `about` stands behind the elements of ERROR: what the
    server is, for who is able to do something about it."""

    code: str
    message: str
    retry: bool
    about: dict[str, Any]


class Settings(msgspec.Struct, frozen=True, array_like=True, tag=SETTINGS):
    settings: dict[str, Any]


ClientMessage = Hello | Frame | Frames | Ping | Bye
ServerMessage = Welcome | Action | Actions | Pong | Error | Settings

CLIENT_TYPES = {HELLO: "HELLO", FRAME: "FRAME", FRAMES: "FRAMES", PING: "PING", BYE: "BYE"}
SERVER_TYPES = {
    WELCOME: "WELCOME",
    ACTION: "ACTION",
    ACTIONS: "ACTIONS",
    PONG: "PONG",
    ERROR: "ERROR",
    SETTINGS: "SETTINGS",
}

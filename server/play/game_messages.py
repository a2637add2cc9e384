"""Messages between games in processes of their own and the process that runs them.

Orders, and what a game says to them:

    go      a training game that is held plays on. A game of evaluation that plays in rounds:
            it connects, plays its share of so many episodes, and says "done"
    leave   a game of evaluation that is done leaves the server, and says "left". Without rounds
            they are told once all are done: to the server, one that is quick and one that is still
            on its way must not look like two evaluations
    judged  what a person said of the episode is known (EpisodeJudged)
    stop    it ends

Training games are held by a number of frames: when all together have taken so many actions, each
waits between two frames, connected, and says "held". They count in memory that they share, so that
they stop there and not some polls later.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from server.play.show_options import ShowOptions
from server.play.tries import MOST
from understudy_client.env_options import PLAIN, EnvOptions

NO_LIMIT = 2**63 - 1
"""Frames that no games reach."""

HANG_S = 60.0
"""How long a frame may take a game. Beyond a level that loads, and below the five minutes after
which a server takes a silent game for dead (server.idle_timeout_s): here somebody can say where it
hangs."""


@dataclass(frozen=True)
class GameOptions:
    """What to play, and where."""

    env: str
    host: str
    port: int
    gateway_nodes: tuple[tuple[str, int], ...] = ()
    """Of a server on a cluster: host and port of each, instead of the two above; games take them
    in turns."""
    role: str = "train"
    """train; eval (the network alone); eval_expert (the expert alone)."""
    realtime: bool = False
    """The games never wait for the trainer."""
    episodes: int | None = None
    """Complete episodes, all games together; None plays until stopped."""
    frames: int | None = None
    """Actions, all games together."""
    seed: int | None = None
    """Episode i of all games together is reset with seed + i, whoever plays it; one in which a game
    has failed k times, with RESEED * k more."""
    making: EnvOptions = PLAIN
    """Arguments of the environment, and what is put around it."""
    expert: str | None = None
    """`module:function`, "none", or None for the environment's known expert."""
    weaken: float = 0.0
    """The share of the expert's actions that are replaced by random ones."""
    token: str | None = field(default=None, repr=False)
    tls: bool = False
    ca: Path | None = None
    """With TLS: the certificate to trust instead of the system's."""
    own: Path | None = None
    """The certificate of a server in this process's care: it is that server, whatever name or
    address its certificate is of."""
    give_up_s: float = 60.0
    """How long a game tries to reach a server that is away."""
    log_dir: Path | None = None
    """Where each game writes its answers when it ends: client-<n>.npz (see AnswerLog)."""
    evaluates: bool = False
    """Training games: whoever runs them evaluates when the server asks (`Games.asked`)."""
    rounds: bool = False
    """Games of evaluation: play the episodes that `go` asks for, from the same seeds each time."""
    show: ShowOptions | None = None
    """The first of the games is seen, or has a person at its controls."""
    restarts: int = MOST
    """How often a game that fails begins again (server.play.tries)."""
    hang_s: float = HANG_S
    """A game that takes longer for a frame is ended, and has failed."""

    def of_client(self, client: int) -> GameOptions:
        """Those of one game: where it connects to."""
        if not self.gateway_nodes:
            return self
        host, port = self.gateway_nodes[client % len(self.gateway_nodes)]
        return replace(self, host=host, port=port, gateway_nodes=())


class SharedCounts(NamedTuple):
    """Memory that the games share, an element for each; of multiprocessing's RawArray."""

    actions: Any
    """Actions taken, int64; behind them, last, the number at which all are held."""
    alive: Any
    """When the game was last seen to be alive, float64 seconds of time.monotonic."""


@dataclass(frozen=True)
class Part:
    """What one game has to do."""

    options: GameOptions
    client: int
    clients: int
    episodes: int | None
    frames: int | None
    trace: Path
    """Where the process writes where it is when it crashes or hangs."""
    begun: int = 0
    """How often this game has begun before."""
    played: int = 0
    """Of its episodes, those that are complete; in a round, of that one."""
    failures: int = 0
    """How often it has failed in the episode that it begins with."""


RESEED = 1_000_000_007
"""Between the seeds of an episode and of its next try. With the same seed it would only fail again
where what it did is what its seed makes it do."""


@dataclass(frozen=True)
class GameEpisode:
    """One complete episode of one game."""

    client: int
    index: int
    """The number of the episode among those of all games."""
    return_: float
    length: int
    dqn: int
    """Actions that the network chose; `expert` those that the expert did."""
    expert: int
    cut: bool = False
    """Of evaluation: the server's limit cut it, and the return is that so far."""


@dataclass(frozen=True)
class CommandDone:
    """A game has done as it was ordered: it is held, done, or has left."""

    client: int
    word: str


@dataclass(frozen=True)
class EpisodeJudged:
    """A person has said what becomes of the episode that is recorded: before its last frame, which
    waits for the order "judged"."""

    client: int
    session: int
    word: str
    """"mark" or "discard"."""


@dataclass(frozen=True)
class EvaluationAsked:
    """The server asks for an evaluation: a training game has been told (protocol/SPEC.md)."""

    number: int
    """Larger each time."""


@dataclass(frozen=True)
class ServerAway:
    """A game is without its server and tries to reach it; with an empty text, no longer."""

    client: int
    text: str


@dataclass(frozen=True)
class SessionOpened:
    """A game is connected: the number of its session."""

    client: int
    session: int


@dataclass(frozen=True)
class GameFinished:
    """A game has played all that it had to play; only its end is left."""

    client: int


@dataclass(frozen=True)
class GameFailure:
    """Why a game ended before its time."""

    client: int
    message: str
    """One line."""
    traceback: str = ""
    """Where that was, as Python prints it; empty where nobody can tell."""
    permanent: bool = False
    """To begin again would be the same again: it is not tried."""
    again_s: float | None = None
    """It begins again after so many seconds; None: it is given up, or had nothing left to play."""
    given_up: bool = False


def share(total: int | None, client: int, clients: int) -> int | None:
    """A client's share of a total: that of client k is the number of i = k, k + clients, ..."""
    return None if total is None else len(range(client, total, clients))


def taken(counts: SharedCounts) -> int:
    """Actions that all games have taken: what their counts hold but for the limit behind them."""
    return sum(counts.actions[:-1])

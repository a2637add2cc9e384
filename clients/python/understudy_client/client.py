"""A game's connection to its server: one blocking call for each frame."""

from __future__ import annotations

import random
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any, NoReturn, Self

import numpy as np
import numpy.typing as npt

from understudy_client import checks, evaluation, masks, numbers, wire
from understudy_client.announced import AnnouncedEpisodes
from understudy_client.answers import Answers
from understudy_client.backoff import Backoff
from understudy_client.connection import Connection
from understudy_client.errors import (
    ClientError,
    ConnectionLost,
    ProtocolViolation,
    Reconnected,
    ServerError,
)
from understudy_client.evaluation import SEED, EvaluationResult, PlayEpisode
from understudy_client.observations import Observation, Packer
from understudy_client.spec import GameSpec, Head, Part, action_width
from understudy_client.tensors import DTYPES, tensor
from understudy_client.tls import context
from understudy_client.trouble import Trouble
from understudy_client.wire import Answer


class Client:
    """One connection to a training server. Make it with `Client.connect`.

    Not for use from several threads at once. `session`, `server` and `settings` are what the
    server said in WELCOME; `settings` follows what the operator changes while the game plays.

    When the connection is lost, `act` connects again (see `Backoff`) and raises `Reconnected`:
    the episodes of all slots were cut; reset the game and go on with a first frame.
    """

    @classmethod
    def connect(
        cls,
        host: str,
        port: int,
        *,
        client: str,
        game: str,
        observation: Observation | Sequence[Observation],
        actions: Sequence[Head],
        rewards: Sequence[str] = ("reward",),
        masks: bool = False,
        metrics: Sequence[str] = (),
        slots: int = 1,
        role: str = "train",
        policy: str | None = None,
        explores: bool = False,
        episodes: int | None = None,
        evaluates: bool = False,
        realtime: bool = False,
        token: str | None = None,
        tls: bool | ssl.SSLContext = False,
        ca: str | PathLike[str] | None = None,
        timeout_s: float = 120.0,
        backoff: Backoff | None = None,
        cancelled: Callable[[], bool] | None = None,
        on_answer: Callable[[int, Answer | Answers], None] | None = None,
    ) -> Client:
        """Connect, say HELLO, and wait for WELCOME.

        client: name and version of the game program, for the server's log.
        game, observation, actions, rewards: the spec; the first game's becomes the run's. Several
            observations are a list, each with a name.
        masks: part of the spec: `act` is told in `legal` which choices are legal.
        metrics: names of numbers that `act` is told beside the rewards, for people to look at.
        slots: games on this connection; `act` takes the slot, `act_all` plays all at once.
        role: "train"; "eval" (the network alone, nothing stored); "eval_expert"; "play" (a policy
            alone: nothing is stored, and no evaluation counts it).
        policy: with the role "play", who plays: None for the newest network, "best", the number of
            updates of a checkpoint, or "recent:5" for one of the newest five, drawn at the begin
            of each episode.
        explores: with the role "play", it explores as in training.
        episodes: with the roles of evaluation, how many episodes this connection will play in all
            its slots; after a lost connection those that are left are announced.
        evaluates: the program calls `evaluate` where `evaluation_asked` says so.
        realtime: the game goes on by itself (a person plays it, a machine in the world moves) and
            is never made to wait for the trainer. Not for a game that stands still until `act`
            returns: training would fall behind it.
        tls: encrypt, for a server that has a certificate; True trusts whom the system trusts. A
            context is used as it is.
        ca: a file (PEM) with the certificate to trust instead: the server's own, or the one that
            it was signed with. The name or address of `host` must stand in the server's.
        timeout_s: how long to wait for the connection, WELCOME, and each answer. Generous by
            default: a server may make its games wait for the trainer.
        backoff: how to go on when the server is away; None is `Backoff()`. That it is away is a
            warning of the logger `understudy_client`, at once and then at most once a minute.
        cancelled: asked a few times a second while waiting; true raises `Cancelled`.
        on_answer: called with the session and each answer (`AnswerLog.add`, for example).

        Errors: ServerError where the server refuses, ConnectionLost where it cannot be reached,
        TlsError where it is not trusted or speaks no TLS; ValueError for a wrong option.
        """
        checks.check_options(host, port, client, slots, role, token, timeout_s, policy, explores)
        spec = checks.check_spec(game, observation, actions, rewards, masks)
        hello: dict[str, Any] = {"client": client, "slots": slots, "role": role, "token": token}
        hello |= {"realtime": realtime, "evaluates": evaluates} | spec.fields()
        hello["metrics"] = numbers.check_names(metrics)
        hello |= {"policy": policy, "explores": explores}
        wire.encode_hello(**hello)  # what it cannot hold is an error now
        self = cls((host, port), spec, hello, slots, timeout_s, backoff or Backoff())
        self._tls = context(tls, ca)
        self._cancelled = cancelled
        self._on_answer = on_answer
        self._announced = AnnouncedEpisodes(episodes)
        self._establish(None)
        return self

    def __init__(
        self,
        address: tuple[str, int],
        spec: GameSpec,
        hello: dict[str, Any],
        slots: int,
        timeout_s: float,
        backoff: Backoff,
    ) -> None:
        """For `connect`; by itself this makes no connection."""
        self.spec = spec
        self.slots = slots
        self.session = 0
        self.server = ""
        self.settings: dict[str, Any] = {}
        self.episode_limit: tuple[int, float] | None = None
        """Frames and seconds that an episode of evaluation may have, where the server said so."""
        self._announced = AnnouncedEpisodes(None)
        self._asked = 0
        """The newest evaluation that needs no answer: asked for before, or answered."""
        self._address = address
        self._hello = hello
        self._timeout_s = timeout_s
        self._backoff = backoff
        self._tls: ssl.SSLContext | None = None
        self._cancelled: Callable[[], bool] | None = None
        self._on_answer: Callable[[int, Answer | Answers], None] | None = None
        self._packer = Packer(spec.observations)
        self._width = action_width(spec.actions)
        self._out = bytearray(4)
        self._connection: Connection | None = None
        self._trouble = Trouble(address)
        self._closed = False
        self._rng = random.Random()
        self._seqs: list[int] = []
        self._seq_all = 0

    @property
    def metrics(self) -> list[str]:
        """The names of the numbers that `connect` has declared."""
        names: list[str] = self._hello["metrics"]
        return names

    def act(
        self,
        obs: npt.ArrayLike | Mapping[str, npt.ArrayLike],
        reward: float | Sequence[float] = 0.0,
        status: int = wire.RUNNING,
        expert: Sequence[Part] | None = None,
        took: tuple[Sequence[Part], int] | None = None,
        slot: int = 0,
        legal: npt.ArrayLike | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> Answer:
        """Send one frame of a slot and wait for its answer.

        obs: the observation, in the shape of the spec; a uint8 one is sent as it is. Of a game with
            several: a mapping from their names to them.
        reward: what the slot's previous action earned, one number for each declared component
            (a plain number where there is one); ignored on the first frame of an episode.
        status: 0 running, 1 terminated, 2 truncated. With 1 or 2 this is the last observation of
            the episode, the answer has no action, and the next frame begins a new episode.
        expert: what the game's own expert recommends now, one element for each head.
        took: (action, actor) really done instead of the previous answer; not on a first frame.
        legal: in a game with masks, a bool for each choice of each discrete head, one head behind
            the other: which are legal; None says that all are.
        metrics: the numbers declared in `connect`, by name, as they are now.

        Errors: Reconnected, ServerError, ConnectionLost; ValueError for what no server would take,
        with nothing sent: the connection and the episode go on.
        """
        connection = self._connected()
        seqs = self._seqs
        if not isinstance(slot, int) or not 0 <= slot < len(seqs):
            raise ValueError(f"slot: expected 0 to {len(seqs) - 1}, got {slot!r}")
        seq = seqs[slot]
        checks.check_frame(self.spec, reward, status, expert, took)
        mask = None if legal is None else masks.packed(self.spec, legal, status, expert)
        data = self._packer.pack(obs)
        told = None if metrics is None else numbers.packed(self._hello["metrics"], metrics)
        message = wire.encode_frame(
            slot, seq, data, reward, status, expert, took, mask, told, into=self._out
        )
        try:
            answer = connection.exchange(message)
        except (ConnectionLost, ServerError) as error:
            self._back(error)
        if type(answer) is not Answer or answer.seq != seq or answer.slot != slot:
            self._violated(f"ACTION for slot {slot}, seq {seq}", answer)
        seqs[slot] = seq + 1
        self._announced.frame(slot, status)
        if self._on_answer is not None:
            self._on_answer(self.session, answer)
        return answer

    def act_all(
        self,
        obs: npt.ArrayLike | Mapping[str, npt.ArrayLike],
        rewards: npt.ArrayLike,
        statuses: npt.ArrayLike,
        experts: npt.ArrayLike | None = None,
        took: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
        legal: npt.ArrayLike | None = None,
        metrics: npt.ArrayLike | None = None,
    ) -> Answers:
        """Send one frame of every slot and wait for the answers; see `act`.

        obs [slots, *shape], or a mapping from names to such arrays; rewards float32 [slots], or
        [slots, components] where there are several; statuses uint8 [slots]; experts action rows,
        float32 [slots, A], NaN in the first column for none; took (action rows [slots, A], actors
        uint8 [slots]), actor 0 for none; legal bool [slots, choices of all discrete heads]; metrics
        [slots, names], NaN for none.
        A connection uses `act` or `act_all`, never both.
        """
        connection = self._connected()
        n, f32, u8 = self.slots, DTYPES["float32"], DTYPES["uint8"]
        rows = (n, self._width)
        parts = len(self.spec.rewards)
        seq = self._seq_all
        message = wire.encode_frames(
            seq,
            self._packer.pack(obs, n),
            tensor(rewards, f32, (n,) if parts == 1 else (n, parts), "rewards"),
            tensor(checks.whole(statuses, "statuses", wire.TRUNCATED), u8, (n,), "statuses"),
            None if experts is None else tensor(experts, f32, rows, "experts", finite=False),
            None
            if took is None
            else (
                tensor(took[0], f32, rows, "took actions", finite=False),
                tensor(checks.whole(took[1], "took actors", wire.EXPERT), u8, (n,), "took actors"),
            ),
            None if legal is None else masks.packed_all(self.spec, legal, n),
            None if metrics is None else numbers.packed_all(self._hello["metrics"], metrics, n),
            into=self._out,
        )
        try:
            raw = connection.exchange(message)
        except (ConnectionLost, ServerError) as error:
            self._back(error)
        if (
            type(raw) is not wire.Actions
            or raw.seq != seq
            or len(raw.actions) != 4 * n * self._width
            or len(raw.actors) != n
            or len(raw.explored) != n
        ):
            self._violated(f"ACTIONS for {n} slots, seq {seq}", raw)
        self._seq_all = seq + 1
        if self._announced.left:
            self._announced.frames(np.asarray(statuses).tolist())
        answers = Answers(
            seq,
            np.frombuffer(raw.actions, f32).reshape(rows),
            np.frombuffer(raw.actors, u8),
            raw.policy_version,
            np.frombuffer(raw.explored, u8).astype(np.bool_),
        )
        if self._on_answer is not None:
            self._on_answer(self.session, answers)
        return answers

    def ping(self) -> float:
        """The round trip to the server in seconds. Keeps a paused game from being idle."""
        connection = self._connected()
        start = time.perf_counter()
        try:
            pong = connection.exchange(wire.encode_ping(start))
        except (ConnectionLost, ServerError) as error:
            self._back(error)
        if type(pong) is not wire.Pong or pong.nonce != start:
            self._violated("PONG", pong)
        return time.perf_counter() - start

    @property
    def role(self) -> str:
        """What this connection is for."""
        return str(self._hello["role"])

    @property
    def evaluation_asked(self) -> bool:
        """The operator asks for an evaluation that `evaluate` has not answered yet."""
        number = self.settings.get(wire.EVALUATE, 0)
        return isinstance(number, int) and number > self._asked

    def evaluate(
        self,
        play: PlayEpisode,
        episodes: int = 20,
        *,
        expert: bool = False,
        seed: int = SEED,
    ) -> EvaluationResult:
        """Evaluate the network now, and the expert where asked; see understudy_client.evaluation.

        play: `play(client, seed)` plays one episode on the client that it is given, from its first
            frame to its last, as the training loop does. Episode i gets seed + i, of the network
            and of the expert alike: reset the game with it where that is possible.
        expert: play the same episodes with the expert alone too; `play` must then recommend.

        Call it between two episodes. This connection is kept, and may be another session after it.
        Errors: those of `act`, except Reconnected; what `play` raises.
        """
        self._asked = self.settings.get(wire.EVALUATE, 0)
        return evaluation.evaluate(self, play, episodes, expert=expert, seed=seed)

    def sibling(self, role: str, episodes: int) -> Client:
        """Another connection to the server, for so many episodes of evaluation in this role."""
        hello = self._hello | {"role": role, "slots": 1, "evaluates": False}
        hello |= {"policy": None, "explores": False}
        other = type(self)(self._address, self.spec, hello, 1, self._timeout_s, self._backoff)
        other._tls, other._cancelled = self._tls, self._cancelled
        other._announced = AnnouncedEpisodes(episodes)
        other._establish(None)
        return other

    def close(self, *, bye: bool = True) -> None:
        """Say BYE (without it, just be gone) and close; again has no effect."""
        self._closed = True
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close(wire.encode_bye() if bye else None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _connected(self) -> Connection:
        """The connection; where an interrupted call left none, a new one and `Reconnected`."""
        if self._connection is None or self._connection.broken:
            if self._closed:
                raise ClientError("this client was closed; connect a new one")
            self._back(ConnectionLost("the previous call was interrupted"))
        return self._connection

    def _back(self, error: ConnectionLost | ServerError) -> NoReturn:
        """After a loss: connect again and raise Reconnected, or raise what stands in the way."""
        self._drop()
        if isinstance(error, ServerError) and not error.retry:
            self._closed = True
            raise error
        code = error.code if isinstance(error, ServerError) else ""
        self._announced.lost(limit=code == wire.EPISODE_LIMIT)
        self._establish(error)
        raise Reconnected(self.session, str(error), code) from error

    def _establish(self, lost: ConnectionLost | ServerError | None) -> None:
        """Connect and say HELLO, trying again as the back-off allows."""
        waits = self._backoff.waits(self._rng)
        first_failure = time.monotonic() if lost is not None else None
        error: ConnectionLost | ServerError | None = lost
        while True:
            if error is not None:
                wait = next(waits)
                now = time.monotonic()
                first_failure = first_failure or now
                if now + wait - first_failure > self._backoff.give_up_s:
                    self._closed = True
                    raise ConnectionLost(
                        f"no understudy server at {self._address[0]}:{self._address[1]}: gave up "
                        f"after {now - first_failure:.1f} s; the last problem: {error}"
                    ) from error
                (self._trouble.lost if error is lost else self._trouble.failed)(error)
                self._sleep(wait)
            try:
                self._open()
            except ConnectionLost as problem:
                error = problem
            except ServerError as problem:
                if not problem.retry:
                    self._closed = True
                    raise
                error = problem
            else:
                self._trouble.over()
                return

    def _open(self) -> None:
        connection = Connection(self._address, self._timeout_s, self._cancelled, self._tls)
        try:
            hello = wire.encode_hello(**self._hello, episodes=self._announced.left or None)
            welcome = connection.exchange(hello)
            if type(welcome) is not wire.Welcome:
                self._violated("WELCOME", welcome)
        except BaseException:
            connection.close(None)
            raise
        self.session = welcome.fields.session
        self.server = welcome.fields.server
        self.settings = connection.settings
        self.settings.update(welcome.fields.settings)
        self.episode_limit = welcome.fields.episode_limit or None
        # What was asked for before this client came is not for it (protocol/SPEC.md, SETTINGS).
        self._asked = self.settings.get(wire.EVALUATE, 0)
        self._connection = connection
        self._seqs = [0] * self.slots
        self._seq_all = 0

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close(None)

    def _sleep(self, wait_s: float) -> None:
        end = time.monotonic() + wait_s
        while (left := end - time.monotonic()) > 0:
            Connection.check(self._cancelled)
            time.sleep(min(left, 0.1))

    def _violated(self, expected: str, got: object) -> NoReturn:
        self._drop()
        self._closed = True
        raise ProtocolViolation(f"expected {expected}, got {got!r}; is the server's version ours?")

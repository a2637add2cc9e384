"""One connection as the server sees it: bytes in, checked messages out. No I/O.

All that decides which message is allowed when is `TRANSITIONS`; the diagram in `SPEC.md` is drawn
from it (`python -m protocol.session` prints it).
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

from protocol import codec
from protocol.checks import check_frame, check_frames, no_advice
from protocol.errors import LocalError, RemoteError
from protocol.first_message import MAX_VALUES, look
from protocol.framing import MessageReader
from protocol.messages import (
    HELLO,
    PROTOCOL_VERSION,
    RUNNING,
    Bye,
    Frame,
    Frames,
    Hello,
    HelloFields,
    Ping,
)
from protocol.numbers import check_number_names
from protocol.policies import PolicyName, policy_of
from protocol.spaces import GameSpec
from protocol.spec_checks import check_name
from protocol.tempest_headers import header_of
from protocol.tokens import Token

MAX_EPISODES = 1_000_000
"""Episodes of evaluation that a connection may announce."""

MAX_SLOTS = 4096
"""Games on one connection: each holds an observation in the server's memory."""


class State(Enum):
    AWAIT_HELLO = "await hello"
    AWAIT_WELCOME = "await welcome"
    PLAYING = "playing"
    CLOSED = "closed"


TRANSITIONS: dict[State, dict[str, State]] = {
    State.AWAIT_HELLO: {
        "HELLO": State.AWAIT_WELCOME,
        "error": State.CLOSED,
    },
    State.AWAIT_WELCOME: {
        "welcome": State.PLAYING,
        "PING": State.AWAIT_WELCOME,
        "BYE": State.CLOSED,
        "error": State.CLOSED,
    },
    State.PLAYING: {
        "FRAME": State.PLAYING,
        "FRAMES": State.PLAYING,
        "PING": State.PLAYING,
        "BYE": State.CLOSED,
        "error": State.CLOSED,
    },
    State.CLOSED: {},
}
"""State and event to next state. Upper case: a message from the client. Lower case: of the
server's making (`welcome` sent, `error` sent). What is not here is refused."""

_REFUSALS = {
    State.AWAIT_HELLO: "hello_first",
    State.AWAIT_WELCOME: "welcome_first",
    State.PLAYING: "hello_twice",
}


class ServerSession:
    """The protocol state of one connection: its handshake, and for each slot its next `seq`.

    Feed it what arrives with `receive`; tell it what was sent with `welcomed`, `answered`,
    `answered_all` and `failed`.
    """

    __slots__ = (
        "_advised",
        "_max_message_bytes",
        "_older",
        "_reader",
        "_token",
        "_unadvised",
        "awaiting",
        "first",
        "hello",
        "next_seq",
        "policy",
        "sent_wrong_token",
        "spec",
        "state",
        "vectorized",
    )

    def __init__(
        self,
        *,
        max_message_bytes: int,
        token: str | None = None,
        advised: bool = False,
        older: str = "set tempest.port, and let it connect there",
    ) -> None:
        """`advised`: the server has an expert of its own, so that the role eval_expert need not
        recommend anything. `older`: what to do with an older client for Tempest that came here."""
        self._unadvised = bytearray()
        """For each slot in the role eval_expert, 1 while its episode has no recommendation."""
        self._advised = advised
        self._older = older
        self.state = State.AWAIT_HELLO
        self.hello: HelloFields | None = None
        self.spec: GameSpec | None = None
        self.policy: PolicyName | None = None
        """Who plays, where it is not the newest network."""
        self.next_seq: list[int] = []
        self.awaiting = bytearray()
        """For each slot, 1 while a frame of it waits for its answer."""
        self.first = bytearray()
        """For each slot, 1 where its next frame begins an episode."""
        self.sent_wrong_token = False  # it said a token, and not the right one
        self.vectorized: bool | None = None
        """Whether this connection uses FRAMES; None until its first frame."""
        self._token = None if token is None else Token(token)
        self._max_message_bytes = max_message_bytes
        self._reader = MessageReader()
        self._reader.limit = min(self._reader.limit, max_message_bytes)

    @property
    def partial(self) -> int:
        """How many bytes of an unfinished message are held."""
        return self._reader.partial

    @property
    def held(self) -> str:
        """What is there of an unfinished message, in words."""
        return self._reader.held

    def receive(self, data: bytes) -> Iterator[HelloFields | Frame | Frames | Ping | Bye]:
        """The messages that these bytes complete, each checked against the state when it is
        reached, so that the caller may answer one before it takes the next.

        Errors: RemoteError with any code of the client's making, after which the caller calls
        `failed`. What comes once the session is over is ignored, be it glued to what ended it.
        """
        payloads = self._reader.feed(data)
        while self.state is not State.CLOSED and (payload := next(payloads, None)) is not None:
            try:
                if self.state is State.AWAIT_HELLO:
                    self._look_at_first(payload)
                message = codec.decode_client(payload)
            except RemoteError:
                if self.state is State.AWAIT_HELLO and header_of(payload) is not None:
                    raise self._older_client() from None
                raise
            # The frame path first: it runs tens of thousands of times a second.
            if type(message) is Frame:
                if self.state is not State.PLAYING:
                    self._advance("FRAME")
                self._check_frame(message)
                yield message
            elif type(message) is Frames:
                self._advance("FRAMES")
                self._check_frames(message)
                yield message
            elif type(message) is Hello:
                self._advance("HELLO")
                yield self._open(message)
            elif type(message) is Ping:
                self._advance("PING")
                yield message
            elif type(message) is Bye:
                self._advance("BYE")
                yield message

    def ended(self) -> None:
        """The connection ended. Errors: RemoteError `message_truncated`."""
        if self.state is not State.CLOSED and self._reader.partial:
            raise RemoteError(
                "message_truncated",
                "expected the rest of a message, got the end of the connection after "
                f"{self._reader.held}; send BYE before closing",
            )

    def welcomed(self) -> None:
        """WELCOME was sent: frames may come, and messages may be as long as configured."""
        self._advance("welcome")
        self._reader.limit = self._max_message_bytes

    def failed(self) -> None:
        """ERROR was sent, or the connection is gone."""
        self.state = State.CLOSED

    def answered(self, slot: int) -> None:
        """The frame of this slot was answered."""
        if not self.awaiting[slot]:
            raise LocalError(f"slot {slot} was answered twice")
        self.awaiting[slot] = 0

    def answered_all(self) -> None:
        """The frames of all slots were answered."""
        if not any(self.awaiting):
            raise LocalError("all slots were answered twice")
        self.awaiting[:] = bytes(len(self.awaiting))

    def _older_client(self) -> RemoteError:
        """Its first bytes, 00 00 and a length of two bytes, are a length of ours."""
        return RemoteError(
            "not_understudy",
            "expected HELLO, got what looks like a frame of tempest_ai, an older client for "
            f"arcade Tempest; {self._older}",
        )

    def _advance(self, event: str) -> None:
        after = TRANSITIONS[self.state].get(event)
        if after is None:
            if event.islower():
                raise LocalError(f"{event} in state {self.state.value!r}")
            code = "hello_twice" if event == "HELLO" else _REFUSALS[self.state]
            allowed = [name for name in TRANSITIONS[self.state] if name.isupper()]
            raise RemoteError(
                code,
                f"in state {self.state.value!r} expected {' or '.join(allowed)}, got {event}",
            )
        self.state = after

    def _look_at_first(self, payload: memoryview) -> None:
        """The token before all else, from the bytes as they came; and nothing that costs more to
        decode than a HELLO may."""
        first = look(payload)
        if first.kind == HELLO and first.has_fields and self._token is not None:
            if not self._token.matches(first.token or b""):
                self.sent_wrong_token = bool(first.token)
                raise _bad_token("another" if first.token else "none")
            self._token = None  # said
        if first.too_many:
            if first.kind == HELLO:
                raise RemoteError(
                    "bad_hello",
                    f"expected a HELLO of at most {MAX_VALUES} values, got more; leave out keys "
                    "that the server does not know",
                )
            raise RemoteError(
                "message_malformed",
                f"expected HELLO, got a message of more than {MAX_VALUES} values that is none",
            )

    def _open(self, message: Hello) -> HelloFields:
        gate = codec.decode_gate(message)
        if self._token is not None:
            raise _bad_token("none")  # whatever the bytes looked like
        if gate.protocol != PROTOCOL_VERSION:
            raise RemoteError(
                "protocol_version",
                f"expected protocol {PROTOCOL_VERSION}, got {gate.protocol!r}; "
                "use a client of this server's version",
            )
        hello = codec.decode_hello(message)
        spec = GameSpec(
            hello.game, hello.observation, hello.actions, hello.rewards, hello.masks
        ).checked()
        check_name("client", hello.client)
        check_number_names(hello.metrics)
        self.policy = policy_of(hello)
        if not 1 <= hello.slots <= MAX_SLOTS:
            raise RemoteError("bad_hello", f"slots: expected 1 to {MAX_SLOTS}, got {hello.slots}")
        if hello.episodes is not None and not 1 <= hello.episodes <= MAX_EPISODES:
            raise RemoteError(
                "bad_hello",
                f"episodes: expected 1 to {MAX_EPISODES}, or nil, got {hello.episodes}; it is how "
                "many episodes of evaluation this connection will play",
            )
        size = spec.observation_bytes + spec.legal_bytes
        if size > self._max_message_bytes:
            with_mask = " with its mask" if spec.masks else ""
            raise RemoteError(
                "bad_hello",
                f"observation shape: expected one that fits into a message{with_mask} of at most "
                f"{self._max_message_bytes} bytes, got {size} bytes; make it smaller, or raise "
                "server.max_message_bytes",
            )
        self.hello, self.spec = hello, spec
        self.next_seq = [0] * hello.slots
        self.awaiting = bytearray(hello.slots)
        self.first = bytearray(b"\x01" * hello.slots)
        self._unadvised = bytearray(b"\x01" * hello.slots)
        return hello

    def _check_frame(self, frame: Frame) -> None:
        slot = frame.slot
        if self.vectorized is not False:
            self._use(vectorized=False)
        if not 0 <= slot < len(self.awaiting):
            raise RemoteError(
                "unknown_slot",
                f"expected a slot from 0 to {len(self.awaiting) - 1}, got {slot}; "
                "declare more slots in HELLO",
            )
        if self.awaiting[slot]:
            raise _before_answer(f"slot {slot}", frame.seq)
        if frame.seq != self.next_seq[slot]:
            raise _out_of_order(f"slot {slot}", self.next_seq[slot], frame.seq)
        spec, hello = self.spec, self.hello
        assert spec is not None
        assert hello is not None
        first = bool(self.first[slot])
        try:
            check_frame(frame, spec, first=first, metrics=hello.metrics)
        except RemoteError as error:
            raise error.in_slot(slot, len(self.awaiting)) from None
        if hello.role == "eval_expert" and not self._advised:
            self._expect_advice(slot, first, frame.status == RUNNING, frame.expert is not None)
        self.next_seq[slot] = frame.seq + 1
        self.awaiting[slot] = 1
        self.first[slot] = frame.status != RUNNING

    def _check_frames(self, frames: Frames) -> None:
        slots = len(self.awaiting)
        self._use(vectorized=True)
        if self.awaiting[0]:
            raise _before_answer("all slots", frames.seq)
        if frames.seq != self.next_seq[0]:
            raise _out_of_order("all slots", self.next_seq[0], frames.seq)
        assert self.spec is not None
        assert self.hello is not None
        metrics = self.hello.metrics
        running, recommended = check_frames(frames, self.spec, self.first, metrics)
        if self.hello.role == "eval_expert" and not self._advised:
            for slot in range(slots):
                first = bool(self.first[slot])
                self._expect_advice(slot, first, bool(running[slot]), bool(recommended[slot]))
        self.next_seq[0] = frames.seq + 1
        self.awaiting[:] = b"\x01" * slots
        self.first[:] = (~running).tobytes()

    def _expect_advice(self, slot: int, first: bool, running: bool, recommended: bool) -> None:
        """The expert alone plays: an episode must have a recommendation. Errors: RemoteError."""
        if recommended and running:
            self._unadvised[slot] = 0
        elif not running:
            if self._unadvised[slot] and not first:
                raise no_advice()
            self._unadvised[slot] = 1

    def _use(self, *, vectorized: bool) -> None:
        if self.vectorized is None:
            self.vectorized = vectorized
        elif self.vectorized is not vectorized:
            raise RemoteError(
                "mixed_frames",
                "expected FRAME or FRAMES throughout a connection, got both; use the one that "
                "suits how the games run",
            )


def _bad_token(got: str) -> RemoteError:
    return RemoteError(
        "bad_token",
        f"expected this server's token, got {got}; put it in the field `token` of HELLO: commands "
        "do with --token-file FILE, the client in Python with Client.connect(token=...)",
    )


def _before_answer(what: str, seq: int) -> RemoteError:
    return RemoteError(
        "frame_before_answer",
        f"{what}: expected no frame before the last one's answer, got seq {seq}; "
        "wait for ACTION before the next frame",
    )


def _out_of_order(what: str, expected: int, seq: int) -> RemoteError:
    return RemoteError(
        "seq_out_of_order",
        f"{what}: expected seq {expected}, got {seq}; it starts at 0 and rises by 1",
    )


def diagram() -> str:
    """The state table as a Mermaid diagram."""
    lines = ["stateDiagram-v2", "    [*] --> AWAIT_HELLO"]
    for state, events in TRANSITIONS.items():
        by_target: dict[State, list[str]] = {}
        for event, after in events.items():
            by_target.setdefault(after, []).append(event)
        for after, names in by_target.items():
            lines.append(f"    {state.name} --> {after.name}: {', '.join(names)}")
    lines.append("    CLOSED --> [*]")
    return "\n".join(lines)


if __name__ == "__main__":
    print(diagram())

"""`understudy conformance --listen`: a server that does to a client all that servers may do.

It is a series of *acts*, each a way in which a frame is answered (split, late, …) or in which a
connection ends. An act lasts some frames; the client has borne it when it sends another frame
behind it. Connections are served one at a time; the series goes on from one to the next, so that
a client that comes back, or is started again, meets the act that is next.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from protocol.errors import RemoteError
from protocol.messages import RUNNING, Bye, Frame, Frames, HelloFields, Ping
from protocol.session import ServerSession, State
from protocol.spaces import GameSpec
from server.conformance.answers import Answers, judge, later, long_form, plain
from server.conformance.report import Finding
from server.conformance.rules import Ledger

MAX_MESSAGE_BYTES = 1_048_576
LATE_WELCOME_S = 0.5
LATE_S = 0.3
LATE_FRAMES = 5
"""So many answers are late: enough to see, and no long wait."""
SPLIT_FRAMES = 20
EPISODE_ACTS = 40
"""An end of an episode is awaited for so many times the frames of an act."""
ENDING_FRAMES = 3
"""Frames that are answered on a connection before it is ended."""
SHORTEST_WAIT_S = 0.02
"""Who is back sooner than this has not waited."""
REFUSALS = 4
MOST_FAILURES = 10
"""Connections that end because a rule is broken. Behind these there is nothing new to learn."""
FINAL_S = 3.0
"""How long a client that was refused for good is watched."""
BYE_S = 5.0

FRAMES_OF = {"split": SPLIT_FRAMES, "late-answer": LATE_FRAMES}
ACTS = ("split", "glued", "settings", "late-answer", "later-versions", "number-forms", "last-frame")
ENDINGS = ("cut", "half", "refused", "error-retry", "error-final")
SERIES = (*ACTS, *ENDINGS)

SENT_LAST = {
    "": "WELCOME",
    "plain": "an answer",
    "split": "an answer, a byte at a time",
    "glued": "SETTINGS, an answer and SETTINGS in one piece",
    "settings": "SETTINGS, and then an answer",
    "late-answer": f"an answer {LATE_S:g} s late",
    "later-versions": "SETTINGS and an answer with elements behind the last",
    "number-forms": "an answer in the longest forms of msgpack",
    "last-frame": "the answer to an episode's last frame, which has no action",
}
"""What a client had got when it went."""


class _Gone(Exception):
    """The client has ended the connection, or says nothing more."""


class Listener:
    """Serves clients until every act was played, nobody comes any more, or it is stopped."""

    def __init__(
        self,
        address: tuple[str, int],
        *,
        frames: int,
        timeout_s: float,
        show: Callable[[str], None],
    ) -> None:
        self.ledger = Ledger()
        self._frames = frames
        self._timeout_s = timeout_s
        self._show = show
        self._listener = socket.create_server(address)
        self.port: int = self._listener.getsockname()[1]
        self._act = 0
        self._connections = 0
        self._spec: GameSpec | None = None
        self._closed_at: float | None = None
        """When this side ended a connection, and the client is to come back."""
        self._returning: str | None = None
        """The ending that is borne when the client plays again."""
        self._gaps: list[float] = []
        self._refused = 0
        self._failures = 0
        self.answered = 0
        """Frames that were answered in this act."""

    def run(self) -> list[Finding]:
        """Play the series; what was found. A KeyboardInterrupt ends it early."""
        try:
            while (
                self._act < len(SERIES)
                and self._failures < MOST_FAILURES
                and (sock := self._accept(self._timeout_s)) is not None
            ):
                with sock:
                    self._serve(sock)
        except KeyboardInterrupt:
            self._show("stopped")
        finally:
            self._listener.close()
        if self._returning is not None and not self._played_out:
            if self._closed_at is None:
                self.ledger.unseen[self._returning] = "it came back, and broke another rule"
            else:
                self.ledger.breach(
                    self._returning,
                    f"expected the client back within {self._timeout_s:g} s, it did not come",
                )
        return self.ledger.findings()

    @property
    def connections(self) -> int:
        """How often a client came."""
        return self._connections

    @property
    def act(self) -> str:
        return SERIES[self._act] if self._act < len(SERIES) else ""

    @property
    def _played_out(self) -> bool:
        return self._act >= len(SERIES)

    def next_act(self) -> None:
        """The act was borne."""
        self._show(f"{self.act}: played")
        self._act += 1
        self.answered = 0

    def _accept(self, timeout_s: float) -> socket.socket | None:
        if not self._returning:
            self._show(f"waiting for a client; next: {self.act}")
        self._listener.settimeout(timeout_s)
        try:
            sock, _ = self._listener.accept()
        except TimeoutError:
            return None
        if self._closed_at is not None:
            gap = time.monotonic() - self._closed_at
            self._closed_at = None
            self._gaps.append(gap)
            self.ledger.mark("back")
            if gap < SHORTEST_WAIT_S:
                self.ledger.breach(
                    "backoff",
                    f"expected it to wait about 0.1 s, it was back in {gap * 1000:.0f} ms",
                )
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections += 1
        return sock

    def _serve(self, sock: socket.socket) -> None:
        seat = _Seat(self, sock)
        try:
            seat.play()
        except RemoteError as error:
            where = f"connection {self._connections}, during {self.act!r}"
            across = error.code == "seq_out_of_order" and seat.behind_an_end
            rule = "seq-across-episodes" if across else error.code
            self.ledger.breach(rule, f"{where}: {error.message}")
            self._failures += 1
            self._show(f"broken: {error}")
            seat.quietly(plain([15, error.code, error.message, False]))
            seat.drain()
        except _Gone as reason:
            rule = seat.blame()
            self.ledger.breach(rule, f"connection {self._connections}: {reason}")
            self._failures += 1
            self._show(f"broken: {rule}: {reason}")
            if rule == self.act:  # once is enough
                self.next_act()
        self._after_end()

    def _after_end(self) -> None:
        if self.act != "error-final" or self._returning != "error-final":
            return
        self._returning = None
        self._closed_at = None
        sock = self._accept(FINAL_S)
        if sock is None:
            self.ledger.kept.add("error-final")
        else:
            sock.close()
            self.ledger.breach(
                "error-final", "expected it to stay away and tell somebody, it came again"
            )
        self._act = len(SERIES)

    # What a seat tells.

    def opened(self, hello: HelloFields, spec: GameSpec) -> None:
        """A HELLO came. Errors: RemoteError `spec_mismatch`."""
        self.ledger.mark("hello")
        self._show(f"{hello.client!r} plays {spec.describe()}, role {hello.role}")
        if self._spec is None:
            self._spec = spec
            return
        self.ledger.mark("hello again")
        if spec != self._spec:
            raise RemoteError(
                "spec_mismatch", f"expected {self._spec.describe()}, got {spec.describe()}"
            )

    def refuse(self) -> bool:
        """Whether this HELLO is to be refused for now."""
        if self.act != "refused" or self._refused == REFUSALS:
            return False
        if self._refused == 0:
            self._gaps.clear()
        self._refused += 1
        self._ended_by_us("refused")
        return True

    def playing(self) -> None:
        """A frame came that keeps all rules: whatever ended the connection before was borne."""
        ending, self._returning = self._returning, None
        if ending is None:
            return
        self.ledger.kept.add(ending)
        if ending == "refused":
            self.ledger.mark("refused often")
            # The first is from the refusal, the others from one refusal to the next.
            if not self._gaps[-1] > self._gaps[0]:
                shown = ", ".join(f"{gap:.2f}" for gap in self._gaps)
                self.ledger.breach(
                    "backoff-grows", f"expected longer and longer waits, got {shown} s"
                )
        if ending == self.act:
            self.next_act()

    def ended_by_us(self) -> None:
        """This side has ended the connection, as the act wants it."""
        self._ended_by_us(self.act)

    def _ended_by_us(self, ending: str) -> None:
        self._returning = ending
        self._closed_at = time.monotonic()

    def borne_so_far(self) -> None:
        """A frame came that keeps all rules: the act is through where it has had its frames."""
        if self.act not in ACTS:
            return
        enough = min(self._frames, FRAMES_OF.get(self.act, self._frames))
        if self.act == "last-frame":
            enough = EPISODE_ACTS * self._frames
            if "last-frame" in self.ledger.kept:
                enough = 0
            elif self.answered >= enough:
                self.ledger.unseen["last-frame"] = f"no episode ended within {enough} frames"
        elif self.answered >= enough:
            self.ledger.kept.add(self.act)
        if self.answered >= enough:
            self.next_act()


class _Seat:
    """One client on its connection."""

    def __init__(self, listener: Listener, sock: socket.socket) -> None:
        self._listener = listener
        self._ledger = listener.ledger
        self._socket = sock
        self._session = ServerSession(max_message_bytes=MAX_MESSAGE_BYTES)
        self._queue: deque[Any] = deque()
        self._tail = bytearray()
        """Bytes that came and belong to no message yet."""
        self._answers: Answers | None = None
        self._frames = 0
        self._last = ""
        """The act of the newest answer; `last-frame` where that had no action."""
        self._eof = False

    def play(self) -> None:
        """Errors: RemoteError, _Gone."""
        hello = self._next()
        assert isinstance(hello, HelloFields)  # the session refuses everything else
        assert self._session.spec is not None
        self._listener.opened(hello, self._session.spec)
        if self._listener.refuse():
            self.quietly(
                plain(
                    [15, "too_many_clients", "conformance: come back later, as the rules say", True]
                )
            )
            return None
        self._answers = Answers(hello, self._session.spec)
        if hello.role == "eval_expert":
            self._ledger.mark("eval_expert")
        self._welcome()
        while True:
            message = self._next()
            if isinstance(message, Bye):
                return self._bye()
            assert isinstance(message, Frame | Frames)
            if not self._frame(message):
                return None

    @property
    def behind_an_end(self) -> bool:
        """Whether the newest answer was that to the last frame of an episode."""
        return self._last == "last-frame"

    def blame(self) -> str:
        """The rule that is broken where the client has gone without BYE."""
        if not self._frames:
            return "late-welcome" if self._session.hello is not None else "hello_first"
        if self._last in ("", "plain"):
            return "bye"
        return self._last

    def quietly(self, data: bytes) -> None:
        """Send, whether or not anybody is there."""
        try:
            self._socket.sendall(data)
        except OSError:
            return

    def drain(self) -> None:
        """Let the client read what was sent last: closing on unread bytes would take it away."""
        deadline = time.monotonic() + 1.0
        try:
            self._socket.shutdown(socket.SHUT_WR)
            while time.monotonic() < deadline:
                self._socket.settimeout(max(0.01, deadline - time.monotonic()))
                if not self._socket.recv(65536):
                    return
        except OSError:
            return

    def _welcome(self) -> None:
        fields: dict[str, Any] = {
            "session": 2**40 + self._listener._connections,
            "protocol": 1,
            "server": "understudy-conformance/1",
            "settings": {"start_level": 3, "speed": 1.5, "name": "demo"},
        }
        act = self._listener.act
        if act == "split":
            self._wait(LATE_WELCOME_S)
            self._ledger.mark("welcome late")
            self._slowly(plain([11, fields]))
        elif act in ("later-versions", "cut"):
            self._send(later([11, {"later": [None], **fields}]))
        elif act == "half":
            self._send(long_form([11, fields]))
        else:
            self._send(plain([11, fields]))
        self._session.welcomed()

    def _frame(self, frame: Frame | Frames) -> bool:
        """Judge a frame and answer it; whether the connection goes on."""
        spec, answers, listener = self._session.spec, self._answers, self._listener
        assert spec is not None
        assert answers is not None
        judge(frame, spec)
        self._note(frame)
        listener.playing()
        listener.borne_so_far()
        value = answers.answer(frame)
        act = listener.act
        if act in ENDINGS and (act == "refused" or self._frames > ENDING_FRAMES):
            return self._end(act, plain(value))
        self._answer(act, value)
        if isinstance(frame, Frame):
            self._session.answered(frame.slot)
        else:
            self._session.answered_all()
        listener.answered += 1
        ended = frame.status != RUNNING if isinstance(frame, Frame) else any(bytes(frame.statuses))
        self._last = "last-frame" if ended else act if act in ACTS else "plain"
        return True

    def _answer(self, act: str, value: list[Any]) -> None:
        if act == "split":
            self._slowly(plain(value))
        elif act == "glued":
            self._send(plain([16, {"speed": 2}]) + plain(value) + plain([16, {"level": 5}]))
        elif act == "settings":
            self._send(plain([16, {"speed": 2.5, "list": [1, {"a": None}]}]))
            time.sleep(0.002)
            self._send(plain(value))
        elif act == "late-answer":
            self._wait(LATE_S)
            self._ledger.mark("answer late")
            self._send(plain(value))
        elif act == "later-versions":
            self._send(later([16, {"another": True}]) + later(value))
        elif act == "number-forms":
            self._send(long_form(value))
        else:
            self._send(plain(value))

    def _end(self, act: str, answer: bytes) -> bool:
        """End the connection in the way of this act."""
        if act == "half":
            self._send(answer[: len(answer) // 2])
        elif act == "error-retry":
            self.quietly(
                plain([15, "server_stopping", "conformance: the server is shutting down", True])
            )
            self.drain()
        elif act == "error-final":
            self.quietly(
                plain(
                    [15, "bad_hello", "conformance: this is the last case, do not come back", False]
                )
            )
            self.drain()
        elif act == "cut":
            # RST instead of FIN: a cable that was pulled, as far as this side can do it.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()
        self._listener.ended_by_us()
        return False

    def _note(self, frame: Frame | Frames) -> None:
        """What this frame exercises."""
        self._frames += 1
        self._ledger.mark("frame")
        if "welcome late" in self._ledger.marks:
            self._ledger.kept.add("late-welcome")
        if self._frames > 1:
            self._ledger.mark("second frame")
        if self._last == "last-frame":
            self._ledger.mark("frame behind an end")
            self._ledger.kept.add("last-frame")
        if isinstance(frame, Frame):
            given, took = frame.expert is not None, frame.took is not None
        else:
            given, took = frame.experts is not None, frame.took is not None
        if given or took:
            self._ledger.mark("action")
        if took:
            self._ledger.mark("took")

    def _bye(self) -> None:
        """A client that has said BYE closes, and says nothing more."""
        self._ledger.mark("bye", "ended")
        self._listener._show("the client says BYE; start it again to go on")
        extra = len(self._tail)
        deadline = time.monotonic() + BYE_S
        try:
            while (left := deadline - time.monotonic()) > 0:
                self._socket.settimeout(left)
                piece = self._socket.recv(65536)
                extra += len(piece)
                if not piece:
                    break
            else:
                raise TimeoutError
        except TimeoutError:
            self._ledger.breach("bye-last", f"expected it to close, it had not after {BYE_S:g} s")
        except OSError:
            pass
        if extra:
            self._ledger.breach("bye-last", f"expected nothing behind BYE, got {extra} bytes more")

    def _next(self) -> Any:
        """The next message that is no PING. Errors: RemoteError, _Gone."""
        deadline = time.monotonic() + self._listener._timeout_s
        while True:
            while self._queue:
                return self._queue.popleft()
            if self._eof:
                self._session.ended()
                self._ledger.mark("ended")
                raise _Gone(f"expected {self._awaited}; it closed the connection")
            left = deadline - time.monotonic()
            if left <= 0:
                came = f", but {self._session.held}" if self._session.partial else ""
                raise _Gone(
                    f"expected {self._awaited}; nothing came for "
                    f"{self._listener._timeout_s:g} s{came}"
                )
            self._read(left)

    @property
    def _awaited(self) -> str:
        if self._session.hello is None:
            return "HELLO"
        return f"a frame, or BYE; the last it got was {SENT_LAST[self._last]}"

    def _wait(self, seconds: float) -> None:
        """Let time go by, and see what the client does with it. Errors: RemoteError."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and not self._eof:
            self._read(left)

    def _read(self, timeout_s: float) -> None:
        if not select.select([self._socket], [], [], timeout_s)[0]:
            return
        try:
            data = self._socket.recv(65536)
        except OSError:
            data = b""
        if not data:
            self._eof = True
            return
        self._tail += data
        for message in self._session.receive(data):
            # One whole message less, so that what lies behind a BYE is known.
            del self._tail[: 4 + int.from_bytes(self._tail[:4], "big")]
            if isinstance(message, Ping):
                self._send_pong(message)
            else:
                self._queue.append(message)

    def _send_pong(self, ping: Ping) -> None:
        body = b"\x92\x0e" + bytes(ping.nonce)
        self._send(len(body).to_bytes(4, "big") + body)

    def _send(self, data: bytes) -> None:
        try:
            self._socket.settimeout(self._listener._timeout_s)
            self._socket.sendall(data)
        except OSError as error:
            what = "WELCOME" if self._session.state is State.AWAIT_WELCOME else "its answer"
            raise _Gone(
                f"expected it to wait for {what} and read it; it closed the connection "
                f"({error.strerror or error})"
            ) from None

    def _slowly(self, data: bytes) -> None:
        for i in range(len(data)):
            self._send(data[i : i + 1])
            time.sleep(0.0005)

"""A connection of a client under test: each message is judged, and answered as the act has it."""

from __future__ import annotations

import select
import socket
import struct
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from protocol.framing import LENGTH_BYTES
from protocol.messages import RUNNING, Bye, Frame, Frames, HelloFields, Ping
from protocol.session import ServerSession, State
from server.conformance.acts import (
    ACTS,
    SENT_LAST,
    send_answer,
    send_ending,
    send_refusal,
    send_welcome,
)
from server.conformance.answers import Answers, judge
from server.conformance.legal import LegalChoices
from server.conformance.series import ActSeries

if TYPE_CHECKING:
    from server.conformance.websocket import FramedWebSocket

MAX_MESSAGE_BYTES = 1_048_576
NIL = b"\xc0"
BYE_S = 5.0
"""How long a client that has sent BYE may take to close."""
READ_BYTES = 65_536
LAST_WORDS_S = 1.0
"""How long the last message may take to be read."""


class ClientGone(Exception):
    """The client has ended the connection, or sends nothing more."""


class ClientConnection:
    """A client on its connection."""

    def __init__(
        self,
        sock: socket.socket | FramedWebSocket,
        series: ActSeries,
        *,
        session: int,
        timeout_s: float,
    ) -> None:
        """timeout_s: how long to wait for each message."""
        self._socket = sock
        self._series = series
        self._ledger = series.ledger
        self._session_number = session
        self._timeout_s = timeout_s
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
        """Serve the client until the act or the client ends the connection.

        Errors: RemoteError for a rule that it breaks; ClientGone.
        """
        hello = self._next()
        assert isinstance(hello, HelloFields)  # the session refuses everything else
        assert self._session.spec is not None
        self._series.opened(hello, self._session.spec)
        if self._series.refuses(time.monotonic()):
            return send_refusal(self)
        self._answers = Answers(hello, self._session.spec)
        self._legal = LegalChoices(self._session.spec, hello.slots)
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

    # What the acts send with.

    def send(self, data: bytes) -> None:
        """Errors: ClientGone."""
        try:
            self._socket.settimeout(self._timeout_s)
            self._socket.sendall(data)
        except OSError as error:
            what = "WELCOME" if self._session.state is State.AWAIT_WELCOME else "its answer"
            raise ClientGone(
                f"expected it to wait for {what} and read it; it closed the connection "
                f"({error.strerror or error})"
            ) from None

    def send_bytewise(self, data: bytes) -> None:
        """Errors: ClientGone."""
        for i in range(len(data)):
            self.send(data[i : i + 1])
            time.sleep(0.0005)

    def send_quietly(self, data: bytes) -> None:
        """Send, whether or not anybody is there."""
        try:
            self._socket.sendall(data)
        except OSError:
            return

    def drain(self) -> None:
        """Let the client read what was sent last: closing on unread bytes would take it away."""
        deadline = time.monotonic() + LAST_WORDS_S
        try:
            self._socket.shutdown(socket.SHUT_WR)
            while time.monotonic() < deadline:
                self._socket.settimeout(max(0.01, deadline - time.monotonic()))
                if not self._socket.recv(READ_BYTES):
                    return
        except OSError:
            return

    def wait(self, seconds: float) -> None:
        """Let time pass, and see what the client does with it. Errors: RemoteError."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and not self._eof:
            self._read(left)

    def reset(self) -> None:
        """Have the connection end with RST instead of FIN."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    # Messages.

    def _welcome(self) -> None:
        fields: dict[str, Any] = {
            "session": self._session_number,
            "protocol": 1,
            "server": "understudy-conformance/1",
            "settings": {"start_level": 3, "speed": 1.5, "name": "demo"},
        }
        send_welcome(self._series.act, fields, self, self._ledger)
        self._session.welcomed()

    def _frame(self, frame: Frame | Frames) -> bool:
        """Judge a frame and answer it; whether the connection goes on."""
        spec, answers, series = self._session.spec, self._answers, self._series
        assert spec is not None
        assert answers is not None
        judge(frame, spec)
        legal = self._legal.judge(frame)
        self._note(frame)
        series.frame_came()
        value = answers.answer(frame, legal)
        act = series.act
        if series.ends(self._frames):
            send_ending(act, value, self)
            self._socket.close()
            series.ended(act, time.monotonic())
            return False
        send_answer(act, value, self, self._ledger)
        if isinstance(frame, Frame):
            self._session.answered(frame.slot)
        else:
            self._session.answered_all()
        series.answered += 1
        ended = frame.status != RUNNING if isinstance(frame, Frame) else any(bytes(frame.statuses))
        self._last = "last-frame" if ended else act if act in ACTS else "plain"
        return True

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
            recommended, took = frame.expert is not None, frame.took is not None
        else:
            recommended, took = frame.experts is not None, frame.took is not None
        masks = self._session.spec is not None and self._session.spec.masks
        if masks and bytes(frame.legal) not in (b"", NIL):
            self._ledger.mark("mask")
        hello = self._session.hello
        if hello and hello.metrics and bytes(frame.metrics) not in (b"", NIL):
            self._ledger.mark("metrics")
        if recommended or took:
            self._ledger.mark("action", *["action in a game with masks"] * bool(masks))
        if took:
            self._ledger.mark("took")

    def _bye(self) -> None:
        """A client that has sent BYE closes, and sends nothing more."""
        self._ledger.mark("bye", "ended")
        self._series.show("the client has sent BYE; start it again to go on")
        extra = len(self._tail)
        deadline = time.monotonic() + BYE_S
        try:
            while (left := deadline - time.monotonic()) > 0:
                self._socket.settimeout(left)
                piece = self._socket.recv(READ_BYTES)
                extra += len(piece)
                if not piece:
                    break
            else:
                raise TimeoutError
        except TimeoutError:
            self._ledger.breach(
                "bye-last", f"expected it to close the connection within {BYE_S:g} s of BYE"
            )
        except OSError:
            pass
        if extra:
            self._ledger.breach("bye-last", f"expected nothing behind BYE, got {extra} bytes more")

    # Bytes.

    def _next(self) -> Any:
        """The next message that is no PING. Errors: RemoteError, ClientGone."""
        deadline = time.monotonic() + self._timeout_s
        while not self._queue:
            if self._eof:
                self._session.ended()
                self._ledger.mark("ended")
                raise ClientGone(f"expected {self._awaited}; it closed the connection")
            left = deadline - time.monotonic()
            if left <= 0:
                came = f", but {self._session.held}" if self._session.partial else ""
                raise ClientGone(
                    f"expected {self._awaited}; nothing came for {self._timeout_s:g} s{came}"
                )
            self._read(left)
        return self._queue.popleft()

    @property
    def _awaited(self) -> str:
        if self._session.hello is None:
            return "HELLO"
        return f"a frame, or BYE; the last it got was {SENT_LAST[self._last]}"

    def _read(self, timeout_s: float) -> None:
        if not select.select([self._socket], [], [], timeout_s)[0]:
            return
        try:
            data = self._socket.recv(READ_BYTES)
        except OSError:
            data = b""
        if not data:
            self._eof = True
            return
        self._tail += data
        for message in self._session.receive(data):
            # One whole message less, so that what lies behind a BYE is known.
            length = int.from_bytes(self._tail[:LENGTH_BYTES], "big")
            del self._tail[: LENGTH_BYTES + length]
            if isinstance(message, Ping):
                self._send_pong(message)
            else:
                self._queue.append(message)

    def _send_pong(self, ping: Ping) -> None:
        body = b"\x92\x0e" + bytes(ping.nonce)
        self.send(len(body).to_bytes(LENGTH_BYTES, "big") + body)

"""How far a client has come in the series of acts, over all its connections. No I/O."""

from __future__ import annotations

from collections.abc import Callable

from protocol.errors import RemoteError
from protocol.messages import HelloFields
from protocol.spaces import GameSpec
from server.conformance.acts import ACTS, ENDINGS, FRAMES_OF, SERIES
from server.conformance.rules import Ledger

EPISODE_ACTS = 40
"""The end of an episode is awaited for so many times the frames of an act."""
ENDING_FRAMES = 3
"""Frames that are answered on a connection before it is ended."""
SHORTEST_WAIT_S = 0.02
"""A client that is back sooner than this has not waited."""
REFUSALS = 4


class ActSeries:
    """Which act is next, and when a client has passed one.

    A client passes a way to answer when it sends another frame behind the last answer of it; it
    passes a way to end a connection when it comes back and sends a frame.
    """

    def __init__(self, ledger: Ledger, frames: int, show: Callable[[str], None]) -> None:
        """frames: that an act lasts. show: takes a line of progress."""
        self.ledger = ledger
        self.show = show
        self.answered = 0
        """Frames that were answered in this act."""
        self.returning: str | None = None
        """The ending that is passed when the client plays again."""
        self._frames = frames
        self._next = 0
        self._spec: GameSpec | None = None
        self._closed_at: float | None = None
        """When this side ended a connection, and the client is to come back."""
        self._gaps: list[float] = []
        self._refused = 0

    @property
    def act(self) -> str:
        """The act that is played now; "" behind the last one."""
        return SERIES[self._next] if self._next < len(SERIES) else ""

    @property
    def over(self) -> bool:
        """All acts were played."""
        return self._next >= len(SERIES)

    def next_act(self) -> None:
        """This act is over."""
        self.show(f"{self.act}: played")
        self._next += 1
        self.answered = 0

    def connected(self, now: float) -> None:
        """A client has connected."""
        if self._closed_at is None:
            return
        gap = now - self._closed_at
        self._closed_at = None
        self._gaps.append(gap)
        self.ledger.mark("back")
        if gap < SHORTEST_WAIT_S:
            self.ledger.breach(
                "backoff",
                f"expected it to wait about 0.1 s, it was back after {gap * 1000:.0f} ms",
            )

    def opened(self, hello: HelloFields, spec: GameSpec) -> None:
        """A HELLO came. Errors: RemoteError `spec_mismatch`."""
        self.ledger.mark("hello")
        self.show(f"{hello.client!r} plays {spec.describe()}, role {hello.role}")
        if self._spec is None:
            self._spec = spec
            return
        self.ledger.mark("hello again")
        if spec != self._spec:
            raise RemoteError(
                "spec_mismatch", f"expected {self._spec.describe()}, got {spec.describe()}"
            )

    def refuses(self, now: float) -> bool:
        """Whether this HELLO is to be refused for now."""
        if self.act != "refused" or self._refused == REFUSALS:
            return False
        if self._refused == 0:
            self._gaps.clear()
        self._refused += 1
        self.ended("refused", now)
        return True

    def ends(self, frames: int) -> bool:
        """Whether the connection is to be ended at its frame of this number, counted from 1."""
        return self.act in ENDINGS and (self.act == "refused" or frames > ENDING_FRAMES)

    def ended(self, ending: str, now: float) -> None:
        """This side has ended the connection, in this way."""
        self.returning = ending
        self._closed_at = now

    def frame_came(self) -> None:
        """A frame came that keeps all rules: the ending before it, and the act where it has had its
        frames, are passed."""
        self._returned()
        if self.act in ACTS:
            self._answered_enough()

    def _returned(self) -> None:
        ending, self.returning = self.returning, None
        if ending is None:
            return
        self.ledger.kept.add(ending)
        if ending == "refused":
            self.ledger.mark("refused often")
            # The first is from the refusal, the others from one refusal to the next.
            if not self._gaps[-1] > self._gaps[0]:
                shown = ", ".join(f"{gap:.2f}" for gap in self._gaps)
                self.ledger.breach("backoff-grows", f"expected growing waits, got {shown} s")
        if ending == self.act:
            self.next_act()

    def _answered_enough(self) -> None:
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

    @property
    def awaits_nobody(self) -> bool:
        """The client was told not to come back: the last act."""
        return self.act == self.returning == "error-final"

    def refused_for_good(self) -> None:
        """From now on the client is not to come back."""
        self.returning = self._closed_at = None

    def stayed_away(self, kept: bool) -> None:
        """Whether the client did stay away: the series is over."""
        if kept:
            self.ledger.kept.add("error-final")
        else:
            self.ledger.breach(
                "error-final",
                "expected it to stay away and report the error, it connected again",
            )
        self._next = len(SERIES)

    def nobody_came(self, timeout_s: float) -> None:
        """The series ends before its time: note the ending that nobody came back from."""
        if self.returning is None or self.over:
            return
        if self._closed_at is None:
            self.ledger.unseen[self.returning] = "it came back, and broke another rule"
        else:
            self.ledger.breach(
                self.returning, f"expected the client back within {timeout_s:g} s, it did not come"
            )

"""Limits for each address: failed tokens, log lines, handshakes, frames. No sockets: times, counts.

An *address* here is an IPv4 address, or the /64 network of an IPv6 one: whoever has one of its
addresses has them all. So all of loopback, of either protocol, is one.
"""

from __future__ import annotations

import ipaddress
import math
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from functools import lru_cache

FAILURES, GUESSES = 10, 20
WITHIN_S = 60.0
"""So many wrong control tokens, or tokens of games, from an address within this time, and further
wrong ones are told to wait until the oldest is that old. Who says no token guesses nothing."""

ADDRESSES = 1024
"""Addresses that are remembered; beyond that the one that did something the longest ago is not."""

AGAIN_S, AGAIN_MOST_S = 10.0, 3600.0
"""A line that an address causes again and again: the second one so much later than the first, each
further one twice as long after the one before, and at most so long."""

LINES = 200
LINES_WITHIN_S = 60.0
"""So many lines in the log for the errors of an address within this time."""

LINES_PER_S = 20.0
"""The same for all addresses together, beside as many at once: to write one takes longer than to
answer a frame."""

FAILED, FAILED_WITHIN_S = 1000, 10.0
"""So many connections of an address that ended in an error before WELCOME within this time, and new
ones are refused until the oldest is that old: to be told what is wrong costs more than that."""

ECHO_BYTES_PER_S, ECHO_BURST_BYTES = 256 * 1024, 2 * 1024 * 1024
"""What an address may have sent back to it: PINGs carry any value, and PONGs the same."""

LOOPBACK = "loopback"


@lru_cache(ADDRESSES)
def address_of(host: str) -> str:
    """Whom a connection from this host counts for."""
    try:
        ip = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if ip.is_loopback:
        return LOOPBACK
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    return str(ipaddress.ip_network((ip, 64), strict=False))


class FailureWindow:
    """How often each address did something lately."""

    def __init__(self, most: int, within_s: float, clock: Callable[[], float]) -> None:
        self._most, self._within_s, self._clock = most, within_s, clock
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._times)

    def note(self, address: str) -> None:
        """It did it now."""
        times = self._times.setdefault(address, deque(maxlen=self._most))
        times.append(self._clock())
        self._times.move_to_end(address)
        if len(self._times) > ADDRESSES:
            self._times.popitem(last=False)

    def wait_s(self, address: str) -> int:
        """Whole seconds until it may do it again; 0 where it may."""
        times = self._times.get(address)
        if times is None or len(times) < self._most:
            return 0
        return max(0, math.ceil(times[0] + self._within_s - self._clock()))


class LogRateLimiter:
    """Keeps an address from filling the log, and many of them from keeping the server at it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._recent = FailureWindow(LINES, LINES_WITHIN_S, clock)
        self._all = TokenBucket(LINES_PER_S, LINES, clock())
        self._left_out: Counter[str] = Counter()

    def suffix(self, address: str) -> str | None:
        """None where nothing is to be logged now; else what to add to the line: how many were left
        out before it."""
        now = self._clock()
        if self._recent.wait_s(address) or self._all.take(0, now):
            if len(self._left_out) < ADDRESSES or address in self._left_out:
                self._left_out[address] += 1
            return None
        self._recent.note(address)
        self._all.take(1, now)
        left_out = self._left_out.pop(address, 0)
        return f" ({left_out} more from {address} were not logged)" if left_out else ""


class GrowingPauses:
    """Keeps the same line, which comes again and again, from filling the log."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lines: OrderedDict[str, tuple[float, float, int]] = OrderedDict()
        """When it may be logged next, the pause after that, and how often it was left out."""

    def due(self, line: str) -> int | None:
        """None where it is not to be logged now; else how often it was left out since the last
        time."""
        now = self._clock()
        next_at, pause, left_out = self._lines.get(line, (now, AGAIN_S, 0))
        if now >= next_at + AGAIN_MOST_S:  # it had been gone
            pause = AGAIN_S
        if now < next_at:
            self._lines[line] = next_at, pause, left_out + 1
            return None
        self._lines[line] = now + pause, min(2 * pause, AGAIN_MOST_S), 0
        self._lines.move_to_end(line)
        if len(self._lines) > ADDRESSES:
            self._lines.popitem(last=False)
        return left_out


class TokenBucket:
    """So much a second, and as much at once as `burst`. What is taken beyond that is owed."""

    def __init__(self, per_s: float, burst: float, now: float) -> None:
        self.per_s, self._burst = per_s, burst
        self._level, self._at = burst, now

    def take(self, n: float, now: float) -> float:
        """Take n; for how many seconds nothing more should be taken."""
        self._level = min(self._burst, self._level + (now - self._at) * self.per_s) - n
        self._at = now
        return max(0.0, -self._level / self.per_s)

    def full(self, now: float) -> bool:
        """Nothing is owed, as if nothing had ever been taken."""
        return self._level + (now - self._at) * self.per_s >= self._burst


class AddressLimits:
    """The addresses that are connected to a gateway, and what they did."""

    def __init__(self, frames_per_s: float | None, clock: Callable[[], float]) -> None:
        """`frames_per_s`: what each may send; None for as many as it likes."""
        self.guesses = FailureWindow(GUESSES, WITHIN_S, clock)
        self.failed = FailureWindow(FAILED, FAILED_WITHIN_S, clock)
        """Connections that ended in an error of theirs before WELCOME."""
        self.log = LogRateLimiter(clock)
        self.welcomes = LogRateLimiter(clock)
        """Of lines that are no errors: a game may come and go as often as it likes."""
        self.repeated = GrowingPauses(clock)
        self._frames_per_s = frames_per_s
        self._clock = clock
        self._connections: Counter[str] = Counter()
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()
        self._echoes: OrderedDict[str, TokenBucket] = OrderedDict()

    def echo(self, address: str, size: int) -> float:
        """So many bytes are sent back to it; for how many seconds nothing more should be read."""
        now = self._clock()
        bucket = self._echoes.pop(address, None)
        if bucket is None:
            bucket = TokenBucket(ECHO_BYTES_PER_S, ECHO_BURST_BYTES, now)
        self._echoes[address] = bucket
        if len(self._echoes) > ADDRESSES:
            self._echoes.popitem(last=False)
        return bucket.take(size, now)

    def came(self, address: str) -> TokenBucket | None:
        """A connection of it was accepted. What its frames are taken from, where that is limited:
        one bucket for all connections of an address."""
        self._connections[address] += 1
        if self._frames_per_s is None:
            return None
        bucket = self._buckets.get(address)
        if bucket is None:
            bucket = TokenBucket(self._frames_per_s, self._frames_per_s, self._clock())
            self._buckets[address] = bucket
        self._buckets.move_to_end(address)
        return bucket

    def gone(self, address: str) -> None:
        """A connection of it has ended. What it owes it still owes when it comes back."""
        self._connections[address] -= 1
        if self._connections[address] <= 0:
            del self._connections[address]
        if len(self._buckets) > ADDRESSES:
            now = self._clock()
            for other, bucket in list(self._buckets.items()):
                if other not in self._connections and bucket.full(now):
                    del self._buckets[other]

"""What the log and the counters say of connections that end in an error or send too fast."""

from __future__ import annotations

import logging
from collections import Counter

from agent.finding import Finding
from protocol.errors import RemoteError
from server.net.rate_limits import AddressLimits

log = logging.getLogger("gateway")


class ConnectionLog:
    """Every error leaves a count, and a line unless its address has filled the log."""

    def __init__(self, addresses: AddressLimits, max_frames_per_address: float | None) -> None:
        self.errors: Counter[str] = Counter()
        """Connections that ended in an error, by code."""
        self._found: dict[str, Finding] = {}
        self._addresses = addresses
        self._max_frames = max_frames_per_address

    def failed(self, peer: str, address: str, error: RemoteError, *, welcomed: bool) -> None:
        """A connection ends in this error. `welcomed`: it got as far as WELCOME. Where it did not,
        and the fault is its own, that counts against its address."""
        self.errors[error.code] += 1
        if not welcomed and not error.retry:
            self._addresses.failed.note(address)
        more = self._addresses.log.suffix(address)
        if more is not None:
            level = logging.INFO if error.code == "server_stopping" else logging.WARNING
            log.log(level, "%s: %s%s", peer, error, more)

    def wrong_token(self, address: str) -> None:
        """A client of this address had a token, and not the right one."""
        self._addresses.guesses.note(address)

    def throttled(self, peer: str, address: str) -> None:
        """The address has sent as many frames as it may, and is not read from for a moment."""
        self.find(
            Finding(
                "address_limited",
                f"games of {address} wait ({peer} is one): it sends more than the "
                f"{self._max_frames or 0:g} frames/s that an address may",
                "raise server.max_frames_per_address, or play fewer games from there",
            )
        )

    def find(self, finding: Finding) -> None:
        """Something is worth a warning (`server.monitor.warnings`)."""
        self._found[finding.id] = finding

    def take_findings(self) -> list[Finding]:
        """What was found since the last call."""
        found = [*self._found.values()]
        self._found.clear()
        return found

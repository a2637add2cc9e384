"""What the log and the counters say of connections that end in an error or send too fast."""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict

from agent.finding import Finding
from protocol.errors import RemoteError
from protocol.messages import HelloFields
from server.ipc.messages import FailedConnections
from server.net.rate_limits import AddressLimits

log = logging.getLogger("gateway")

KINDS = 64
"""Of failures, by address and error, that are kept until a report takes them: the newest."""

CLIENT, MESSAGE = 64, 500
"""Letters of a client's name and of a message that are reported."""

LINE = 1000
"""Letters of a message that are logged; the client was told all of it."""


class ConnectionLog:
    """Every error leaves a count, and a line unless its address has filled the log. A game that is
    refused for another run's leaves one in growing pauses."""

    def __init__(self, addresses: AddressLimits, max_frames_per_address: float | None) -> None:
        self.errors: Counter[str] = Counter()
        """Connections that ended in an error, by code."""
        self._found: dict[str, Finding] = {}
        self._failures: OrderedDict[tuple[str, str], FailedConnections] = OrderedDict()
        self._addresses = addresses
        self._max_frames = max_frames_per_address

    def failed(
        self, peer: str, address: str, error: RemoteError, client: str = "", session: int = 0
    ) -> None:
        """A connection ends in this error. `client`: what its program calls itself, empty if it did
        not say; `session`: 0 before WELCOME. Where it did not get that far, and the fault is its
        own, that counts against its address."""
        self.count(peer, address, error, client, session)
        if not session and not error.retry:
            self._addresses.failed.note(address)
        again = ""
        if error.code == "spec_mismatch":  # a game of another run that was left running comes back
            left_out = self._addresses.repeated.due(f"{address} {error}")
            if left_out is None:
                return
            again = f" ({left_out} more times since the last line)" if left_out else ""
        more = self._addresses.log.suffix(address)
        if more is not None:
            level = logging.INFO if error.code == "server_stopping" else logging.WARNING
            log.log(level, "%s: %s%s%s", peer, str(error)[:LINE], again, more)

    def welcomed(self, peer: str, address: str, session: int, hello: HelloFields) -> None:
        """A game may play from now on."""
        if (more := self._addresses.welcomes.suffix(address)) is not None:
            log.info(
                "%s: welcome to session %d: %s, %s, %d slots%s",
                peer, session, hello.client[:CLIENT], hello.role, hello.slots, more,
            )  # fmt: skip

    def count(
        self, peer: str, address: str, error: RemoteError, client: str = "", session: int = 0
    ) -> None:
        """The same, where it is logged elsewhere."""
        self.errors[error.code] += 1
        key = address, error.code
        before = self._failures.pop(key, None)
        self._failures[key] = FailedConnections(
            address,
            error.code,
            1 + (before.times if before else 0),
            peer,
            client[:CLIENT],
            session,
            error.message[:MESSAGE],
        )
        if len(self._failures) > KINDS:
            self._failures.popitem(last=False)

    def take_failures(self) -> list[FailedConnections]:
        """Whose connections have failed since the last call, and how: the newest of them."""
        found = [*self._failures.values()]
        self._failures.clear()
        return found

    def wrong_token(self, address: str, error: RemoteError) -> RemoteError:
        """A client of this address had a token, and not the right one, for which it is told this
        error, or to wait: who guesses. Who has the right one is let in at any time, or the wrong
        ones of others from the same address would keep games out."""
        wait_s = self._addresses.guesses.wait_s(address)
        self._addresses.guesses.note(address)
        if not wait_s:
            return error
        return RemoteError(
            "too_many_attempts",
            f"too many wrong tokens from {address}; retry in {wait_s} s, with the server's "
            "token (server.token)",
            retry=True,
        )

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

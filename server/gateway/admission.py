"""Who may be connected to a gateway: limits in all and per address.

All that is asked about connections is counted as they come and go: to admit one takes as long among
thousands as among few.
"""

from __future__ import annotations

import sys
from collections import Counter, OrderedDict
from typing import Protocol

from config.models import ServerConfig
from protocol.errors import RemoteError
from server.net.rate_limits import AddressLimits

ENDING = 256
"""Connections that may still read why they were refused. With more than that they are just cut."""


class Peer(Protocol):
    """What admission asks of a connection (server.gateway.connection)."""

    address: str

    def fail(self, error: RemoteError) -> None:
        """End the connection with an error; tells `Admission.ending`."""


class Admission:
    """The connections of a gateway, counted."""

    def __init__(
        self, addresses: AddressLimits, files: int = sys.maxsize, ending: int = ENDING
    ) -> None:
        """`files`: as many connections may be open, whatever the settings allow; `ending`: as many
        may still read why they were refused."""
        self._addresses = addresses
        self._files, self._most_ending = files, ending
        self._open: Counter[str] = Counter()
        """Connections that have not ended, by address."""
        self._all_open = 0
        self._ending: set[Peer] = set()
        self._silent: dict[str, OrderedDict[Peer, None]] = {}
        """Those of them that have not said HELLO, by address, the oldest first."""

    @property
    def crowded(self) -> bool:
        """Too many connections are still being told why they were refused."""
        return len(self._ending) > self._most_ending

    def came(self, newcomer: Peer, server: ServerConfig) -> None:
        """A connection was accepted: count it, and say whether it may stay. Where there are too
        many it may take the place of one that has said nothing. Errors: RemoteError why not; it is
        counted all the same until it has `gone`."""
        address = newcomer.address
        self._open[address] += 1
        self._all_open += 1
        self._silent.setdefault(address, OrderedDict())[newcomer] = None
        if wait_s := self._addresses.failed.wait_s(address):
            raise RemoteError(
                "too_many_attempts",
                f"too many connections from {address} ended in an error before WELCOME; retry in "
                f"{wait_s} s, and mend what those errors say",
                retry=True,
            )
        limit = server.max_clients_per_address
        if limit is not None:
            limit = -(-limit // server.gateways)
            if self._open[address] > limit:
                raise RemoteError(
                    "too_many_clients",
                    f"too many connections from {address}: {limit} are allowed; retry later, or "
                    "raise server.max_clients_per_address",
                    retry=True,
                )
        limit = -(-server.max_clients // server.gateways)
        cure = "raise server.max_clients"
        if limit > self._files:
            limit, cure = self._files, "raise ulimit -n for the server, which has few open files"
        if self._all_open > limit and not self._make_room(newcomer):
            raise RemoteError(
                "too_many_clients",
                f"too many connections: {limit} are allowed; retry later, or {cure}",
                retry=True,
            )

    def said_hello(self, peer: Peer) -> None:
        """It has said who it is."""
        silent = self._silent.get(peer.address)
        if silent is not None and peer in silent:
            del silent[peer]
            if not silent:
                del self._silent[peer.address]

    def ending(self, peer: Peer) -> None:
        """All is said to it; it only has to read that."""
        self.said_hello(peer)
        if peer not in self._ending:
            self._ending.add(peer)
            self._close(peer.address)

    def gone(self, peer: Peer) -> None:
        """The connection is no more."""
        self.said_hello(peer)
        if peer in self._ending:
            self._ending.discard(peer)
        else:
            self._close(peer.address)

    def _close(self, address: str) -> None:
        self._all_open -= 1
        self._open[address] -= 1
        if self._open[address] <= 0:
            del self._open[address]

    def _make_room(self, newcomer: Peer) -> bool:
        """End a connection that has said nothing so far, for one that has just come; whether there
        was one. The address with the most of them pays: nobody keeps others out by being silent."""
        others = {
            address: len(silent) - (newcomer in silent) for address, silent in self._silent.items()
        }
        heaviest = max(others, key=others.__getitem__)
        if others[heaviest] <= others[newcomer.address]:
            return False
        next(iter(self._silent[heaviest])).fail(
            RemoteError(
                "too_many_clients",
                "the server is full, and connections without HELLO make room; reconnect later, and "
                "send HELLO at once",
                retry=True,
            )
        )
        return True

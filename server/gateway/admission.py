"""Who may be connected to a gateway: limits in all and per address, and none who guess tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Set
from typing import Protocol

from config.models import ServerConfig
from protocol.errors import RemoteError
from server.net.rate_limits import AddressLimits

ENDING = 256
"""Connections that may still read why they were refused. With more than that they are just cut."""


class Peer(Protocol):
    """What admission asks about a connection (server.gateway.connection)."""

    address: str
    opened: float

    @property
    def silent(self) -> bool:
        """It has not sent HELLO."""

    @property
    def ending(self) -> bool:
        """All is said; it only has to read that."""

    def fail(self, error: RemoteError) -> None:
        """End the connection with an error."""


def check(
    newcomer: Peer, connections: Set[Peer], addresses: AddressLimits, server: ServerConfig
) -> None:
    """Whether a connection that has just come, and is among these, may stay. Where there are too
    many it may take the place of one that has said nothing. Errors: RemoteError why not."""
    address = newcomer.address
    open_ones = [each for each in connections if not each.ending]
    if wait_s := addresses.guesses.wait_s(address):
        raise RemoteError(
            "too_many_attempts",
            f"too many wrong tokens from {address}; retry in {wait_s} s, with the server's token "
            "(server.token)",
            retry=True,
        )
    if wait_s := addresses.failed.wait_s(address):
        raise RemoteError(
            "too_many_attempts",
            f"too many connections from {address} ended in an error before WELCOME; retry in "
            f"{wait_s} s, and mend what those errors say",
            retry=True,
        )
    limit = server.max_clients_per_address
    if limit is not None:
        limit = -(-limit // server.gateways)
        if sum(each.address == address for each in open_ones) > limit:
            raise RemoteError(
                "too_many_clients",
                f"too many connections from {address}: {limit} are allowed; retry later, or raise "
                "server.max_clients_per_address",
                retry=True,
            )
    limit = -(-server.max_clients // server.gateways)
    if len(open_ones) > limit and not _make_room(newcomer, open_ones):
        raise RemoteError(
            "too_many_clients",
            f"too many connections: {limit} are allowed; retry later, or raise server.max_clients",
            retry=True,
        )


def crowded(connections: Set[Peer]) -> bool:
    """Too many connections are still being told why they were refused."""
    return sum(each.ending for each in connections) > ENDING


def _make_room(newcomer: Peer, connections: list[Peer]) -> bool:
    """End a connection that has said nothing so far, for one that has just come; whether there was
    one. The address with the most of them pays: nobody keeps others out by being silent."""
    silent = [each for each in connections if each.silent and each is not newcomer]
    by_address = Counter(each.address for each in silent)
    if not by_address:
        return False
    heaviest, most = by_address.most_common(1)[0]
    if by_address[newcomer.address] >= most:
        return False
    oldest = min((each for each in silent if each.address == heaviest), key=lambda c: c.opened)
    oldest.fail(
        RemoteError(
            "too_many_clients",
            "the server is full, and connections without HELLO make room; reconnect later, and "
            "send HELLO at once",
            retry=True,
        )
    )
    return True

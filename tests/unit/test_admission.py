from __future__ import annotations

import pytest

from config.models import ServerConfig
from protocol.errors import RemoteError
from server.gateway.admission import ENDING, Admission
from server.net.rate_limits import FAILED, FAILED_WITHIN_S, AddressLimits


class Peer:
    def __init__(self, door: Door, address: str) -> None:
        self.door, self.address = door, address
        self.errors: list[RemoteError] = []

    def fail(self, error: RemoteError) -> None:
        self.errors.append(error)
        self.door.admission.ending(self)

    @property
    def code(self) -> str | None:
        return self.errors[0].code if self.errors else None


class Door:
    """An admission, and who comes."""

    def __init__(self, room: tuple[int, int] = (100_000, ENDING), **settings: int) -> None:
        """`room`: open files for connections, and for those that end."""
        self.now = 1000.0
        self.addresses = AddressLimits(None, lambda: self.now)
        self.admission = Admission(self.addresses, *room)
        self.server = ServerConfig.model_validate(settings)

    def come(self, address: str = "a", *, hello: bool = False) -> Peer:
        peer = Peer(self, address)
        try:
            self.admission.came(peer, self.server)
        except RemoteError as error:
            peer.fail(error)
        if hello and not peer.errors:
            self.admission.said_hello(peer)
        return peer


def test_silent_connection_of_the_heaviest_address_makes_room() -> None:
    door = Door(max_clients=4)
    game = door.come("game", hello=True)
    silent = [door.come("silent") for _ in range(3)]
    others = [door.come(f"other {n}", hello=True) for n in range(3)]
    assert [each.code for each in silent] == ["too_many_clients"] * 3, "the oldest first"
    assert [each.code for each in [game, *others]] == [None] * 4
    assert door.come("another").code == "too_many_clients", "who has said HELLO stays"


def test_silent_address_makes_no_room_for_itself() -> None:
    door = Door(max_clients=4)
    silent = [door.come("silent") for _ in range(4)]
    assert door.come("silent").code == "too_many_clients"
    assert not any(each.errors for each in silent)


def test_connection_that_ends_frees_its_place_once() -> None:
    door = Door(max_clients=2, max_clients_per_address=2)
    first, second = door.come(hello=True), door.come(hello=True)
    assert door.come(hello=True).code == "too_many_clients"
    door.admission.ending(first)
    third = door.come(hello=True)
    assert third.code is None
    door.admission.gone(first)
    assert door.come(hello=True).code == "too_many_clients", "it was free already"
    door.admission.gone(second)
    assert door.come(hello=True).code is None


def test_connections_of_an_address_are_limited() -> None:
    door = Door(max_clients_per_address=2, gateways=1)
    assert [door.come(hello=True).code for _ in range(3)] == [None, None, "too_many_clients"]
    assert door.come("elsewhere").code is None


def test_crowded_counts_who_still_reads_why() -> None:
    door = Door((1, 2))
    door.come(hello=True)
    refused = [door.come() for _ in range(2)]
    assert not door.admission.crowded
    door.come()
    assert door.admission.crowded
    for peer in refused:
        door.admission.gone(peer)
    assert not door.admission.crowded


def test_address_that_failed_too_often_is_refused_and_no_other() -> None:
    door = Door()
    for _ in range(FAILED):
        assert door.come("10.0.0.2").code is None
        door.addresses.failed.note("10.0.0.1")
    refused = door.come("10.0.0.1")
    assert refused.code == "too_many_attempts"
    assert refused.errors[0].retry
    door.now += 60.0
    assert door.come("10.0.0.1").code is None
    assert FAILED_WITHIN_S <= 60.0


@pytest.mark.promise("hostile-connections")
def test_admission_counts_nothing_over_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one costs among thousands: nobody else is asked anything."""
    door = Door(max_clients=100_000)
    peers = [door.come(f"address {n % 50}", hello=n % 2 == 0) for n in range(2000)]
    asked = 0

    def looked_at(self: object) -> int:
        nonlocal asked
        asked += 1
        return id(self)

    monkeypatch.setattr(Peer, "__hash__", looked_at)
    newcomer = door.come("new")
    door.admission.said_hello(newcomer)
    door.admission.ending(newcomer)
    door.admission.gone(newcomer)
    assert asked < 20
    monkeypatch.undo()
    for peer in peers:
        door.admission.gone(peer)
    assert not door.admission._open
    assert not door.admission._silent
    assert door.admission._all_open == 0


@pytest.mark.promise("few-open-files")
def test_connection_beyond_the_open_files_is_told_what_to_raise() -> None:
    door = Door((2, 1), max_clients=1000)
    for _ in range(2):
        assert door.come(hello=True).code is None
    refused = door.come(hello=True)
    assert refused.code == "too_many_clients"
    assert "2 are allowed; retry later, or raise ulimit -n" in str(refused.errors[0])
    assert not door.admission.crowded
    door.come(hello=True)
    assert door.admission.crowded, "further ones are just cut"

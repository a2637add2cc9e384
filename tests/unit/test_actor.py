from __future__ import annotations

import pytest

from protocol.actor import ACTORS, NAMES, NOBODY, TAG_COUNT, Actor, parse_actor
from protocol.errors import RemoteError


def test_actor_numbers_equal_wire_protocol() -> None:
    assert (Actor.DQN, Actor.EXPERT, NOBODY) == (1, 2, 0)
    assert ACTORS == (Actor.DQN, Actor.EXPERT)
    assert NAMES == {Actor.DQN: "dqn", Actor.EXPERT: "expert"}


def test_tags_constant_exceeds_every_actor_number() -> None:
    assert TAG_COUNT == 3
    assert max(NOBODY, *ACTORS) < TAG_COUNT


@pytest.mark.parametrize("actor", ACTORS)
def test_parse_actor_known_number_returns_actor(actor: Actor) -> None:
    assert parse_actor(int(actor)) is actor


@pytest.mark.parametrize("number", [NOBODY, -1, 3, 255, 2**40])
def test_parse_actor_unknown_number_raises_unknown_actor(number: int) -> None:
    with pytest.raises(RemoteError, match=rf"expected .*1 \(dqn\).* got {number}") as caught:
        parse_actor(number)
    assert caught.value.code == "unknown_actor"

from __future__ import annotations

import pytest

from protocol.actor import ACTORS, NAMES, NOBODY, TAGS, Actor, parse_actor
from protocol.errors import RemoteError


def test_the_numbers_are_those_of_the_wire() -> None:
    assert (Actor.DQN, Actor.EXPERT, NOBODY) == (1, 2, 0)
    assert ACTORS == (Actor.DQN, Actor.EXPERT)
    assert NAMES == {Actor.DQN: "dqn", Actor.EXPERT: "expert"}


def test_a_table_with_a_column_for_each_tag_has_room_for_all_of_them() -> None:
    assert TAGS == 3
    assert max(NOBODY, *ACTORS) < TAGS


@pytest.mark.parametrize("actor", ACTORS)
def test_a_known_actor_is_parsed(actor: Actor) -> None:
    assert parse_actor(int(actor)) is actor


@pytest.mark.parametrize("number", [NOBODY, -1, 3, 255, 2**40])
def test_any_other_number_is_refused(number: int) -> None:
    with pytest.raises(RemoteError, match=rf"expected .*1 \(dqn\).* got {number}") as caught:
        parse_actor(number)
    assert caught.value.code == "unknown_actor"

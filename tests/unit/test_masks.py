"""Masks of legal choices on the frame path: what is refused, chosen, and stored."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from agent.decision import ActingParams
from agent.step import FINAL, STEP
from protocol import masks
from protocol.errors import RemoteError
from protocol.spaces import Continuous, Discrete, GameSpec, Observation
from server.gateway.expert_plugin import ExpertPlugin, Situation
from tests.support.frame_loop import FakePlayer, World
from tests.support.masked import MASKED, bits, mask

ONLY = mask((0, 2), (1, 6))
ANY = mask((0, 1, 2), tuple(range(7)))
NONE = mask((), ())


def world(*, epsilon: float = 0.0, expert_ratio: float = 0.0) -> World:
    made = World(MASKED, action=(2, 0.5, 6))
    made.params = ActingParams(expert_ratio, epsilon, 0.0)
    return made


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.msgpack.encode(value))


@pytest.mark.parametrize(("spec", "nbytes"), [(MASKED, 2), (World().spec, 0)])
def test_spec_mask_bytes_are_a_bit_for_each_choice(spec: GameSpec, nbytes: int) -> None:
    assert spec.legal_bytes == nbytes


def test_spec_without_masks_is_written_as_before_and_equals_one_that_says_so() -> None:
    spec = GameSpec("g", Observation("float32", (1,)), (Discrete("a", 2),))
    assert b"masks" not in msgspec.json.encode(spec)
    assert msgspec.structs.replace(spec, masks=False) == spec
    masked = msgspec.structs.replace(spec, masks=True)
    assert masked != spec
    assert msgspec.json.decode(msgspec.json.encode(masked), type=GameSpec) == masked


def test_spec_with_masks_and_no_choice_is_refused() -> None:
    spec = GameSpec("g", Observation("float32", (1,)), (Continuous("a", 0, 1, 1),), masks=True)
    with pytest.raises(RemoteError, match="masks: expected a game with a discrete head"):
        spec.checked()


def test_mask_packed_and_unpacked_is_the_same() -> None:
    many = np.random.default_rng(0).random((50, 10)) < 0.5
    packed = masks.packed(many)
    assert packed.shape == (50, 2)
    np.testing.assert_array_equal(masks.unpacked(packed, MASKED), many)
    assert bits(ONLY) == bytes([0b0001_0101, 0b10])


@pytest.mark.parametrize("absent", [msgspec.Raw(b""), raw(None)])
def test_mask_that_is_absent_says_nothing(absent: msgspec.Raw) -> None:
    assert masks.mask_bytes(absent, 1, MASKED) is None


@pytest.mark.parametrize(
    ("value", "slots", "code"),
    [(b"\1", 1, "mask_size"), (b"\1\1\1", 1, "mask_size"), (b"\1\1", 2, "mask_size"),
     ([1, 0], 1, "message_malformed"), ("ab", 1, "message_malformed")],
)  # fmt: skip
def test_mask_of_another_form_or_size_is_refused(value: Any, slots: int, code: str) -> None:
    with pytest.raises(RemoteError) as caught:
        masks.mask_bytes(raw(value), slots, MASKED)
    assert caught.value.code == code


def refused(player: FakePlayer) -> str:
    assert player.error is not None
    return str(player.error)


@pytest.mark.promise("masks")
def test_expert_that_recommends_an_illegal_choice_is_refused_in_words() -> None:
    made = world()
    player = made.player(slots=2)
    player.frame(expert=[0, 0.5, 1], slot=0, legal=ONLY)
    player.frame(expert=[0, 0.5, 5], slot=1, legal=ONLY)
    made.run()
    said = refused(player)
    assert said.startswith("action_illegal: slot 1: head 'column': expected ")
    assert "what the expert recommends to be a legal choice (1, 6), got 5" in said
    assert player.answers == []


@pytest.mark.promise("masks")
def test_frame_in_which_a_head_has_no_legal_choice_is_refused_and_others_are_answered() -> None:
    made = world()
    bad, good = made.player(), made.player()
    bad.frame(legal=mask((1,), ()))
    good.frame(legal=ONLY)
    made.run()
    assert refused(bad).startswith("no_legal_choice: head 'column': expected at least one legal")
    assert good.error is None
    assert good.last.action == [2, 0.5, 6]


@pytest.mark.promise("masks")
def test_took_is_held_against_the_mask_of_the_frame_that_it_answers() -> None:
    made = world()
    lawful, other = made.player(), made.player()
    for player in (lawful, other):
        player.frame(legal=ONLY)
    made.run()
    # What was legal then need not be legal now, and the other way round.
    lawful.frame(took=([0, 0.5, 1], 2), legal=mask((1,), (2,)))
    other.frame(took=([1, 0.5, 1], 2), legal=ANY)
    made.run()
    assert lawful.error is None
    said = refused(other)
    assert "head 'row': expected what was done (took) to be a legal choice (0, 2), got 1" in said


@pytest.mark.promise("masks")
def test_exploration_draws_every_legal_choice_and_no_other() -> None:
    made = world(epsilon=1.0)
    players = [made.player() for _ in range(300)]
    for i, player in enumerate(players):
        player.frame(legal=ONLY if i % 2 else mask((1,), (0, 3, 5)))
    made.run()
    drawn = {True: set(), False: set()}
    for i, player in enumerate(players):
        assert player.last.explored
        drawn[bool(i % 2)].add((player.last.action[0], player.last.action[2]))
    assert drawn[True] == {(row, column) for row in (0, 2) for column in (1, 6)}
    assert drawn[False] == {(1, column) for column in (0, 3, 5)}


def test_network_is_asked_with_the_masks_of_its_frames() -> None:
    made = world(expert_ratio=1.0)
    seen: list[Any] = []
    greedy = made.policy.greedy

    def noted(obs: Any, legal: Any = None) -> Any:
        seen.append(legal.copy())
        return greedy(obs)

    made.policy.greedy = noted  # type: ignore[method-assign]
    other = mask((2,), (0, 6))
    made.player().frame(expert=[0, 0.5, 1], legal=ONLY)  # the expert plays this one
    made.player().frame(legal=other)
    made.player().frame()
    made.run()
    np.testing.assert_array_equal(seen, [[other, ANY]])


def test_rows_have_the_masks_of_their_frames_and_last_frames_too() -> None:
    made = world()
    player = made.player()
    player.frame(legal=ONLY)
    made.run()
    player.frame()
    made.run()
    player.frame(status=2, legal=mask((1,), (1,)))
    made.run()
    rows = made.rows()
    assert [(row["kind"], bytes(row["legal"])) for row in rows] == [
        (STEP, bits(ONLY)),
        (STEP, b"\xff\xff"),
        (FINAL, bits(mask((1,), (1,)))),
    ]
    assert player.last.action is None


def test_last_frame_without_a_legal_choice_says_that_nothing_is_known() -> None:
    made = world()
    player = made.player()
    player.frame(legal=ONLY)
    made.run()
    player.frame(status=2, legal=mask((1,), ()))
    made.run()
    assert player.error is None
    assert bytes(made.rows()[-1]["legal"]) == b"\xff\xff"


def test_lost_connection_leaves_the_mask_of_its_last_frame() -> None:
    made = world()
    player = made.player()
    for legal in (ANY, ONLY):
        player.frame(legal=legal)
        made.run()
    player.leave()
    made.run()
    last = made.rows()[-1]
    assert (last["kind"], bytes(last["legal"])) == (FINAL, bits(ONLY))


def test_all_slots_at_once_have_a_mask_each() -> None:
    made = world(epsilon=1.0)
    player = made.player(slots=2)
    player.frames([0, 0], [0, 0], [0, 0], legal=[mask((1,), (4,)), mask((2,), (0,))])
    made.run()
    rows = np.frombuffer(player.last.actions, "<f4").reshape(2, 3)
    assert rows[:, [0, 2]].tolist() == [[1, 4], [2, 0]]


def test_gap_of_an_expert_that_plays_alone_is_filled_with_legal_choices() -> None:
    made = world()
    player = made.player(role="eval_expert")
    asked = [(None, mask((1, 2), (0, 3))), ([2, 0.5, 3], ANY), (None, mask((2,), (5,)))]
    got = []
    for expert, legal in asked:
        player.frame(expert=expert, legal=legal)
        made.run()
        got.append(player.last.action)
    # At first the first choice, and the last action again, each where it is legal.
    assert got == [[1, 0.0, 0], [2, 0.5, 3], [2, 0.5, 5]]


def test_plugin_sees_masks_and_advice_against_them_is_a_failure() -> None:
    seen: list[Any] = []

    def expert(obs: Any, situation: Situation) -> Any:
        seen.append(situation.legal)
        return np.tile([0, 0.5, 2], (len(obs), 1))

    plugin = ExpertPlugin("test", expert, MASKED)
    made = world(expert_ratio=1.0)
    made.frame_loop.expert = plugin
    player = made.player()
    player.frame(legal=ONLY)
    made.run()
    assert (plugin.failures, player.last.actor) == (1, 1)
    np.testing.assert_array_equal(seen, [[ONLY]])
    [finding] = plugin.take_findings()
    assert "expected what the expert recommends to be a legal choice (1, 6), got 2" in finding.text
    player.frame(legal=ANY)
    made.run()
    assert (plugin.failures, player.last.actor) == (1, 2)


def test_long_list_of_legal_choices_is_cut() -> None:
    spec = GameSpec("g", Observation("float32", (1,)), (Discrete("a", 1000),), masks=True)
    legal = np.ones(1000, np.bool_)
    legal[3] = False
    error = masks.illegal("it", np.array([3], np.float32), legal, 0, spec)
    assert "(0, 1, 2, 4," in error.message
    assert "20 and 979 more), got 3" in error.message

"""protocol/observations.py and observation_checks.py: several observations in one frame."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from protocol import codec
from protocol.errors import RemoteError
from protocol.messages import HelloFields
from protocol.observation_checks import bad_element, bad_rows
from protocol.observations import MAX_CHOICES, Observation
from protocol.spaces import Discrete, GameSpec

CAMERA = Observation("uint8", (6, 5, 3), "camera")
SPEED = Observation("float32", (2,), "speed", low=-1, high=1)
PLACE = Observation("int64", (1,), "place", kind="choice", n=9)
CARDS = Observation("uint8", (3,), "cards", kind="choices", n=(4, 2, 13))
HEADS = (Discrete("move", 3),)
SPEC = GameSpec("several", (CAMERA, SPEED, PLACE, CARDS), HEADS).checked()


def hello_of(observation: Any) -> HelloFields:
    return HelloFields(protocol=1, client="c/1", game="g", observation=observation, actions=HEADS)


@pytest.mark.parametrize(
    "given", [(CAMERA, SPEED, PLACE, CARDS), (SPEED,), Observation("float32", (3,))]
)
def test_hello_decoded_has_the_observations_that_were_encoded(given: Any) -> None:
    message: Any = codec.decode_client(codec.encode_hello(hello_of(given))[4:])
    found = codec.decode_hello(message)
    assert found == hello_of(given)
    spec = GameSpec(found.game, found.observation, found.actions)
    assert spec.observations == (given if isinstance(given, tuple) else (given,))


def test_one_observation_without_more_is_written_as_dtype_and_shape() -> None:
    short = Observation("float32", (3,))
    text = msgspec.json.encode(GameSpec("g", short, HEADS))
    assert text.startswith(b'{"game":"g","observation":["float32",[3]],"actions":')
    assert msgspec.json.decode(text, type=GameSpec) == GameSpec("g", (short,), HEADS)
    # A name that says nothing new makes no other game.
    named = [{"name": "observation", "dtype": "float32", "shape": [3]}]
    assert GameSpec("g", named, HEADS) == GameSpec("g", short, HEADS)


def test_spec_of_several_survives_json_and_says_what_it_shows() -> None:
    assert msgspec.json.decode(msgspec.json.encode(SPEC), type=GameSpec) == SPEC
    assert SPEC.describe_observations() == (
        "camera uint8 [6, 5, 3], speed float32 [2] (-1 to 1), place int64 [1] (choice, n 9), "
        "cards uint8 [3] (choices, n (4, 2, 13))"
    )


def test_parts_of_rows_are_what_frames_carry_one_behind_the_other() -> None:
    assert (SPEC.observation_size, SPEC.observation_bytes) == (1, 90 + 8 + 8 + 3)
    frame = bytes(range(90)) + np.array([0.5, -1], "<f4").tobytes()
    frame += np.array([7], "<i8").tobytes() + bytes([3, 1, 12])
    rows = np.frombuffer(frame * 2, SPEC.observation_dtype).reshape(1, 2)
    camera, speed, place, cards = SPEC.parts(rows)
    assert camera.shape == (1, 2, 6, 5, 3)
    assert camera[0, 1].ravel().tolist() == list(range(90))
    assert speed.tolist() == [[[0.5, -1.0]] * 2]
    assert (place.tolist(), cards.tolist()) == ([[[7]] * 2], [[[3, 1, 12]] * 2])


@pytest.mark.parametrize(
    ("observation", "says"),
    [
        ("float32", "HELLO: observation: expected array, got str"),
        ([], "expected an array of at least 2 elements, got 0"),
        ([7, [3]], "HELLO: observation[0]: expected str, got int"),
        ([{"dtype": "float32"}], "expected a map with the key 'shape', got one without it"),
        (
            [{"dtype": "float32", "shape": [3], "kind": "sound"}],
            "HELLO: observation[0].kind: expected numbers, picture, choice, choices; got 'sound'",
        ),
    ],
)
def test_observation_of_neither_form_is_refused_in_words(observation: Any, says: str) -> None:
    fields = {"protocol": 1, "client": "c", "game": "g", "observation": observation}
    fields["actions"] = [["discrete", "a", 2]]
    message: Any = codec.decode_client(msgspec.msgpack.encode([1, fields]))
    with pytest.raises(RemoteError) as raised:
        codec.decode_hello(message)
    assert raised.value.code == "bad_hello"
    assert says in raised.value.message


@pytest.mark.parametrize(
    ("observations", "says"),
    [
        ((SPEED, SPEED), "observations: expected different names"),
        ((Observation("uint8", (3,), "two\nlines"),), "expected a name"),
        ((Observation("float64", (3,), "a"),), "'a', dtype: expected float32,"),
        ((Observation("uint8", (3,), "a", low=1, high=0),), "'a', low and high: expected finite"),
        ((Observation("uint8", (3,), "a", low=1),), "'a', low and high: expected finite"),
        ((Observation("uint8", (3,), "a", high=float("nan"), low=0),), "low and high"),
        ((Observation("uint8", (3,), "a", n=3),), "'a', n: expected it with the kinds choice"),
        ((Observation("uint8", (3,), "a", kind="choice"),), "'a', n: expected one number"),
        ((Observation("uint8", (3,), "a", kind="choices", n=3),), "'a', n: expected a number for"),
        ((Observation("uint8", (3,), "a", kind="choices", n=(3,)),), "'a', n: expected 3 numbers"),
        ((Observation("uint8", (1,), "a", kind="choice", n=0),), "expected numbers of 1 to"),
        ((Observation("int64", (1,), "a", kind="choice", n=MAX_CHOICES + 1),), "numbers of 1 to"),
        ((Observation("float32", (1,), "a", kind="choice", n=3),), "uint8, int32 or int64 for"),
        ((Observation("uint8", (9,), "a", kind="picture"),), "expected 2 to 4 sides for a picture"),
        ((Observation("uint8", (4, 9), "a", kind="picture"),), "height and width of at least 5"),
        ((Observation("uint8", (9, 9), "a", channels=(0,)),), "channels: expected them with the"),
        ((Observation("uint8", (9,) * 3, "a", kind="picture", channels=()),), "channels: expected"),
        ((Observation("uint8", (9,) * 3, "a", kind="picture", channels=(3,)),), "of 0 to 2"),
        (tuple(Observation("bool", (1,), str(i)) for i in range(33)), "expected 1 to 32 of them"),
    ],
)
def test_checked_wrong_observations_raise_bad_hello(
    observations: tuple[Observation, ...], says: str
) -> None:
    with pytest.raises(RemoteError) as raised:
        GameSpec("g", observations, HEADS).checked()
    assert raised.value.code == "bad_hello"
    assert says in raised.value.message


@pytest.mark.parametrize(
    ("observation", "good", "bad", "code", "says"),
    [
        (SPEED, [0.5, -1e9], [0, np.nan], "observation_not_finite", "got nan in element 1 of 'sp"),
        (
            Observation("float16", (2,)),
            [65504, 0],
            [np.inf, 0],
            "observation_not_finite",
            "got inf",
        ),
        (Observation("int32", (1,)), [-(10**9)], [2 * 10**9], "observation_not_finite", "20000"),
        (Observation("int64", (1,)), [10**9], [-(10**10)], "observation_not_finite", "-10000"),
        (PLACE, [8], [9], "observation_out_of_range", "expected choices from 0 to 8, got 9"),
        (PLACE, [0], [-1], "observation_out_of_range", "expected choices from 0 to 8, got -1"),
        (CARDS, [3, 1, 12], [3, 2, 0], "observation_out_of_range", "from 0 to 1, got 2 in element"),
    ],
)
def test_bad_rows_are_those_with_elements_that_cannot_be(
    observation: Observation, good: list[float], bad: list[float], code: str, says: str
) -> None:
    spec = GameSpec("g", observation, HEADS).checked()
    (part,) = spec.parts(np.array([good, good], spec.observation_dtype))
    assert bad_rows(observation, part) is None
    (part,) = spec.parts(np.array([good, bad], spec.observation_dtype))
    with np.errstate(invalid="ignore"):
        found = bad_rows(observation, part)
    assert found is not None
    assert found.tolist() == [False, True]
    error = bad_element(observation, part[1])
    assert error.code == code
    assert says in error.message


def test_bool_of_another_byte_is_a_bad_row() -> None:
    observation = Observation("bool", (2,))
    rows = np.array([[0, 1], [1, 2]], np.uint8).view(np.bool_)
    found = bad_rows(observation, rows)
    assert found is not None
    assert found.tolist() == [False, True]
    assert "expected 0 or 1 for bool, got 2" in bad_element(observation, rows[1]).message


def test_uint8_numbers_may_be_anything() -> None:
    assert bad_rows(CAMERA, np.full((2, 1, 6, 5, 3), 255, np.uint8)) is None

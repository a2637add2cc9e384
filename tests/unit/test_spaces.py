from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import RemoteError
from protocol.spaces import (
    MAX_DISCRETE,
    MAX_HEADS,
    MAX_SIZE,
    Continuous,
    Discrete,
    GameSpec,
    Observation,
    Part,
)
from protocol.spec_checks import MAX_NAME
from tests.support.strategies import actions, rows_of, specs

SPEC = GameSpec(
    "g",
    Observation("float32", (2, 3)),
    (Discrete("fire", 2), Continuous("aim", -0.5, 2.0, 2), Discrete("move", 5)),
    ("score", "lives"),
)
SMALL = GameSpec("g", Observation("uint8", (3,)), (Discrete("fire", 2),))


def f32(rows: Any) -> npt.NDArray[np.float32]:
    return np.array(rows, np.float32)


def remote_error(call: Any, *args: Any) -> RemoteError:
    with pytest.raises(RemoteError) as caught:
        call(*args)
    assert "expected" in caught.value.message
    return caught.value


# Round trips.


@given(st.data())
def test_action_row_round_trip_gives_same_action(data: st.DataObject) -> None:
    spec = data.draw(specs())
    many = data.draw(st.lists(actions(spec), max_size=4))
    rows = rows_of(spec, many)
    spec.check_action_rows(rows)
    assert spec.actions_of_rows(rows) == many


@given(st.data())
def test_action_row_places_numbers_in_columns_of_their_heads(data: st.DataObject) -> None:
    spec = data.draw(specs())
    action = data.draw(actions(spec))
    row = spec.action_row(action)
    assert len(row) == spec.action_width
    for part, columns in zip(action, spec.columns, strict=True):
        assert row[columns] == (part if isinstance(part, list) else [part])


@given(st.data())
def test_columns_are_split_into_discrete_and_continuous(data: st.DataObject) -> None:
    spec = data.draw(specs())
    both = sorted(spec.discrete_columns + spec.continuous_columns)
    assert both == list(range(spec.action_width))
    assert len(spec.discrete) + len(spec.continuous) == len(spec.actions)
    assert len(spec.low) == len(spec.high) == spec.action_width
    assert (spec.low < spec.high).all()


@given(st.data())
def test_action_out_of_range_is_refused_as_list_and_as_row(data: st.DataObject) -> None:
    spec = data.draw(specs())
    action = list(data.draw(actions(spec)))
    at = data.draw(st.integers(0, len(action) - 1))
    head = spec.actions[at]
    if isinstance(head, Discrete):
        wrong: Part = data.draw(st.sampled_from([-1, head.n]))
    else:
        number = data.draw(
            st.sampled_from(
                [
                    float(np.nextafter(np.float32(head.low), np.float32(-np.inf))),
                    float(np.nextafter(np.float32(head.high), np.float32(np.inf))),
                    math.nan,
                    math.inf,
                    -math.inf,
                ]
            )
        )
        values = action[at]
        wrong = [*values[:-1], number] if isinstance(values, list) else number
    rows = rows_of(spec, [tuple(action), tuple(action)])
    rows[1, spec.columns[at]] = wrong
    action[at] = wrong
    assert remote_error(spec.action_row, action).code == "action_out_of_range"
    if not np.isnan(rows[1, 0]):  # which would be "no action"
        error = remote_error(spec.check_action_rows, rows)
        assert error.code == "action_out_of_range"
        assert repr(head.name) in error.message


# What the numbers are.


def test_action_row_layout_of_mixed_heads() -> None:
    assert SPEC.action_row([1, [0.5, -0.25], 4]) == [1, 0.5, -0.25, 4]
    assert SPEC.columns == (slice(0, 1), slice(1, 3), slice(3, 4))
    assert SPEC.action_width == 4
    assert SPEC.discrete_columns == (0, 3)
    assert SPEC.continuous_columns == (1, 2)
    assert [head.name for head in SPEC.discrete] == ["fire", "move"]
    assert [head.name for head in SPEC.continuous] == ["aim"]
    np.testing.assert_array_equal(SPEC.low, f32([0, -0.5, -0.5, 0]))
    np.testing.assert_array_equal(SPEC.high, f32([1, 2, 2, 4]))


def test_observation_size_and_bytes_follow_dtype() -> None:
    assert (SPEC.observation_size, SPEC.observation_bytes) == (6, 24)
    assert (SMALL.observation_size, SMALL.observation_bytes) == (3, 3)
    assert SPEC.observation_dtype == np.dtype("<f4")


def test_actions_of_rows_gives_python_numbers() -> None:
    [action] = SPEC.actions_of_rows(f32([[1, 0.5, -0.25, 4]]))
    assert action == (1, [0.5, -0.25], 4)
    assert [type(part) for part in action] == [int, list, int]


def test_action_row_accepts_single_number_list_and_int() -> None:
    spec = GameSpec("g", SMALL.observation, (Continuous("x", -1, 1, 1),))
    assert spec.action_row([[0.5]]) == spec.action_row([0.5]) == [0.5]
    assert spec.action_row([1]) == [1]


@pytest.mark.parametrize("bound", [0.1, 0.3, 0.7, 1 / 3, 1e-3, 123.456])
def test_continuous_bound_rounded_to_float32_is_accepted(bound: float) -> None:
    spec = GameSpec("g", SMALL.observation, (Continuous("x", -bound, bound, 1),))
    for limit in (spec.low[0], spec.high[0]):
        [action] = spec.actions_of_rows(np.array([[limit]]))
        spec.check_action_rows(f32([spec.action_row(action)]))
    # and the bound itself, which float32 may round inwards
    for exact in (-bound, bound):
        spec.check_action_rows(f32([spec.action_row([exact])]))
    assert remote_error(spec.action_row, [bound * 1.001]).code == "action_out_of_range"


# What is refused.


@pytest.mark.parametrize(
    ("action", "code", "says"),
    [
        ([1, [0.0, 0.0]], "action_shape", "each of 3 heads, got 2"),
        ([1, [0.0, 0.0], 0, 0], "action_shape", "each of 3 heads, got 4"),
        ([1.0, [0.0, 0.0], 0], "action_shape", "'fire' is discrete: expected an int, got 1.0"),
        ([True, [0.0, 0.0], 0], "action_shape", "'fire' is discrete: expected an int, got True"),
        ([1, 0.0, 0], "action_shape", "'aim': expected 2 numbers, got 1"),
        ([1, [0.0] * 3, 0], "action_shape", "'aim': expected 2 numbers, got 3"),
        ([1, [], 0], "action_shape", "'aim': expected 2 numbers, got 0"),
        ([2, [0.0, 0.0], 0], "action_out_of_range", "'fire': expected 0 to 1, got 2"),
        ([1, [0.0, 0.0], -1], "action_out_of_range", "'move': expected 0 to 4, got -1"),
        ([1, [0.0, 2.5], 0], "action_out_of_range", "'aim': expected -0.5 to 2.0, got 2.5"),
        ([1, [math.nan, 0.0], 0], "action_out_of_range", "got nan"),
    ],
)
def test_action_row_of_invalid_action_raises(action: list[Part], code: str, says: str) -> None:
    error = remote_error(SPEC.action_row, action)
    assert error.code == code
    assert says in error.message


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ([2, 0, 0, 0], "'fire': expected a whole number 0.0 to 1.0, got 2.0"),
        ([-1, 0, 0, 0], "'fire'"),
        ([0.5, 0, 0, 0], "'fire': expected a whole number 0.0 to 1.0, got 0.5"),
        ([0, 0, 2.5, 0], "'aim': expected -0.5 to 2.0, got 2.5"),
        ([0, math.nan, 0, 0], "'aim': expected -0.5 to 2.0, got nan"),
        ([0, 0, 0, math.inf], "'move'"),
        ([0, 0, 0, math.nan], "'move'"),
    ],
)
def test_check_action_rows_finds_invalid_row_at_any_position(row: list[float], says: str) -> None:
    good = [math.nan, 99, 99, 99], [1, 2, -0.5, 4]
    for rows in ([row], [row, *good], [*good, row]):
        error = remote_error(SPEC.check_action_rows, f32(rows))
        assert error.code == "action_out_of_range"
        assert says in error.message


def test_check_action_rows_accepts_rows_without_action() -> None:
    SPEC.check_action_rows(f32([[math.nan, 99, 99, 99]]))
    SPEC.check_action_rows(np.empty((0, 4), np.float32))


def test_check_action_rows_of_game_with_one_kind_of_head() -> None:
    only = GameSpec("g", SMALL.observation, (Continuous("x", -1, 1, 2),))
    only.check_action_rows(f32([[1, -1]]))
    assert remote_error(only.check_action_rows, f32([[1, -2]])).code == "action_out_of_range"
    assert remote_error(SMALL.check_action_rows, f32([[0.5]])).code == "action_out_of_range"


def spec_with(**fields: Any) -> GameSpec:
    return msgspec.structs.replace(SPEC, **fields)


def continuous_head(**fields: Any) -> tuple[Continuous, ...]:
    return (msgspec.structs.replace(Continuous("x", -1.0, 1.0, 1), **fields),)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (spec_with(game=""), "game: expected a name of 1 to 64 printable characters, got ''"),
        (spec_with(game="x" * (MAX_NAME + 1)), "game"),
        (spec_with(game="two\nlines"), "game"),
        (
            spec_with(observation=Observation("float64", (3,))),
            "dtype: expected float32, uint8, float16, int32, int64, bool, got",
        ),
        (spec_with(observation=Observation("float32", ())), "expected 1 to 4 sides"),
        (spec_with(observation=Observation("float32", (1,) * 5)), "expected 1 to 4 sides"),
        (spec_with(observation=Observation("float32", (3, 0))), "expected 1 to 4 sides"),
        (spec_with(observation=Observation("float32", (-3, -3))), "expected 1 to 4 sides"),
        (spec_with(actions=()), "actions: expected 1 to 64 heads, got 0"),
        (
            spec_with(actions=tuple(Discrete(str(i), 2) for i in range(MAX_HEADS + 1))),
            "actions: expected 1 to 64 heads, got 65",
        ),
        (spec_with(actions=(Discrete("x", 1),)), "head 'x': expected 2 to"),
        (spec_with(actions=(Discrete("x", MAX_DISCRETE + 1),)), "head 'x': expected 2 to"),
        (spec_with(actions=(Discrete("x", 2), Discrete("x", 2))), "expected different names"),
        (spec_with(actions=(Discrete("", 2),)), "action heads: expected a name"),
        (spec_with(actions=continuous_head(size=0)), "head 'x': expected a size of 1 to"),
        (
            spec_with(actions=continuous_head(size=MAX_SIZE + 1)),
            "head 'x': expected a size of 1 to",
        ),
        (spec_with(actions=continuous_head(low=1.0)), "head 'x': expected low < high"),
        (spec_with(actions=continuous_head(low=2.0)), "head 'x': expected low < high"),
        (spec_with(actions=continuous_head(low=1.0 - 1e-12)), "different as float32"),
        (spec_with(actions=continuous_head(low=-math.inf)), "head 'x': expected low < high"),
        (spec_with(actions=continuous_head(high=1e39)), "head 'x': expected low < high"),
        (spec_with(actions=continuous_head(high=math.nan)), "head 'x': expected low < high"),
        (spec_with(rewards=()), "rewards: expected 1 to 64 components, got 0"),
        (spec_with(rewards=("a",) * 2), "reward components: expected different names"),
        (spec_with(rewards=("a", "b\t")), "reward components: expected a name"),
        (spec_with(rewards=tuple(map(str, range(MAX_HEADS + 1)))), "rewards: expected 1 to 64"),
    ],
)
def test_checked_invalid_spec_raises_bad_hello(spec: GameSpec, says: str) -> None:
    error = remote_error(spec.checked)
    assert error.code == "bad_hello"
    assert says in error.message


def test_checked_spec_at_all_limits_is_accepted() -> None:
    names = [f"{i:064}" for i in range(MAX_HEADS)]
    choices = [Discrete(name, MAX_DISCRETE) for name in names[1:]]
    spec = GameSpec(
        "x" * MAX_NAME,
        Observation("uint8", (1, 1, 1, 1)),
        (*choices, Continuous(names[0], -3.4e38, 3.4e38, MAX_SIZE)),
        tuple(names),
    )
    assert spec.checked() is spec
    assert np.isfinite(spec.low).all()
    assert spec.high[0] == MAX_DISCRETE - 1


# Equal games.


def test_specs_with_equal_fields_are_equal_despite_caches() -> None:
    other = spec_with()
    assert SPEC.action_width == 4  # cached on one of them
    assert other == SPEC
    assert hash(other) == hash(SPEC)
    assert spec_with(rewards=("score",)) != SPEC
    assert spec_with(actions=SPEC.actions[::-1]) != SPEC


def test_describe_names_every_part_of_spec() -> None:
    line = SPEC.describe()
    parts = "'g'", "float32 [2, 3]", "fire: 2 choices", "aim: 2 in [-0.5, 2.0]", "score, lives"
    for part in parts:
        assert part in line
    assert "\n" not in line

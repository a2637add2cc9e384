"""What a game hands to the client in Python, and the words for what is wrong with it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from understudy_client import Client, Continuous, Discrete, Observation
from understudy_client.checks import check_action, check_reward, check_status, check_took, whole
from understudy_client.tensors import DTYPES, tensor

F32, U8 = DTYPES["float32"], DTYPES["uint8"]
HEADS = (Discrete("fire", 3), Continuous("steer", -1.0, 1.0), Continuous("arm", 0.1, 1.0, 2))
FINE: dict[str, Any] = {
    "client": "a/1",
    "game": "a",
    "observation": Observation("float32", (3,)),
    "actions": [Discrete("fire", 2)],
}
NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("observation", [Observation("float32", (3,))] * 2, "expected names that differ"),
        ("observation", None, "observation: expected an Observation, .* got None"),
        ("observation", [], "observation: expected an Observation"),
        ("observation", ["float32", (3,)], "observation: expected an Observation"),
        ("observation", [Observation("uint8", (3,), "")], "observation, name: expected a name"),
        ("observation", Observation("uint8", (3,), kind="sound"), "kind: expected numbers, pict"),
        ("observation", Observation("uint8", (3,), kind="choice"), "n: expected it with the kinds"),
        ("observation", Observation("uint8", (3,), n=4), "n: expected it with the kinds choice"),
        ("observation", Observation("uint8", (2,), kind="choices", n=(4,)), "n: expected 2 num"),
        ("observation", Observation("uint8", (2,), low=0), "expected low < high, finite, or neith"),
        ("observation", Observation("uint8", (2,), low=1, high=1), "expected low < high, finite"),
        ("observation", np.zeros(3), r"got an array of float64 \[3\]"),
        ("observation", Observation("float64", (3,)), "expected one of float32, .* got 'fl"),
        ("observation", Observation(np.float32, (3,)), "dtype: expected one of float32, uint8"),  # type: ignore[arg-type]
        ("observation", Observation("float32", ()), "shape: expected a list of 1 to 4 whole num"),
        ("observation", Observation("float32", 3), "shape: expected a list .* got 3"),  # type: ignore[arg-type]
        ("observation", Observation("float32", (0,)), "shape: expected a whole number of at least"),
        ("observation", Observation("uint8", (1,) * 5), "shape: expected a list of 1 to 4"),
        ("observation", Observation("uint8", (8.0,)), r"whole number .* got 8\.0 \(float\)"),  # type: ignore[arg-type]
        ("actions", Discrete("fire", 2), "actions: expected a list of 1 to 64 heads"),
        ("actions", [], "actions: expected a list of 1 to 64 heads"),
        ("actions", None, "actions: expected a list .* got None"),
        ("actions", ["fire"], "actions: expected heads, such as Discrete.* got 'fire'"),
        ("actions", [Discrete("a", 2), Discrete("a", 3)], "actions: expected names that differ"),
        ("actions", [Discrete("a", 1)], "head a, n: expected a whole number from 2 to"),
        ("actions", [Discrete("", 2)], "expected a name of 1 to 64 printable characters"),
        ("actions", [Discrete("a", 2.0)], "head a, n: expected a whole number"),  # type: ignore[arg-type]
        ("actions", [Continuous("a", 1, 1)], "head a: expected low < high"),
        ("actions", [Continuous("a", NAN, 1)], "head a, low: expected a finite number, got nan"),
        ("actions", [Continuous("a", 0, INF)], "head a, high: expected a finite number, got inf"),
        ("actions", [Continuous("a", 0, None)], "head a, high: expected a finite .* got None"),  # type: ignore[arg-type]
        ("actions", [Continuous("a", 0, 1, 0)], "head a, size: expected a whole number from 1"),
        ("rewards", "reward", "rewards: expected a list of the names"),
        ("rewards", [], "rewards: expected a list of the names"),
        ("rewards", ["a", "a"], "rewards: expected names that differ"),
        ("rewards", [1], "rewards: expected a name"),
        ("game", "", "game: expected a name"),
        ("game", None, "game: expected a name .* got None"),
        ("game", "a\nb", "game: expected a name"),
        ("client", "x" * 65, "client: expected a name"),
        ("slots", 0, "slots: expected a whole number from 1 to 4096, got 0"),
        ("slots", True, "slots: expected a whole number"),
        ("slots", "2", "slots: expected a whole number .* got '2'"),
        ("role", None, "role: expected train, eval, eval_expert, play, got None"),
        ("policy", "best", "policy, explores: expected them with the role play, got role 'train'"),
        ("explores", True, "policy, explores: expected them with the role play, got role 'train'"),
        ("token", b"secret", "token: expected a str or None, got bytes"),
        ("timeout_s", 0, "timeout_s: expected seconds above 0"),
        ("timeout_s", NAN, "timeout_s: expected seconds above 0"),
        ("timeout_s", None, "timeout_s: expected seconds above 0, got None"),
    ],
)  # fmt: skip
def test_wrong_option_of_connect_is_an_error_in_words(name: str, value: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said) as found:
        Client.connect("127.0.0.1", 1, **FINE | {name: value})
    assert "secret" not in str(found.value)


@pytest.mark.parametrize(
    ("host", "port", "said"),
    [
        (None, 1, "host: expected a name or address, got None"),
        ("", 1, "host: expected"),
        ("h", "7777", "port: expected a whole number from 1 to 65535, got '7777'"),
        ("h", 70000, "port: expected"),
    ],
)
def test_wrong_address_is_an_error_in_words(host: Any, port: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Client.connect(host, port, **FINE)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (None, r"obs: expected float32 \[3\], got NoneType \(no numbers\)"),
        ("abc", r"obs: expected float32 \[3\], got text"),
        (["a", "b", "c"], "got text"),
        ([[1, 2], [3]], r"obs: expected an array of shape \[3\], got list that makes none"),
        ([1.0, NAN, 2.0], r"obs: expected finite numbers, got nan in element \[1\]"),
        ([1.0, 2.0, -INF], r"got -inf in element \[2\]"),
        ([1e300, 0, 0], r"got inf in element \[0\]"),
        ([1.0, 2.0], r"obs: expected shape \[3\], got \[2\]"),
        (1.0, r"obs: expected shape \[3\], got \[\]"),
        ([1j, 0, 0], "got complex128"),
        ({"a": 1}, r"got dict \(no numbers\)"),
        ([None] * 3, r"got NoneType \(no numbers\)"),
        (np.array(["2026-01-01"] * 3, "datetime64[D]"), r"got datetime64\[D\]"),
    ],
)
def test_wrong_observation_is_an_error_in_words(values: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        tensor(values, F32, (3,), "obs")


def test_numbers_of_any_kind_become_float32() -> None:
    for values in (
        [1, 2, 3],
        [True, False, True],
        np.arange(3),
        (1.5, 2, 3),
        np.float16([1, 2, 3]),
    ):
        expected = np.asarray(values, np.float32).tobytes()
        assert tensor(values, F32, (3,), "obs").tobytes() == expected
    with pytest.raises(ValueError, match="obs: expected uint8"):
        tensor([1, 2, 3], U8, (3,), "obs")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([0, 3], "statuses: expected whole numbers from 0 to 2, got"),
        ([0, -1], "statuses: expected"),
        ([0, 300], "statuses: expected"),
        ([0.0, 1.0], "statuses: expected .* got float64"),
        ([None, 1], r"got NoneType \(no numbers\)"),
        ([True, False], "got bool"),
    ],
)
def test_wrong_statuses_are_an_error_in_words(values: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        whole(values, "statuses", 2)


@pytest.mark.parametrize(
    ("reward", "names", "said"),
    [
        (None, 1, "reward: expected a finite number for a, got None"),
        ("1", 1, "reward: expected a finite number for a, got '1'"),
        (NAN, 1, "reward: expected a finite number for a, got nan"),
        (np.float32(INF), 1, "got .*inf"),
        ([1.0, 2.0], 1, r"reward: expected a number \(a\), got"),
        (1.0, 2, r"reward: expected 2 numbers \(a, b\), got 1\.0"),
        ([1.0], 2, r"reward: expected 2 numbers \(a, b\)"),
        ([1.0, NAN], 2, "reward: expected a finite number for b, got nan"),
        ([1.0, None], 2, "for b, got None"),
        (True, 1, "got True"),
        (np.zeros((2, 2)), 2, "expected 2 numbers"),
    ],
)
def test_wrong_reward_is_an_error_in_words(reward: Any, names: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_reward(reward, ("a", "b")[:names])


@pytest.mark.parametrize("reward", [1, 0.5, np.float32(2), np.array(3.0), [1.0], np.zeros(1)])
def test_rewards_of_any_number_type_are_fine(reward: Any) -> None:
    check_reward(reward, ("a",))


@pytest.mark.parametrize("status", [None, -1, 3, 0.5, "0", True, NAN])
def test_wrong_status_is_an_error_in_words(status: Any) -> None:
    with pytest.raises(ValueError, match=r"status: expected 0 \(running\), 1 .* got"):
        check_status(status)


@pytest.mark.parametrize(
    ("action", "said"),
    [
        (1, r"expert: expected a list with one part for each head \(fire, steer, arm\), got 1"),
        ([1, 0.5], "one part for each head"),
        ("abc", "one part for each head"),
        ([3, 0.5, [0.5, 0.5]], "head fire: expected a whole number from 0 to 2, got 3"),
        ([1.0, 0.5, [0.5, 0.5]], r"head fire: expected a whole number .* got 1\.0 \(float\)"),
        ([None, 0.5, [0.5, 0.5]], "head fire: .* got None"),
        ([1, 1.5, [0.5, 0.5]], r"head steer: expected numbers from -1\.0 to 1\.0, got 1\.5; clip"),
        ([1, NAN, [0.5, 0.5]], "head steer: expected numbers from .* got nan"),
        ([1, "0", [0.5, 0.5]], "head steer: expected a number, got '0'"),
        ([1, 0.5, 0.5], r"head arm: expected a list of 2 numbers, got 0\.5"),
        ([1, 0.5, [0.5, None]], "head arm: expected a list of 2 numbers"),
    ],
)
def test_wrong_action_is_an_error_in_words(action: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_action("expert", action, HEADS)


def test_actions_of_numpy_and_of_answers_are_fine() -> None:
    check_action("expert", [np.int64(2), np.float32(-1), np.array([0.5, 1.0])], HEADS)
    # An answer's bounds are float32: its own action is taken back.
    check_action("took", [0, [0.25], [float(np.float32(0.1)), 1]], HEADS)


@pytest.mark.parametrize(
    ("took", "said"),
    [
        (1, r"took: expected \(action, actor\), got 1"),
        (([1, 0.5, [0.5, 0.5]],), r"took: expected \(action, actor\)"),
        (([1, 0.5, [0.5, 0.5]], 3), r"took: expected actor 1 \(dqn\) or 2 \(expert\), got 3"),
        (([1, 0.5, [0.5, 0.5]], None), "took: expected actor"),
        (([9, 0.5, [0.5, 0.5]], 1), "took, head fire: expected a whole number"),
    ],
)
def test_wrong_took_is_an_error_in_words(took: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_took(took, HEADS)

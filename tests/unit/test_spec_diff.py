"""What a game is told that is not the run's."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from protocol.errors import RemoteError
from protocol.spaces import Continuous, Discrete, Observation
from protocol.spec_diff import difference, refusal
from tests.support.worlds import SPEC

FIRE, AIM = SPEC.actions


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"game": "chess"}, "the game is 'chess', this run's is 'test'"),
        (
            {"observation": Observation("float32", (2,))},
            "the observation is float32 [2], this run's is float32 [3]",
        ),
        (
            {"observation": Observation("uint8", (3,))},
            "the observation is uint8 [3], this run's is float32 [3]",
        ),
        ({"actions": (FIRE,)}, "the action heads are 1, this run's 2"),
        (
            {"actions": (Discrete("fire", 5), AIM)},
            "action head 0 is fire: 5 choices, this run's is fire: 4 choices",
        ),
        (
            {"actions": (FIRE, Continuous("aim", -1.0, 2.0, 2))},
            "action head 1 is aim: 2 in [-1.0, 2.0], this run's is aim: 2 in [-1.0, 1.0]",
        ),
        (
            {"rewards": ("reward", "time")},
            "the rewards are reward, time, this run's are reward",
        ),
        (
            {"observation": Observation("float32", (2,)), "rewards": ("score",)},
            "the observation is float32 [2], this run's is float32 [3]; "
            "the rewards are score, this run's are reward",
        ),
        ({"game": "chess", "rewards": ("score",)}, "the game is 'chess', this run's is 'test'"),
    ],
)
def test_spec_difference_names_each_part(changes: dict[str, Any], words: str) -> None:
    spec = msgspec.structs.replace(SPEC, **changes)
    assert difference(spec, SPEC) == words
    assert refusal(spec, SPEC).startswith(f"{words}; expected this run's game, 'test' (")


def test_spec_refusal_ends_with_fitting_instruction() -> None:
    named, sized = (
        msgspec.structs.replace(SPEC, game="chess"),
        msgspec.structs.replace(SPEC, observation=Observation("float32", (2,))),
    )
    assert refusal(named, SPEC).endswith("; start a run of its own for it")
    assert refusal(sized, SPEC).endswith("; make them the same, or start a run of its own for it")


def test_spec_refusal_of_2000_heads_is_cut_in_the_middle() -> None:
    """A message has a limit, and is cut in the middle."""
    wide = msgspec.structs.replace(SPEC, actions=tuple(Discrete(f"a{i}", 2) for i in range(2000)))
    message = RemoteError("spec_mismatch", refusal(wide, SPEC)).message
    assert message.startswith("the action heads are 2000, this run's 2")
    assert message.endswith("start a run of its own for it")

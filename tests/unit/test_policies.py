"""What HELLO may name as who plays."""

from __future__ import annotations

from typing import Any

import pytest

from protocol.errors import RemoteError
from protocol.messages import HelloFields
from protocol.policies import MOST_RECENT, PolicyName, policy_of
from tests.support.worlds import SPEC


def hello(role: Any, policy: str | None, *, explores: bool = False) -> HelloFields:
    return HelloFields(
        protocol=1, client="c/1", game=SPEC.game, observation=SPEC.observation,
        actions=SPEC.actions, role=role, policy=policy, explores=explores,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (None, None),
        ("newest", None),
        ("best", PolicyName()),
        ("1200", PolicyName(update=1200)),
        ("0000001200", PolicyName(update=1200)),
        ("0", PolicyName(update=0)),
        ("recent:1", PolicyName(recent=1)),
        (f"recent:{MOST_RECENT}", PolicyName(recent=MOST_RECENT)),
    ],
)
def test_policy_that_is_named_is_understood(text: str | None, name: PolicyName | None) -> None:
    assert policy_of(hello("play", text)) == name
    if name is not None:
        assert policy_of(hello("play", str(name))) == name


@pytest.mark.parametrize(
    "text",
    ["", "Best", "-1", "1.5", "1e3", "12345678901", "٣", "recent", "recent:", "recent:0",
     f"recent:{MOST_RECENT + 1}", "recent:-1", "../best", "update-0000001200.pt", "x" * 1000],
)  # fmt: skip
def test_policy_of_no_name_is_refused_with_what_was_expected(text: str) -> None:
    with pytest.raises(RemoteError, match=r"policy: expected newest, best, .* got") as caught:
        policy_of(hello("play", text))
    assert caught.value.code == "bad_hello"
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("role", ["train", "eval", "eval_expert"])
def test_policy_and_explores_are_refused_in_other_roles(role: str) -> None:
    assert policy_of(hello(role, None)) is None
    for asked in (hello(role, "best"), hello(role, None, explores=True)):
        with pytest.raises(RemoteError, match=f"got role {role}"):
            policy_of(asked)

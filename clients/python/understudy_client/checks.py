"""Checks of what a game hands to the client, before a byte is sent: what was expected, what came.

A server would refuse the same, and end the connection. Every error is a ValueError.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from understudy_client.observations import NAME, Observation, are_observations
from understudy_client.spec import Continuous, Discrete, GameSpec, Head
from understudy_client.tensors import DTYPES, array_of, dtype_of
from understudy_client.wire import ROLES

MAX_NAME = 64
MAX_SLOTS = 4096
MAX_HEADS = MAX_REWARDS = 64
MAX_SIDES = 4
MAX_OBSERVATIONS = 32
MAX_ELEMENT_CHOICES = 1_048_576
KINDS = ("numbers", "picture", "choice", "choices")
MAX_SIZE = 4096
MAX_CHOICES = 16_777_216

SHOWN = 80
"""Characters of a wrong value that a message shows: it may be a picture."""


def shown(value: object) -> str:
    """A wrong value as a message shows it: its class, its shape or itself."""
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} {list(value.shape)}"
    text = repr(value)
    if len(text) > SHOWN:
        text = text[: SHOWN - 3] + "..."
    return text if value is None else f"{text} ({type(value).__name__})"


def check_spec(
    game: object, observation: object, actions: object, rewards: object, masks: object = False
) -> GameSpec:
    """The spec that these are."""
    check_name("game", game)
    observations = check_observations(observation)
    heads = _listed("actions", actions, "1 to 64 heads, each Discrete or Continuous", MAX_HEADS)
    for head in heads:
        _check_head(head)
    _check_different("actions", [head.name for head in heads])
    names = _listed("rewards", rewards, "the names of 1 to 64 reward components", MAX_REWARDS)
    for name in names:
        check_name("rewards", name)
    _check_different("rewards", names)
    assert isinstance(game, str)
    if not isinstance(masks, bool) or (masks and not any(isinstance(h, Discrete) for h in heads)):
        raise ValueError(
            "masks: expected False, or True for a game with a Discrete head, got "
            f"{shown(masks)}; they are about its choices"
        )
    return GameSpec(game, observations, heads, names, masks)


def check_observations(given: object) -> tuple[Observation, ...]:
    """The observations that these are: one, several, or what HELLO makes of them."""
    if isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], tuple):
        given = Observation(*given)  # as a GameSpec has it
    if isinstance(given, Observation):
        given = [given]
    if not are_observations(given):
        raise ValueError(
            'observation: expected an Observation, such as Observation("float32", (8,)), or a list '
            f"of them, got {shown(given)}"
        )
    found = tuple(_checked(each) for each in given)  # type: ignore[attr-defined]
    if len(found) > MAX_OBSERVATIONS:
        raise ValueError(
            f"observation: expected at most {MAX_OBSERVATIONS} of them, got {len(found)}; join some"
        )
    _check_different("observations", [each.name for each in found])
    return found


def _checked(given: Observation) -> Observation:
    check_name("observation, name", given.name)
    what = "observation" if given.name == NAME else f"observation {given.name!r}"
    if given.dtype not in DTYPES:
        known = ", ".join(DTYPES)
        raise ValueError(f"{what} dtype: expected one of {known}, got {given.dtype!r}")
    shape = _listed(f"{what} shape", given.shape, "1 to 4 whole numbers", MAX_SIDES)
    for side in shape:
        _check_whole(f"{what} shape", side, 1, None)
    if given.kind not in (None, *KINDS):
        raise ValueError(f"{what} kind: expected {', '.join(KINDS)} or None, got {given.kind!r}")
    changes: dict[str, Any] = {"shape": tuple(int(side) for side in shape)}
    if (given.n is not None) != (given.kind in ("choice", "choices")):
        raise ValueError(
            f"{what} n: expected it with the kinds choice and choices alone, got {given.n!r}"
        )
    if given.kind == "choices":
        sizes = _listed(f"{what} n", given.n, "a whole number for each element", math.prod(shape))
        for size in sizes:
            _check_whole(f"{what} n", size, 1, MAX_ELEMENT_CHOICES)
        if len(sizes) != math.prod(shape):
            raise ValueError(f"{what} n: expected {math.prod(shape)} numbers, got {len(sizes)}")
        changes["n"] = tuple(map(int, sizes))
    elif given.kind == "choice":
        _check_whole(f"{what} n", given.n, 1, MAX_ELEMENT_CHOICES)
        changes["n"] = int(given.n)  # type: ignore[arg-type]
    if given.low is not None or given.high is not None:
        ends = (given.low, given.high)
        if not all(_is_number(end) and math.isfinite(end) for end in ends) or not (  # type: ignore[arg-type]
            given.low < given.high  # type: ignore[operator]
        ):
            raise ValueError(
                f"{what}: expected low < high, finite, or neither, got {given.low} and {given.high}"
            )
        changes |= {"low": float(given.low), "high": float(given.high)}  # type: ignore[arg-type]
    if given.channels is not None:
        changes["channels"] = tuple(int(side) for side in given.channels)
    return msgspec.structs.replace(given, **changes)


def check_options(
    host: object,
    port: object,
    client: object,
    slots: object,
    role: object,
    token: object,
    timeout_s: object,
    policy: object = None,
    explores: object = False,
) -> None:
    """The options of `Client.connect` beside the spec."""
    if role not in ROLES:
        raise ValueError(f"role: expected {', '.join(ROLES)}, got {role!r}")
    if role != "play" and (policy is not None or explores):
        raise ValueError(f"policy, explores: expected them with the role play, got role {role!r}")
    if policy is not None and not isinstance(policy, str):
        raise ValueError(
            f"policy: expected a str such as 'best', '1200' or 'recent:5', got {shown(policy)}"
        )
    if not isinstance(explores, bool):
        raise ValueError(f"explores: expected a bool, got {shown(explores)}")
    check_name("client", client)
    if not isinstance(host, str) or not host:
        raise ValueError(f"host: expected a name or address, got {shown(host)}")
    _check_whole("port", port, 1, 65535)
    _check_whole("slots", slots, 1, MAX_SLOTS)
    if token is not None and not isinstance(token, str):
        raise ValueError(f"token: expected a str or None, got {type(token).__name__}")
    if not _is_number(timeout_s) or not timeout_s > 0:  # type: ignore[operator]
        raise ValueError(f"timeout_s: expected seconds above 0, got {shown(timeout_s)}")


def check_name(what: str, name: object) -> None:
    """A name: 1 to 64 printable characters."""
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME or not name.isprintable():
        raise ValueError(
            f"{what}: expected a name of 1 to {MAX_NAME} printable characters, got {shown(name)}"
        )


def check_frame(
    spec: GameSpec, reward: object, status: object, expert: object, took: object
) -> None:
    """What a frame has beside its observation."""
    check_reward(reward, spec.rewards)
    check_status(status)
    if expert is not None:
        check_action("expert", expert, spec.actions)
    if took is not None:
        check_took(took, spec.actions)


def whole(values: npt.ArrayLike, name: str, most: int) -> npt.NDArray[np.uint8]:
    """Whole numbers from 0 to `most`, as uint8."""
    array = array_of(values, name, None)
    if array.dtype.kind not in "iu" or not ((array >= 0) & (array <= most)).all():
        wrong = array if array.dtype.kind in "iu" else dtype_of(array)
        raise ValueError(f"{name}: expected whole numbers from 0 to {most}, got {wrong}")
    return array.astype(np.uint8)


def check_reward(reward: object, names: Sequence[str]) -> None:
    """The reward of a frame: a number, or one for each of these components."""
    if type(reward) is float and len(names) == 1 and math.isfinite(reward):
        return  # as it nearly always is
    parts: Sequence[Any]
    if _is_list(reward):
        parts = list(reward)  # type: ignore[call-overload]
    elif len(names) > 1:
        parts = []
    else:
        parts = [reward.item() if isinstance(reward, np.ndarray) and not reward.ndim else reward]
    if len(parts) != len(names):
        count = "a number" if len(names) == 1 else f"{len(names)} numbers"
        raise ValueError(f"reward: expected {count} ({', '.join(names)}), got {shown(reward)}")
    for name, part in zip(names, parts, strict=True):
        if not _is_number(part) or not math.isfinite(part):
            raise ValueError(
                f"reward: expected a finite number for {name}, got {shown(part)}; check what the "
                "game computes"
            )


def check_status(status: Any) -> None:
    """The status of a frame."""
    if isinstance(status, bool) or status not in (0, 1, 2):
        raise ValueError(
            f"status: expected 0 (running), 1 (terminated) or 2 (truncated), got {shown(status)}"
        )


def check_action(what: str, action: object, heads: Sequence[Head]) -> None:
    """An action, one part for each head. `what`: its name in messages."""
    if not isinstance(action, list | tuple | np.ndarray) or len(action) != len(heads):
        names = ", ".join(head.name for head in heads)
        raise ValueError(
            f"{what}: expected a list with one part for each head ({names}), got {shown(action)}"
        )
    for head, part in zip(heads, action, strict=True):
        if type(head) is Discrete:
            if not (type(part) is int and 0 <= part < head.n):
                _check_whole(f"{what}, head {head.name}", part, 0, head.n - 1)
        elif not (type(part) is float and head.size == 1 and head.low <= part <= head.high):  # type: ignore[union-attr]
            _check_continuous(f"{what}, head {head.name}", part, head)  # type: ignore[arg-type]


def check_took(took: object, heads: Sequence[Head]) -> None:
    """What was done instead of an answer: (action, actor)."""
    if not isinstance(took, list | tuple) or len(took) != 2:
        raise ValueError(f"took: expected (action, actor), got {shown(took)}")
    check_action("took", took[0], heads)
    if isinstance(took[1], bool) or took[1] not in (1, 2):
        raise ValueError(f"took: expected actor 1 (dqn) or 2 (expert), got {shown(took[1])}")


def _check_head(head: object) -> None:
    if not isinstance(head, Discrete | Continuous):
        raise ValueError(
            "actions: expected heads, such as "
            f'Discrete("fire", 2) or Continuous("steer", -1.0, 1.0), got {shown(head)}'
        )
    check_name("actions, name of a head", head.name)
    if isinstance(head, Discrete):
        _check_whole(f"head {head.name}, n", head.n, 2, MAX_CHOICES)
        return
    for name, bound in (("low", head.low), ("high", head.high)):
        if not _is_number(bound) or not math.isfinite(bound):
            raise ValueError(
                f"head {head.name}, {name}: expected a finite number, got {shown(bound)}"
            )
    if not np.float32(head.low) < np.float32(head.high):
        raise ValueError(
            f"head {head.name}: expected low < high as float32, got {head.low} and {head.high}"
        )
    _check_whole(f"head {head.name}, size", head.size, 1, MAX_SIZE)


def _check_continuous(what: str, part: Any, head: Continuous) -> None:
    values = list(part) if _is_list(part) else [part]
    if len(values) != head.size or not all(type(v) is float or _is_number(v) for v in values):
        wanted = "a number" if head.size == 1 else f"a list of {head.size} numbers"
        raise ValueError(f"{what}: expected {wanted}, got {shown(part)}")
    for value in values:
        if not (head.low <= value <= head.high or _as_float32(head.low, value, head.high)):
            raise ValueError(
                f"{what}: expected numbers from {head.low} to {head.high}, got {value}; clip them"
            )


def _as_float32(low: float, value: Any, high: float) -> bool:
    """Whether a value is within bounds as the wire has them: an answer's own are taken back."""
    return bool(np.float32(low) <= np.float32(value) <= np.float32(high))


def _check_whole(what: str, value: object, low: int, high: int | None) -> None:
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or value < low or (high is not None and value > high):  # type: ignore[operator]
        end = "" if high is None else f" to {high}"
        wanted = f"from {low}{end}" if end else f"of at least {low}"
        raise ValueError(f"{what}: expected a whole number {wanted}, got {shown(value)}")


def _check_different(what: str, names: Sequence[str]) -> None:
    if len(set(names)) != len(names):
        raise ValueError(f"{what}: expected names that differ, got {list(names)}")


def _listed(what: str, values: object, wanted: str, most: int) -> tuple[Any, ...]:
    if not isinstance(values, list | tuple) or not 1 <= len(values) <= most:
        raise ValueError(f"{what}: expected a list of {wanted}, got {shown(values)}")
    return tuple(values)


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim == 1)


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)

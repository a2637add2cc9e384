"""What a server's WELCOME, ACTION, ACTIONS and ERROR must be, in form and content."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from server.conformance.game import HEADS, WIDTH
from server.conformance.report import RuleBroken
from server.conformance.wire import Wire


def check_welcome(value: list[Any], sessions: set[int]) -> dict[str, Any]:
    """WELCOME: every key is there and of its type; the session is none of `sessions`, and is added
    to them. Errors: RuleBroken."""
    if len(value) < 2 or not isinstance(value[1], dict):
        raise RuleBroken(f"expected WELCOME with a map, got {value}")
    got: dict[str, Any] = value[1]
    for key, kind in (("session", int), ("protocol", int), ("server", str), ("settings", dict)):
        if type(got.get(key)) is not kind:
            raise RuleBroken(f"WELCOME: expected {key} as {kind.__name__}, got {got.get(key)!r}")
    if got["protocol"] != 1:
        raise RuleBroken(f"WELCOME: expected protocol 1, got {got['protocol']}")
    limit = got.get("episode_limit", [1, 1.0])
    if (
        not isinstance(limit, list)
        or len(limit) != 2
        or type(limit[0]) is not int
        or type(limit[1]) not in (int, float)
        or min(limit) <= 0
    ):
        raise RuleBroken(f"WELCOME: expected episode_limit as [int, number], got {limit!r}")
    if got["session"] in sessions:
        raise RuleBroken(
            f"expected a session of its own for each connection, got {got['session']} again"
        )
    if not 0 <= got["session"] < 2**47:
        raise RuleBroken(f"expected a session of up to 47 bits, got {got['session']}")
    sessions.add(got["session"])
    return got


def check_action(value: list[Any], sent: list[Any], *, expert_alone: bool = False) -> list[Any]:
    """ACTION: the answer to this FRAME, in form and content. `expert_alone`: in the role
    eval_expert, in which the expert acts where it recommends nothing too."""
    if len(value) < 7:
        raise RuleBroken(f"expected ACTION with 7 elements, got {value}")
    _, slot, seq, action, actor, version, explored = value[:7]
    if (slot, seq) != (sent[1], sent[2]):
        raise RuleBroken(f"expected the answer to slot {sent[1]}, seq {sent[2]}, got {value}")
    if type(version) is not int or type(explored) is not bool:
        raise RuleBroken(f"expected an int and a boolean behind the actor, got {value}")
    if sent[5] != 0:
        if action is not None or actor != 0:
            raise RuleBroken(
                f"expected nil and actor 0 for the last frame of an episode, got {value}"
            )
        return value
    if type(actor) is not int or actor not in (1, 2):
        raise RuleBroken(f"expected actor 1 or 2, got {value}")
    if not isinstance(action, list) or len(action) != len(HEADS):
        raise RuleBroken(f"expected one part for each of {len(HEADS)} heads, got {value}")
    row = _row(action, value)
    if expert_alone and actor != 2:
        raise RuleBroken(f"expected actor 2 in the role eval_expert, got {value}")
    if actor == 2:
        if sent[6] is None and not expert_alone:
            raise RuleBroken(f"expected dqn where nothing was recommended, got the expert: {value}")
        if sent[6] is not None and row != _row(sent[6], value):
            raise RuleBroken(f"expected what the expert recommended, {sent[6]}, got {value}")
        if explored:
            raise RuleBroken(f"expected explored false for the expert's action, got {value}")
    return value


def _row(action: list[Any], value: list[Any]) -> list[float]:
    """An action as an action row, each part checked against its head."""
    out: list[float] = []
    for head, part in zip(HEADS, action, strict=True):
        if head[0] == "discrete":
            if type(part) is not int or not 0 <= part < head[2]:
                raise RuleBroken(f"{head[1]}: expected an int from 0 to {head[2] - 1}, got {value}")
            out.append(part)
            continue
        numbers = part if isinstance(part, list) else [part]
        if len(numbers) != head[4]:
            raise RuleBroken(f"{head[1]}: expected {head[4]} numbers, got {value}")
        for number in numbers:
            if type(number) not in (int, float) or not head[2] <= number <= head[3]:
                raise RuleBroken(f"{head[1]}: expected {head[2]} to {head[3]}, got {value}")
        out += numbers
    return out


def check_actions(value: list[Any], sent: list[Any]) -> list[Any]:
    """ACTIONS: the answer to this FRAMES of two slots."""
    if len(value) < 6:
        raise RuleBroken(f"expected ACTIONS with 6 elements, got {value}")
    _, seq, actions, actors, version, explored = value[:6]
    if seq != sent[1]:
        raise RuleBroken(f"expected the answer to seq {sent[1]}, got {value}")
    sizes = [len(part) if isinstance(part, bytes) else None for part in (actions, actors, explored)]
    if sizes != [2 * 4 * WIDTH, 2, 2] or type(version) is not int:
        raise RuleBroken(f"expected bins of {8 * WIDTH}, 2 and 2 bytes, and an int, got {value}")
    rows = [struct.unpack_from(f"<{WIDTH}f", actions, 4 * WIDTH * slot) for slot in range(2)]
    experts = sent[5]
    for slot, row in enumerate(rows):
        if sent[4][slot] != 0:
            if row[0] == row[0] or actors[slot] != 0:
                raise RuleBroken(
                    f"slot {slot}: expected NaN and actor 0 for a last frame, got {value}"
                )
            continue
        if actors[slot] not in (1, 2):
            raise RuleBroken(f"slot {slot}: expected actor 1 or 2, got {actors[slot]}")
        if explored[slot] not in (0, 1):
            raise RuleBroken(f"slot {slot}: expected explored 0 or 1, got {explored[slot]}")
        if row[0] not in (0.0, 1.0, 2.0) or not (
            -1 <= row[1] <= 1 and all(-2 <= number <= 0.5 for number in row[2:])
        ):
            raise RuleBroken(f"slot {slot}: expected an action row within the heads, got {row}")
        if actors[slot] == 2:
            if experts is None:
                raise RuleBroken(
                    f"slot {slot}: expected dqn, got the expert, who recommended nothing"
                )
            wanted = struct.unpack_from(f"<{WIDTH}f", experts, 4 * WIDTH * slot)
            if row != wanted:
                raise RuleBroken(
                    f"slot {slot}: expected what the expert recommended, {wanted}, got {row}"
                )
    return value


def check_error(wire: Wire, code: str, *, retry: bool = False) -> None:
    """The server's last message is this ERROR; then it closes."""
    last: list[Any] | None = None
    while (value := wire.recv()) is not None:
        if last is not None:
            raise RuleBroken(f"expected the end of the connection behind ERROR, got {value}")
        if value[0] == 15:
            last = value
        elif value[0] not in (12, 13, 14, 16):
            raise RuleBroken(f"expected ERROR {code}, got {str(value)[:300]}")
    if last is None:
        raise RuleBroken(f"expected ERROR {code}, got the end of the connection without a word")
    if [type(part) for part in last[1:4]] != [str, str, bool]:
        raise RuleBroken(f"expected ERROR as two strings and a boolean, got {last}")
    if last[1] != code:
        raise RuleBroken(f"expected ERROR {code}, got {last[1]}: {last[2][:300]}")
    if not 1 <= len(last[2]) <= 8000:
        raise RuleBroken(f"expected a message of 1 to 8,000 characters, got {len(last[2])}")
    if last[3] is not retry:
        raise RuleBroken(f"{code}: expected retry {str(retry).lower()}, got {last[3]}")


def check_fire(got: Sequence[float], wanted: Sequence[int]) -> None:
    """The first of the heads has these choices. Errors: RuleBroken."""
    if list(got) != list(wanted):
        raise RuleBroken(f"expected the only legal choices of fire, {list(wanted)}, got {got}")

"""What the tests of clients in other languages share: vectors as words, and games to play."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from server.conformance.listen import ClientCheck
from server.conformance.report import BROKEN, UNSEEN, RuleResult

ROOT = Path(__file__).parents[2]
VALID: list[dict[str, Any]] = json.loads((ROOT / "tests/golden/wire.json").read_text())["valid"]
HELLOS = {v["name"].removeprefix("hello "): v for v in VALID if v["type"] == "HELLO"}
SERVER = [v for v in VALID if v["from"] == "server"]
NOT_WRITTEN = {"frame, reward as a list of one", "frame, continuous part as a list of one"}
"""Frames that say in another form what these clients say in the plainest one."""


FORMS: dict[str, Any] = {
    "00": 0, "7f": 127, "e0": -32, "ff": -1, "ccff": 255, "cdfffe": 65_534, "cefffffffe": 2**32 - 2,
    "cf0000800000000001": 2**47 + 1, "d080": -128, "d18000": -32_768, "d280000000": -(2**31),
    "d38000000000000000": -(2**63), "d1007f": 127, "ca3f000000": 0.5, "cac0400000": -3.0,
    "cbbfd0000000000000": -0.25, "c0": None, "c2": False, "c3": True, "a2c3bc": "ü",
    "d901" "61": "a", "da0001" "61": "a", "db00000001" "61": "a",
    "c401" "ff": b"\xff", "c50001" "ff": b"\xff",
    "c600000001" "ff": b"\xff",
    "dc0001" "05": [5], "dd00000001" "05": [5], "81" "a161" "90": {"a": []},
    "de0001" "a161" "05": {"a": 5}, "df00000001" "a161" "05": {"a": 5}, "c400": b"", "a0": "",
}  # fmt: skip
"""Values in every form of msgpack that has a meaning here."""
ALL_FORMS = (5 + len("".join(FORMS)) // 2).to_bytes(4, "big").hex()
ALL_FORMS += f"920edc{len(FORMS):04x}" + "".join(FORMS)
"""A PONG with all of them."""


def canonical(*types: str) -> list[dict[str, Any]]:
    """Vectors of these types as a client writes them."""
    found = [v for v in VALID if v["type"] in types and v["canonical"]]
    found = [v for v in found if v["name"] not in NOT_WRITTEN]
    assert found
    return found


def raw(value: Any) -> Any:
    """A value of the file with its tensors as bytes."""
    if isinstance(value, dict):
        if set(value) == {"bin"}:
            return bytes.fromhex(value["bin"])
        return {key: raw(item) for key, item in value.items()}
    return [raw(item) for item in value] if isinstance(value, list) else value


def packed(value: Any) -> str:
    """A value of the file as msgpack, in hex."""
    return msgspec.msgpack.encode(raw(value)).hex()


def row(action: Sequence[Any] | None) -> list[float] | None:
    """An action as one list of numbers."""
    if action is None:
        return None
    return [n for part in action for n in (part if isinstance(part, list) else [part])]


def elements(vector: dict[str, Any]) -> list[Any]:
    """A server's message as the array that travels, an action as one list of numbers."""
    number = {"WELCOME": 11, "ACTION": 12, "ACTIONS": 13, "PONG": 14, "ERROR": 15, "SETTINGS": 16}
    values = raw(vector["message"])
    if vector["type"] == "ACTION":
        values["action"] = row(values["action"])
    return [number[vector["type"]], *values.values()]


def same(got: Any, wanted: list[Any]) -> bool:
    """Equal, but for elements and keys that later versions may add."""
    if not isinstance(got, list) or len(got) < len(wanted):
        return False
    for one, other in zip(got, wanted, strict=False):
        if isinstance(one, dict) and isinstance(other, dict):
            if any(one.get(key) != value for key, value in other.items()):
                return False
        elif one != other:
            return False
    return True


def listened(
    command: Callable[[int], Sequence[str]], *, frames: int = 10, websocket: bool = False
) -> tuple[list[RuleResult], str, int]:
    """Have a client play the whole series of `conformance --listen`; `command` makes its command
    from a port. What was found, what the client printed, and its exit code."""
    check = ClientCheck(
        ("127.0.0.1", 0),
        frames=frames,
        timeout_s=20.0,
        show=lambda _text: None,
        websocket=websocket,
    )
    words = command(check.port)
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    output: list[str] = []
    reader = threading.Thread(target=lambda: output.append(process.communicate()[0]))
    reader.start()
    try:
        findings = check.run()
        reader.join(15.0)
        ended = not reader.is_alive()
    finally:
        process.kill()
        reader.join()
    assert ended, f"the client did not end: {output}"
    return findings, output[0], process.returncode


def results(findings: list[RuleResult]) -> tuple[dict[str, str], set[str]]:
    """What is broken, and what was not exercised."""
    broken = {finding.name: finding.detail for finding in findings if finding.result == BROKEN}
    return broken, {finding.name for finding in findings if finding.result == UNSEEN}

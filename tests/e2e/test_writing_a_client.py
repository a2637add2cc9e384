"""The page by which clients are written: its bytes are the golden ones, its tables complete."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest

from config.models import Config
from protocol.framing import HANDSHAKE_MAX_BYTES
from protocol.messages import CLIENT_TYPES, ROLES, SERVER_TYPES, HelloFields
from protocol.observation_checks import MAX_VALUE
from server.cli import parser_for

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/writing-a-client.md").read_text()
VECTORS = {
    v["name"]: v["hex"] for v in json.loads((ROOT / "tests/golden/wire.json").read_text())["valid"]
}
BLOCKS = re.findall(r"^```hex (.+?)\n(.+?)^```", TEXT, re.MULTILINE | re.DOTALL)


def test_client_guide_shows_bytes() -> None:
    assert len(BLOCKS) >= 7


@pytest.mark.parametrize(("name", "block"), BLOCKS, ids=[name for name, _ in BLOCKS])
def test_client_guide_bytes_equal_the_golden_vectors(name: str, block: str) -> None:
    rows = [re.match(r"((?:[0-9a-f]{2} )*[0-9a-f]{2})(?:\s{2,}|$)", x) for x in block.splitlines()]
    assert all(rows), block
    assert "".join(row[1] for row in rows if row).replace(" ", "") == VECTORS[name]


def test_client_guide_has_every_message_but_the_vectorized_ones() -> None:
    for number, name in (CLIENT_TYPES | SERVER_TYPES).items():
        if name not in ("FRAMES", "ACTIONS"):
            assert re.search(rf"`\[{number}\b", TEXT), f"{number} {name} is missing"


def test_client_guide_has_every_hello_key_and_role() -> None:
    table = TEXT[TEXT.index("### HELLO") : TEXT.index("### WELCOME")]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == set(
        HelloFields.__struct_fields__
    )
    assert all(f'"{role}"' in table for role in ROLES)


def test_client_guide_table_has_every_first_byte() -> None:
    start = TEXT.index("| first byte |")
    known: set[int] = set()
    for row in re.findall(r"^\| (`.*?) \|", TEXT[start:], re.MULTILINE):
        if not re.match(r"`[0-9a-f]{2}`", row):
            break
        for low, high in re.findall(r"`([0-9a-f]{2})`(?:-`([0-9a-f]{2})`)?", row):
            known |= set(range(int(low, 16), int(high or low, 16) + 1))
    assert known == set(range(256)) - {0xC1}


@pytest.mark.parametrize(
    "value",
    [0, 127, 128, 255, 256, 65_535, 65_536, 2**32 - 1, -1, -32, 0.5, "x" * 31, "x" * 32, b"", b"1",
     bytes(255), bytes(256), bytes(65_536), [0] * 15, [0] * 16, {"a": 1}, None],
    ids=lambda value: f"{type(value).__name__}-{str(value)[:12]}",
)  # fmt: skip
def test_client_guide_send_forms_equal_those_of_msgspec(value: object) -> None:
    """What the table names is what msgspec writes."""
    table = TEXT[TEXT.index("| value | bytes |") : TEXT.index("**To read**")]
    first = msgspec.msgpack.encode(value)[0]
    small = {range(0x80): "itself", range(0xE0, 0x100): "itself", range(0xA0, 0xC0): "`a0`",
             range(0x90, 0xA0): "`90`", range(0x80, 0x90): "`80`"}  # fmt: skip
    names = [name for tags, name in small.items() if first in tags] or [f"`{first:02x}`"]
    assert names[0] in table


def test_client_guide_limits_equal_the_servers() -> None:
    framing = TEXT[TEXT.index("## Framing") : TEXT.index("## msgpack")]
    assert f"{HANDSHAKE_MAX_BYTES:,} bytes" in framing
    assert f"{Config().server.max_message_bytes:,}" in framing
    frame = TEXT[TEXT.index("### FRAME") : TEXT.index("### ACTION")]
    assert MAX_VALUE == 1e9
    for element in ("obs", "reward"):
        assert re.search(rf"^\| {element} \| .*From -1e9 to 1e9", frame, re.MULTILINE), element


def test_client_guide_names_the_listeners_timeout() -> None:
    default = parser_for("conformance").get_default("timeout")
    assert f"waits {default:g} s for your client" in TEXT


def test_client_guide_pseudocode_handles_last_frames_and_refusals() -> None:
    code = TEXT[TEXT.index("In pseudocode") : TEXT.index("## Check it")]
    assert "my_expert(obs) if status == 0 else nil" in code
    # All that may be refused, the first connection too, stands between these two.
    assert code.index("\ntry:\n    wait = 0.1; open()") < code.index("\non refused:\n    exit 1")

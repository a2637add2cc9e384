#!/usr/bin/env python3
"""Write tests/golden/replay-N.json: files of a replay in each version of their format, and their
rows.

The bytes are made by the few lines below and not by agent.journal, so that the two check each
other. The files stay as they are when there is another version: that one must read these still.
"""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "tests" / "golden"

NOTE = (
    "files: what is in the folder `replay`, as hex. rows: those of all blocks in order; obs, "
    "action, reward, stream, seq, actor (0 nobody, 1 dqn, 2 expert), kind (1 step, 2 final), "
    "status{more}. positions: of each block, the rows and steps of the run before it. The format "
    "is in docs/reliability.md"
)

SPEC: dict[str, Any] = {
    "game": "golden",
    "observation": ["float32", [2]],
    "actions": [["discrete", "fire", 4], ["continuous", "aim", -1.0, 1.0, 1]],
    "rewards": ["reward"],
}
STREAM = 3 << 16

ROWS: list[list[Any]] = [
    [[0.5, -1.0], [3.0, 0.25], 1.0, STREAM, 0, 2, 1, 0],
    [[0.0, 2.0], [0.0, -1.0], -0.5, STREAM + 1, 0, 1, 1, 0],
    [[1.5, -1.0], [1.0, 0.5], 0.0, STREAM, 1, 1, 1, 2],
    [[2.5, -1.0], [0.0, 0.0], 0.0, STREAM, 2, 0, 2, 0],
    [[0.25, 2.0], [2.0, 1.0], 4.0, STREAM + 1, 1, 2, 1, 1],
    [[3.5, 0.0], [2.0, 0.0], 0.125, STREAM, 3, 1, 1, 0],
]
LATER: list[list[Any]] = [
    [[1.0, 0.5], 1],
    [None, 1],
    [[0.0, -0.25], 70_000],
    [None, 0],
    [[2.0, 1.0], 70_001],
    [None, 70_001],
]
"""What version 2 has beside: recommended (null: nothing was) and policy_version."""

COLUMNS = (
    ("stream", "<i8", []), ("obs", "<f4", [2]), ("action", "<f4", [2]), ("recommended", "<f4", [2]),
    ("reward", "<f4", []), ("seq", "<u4", []), ("policy_version", "<u4", []), ("actor", "|u1", []),
    ("kind", "|u1", []), ("status", "|u1", []),
)  # fmt: skip
"""Of version 2, as its segments tell."""

BLOCKS = ((0, 3), (3, 5), (5, 6))
"""Which rows each block has; the last one begins a file."""


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 16)


def segment(blocks: list[bytes], version: int) -> bytes:
    told: Any = SPEC if version == 1 else {"spec": SPEC, "columns": COLUMNS}
    text = json.dumps(told, separators=(",", ":")).encode()
    head = struct.pack("<8sIII", b"USTUDYRP", version, len(text), zlib.crc32(text)) + text
    return padded(head) + b"".join(blocks)


def position(start: int) -> tuple[int, int]:
    return start, sum(row[6] == 1 for row in ROWS[:start])


def block(start: int, stop: int, version: int) -> bytes:
    rows, later = ROWS[start:stop], LATER[start:stop] if version > 1 else []
    nothing = [float("nan")] * 2

    def column(form: str, number: int) -> bytes:
        return b"".join(struct.pack("<" + form, row[number]) for row in rows)

    def columns(number: int) -> bytes:
        return b"".join(struct.pack("<2f", *row[number]) for row in rows)

    payload = padded(
        column("q", 3)  # stream: the widest first
        + columns(0)  # then those of four bytes: obs, action, reward, seq
        + columns(1)
        + b"".join(struct.pack("<2f", *(recommended or nothing)) for recommended, _ in later)
        + column("f", 2)
        + column("I", 4)
        + b"".join(struct.pack("<I", policy_version) for _, policy_version in later)
        + column("B", 5)
        + column("B", 6)
        + column("B", 7)
    )
    head = struct.pack(
        "<4sIQQQI",
        b"ROWS" if version == 1 else b"ROW2",
        len(rows),
        *position(start),
        len(payload),
        zlib.crc32(payload),
    )
    if version > 1:
        head += bytes(16)
    head += struct.pack("<I", zlib.crc32(head))
    return head.ljust(48 if version == 1 else 64, b"\0") + payload


def text(version: int) -> str:
    """The file of a version."""
    made = [block(*each, version) for each in BLOCKS]
    more = "" if version == 1 else ", recommended (null: nothing), policy_version"
    rows = ROWS if version == 1 else [row + later for row, later in zip(ROWS, LATER, strict=True)]
    content = {
        "note": NOTE.format(more=more),
        "spec": SPEC,
        "files": {
            "000001.rows": segment(made[:2], version).hex(),
            "000002.rows": segment(made[2:], version).hex(),
        },
        "rows": rows,
        "positions": [position(start) for start, _ in BLOCKS],
    }
    return "{\n" + ",\n".join(f' "{k}": {json.dumps(v)}' for k, v in content.items()) + "\n}\n"


if __name__ == "__main__":
    for version in (1, 2):
        (FOLDER / f"replay-{version}.json").write_text(text(version))

#!/usr/bin/env python3
"""Write tests/golden/replay-1.json: files of a replay in version 1 of their format, and their rows.

The bytes are made by the few lines below and not by agent.journal, so that the two check each
other. The file stays as it is when there is another version: that one must read these still.
"""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parents[1] / "tests" / "golden" / "replay-1.json"

NOTE = (
    "files: what is in the folder `replay`, as hex. rows: those of all blocks in order; obs, "
    "action, reward, stream, seq, actor (0 nobody, 1 dqn, 2 expert), kind (1 step, 2 final), "
    "status. positions: of each block, the rows and steps of the run before it. The format is in "
    "docs/reliability.md"
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
BLOCKS = ((0, 3), (3, 5), (5, 6))
"""Which rows each block has; the last one begins a file."""


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 16)


def segment(blocks: list[bytes]) -> bytes:
    spec = json.dumps(SPEC, separators=(",", ":")).encode()
    head = struct.pack("<8sIII", b"USTUDYRP", 1, len(spec), zlib.crc32(spec)) + spec
    return padded(head) + b"".join(blocks)


def position(start: int) -> tuple[int, int]:
    return start, sum(row[6] == 1 for row in ROWS[:start])


def block(start: int, stop: int) -> bytes:
    rows = ROWS[start:stop]

    def column(form: str, number: int) -> bytes:
        return b"".join(struct.pack("<" + form, row[number]) for row in rows)

    def columns(number: int) -> bytes:
        return b"".join(struct.pack("<2f", *row[number]) for row in rows)

    payload = padded(
        column("q", 3)  # stream: the widest first
        + columns(0)  # then those of four bytes: obs, action, reward, seq
        + columns(1)
        + column("f", 2)
        + column("I", 4)
        + column("B", 5)
        + column("B", 6)
        + column("B", 7)
    )
    head = struct.pack(
        "<4sIQQQI", b"ROWS", len(rows), *position(start), len(payload), zlib.crc32(payload)
    )
    head += struct.pack("<I", zlib.crc32(head))
    return head.ljust(48, b"\0") + payload


def text() -> str:
    """The file."""
    made = [block(*each) for each in BLOCKS]
    content = {
        "note": NOTE,
        "spec": SPEC,
        "files": {
            "000001.rows": segment(made[:2]).hex(),
            "000002.rows": segment(made[2:]).hex(),
        },
        "rows": ROWS,
        "positions": [position(start) for start, _ in BLOCKS],
    }
    return "{\n" + ",\n".join(f' "{k}": {json.dumps(v)}' for k, v in content.items()) + "\n}\n"


if __name__ == "__main__":
    TARGET.write_text(text())

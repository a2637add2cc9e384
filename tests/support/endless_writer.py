"""A process that writes rows to a journal until it is killed, and prints how many."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

from agent.journal import Journal, Position
from agent.step import StepBlock
from tests.support.replay_model import SPEC, Games, blocks_of

BLOCK_ROWS = 5


def endless() -> Iterator[StepBlock]:
    """The blocks that it writes, one after the other."""
    return itertools.cycle(blocks_of(Games().play_at_random(2000)[:2000], (BLOCK_ROWS,)))


def main(folder: Path) -> None:
    writer = Journal(folder, SPEC, 1_000_000, Position())
    for block in endless():
        writer.append(block)
        print(writer.at.rows, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""The recorder: an episode is on the disk once it ends, and all are one recording in the end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from agent import recording
from agent.recording import Recording
from agent.step import FINAL, StepBlock
from protocol.spaces import GameSpec


class Recorder:
    """Writes the rows that it is shown, episode by episode.

    While it records, the file is one of agent.episode_file; `finish` makes it what
    `agent.recording.write` writes. Both are read by `agent.recording.read`.
    """

    def __init__(self, path: Path, spec: GameSpec, reward_weights: Sequence[float]) -> None:
        """`path`: is made with the first episode that ends."""
        self.path = path
        self._spec = spec
        self._weights = tuple(reward_weights)
        self._playing: dict[int, list[StepBlock]] = {}
        """Copies of the rows of episodes that have not ended, by stream."""
        self._unwritten: list[Recording] = []
        """Episodes that have ended and could not be written."""

    def add(self, block: StepBlock) -> None:
        """Take a copy of these rows, and write the episodes that they end.

        Errors: OSError, RecordingError for an episode that could not be written; it is kept, and
        tried again with the next one.
        """
        if not len(block):
            return
        order = np.argsort(block.stream, kind="stable")
        stream, final = block.stream[order], block.kind[order] == FINAL
        # A piece ends with its episode's last observation, and where another stream begins.
        ends = np.flatnonzero(final | np.append(stream[1:] != stream[:-1], True)) + 1
        for rows in np.split(order, ends[:-1]):
            piece = StepBlock(*(getattr(block, name)[rows] for name in StepBlock.__slots__))
            number = int(piece.stream[0])
            self._playing.setdefault(number, []).append(piece)
            if piece.kind[-1] == FINAL:
                self._unwritten.append(self._recording(self._playing.pop(number)))
        self._write()

    def finish(self) -> None:
        """Episodes in play end here, and the file becomes one recording of all, whole or not at
        all: where it cannot be written, it stays what it was. Errors: OSError, RecordingError."""
        for blocks in self._playing.values():
            self._unwritten.append(self._recording(blocks))
        self._playing.clear()
        written = recording.read(self.path).rows if self.path.exists() else None
        blocks = [each.rows for each in self._unwritten]
        if written is not None:
            blocks.insert(0, written)
        recording.write(self.path, self._recording(blocks))
        self._unwritten.clear()

    def _recording(self, blocks: Sequence[StepBlock]) -> Recording:
        return Recording(self._spec, recording.joined(blocks, self._spec), self._weights)

    def _write(self) -> None:
        while self._unwritten:
            recording.append(self.path, self._unwritten[0])
            del self._unwritten[0]

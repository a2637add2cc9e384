"""The recorder: an episode is on the disk once it ends, and all are one recording in the end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from agent import recording
from agent.recording import Recording, RecordingError
from agent.step import FINAL, StepBlock
from protocol.spaces import GameSpec

MARK, DISCARD = "mark", "discard"
"""What may be said of an episode: it is marked in the recording, or is not in it at all."""


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
        self._judged: dict[int, str] = {}
        """What was said of the episode that a stream plays."""
        self._unwritten: list[Recording] = []
        """Episodes that have ended and could not be written."""

    def judge(self, stream: int, word: str) -> None:
        """The episode that this stream plays, of which there is a step at least, is marked or
        discarded when it ends. `word`: MARK or DISCARD. ValueError for another."""
        if word not in (MARK, DISCARD):
            raise ValueError(f"expected {MARK} or {DISCARD}, got {word!r}")
        self._judged[stream] = word

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
                self._end(number)
        self._write()

    def finish(self) -> None:
        """Episodes in play end here, and the file becomes one recording of all, whole or not at
        all: where it cannot be written, it stays what it was. Errors: OSError, RecordingError."""
        for number in list(self._playing):
            self._end(number)
        parts = [recording.read(self.path)] if self.path.exists() else []
        parts += self._unwritten
        if not parts:
            raise RecordingError("every episode was discarded, so no file is written")
        recording.write(self.path, recording.together(parts))
        self._unwritten.clear()

    def _end(self, number: int) -> None:
        """The episode of this stream has ended."""
        rows = recording.joined(self._playing.pop(number), self._spec)
        word = self._judged.pop(number, None)
        if word != DISCARD:
            marked = np.full(len(rows), word == MARK)
            self._unwritten.append(Recording(self._spec, rows, self._weights, marked))

    def _write(self) -> None:
        while self._unwritten:
            recording.append(self.path, self._unwritten[0])
            del self._unwritten[0]

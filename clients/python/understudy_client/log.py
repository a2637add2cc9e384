"""A log of answers: which action each frame was answered with, and who chose it."""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from understudy_client.answers import Answers
from understudy_client.spec import action_row
from understudy_client.wire import Answer


class AnswerLog:
    """Keeps every action that came back; hand its `add` to `Client.connect(on_answer=...)`.

    The answer to an episode's last frame has no action: its row has actor 0 and NaN.
    """

    def __init__(self) -> None:
        self._session = array("q")
        self._slot = array("q")
        self._seq = array("q")
        self._actor = array("B")
        self._action = array("f")
        self._width = 0

    def __len__(self) -> int:
        return len(self._actor)

    def add(self, session: int, answer: Answer | Answers) -> None:
        if isinstance(answer, Answer):
            if answer.action is not None:
                row = action_row(answer.action)
                self._width = len(row)
            elif not self._width:
                return  # an episode of one frame before any action: nothing to tell
            else:
                row = [np.nan] * self._width
            self._row(session, answer.slot, answer.seq, answer.actor)
            self._action.extend(row)
            return
        for slot in range(len(answer.actors)):
            self._row(session, slot, answer.seq, int(answer.actors[slot]))
            self._action.extend(answer.actions[slot].tolist())

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The rows in the order of arrival: `session`, `slot`, `seq` int64 [n], `actor` uint8 [n],
        `action` float32 [n, A] (action rows)."""
        action = np.array(self._action, np.float32)
        return {
            "session": np.array(self._session, np.int64),
            "slot": np.array(self._slot, np.int64),
            "seq": np.array(self._seq, np.int64),
            "actor": np.array(self._actor, np.uint8),
            "action": action.reshape(len(self), -1) if len(self) else action.reshape(0, 0),
        }

    def save(self, path: Path) -> None:
        """Write `arrays()` as an .npz file, whole or not at all."""
        temporary = path.with_name(path.name + ".part")
        with temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **self.arrays())
        temporary.replace(path)

    def _row(self, session: int, slot: int, seq: int, actor: int) -> None:
        self._session.append(session)
        self._slot.append(slot)
        self._seq.append(seq)
        self._actor.append(actor)

"""Masks in the files of a run: written with each row, and read after a restart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from agent import journal
from agent.journal import Damage
from agent.step import STEP
from protocol.streams import stream_number
from tests.support.masked import MASKED, bits
from tests.support.running import Running, client_for

FRAMES = 80

Sent = dict[tuple[int, int], bytes]
"""The packed mask of each frame, by stream and number."""


def play(server: Running, rng: np.random.Generator, sent: Sent) -> None:
    """An episode in which each frame allows two choices of each head or more."""
    with client_for(server.port, MASKED, timeout_s=60.0) as client:
        stream = stream_number(client.session, 0)
        for k in range(FRAMES):
            legal = rng.random(10) < 0.4
            for start, n in ((0, 3), (3, 7)):
                legal[start + rng.choice(n, 2, replace=False)] = True
            answer = client.act(rng.random(4, np.float32), 1.0, legal=legal)
            assert answer.action is not None
            assert legal[answer.action[0]]
            assert legal[3 + answer.action[2]]
            sent[stream, k] = bits(legal)
        client.act(rng.random(4, np.float32), 1.0, 1)


def kept(run: Path) -> Sent:
    damages: list[Damage] = []
    found = {}
    for block in journal.read(run / journal.FOLDER, MASKED, damages):
        rows = block.rows
        for i in np.flatnonzero(rows.kind == STEP).tolist():
            found[int(rows.stream[i]), int(rows.seq[i])] = rows.legal[i].tobytes()
    assert damages == []
    return found


@pytest.mark.timeout(300)
@pytest.mark.promise("masks")
def test_masks_are_kept_with_their_rows_across_a_restart(tmp_path: Path) -> None:
    rng, sent = np.random.default_rng(0), Sent()
    explores = {"exploration__epsilon__start": 0.5, "exploration__epsilon__end": 0.5}
    with Running(tmp_path / "run", **explores) as server:
        play(server, rng, sent)
        server.settle()
    assert kept(tmp_path / "run") == sent
    # What it learns from at first are the rows that it has read.
    with Running(tmp_path / "run", resume=True, **explores) as server:
        play(server, rng, sent)
        server.settle()
        assert server.row["steps_stored"] == FRAMES
        assert server.row["updates"] > 0
    assert kept(tmp_path / "run") == sent
    assert len(sent) == 2 * FRAMES

"""A network with a memory in a server: its states are kept for each slot and with each row, and the
run goes on from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent import journal
from agent.journal import Damage
from agent.journal_joined import read_joined
from agent.step import STEP
from protocol.spaces import Discrete, GameSpec, Observation
from server.commands.export import load_trained
from tests.support.running import Running, client_for
from tests.support.worlds import copied, joined

SPEC = GameSpec("past", Observation("float32", (3,)), (Discrete("move", 3),)).checked()
UNITS, FRAMES = 6, 30

SETTINGS: dict[str, Any] = {"learner__memory": "gru", "learner__memory_units": UNITS}


def play(server: Running, *, expert: bool, seed: int = 0) -> None:
    """Two episodes, in which the game shows the same."""
    shown = np.random.default_rng(seed).standard_normal((FRAMES, 3), np.float32)
    with client_for(server.port, SPEC, timeout_s=60.0) as client:
        for _ in range(2):
            for obs in shown:
                answer = client.act(obs, 1.0, expert=[1] if expert else None)
                assert answer.action is not None
            client.act(shown[0], 1.0, 1)


def states(run: Path) -> np.ndarray:
    """Of the steps of each episode, in order, float16 [episodes, FRAMES, UNITS]."""
    damages: list[Damage] = []
    found = read_joined(run / journal.FOLDER, SPEC, damages, UNITS)
    rows = joined([copied(block.rows) for block in found], SPEC)
    assert damages == []
    order = np.lexsort((rows.seq, rows.stream))
    steps = order[rows.kind[order] == STEP]
    return rows.state[steps].reshape(-1, FRAMES, UNITS)


@pytest.mark.timeout(300)
def test_states_are_kept_for_each_episode_and_learnt_from_after_a_restart(tmp_path: Path) -> None:
    run = tmp_path / "run"
    half = {"expert__ratio__start": 0.5, "expert__ratio__end": 0.5}
    with Running(run, trainer__enabled=False, **SETTINGS, **half) as server:
        play(server, expert=True)
        play(server, expert=False)
        server.settle()
    kept = states(run)
    # The weights stay, so what was shown decides, whoever acts, and whichever connection it is.
    assert len(kept) == 4
    np.testing.assert_allclose(kept, np.tile(kept[:1], (4, 1, 1)), atol=1e-3)
    assert not kept[:, 0].any()
    assert (np.abs(kept[0, 1:]).max(axis=1) > 0.01).all()
    assert len(np.unique(kept[0], axis=0)) > FRAMES // 2
    with Running(run, resume=True, **SETTINGS, trainer__min_steps=50) as server:
        play(server, expert=True, seed=1)
        server.settle()
        assert server.row["updates"] > 0
        assert server.row["steps_stored"] == 2 * FRAMES
    assert load_trained(run, "newest").memory == UNITS
    np.testing.assert_array_equal(states(run)[:4], kept)

"""The role play in a server of real processes: who plays, and what is not kept of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from agent import checkpoint
from agent.checkpoint import spec_text
from agent.factory import make_learner
from config.load import config_from
from tests.support.running import TINY, RawClient, Running, hello_fields
from tests.support.worlds import SPEC

FIRST, LAST = 9_000_000, 9_000_001
"""Updates of two checkpoints, which always play choice 0 and choice 3."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("opponents") / "run") as running:
        with RawClient(running.port) as game:
            game.welcome()  # the run has its game
        for updates, choice in ((FIRST, 0), (LAST, 3)):
            write(running.folder.checkpoints, checkpoint.file_name(updates), choice)
        yield running


def write(folder: Path, name: str, choice: int) -> None:
    """A checkpoint whose network likes this choice alone."""
    learner = make_learner(config_from(TINY), SPEC, torch.device("cpu"))
    state = learner.state_dict()
    state["network"]["heads.weight"].zero_()
    bias = state["network"]["heads.bias"]
    bias.zero_()
    bias[1 + choice] = 5.0
    folder.mkdir(exist_ok=True)
    saved = {"spec": spec_text(SPEC), "learner": state, "version": 40 + choice}
    checkpoint.save(folder / name, saved)


def episodes(player: RawClient, n: int, frames: int = 3) -> list[tuple[int, int]]:
    """Choice and version of each episode, which must not change within one."""
    found, seq = [], 0
    for _ in range(n):
        told = set()
        for at in range(frames):
            answer = player.frame(seq, status=int(at == frames - 1), reward=1.0)
            seq += 1
            if at < frames - 1:
                assert answer[4:] == [1, answer[5], False]
                told.add((answer[3][0], answer[5]))
        assert len(told) == 1, told
        found.append(told.pop())
    return found


def test_each_policy_that_is_named_plays(server: Running) -> None:
    with RawClient(server.port) as one, RawClient(server.port) as other:
        one.welcome(role="play", policy=str(FIRST))
        other.welcome(role="play", policy=str(LAST))
        assert set(episodes(one, 3)) == {(0, 40)}
        assert set(episodes(other, 3)) == {(3, 43)}
    with RawClient(server.port) as drawn:
        drawn.welcome(role="play", policy="recent:2")
        assert set(episodes(drawn, 40)) == {(0, 40), (3, 43)}
    write(server.folder.checkpoints, checkpoint.BEST, 2)
    with RawClient(server.port) as best:
        best.welcome(role="play", policy="best")
        assert set(episodes(best, 3)) == {(2, 42)}


@pytest.mark.promise("play-not-stored")
def test_play_reaches_neither_replay_nor_evaluations(server: Running) -> None:
    server.settle()
    before = dict(server.wait_rows())
    with RawClient(server.port) as game, RawClient(server.port) as player:
        game.welcome()
        player.welcome(role="play", policy="recent:2")
        assert "episode_limit" not in player.fields
        episodes(player, 20)
        for seq in range(4):
            game.frame(seq)
    server.settle()
    server.until_row(frames_play=before["frames_play"] + 60)
    after = server.row
    assert after["frames"] - before["frames"] == 3, "the training game's steps alone"
    assert after["steps_stored"] - before["steps_stored"] == 3
    for name in ("frames_eval", "episodes", "steps_lost"):
        assert after[name] == before[name], name


@pytest.mark.promise("opponent-gone")
def test_checkpoint_that_cannot_be_played_harms_nobody_else(server: Running) -> None:
    folder = server.folder.checkpoints
    (folder / checkpoint.file_name(9_000_002)).write_bytes(b"no checkpoint")
    with RawClient(server.port) as game:
        game.welcome()
        for updates, why in ((9_000_002, "cannot be read"), (77, "newest are those of")):
            with RawClient(server.port) as refused:
                refused.send([1, {**hello_fields(), "role": "play", "policy": str(updates)}])
                code, text, retry = refused.refusal()
            assert (code, retry) == ("no_such_policy", False)
            assert why in text
        with RawClient(server.port) as drawn:
            drawn.welcome(role="play", policy="recent:3")
            assert set(episodes(drawn, 30)) == {(0, 40), (3, 43)}
        for seq in range(3):
            assert game.frame(seq)[0] == 12
    assert server.log().count("games play with others") == 1, "said once"

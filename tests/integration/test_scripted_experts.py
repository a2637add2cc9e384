"""The games of MinAtar as the client has them, and the scripted experts of the studies' games."""

from __future__ import annotations

import statistics
import subprocess
import sys
from importlib.util import find_spec
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest

from lab.study.comparisons.games import GAMES, NOISE
from understudy_client import atari, minatar
from understudy_client.environments import make
from understudy_client.experts import find, returns, weakened
from understudy_client.gym import Expert, spec_of

needs_minatar = pytest.mark.skipif(find_spec("minatar") is None, reason="needs the extra study")
"""MinAtar itself is not imported here: that would import what it draws with."""

SCORES = {
    "cartpole": (500, 300),
    "acrobot": (-110, -130),
    "asterix": (20, 12),
    "breakout": (60, 20),
    "freeway": (20, 16),
    "seaquest": (8, 12),
    "space-invaders": (20, 8),
}
"""Of a few episodes: what the good expert reaches at least, and the timid one at most."""


@needs_minatar
def test_minatar_game_is_played_with_its_picture() -> None:
    env = make("MinAtar/Breakout-v1")
    spec = spec_of(env)
    assert (spec.game, spec.observations[0].dtype) == ("MinAtar/Breakout-v1", "bool")
    assert spec.observations[0].shape == (10, 10, 4)
    assert spec.actions[0].n == 3  # type: ignore[union-attr]
    obs, _ = env.reset(seed=1)
    again, _ = env.reset(seed=1)
    assert obs.dtype == bool
    assert np.array_equal(obs, again)
    env.close()


@needs_minatar
def test_minatar_game_imports_nothing_to_draw_with() -> None:
    """In a process of its own: here, another test may have imported them."""
    script = """
import sys
from understudy_client.environments import make
make("MinAtar/Freeway-v1").close()
assert not {"seaborn", "pandas"} & sys.modules.keys()
drawing = sys.modules.get("matplotlib")
assert drawing is None or hasattr(drawing, "__version__"), "what stood for it is gone again"
"""
    subprocess.run([sys.executable, "-c", script], check=True)


@needs_minatar
def test_minatar_episode_is_truncated_after_its_limit() -> None:
    env = make("MinAtar/Freeway-v1")
    env.reset(seed=1)
    over = [env.step(0)[2:4] for _ in range(minatar.MOST_STEPS)]
    assert over[-2:] == [(False, False), (False, True)]
    env.close()


def test_missing_minatar_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "minatar.gym", None)
    monkeypatch.delitem(gymnasium.registry, "MinAtar/Breakout-v1", raising=False)
    with pytest.raises(gymnasium.error.DependencyNotInstalled, match="pip install MinAtar"):
        make("MinAtar/Breakout-v1")
    assert "seaborn" not in sys.modules


@pytest.mark.parametrize(
    "game",
    [
        pytest.param(name, marks=needs_minatar if "MinAtar" in GAMES[name][0] else ())
        for name in SCORES
    ],
)
def test_good_expert_scores_well_and_timid_and_noisy_ones_less(game: str) -> None:
    env, _, good, timid = GAMES[game]
    expert = find(env, good)
    assert expert is not None
    noisy = weakened(expert, NOISE, np.random.default_rng(1))
    timid_expert = find(env, timid)
    assert timid_expert is not None
    least, most = SCORES[game]
    good_score, timid_score, noisy_score = (
        statistics.fmean(returns(env, each, 5, seed=7)) for each in (expert, timid_expert, noisy)
    )
    assert good_score >= least
    assert timid_score <= most
    assert noisy_score <= good_score


@pytest.mark.parametrize(
    ("follow", "ram", "action"),
    [
        (atari.follow_pong, {54: 100, 51: 130}, 2),  # the paddle is too low: right is up
        (atari.follow_pong, {54: 130, 51: 100}, 3),
        (atari.follow_pong, {54: 100, 51: 92}, 0),
        (atari.follow_pong, {54: 0, 51: 92}, 1),  # no ball: fire
        (atari.follow_breakout, {101: 90, 99: 150, 72: 100}, 2),
        (atari.follow_breakout, {101: 90, 99: 80, 72: 100}, 3),
        (atari.follow_breakout, {101: 90, 99: 108, 72: 100}, 0),
        (atari.follow_breakout, {101: 0, 99: 80, 72: 100}, 1),
    ],
)
def test_followers_of_ale_go_where_the_ball_is(
    follow: Expert, ram: dict[int, int], action: int
) -> None:
    memory = np.zeros(128, np.uint8)
    memory[list(ram)] = list(ram.values())
    game = SimpleNamespace(ale=SimpleNamespace(getRAM=lambda: memory))
    assert follow(SimpleNamespace(unwrapped=game), None) == action

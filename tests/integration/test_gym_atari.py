"""Games of ALE by the names that Gymnasium has for them."""

from __future__ import annotations

import sys

import gymnasium
import numpy as np
import pytest

from understudy_client.env_options import PLAIN, EnvOptions
from understudy_client.environments import make
from understudy_client.gym import spec_of


def test_ale_games_are_known_by_their_names() -> None:
    env = make("ALE/Pong-v5")
    spec = spec_of(env)
    assert (spec.game, spec.observations[0].shape) == ("ALE/Pong-v5", (210, 160, 3))
    env.close()


def test_preprocessed_ale_game_is_small_and_gray_and_skips_frames() -> None:
    pytest.importorskip("cv2", reason="needs the extra atari")
    env = make("ALE/Pong-v5", EnvOptions(atari=True))
    (observation,) = spec_of(env).observations
    assert (observation.dtype, observation.shape) == ("uint8", (84, 84))
    obs, _ = env.reset(seed=1)
    assert obs.shape == (84, 84)
    before = env.unwrapped.ale.getEpisodeFrameNumber()  # type: ignore[attr-defined]
    after, *_ = env.step(0)
    assert env.unwrapped.ale.getEpisodeFrameNumber() - before == 4  # type: ignore[attr-defined]
    assert np.asarray(after).any()
    env.close()


def test_preprocessing_of_another_game_is_refused() -> None:
    with pytest.raises(ValueError, match=r"for the games of ALE, .* got CartPole-v1"):
        make("CartPole-v1", EnvOptions(atari=True))
    with pytest.raises(ValueError, match="expected no frameskip, got 2"):
        make("ALE/Pong-v5", EnvOptions(args={"frameskip": 2}, atari=True))


@pytest.mark.parametrize(
    ("module", "options", "package"),
    [("ale_py", PLAIN, "ale-py"), ("cv2", EnvOptions(atari=True), "opencv-python-headless")],
)
def test_missing_package_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, module: str, options: EnvOptions, package: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(gymnasium.error.DependencyNotInstalled, match=f"pip install {package}"):
        make("ALE/Pong-v5", options)

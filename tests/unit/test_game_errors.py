"""What ends a game early: which errors while an environment is made are worth another try."""

from __future__ import annotations

import gymnasium
import pytest
from gymnasium.envs.registration import register

from server.play.game_errors import GameNotMade, failure_of, made
from understudy_client.env_options import PLAIN, EnvOptions
from understudy_client.environments import make


class Picky(gymnasium.Env[int, int]):
    """One that does not always come about."""

    def __init__(self, error: Exception) -> None:
        raise error


def error_of(env: str, options: EnvOptions = PLAIN) -> Exception:
    """What is raised where this cannot be made."""
    with pytest.raises(Exception, match=r".") as caught:
        make(env, options)
    return made(env, caught.value)


@pytest.mark.parametrize(
    ("env", "options"),
    [
        ("NoSuchGame-v0", PLAIN),
        ("no_such_module:Game-v0", PLAIN),
        ("CartPole-v1", EnvOptions(atari=True)),
        ("CartPole-v1", EnvOptions(wraps=("no_such_module:f",))),
        ("CartPole-v1", EnvOptions(args={"no_such": 1})),
        ("CartPole-v1", EnvOptions(resize=(84, 84))),
    ],
)
def test_what_cannot_be_made_here_is_not_tried_again(env: str, options: EnvOptions) -> None:
    error = error_of(env, options)
    assert isinstance(error, GameNotMade)
    found = failure_of(0, error)
    assert found.permanent
    assert found.message.startswith(f"--env {env}: ")


@pytest.mark.parametrize("raised", [ValueError("no rom"), RuntimeError("no rom")])
def test_error_of_the_environment_itself_is_told_with_its_traceback(raised: Exception) -> None:
    register("Picky-v0", entry_point=Picky, kwargs={"error": raised})  # type: ignore[arg-type]
    try:
        found = failure_of(0, error_of("Picky-v0"))
    finally:
        del gymnasium.registry["Picky-v0"]
    assert not found.permanent
    assert found.message == f"{type(raised).__name__}: no rom"
    assert "in __init__" in found.traceback

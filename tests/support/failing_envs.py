"""Environments that fail, each in its own way: `tests.support.failing_envs:NAME`.

An episode fails in its fifth step (in `reset` where that is what fails) if its seed is 1 more than
a multiple of 3: of three games with the seed 0 that is game 1. The seed of a second try is another
one, and plays on; with `-Always` in the name it fails too.
"""

from __future__ import annotations

import faulthandler
import os
import time
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import register

from server.play.game_messages import RESEED

FAILS_AT = 5
LENGTH = 10
"""Steps of an episode that does not fail."""


class Failing(gymnasium.Env[Any, Any]):
    """Ten steps an episode, a reward of 1 for each."""

    observation_space = spaces.Box(-1.0, 1.0, (3,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, fail: Callable[[], Any], where: str = "step", always: bool = False) -> None:
        self._fail, self._where, self._always = fail, where, always
        self._at = 0
        self._bad = False

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed, options=options)
        known = (seed or 0) % RESEED if self._always else seed or 0
        self._bad = known < 1000 and known % 3 == 1
        self._at = 0
        if self._bad and self._where == "reset":
            self._fail()
        return np.zeros(3, np.float32), {}

    def step(self, _action: Any) -> Any:
        self._at += 1
        obs: Any = np.full(3, self._at / LENGTH, np.float32)
        reward = 1.0
        if self._bad and self._where.startswith("step") and self._at == FAILS_AT:
            obs, reward = self._fail()
        return obs, reward, self._at == LENGTH, False, {}

    def close(self) -> None:
        if self._bad and self._where == "close":
            self._fail()
        if self._bad and self._where == "step, and hangs in close":
            hang()


def crash() -> Any:
    raise RuntimeError("the emulator has crashed")


def broken_pipe() -> Any:
    raise BrokenPipeError("the emulator's own pipe")


def leave() -> Any:
    os._exit(0)


def leave_in_python() -> Any:
    raise SystemExit(0)


def segfault() -> Any:
    faulthandler._sigsegv()  # type: ignore[attr-defined]


def hang() -> Any:
    time.sleep(10_000)


def not_finite() -> Any:
    return np.array([0, np.nan, 0], np.float32), 1.0


def wild_reward() -> Any:
    """Finite, and beyond what a server takes."""
    return np.zeros(3, np.float32), 1e30


def listed() -> Any:
    return [np.zeros(3, np.float32), "a word"], 1.0


def advise(_env: Any, _obs: Any) -> Any:
    """An expert of these."""
    return 1


for name, fail in (
    ("Crash", crash),
    ("BrokenPipe", broken_pipe),
    ("Exit", leave),
    ("SysExit", leave_in_python),
    ("Segfault", segfault),
    ("Hang", hang),
    ("NanObservation", not_finite),
    ("WildReward", wild_reward),
    ("ListObservation", listed),
):
    for words, more in (
        ("", {}),
        ("Always", {"always": True}),
        ("InReset", {"where": "reset"}),
        ("InClose", {"where": "close"}),
        ("AndCloseHangs", {"where": "step, and hangs in close"}),
    ):
        register(
            f"{name}{words}-v0",
            entry_point=Failing,  # type: ignore[arg-type]
            kwargs={"fail": fail, **more},
            disable_env_checker=True,
        )

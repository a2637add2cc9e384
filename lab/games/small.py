"""Small games for Gymnasium, each of another kind of observation or action that people have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

PLACES = 9
LIMIT = 30
CRASH = 50
"""After so many steps of a process the one of the games crashes that does."""

See = Callable[[int, int], Any]
"""(place of the player, place of the goal) -> what is seen."""


class GoalLine(gymnasium.Env[Any, Any]):
    """A goal is somewhere on a line, and the player in the middle of it. Being there earns 1, each
    other step costs 0.02. What is seen and done is what varies."""

    def __init__(
        self,
        seen: spaces.Space[Any],
        see: See | None = None,
        done: spaces.Space[Any] | None = None,
        do: Callable[[Any], float] | None = None,
        crashes: bool = False,
        patient: bool = False,
    ) -> None:
        """see: of a place and a goal; without it, samples of `seen` say nothing. do: the direction
        of an action. patient: while the player rests, no time passes."""
        self.observation_space, self.action_space = seen, done or spaces.Discrete(3)
        self._see = see or (lambda _at, _goal: seen.sample())
        self._do = do or (lambda action: int(action) - 1)
        self._crashes, self._patient = crashes, patient
        self._steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self.observation_space.seed(seed)
        self._at, self._goal, self._time = PLACES // 2, int(self.np_random.integers(PLACES)), 0
        return self._see(self._at, self._goal), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._time += 1
        self._steps += 1
        if self._crashes and self._steps == CRASH:
            raise RuntimeError("the emulator has crashed")
        way = int(np.sign(self._do(action)))
        self._at = min(max(self._at + way, 0), PLACES - 1)
        there = self._at == self._goal
        late = self._time >= LIMIT and not (self._patient and way == 0)
        info = {"place": self._at, "cost": 0.0 if there else -0.02}
        return self._see(self._at, self._goal), 1.0 if there else -0.02, there, late, info


def _both(at: int, goal: int) -> Any:
    """Where the player is and where the goal, one-hot."""
    return np.eye(PLACES, dtype=np.int8)[[at, goal]]


def _planes(shape: tuple[int, int, int], dtype: Any, high: float) -> dict[str, Any]:
    def see(at: int, goal: int) -> Any:
        picture = np.zeros(shape, dtype)
        step = shape[0] // PLACES or 1
        for place, plane in ((at, 0), (goal, -1)):
            picture[place * step % shape[0], :, plane] = high
            picture[:, place * step % shape[1], plane] = high
        return picture

    return {"seen": spaces.Box(0, high, shape, dtype), "see": see}


def _numbers(at: int, goal: int) -> Any:
    return (np.array([at, goal, at - goal, 1.0], np.float32) + PLACES) / (2 * PLACES)


def _camera(at: int, goal: int) -> dict[str, Any]:
    picture = _planes((36, 36, 3), np.uint8, 255)["see"](at, goal)
    return {"camera": picture, "speed": np.array([at, goal], np.float32) / PLACES}


_FOUR = {"seen": spaces.Box(0, 1, (4,), np.float32), "see": _numbers}
_CAMERA: dict[str, spaces.Space[Any]] = {
    "camera": spaces.Box(0, 255, (36, 36, 3), np.uint8),
    "speed": spaces.Box(-1, 1, (2,)),
}

GAMES: dict[str, dict[str, Any]] = {
    "Crashes": _FOUR | {"crashes": True},
    "NeverEndsWhenIdle": _FOUR | {"patient": True},
    "DiscreteObservation": {
        "seen": spaces.Discrete(PLACES * PLACES),
        "see": lambda at, goal: at * PLACES + goal,
    },
    "TupleOfDiscrete": {
        "seen": spaces.Tuple([spaces.Discrete(PLACES), spaces.Discrete(PLACES)]),
        "see": lambda at, goal: (at, goal),
    },
    "BoolPlanes": {
        "seen": spaces.Box(0, 1, (PLACES, 2), np.bool_),
        "see": lambda at, goal: _both(at, goal).astype(np.bool_).T,
    },
    "Int64": {
        "seen": spaces.Box(0, PLACES - 1, (2,), np.int64),
        "see": lambda at, goal: np.array([at, goal]),
    },
    "MultiBinaryObservation": {
        "seen": spaces.MultiBinary(2 * PLACES),
        "see": lambda at, goal: _both(at, goal).ravel(),
    },
    "PictureAndNumbers": {"seen": spaces.Dict(_CAMERA), "see": _camera},
    "PictureNumbersAndChoice": {
        "seen": spaces.Dict(_CAMERA | {"goal": spaces.Discrete(PLACES)}),
        "see": lambda at, goal: _camera(at, goal) | {"goal": goal},
    },
    "Planes01": _planes((8, 8, 12), np.uint8, 1),
    "StackedRgb": _planes((84, 84, 12), np.uint8, 255),
    "FloatPicture": _planes((84, 84, 3), np.float32, 1.0),
    "MultiBinaryAction": _FOUR
    | {
        "done": spaces.MultiBinary(4),
        "do": lambda action: int(np.sum(action[:2])) - int(np.sum(action[2:])),
    },
    "UnboundedAction": _FOUR
    | {"done": spaces.Box(-np.inf, np.inf, (2,), np.float32), "do": lambda action: action[0]},
}
"""Their names, and how they are made."""

for name, how in GAMES.items():
    if f"{name}-v0" not in gymnasium.registry:
        # A Callable, as gymnasium declares it.
        entry: Any = GoalLine
        gymnasium.register(f"{name}-v0", entry_point=entry, kwargs=how)

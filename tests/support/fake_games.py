"""What the game processes of the tests import."""

from __future__ import annotations

import sys
import time
from typing import Any

from understudy_client.lunar import hybrid_heuristic


def without_torch(env: Any, obs: Any) -> Any:
    """The expert of LunarLanderHybrid, in processes that must not have loaded torch."""
    assert "torch" not in sys.modules, "a game process has imported torch"
    return hybrid_heuristic(env, obs)


def push_right(_env: Any, _obs: Any) -> Any:
    """An expert of CartPole that is as bad as always pushing left, and tells itself from it."""
    return 1


def at_leisure(_env: Any, _obs: Any) -> Any:
    """An expert of CartPole that takes its time, as games with a clock of their own do."""
    time.sleep(0.005)
    return 1

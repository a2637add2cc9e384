"""Which games `lab.games.play` plays, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lab.games import small
from understudy_client.env_options import PLAIN, EnvOptions


@dataclass(frozen=True)
class PlayedCase:
    """One game."""

    env: str
    making: EnvOptions = PLAIN
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of the server, beside the defaults."""
    clients: int = 1
    """Games side by side."""
    learns: int | None = None
    """After so many frames the student is better than random play; None: not asked."""
    expert: str | None = None
    """As of `understudy play --expert`; None: the one that is known of the environment, if any."""
    episodes: int = 40
    """Of the network alone, and of random play, to compare them: more where luck is most of it."""
    restarts: int = 0
    """How often its process may have to begin again."""

    @property
    def name(self) -> str:
        return self.env.rpartition(":")[2]

    @property
    def options(self) -> str:
        """Of `understudy play`."""
        bounds = self.making.action_bounds
        asked = ["--atari"] if self.making.atari else []
        if bounds is not None:
            asked.append(f"--action-bounds={bounds[0]:g},{bounds[1]:g}")
        if self.clients > 1:
            asked.append(f"--clients {self.clients}")
        if self.expert is not None:
            asked.append(f"--expert {self.expert}")
        return " ".join(asked)


_BOUNDS = EnvOptions(action_bounds=(-1.0, 1.0))

SMALL = [
    PlayedCase(
        f"lab.games.small:{name}-v0",
        _BOUNDS if name == "UnboundedAction" else PLAIN,
        restarts=1000 if name == "Crashes" else 0,
    )
    for name in sorted(small.GAMES, key="Crashes".__eq__)  # that takes minutes: it waits
]

MINATAR = ("Asterix", "Breakout", "Freeway", "Seaquest", "SpaceInvaders")

KNOWN = [
    PlayedCase("CartPole-v1", learns=10_000),
    PlayedCase("MountainCarContinuous-v0"),
    PlayedCase("Pendulum-v1"),
    PlayedCase("Taxi-v4", clients=8, learns=50_000),
    PlayedCase("Taxi-v4", expert="lab.games.experts:taxi", learns=20_000),
    PlayedCase("FrozenLake-v1", learns=10_000),
    PlayedCase("Blackjack-v1", learns=5000, episodes=400),
    PlayedCase("MiniGrid-Empty-8x8-v0", learns=10_000),
    PlayedCase("MiniGrid-Empty-8x8-v0", expert="lab.games.experts:empty_room", learns=5000),
    *(PlayedCase(f"MinAtar/{name}-v1") for name in MINATAR),
    PlayedCase("ALE/Breakout-v5", EnvOptions(atari=True), {"replay.frame_stack": 4}),
]

CASES = KNOWN + SMALL

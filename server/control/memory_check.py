"""Whether there is memory for the run's game with other settings, before they are changed."""

from __future__ import annotations

from agent.game_memory import fitted, game_bytes, most_game_bytes, shown
from config.load import ConfigError
from config.models import Config
from protocol.spaces import GameSpec


def check_memory(spec: GameSpec | None, before: Config, after: Config) -> None:
    """Errors: ConfigError where the game may take more memory with `after` than there is, and more
    than with `before`: without memory for a batch the trainer only fails, again and again. `spec`:
    None while the run has no game."""
    if spec is None:
        return
    limit = most_game_bytes(after)
    was, parts = (game_bytes(spec, fitted(spec, each)) for each in (before, after))
    total = sum(parts.values())
    if total <= limit or total <= sum(was.values()):
        return
    most = max(parts, key=lambda key: parts[key] - was.get(key, 0))
    raise ConfigError(
        f"{most}: expected a value with which the game takes at most {shown(limit)} of memory, got "
        f"one with which it takes up to {shown(total)}; nothing was changed: choose a smaller one"
    )

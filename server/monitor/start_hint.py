"""The hint shown while no game is connected: how to start one."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

EXAMPLE = "LunarLander-v3"
HERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}
"""For a server that listens on all addresses, the loopback address."""
DEFAULT_PORT = 7777


class StartHint(NamedTuple):
    """A text and the command that follows it. The command is empty if `understudy play` does not
    know the game."""

    text: str
    command: str

    def __str__(self) -> str:
        return f"{self.text} `{self.command}`" if self.command else self.text


def start_hint(game: str | None, host: str, port: int) -> StartHint:
    """How to start a game of this run on the server's machine. `game`: None if the run has none
    yet; `host`, `port`: of the server."""
    host = HERE.get(host, host)
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if game is not None and not registered(game):
        return StartHint(f"start your game {game!r}; it connects to {where}", "")
    elsewhere = f" --connect {where}" if where != f"127.0.0.1:{DEFAULT_PORT}" else ""
    command = f"understudy play --env {game or EXAMPLE} --clients 8{elsewhere}"
    return StartHint("start games:" if game else "start games, for example:", command)


@lru_cache
def registered(game: str) -> bool:
    """Whether `understudy play` knows it: Gymnasium or our client has registered it."""
    try:
        import gymnasium

        from understudy_client.experts import EXPERTS
    except ImportError:  # a server without games
        return False
    return game in EXPERTS or game in gymnasium.registry

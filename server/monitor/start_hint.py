"""The hint shown while no game is connected: how to start one."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from protocol.tempest import GAME as TEMPEST

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


def start_hint(
    game: str | None, host: str, port: int, tempest: tuple[str, int] | None = None
) -> StartHint:
    """How to start a game of this run on the server's machine. `game`: None if the run has none
    yet; `host`, `port`: of the server; `tempest`: where older clients for Tempest connect, if they
    can."""
    where = _address(host, port)
    if tempest is not None and game in (None, TEMPEST):
        clients = f"start a Tempest client; it connects to {_address(*tempest)}"
        if game is not None:
            return StartHint(clients, "")
        return StartHint(f"{clients}; other games, for example:", _command(EXAMPLE, where))
    if game is not None and not registered(game):
        return StartHint(f"start your game {game!r}; it connects to {where}", "")
    text = "start games:" if game else "start games, for example:"
    return StartHint(text, _command(game or EXAMPLE, where))


def _address(host: str, port: int) -> str:
    host = HERE.get(host, host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _command(game: str, where: str) -> str:
    elsewhere = f" --connect {where}" if where != f"127.0.0.1:{DEFAULT_PORT}" else ""
    return f"understudy play --env {game} --clients 8{elsewhere}"


@lru_cache
def registered(game: str) -> bool:
    """Whether `understudy play` knows it: Gymnasium or our client has registered it."""
    try:
        import gymnasium

        from understudy_client.experts import EXPERTS
    except ImportError:  # a server without games
        return False
    return game in EXPERTS or game in gymnasium.registry

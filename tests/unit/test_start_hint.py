"""Who may come where no game is connected."""

from __future__ import annotations

import shlex

import pytest

from server.cli import parser_for
from server.monitor.start_hint import start_hint


def test_start_hint_without_game_shows_example_command() -> None:
    said = start_hint(None, "127.0.0.1", 7777)
    assert said.text == "start games, for example:"
    assert said.command == "understudy play --env LunarLander-v3 --clients 8"
    assert str(said) == f"{said.text} `{said.command}`"


def test_start_hint_for_custom_game_names_game_and_address() -> None:
    said = start_hint("reach", "0.0.0.0", 7000)
    assert said.command == ""
    assert str(said) == "start your game 'reach'; it connects to 127.0.0.1:7000"


def test_start_hint_with_a_tempest_port_names_it() -> None:
    said = start_hint(None, "127.0.0.1", 7777, ("0.0.0.0", 9999))
    assert said.text.startswith("start a Tempest client; it connects to 127.0.0.1:9999; ")
    assert said.command == "understudy play --env LunarLander-v3 --clients 8"
    said = start_hint("tempest", "127.0.0.1", 7777, ("127.0.0.1", 9999))
    assert str(said) == "start a Tempest client; it connects to 127.0.0.1:9999"
    said = start_hint("CartPole-v1", "127.0.0.1", 7777, ("127.0.0.1", 9999))
    assert said == start_hint("CartPole-v1", "127.0.0.1", 7777), "the run is another game's"


@pytest.mark.parametrize("game", ["CartPole-v1", "LunarLanderHybrid-v3", "PongRam-v0"])
def test_start_hint_for_known_environment_names_it(game: str) -> None:
    assert game in start_hint(game, "127.0.0.1", 7777).command


@pytest.mark.parametrize(
    ("host", "port", "where"),
    [
        ("127.0.0.1", 7778, ("127.0.0.1", 7778)),
        ("0.0.0.0", 7778, ("127.0.0.1", 7778)),
        ("::", 7778, ("::1", 7778)),
        ("::1", 7777, ("::1", 7777)),
        ("game.example", 7777, ("game.example", 7777)),
        ("0.0.0.0", 7777, ("127.0.0.1", 7777)),
    ],
)
def test_start_hint_command_connects_to_server_address(
    host: str, port: int, where: tuple[str, int]
) -> None:
    program, name, *options = shlex.split(start_hint(None, host, port).command)
    assert (program, name) == ("understudy", "play")
    assert parser_for(name).parse_args(options).connect == where

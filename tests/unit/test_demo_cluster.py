"""The demo on a cluster: who connects where, and the way into a network of its own."""

from __future__ import annotations

import socket
import threading
from collections import Counter

from lab.demo_cluster import RELAY, pass_on
from server.play.game_messages import GameOptions

NODES = (("10.0.0.1", 7777), ("10.0.0.2", 7778))


def test_games_take_gateway_nodes_in_turns() -> None:
    options = GameOptions("CartPole-v1", "unused", 1, gateway_nodes=NODES)
    games = [options.of_client(client) for client in range(8)]
    assert Counter((game.host, game.port) for game in games) == dict.fromkeys(NODES, 4)


def test_games_of_one_machine_connect_to_its_server() -> None:
    options = GameOptions("CartPole-v1", "127.0.0.1", 7777)
    assert options.of_client(3) == options


def test_what_connects_outside_is_passed_on_both_ways_until_it_ends() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as inside,
        socket.create_server(("127.0.0.1", 0)) as outside,
    ):
        port = inside.getsockname()[1]
        passing = threading.Thread(target=pass_on, args=(outside, port), daemon=True)
        passing.start()
        with socket.create_connection(outside.getsockname(), timeout=10) as browser:
            browser.sendall(b"GET /")
            server, _ = inside.accept()
            with server:
                server.settimeout(10)
                assert server.recv(100) == b"GET /"
                server.sendall(b"200 OK")
            assert browser.recv(100) == b"200 OK"
            assert browser.recv(100) == b""
        outside.shutdown(socket.SHUT_RDWR)
        ending = [passing, *(each for each in threading.enumerate() if each.name == RELAY)]
        for thread in ending:
            thread.join(10)
        assert not any(thread.is_alive() for thread in ending)

"""`scripts/demo-cluster`: a Ray cluster of two nodes on this machine, and on it the demo with two
gateway nodes and two learners.

The nodes are in a network of their own where that is allowed. A browser is not, so the dashboard's
port is opened outside before, and what connects there is passed on to the inside:

    browser ──▶ the port, outside ──▶ pass_on, inside ──▶ the same port, inside: `understudy demo`
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
from contextlib import closing

from lab.local_ray import ADDRESS, in_own_network, local_ray

DASHBOARD = 8080
"""Its port, or any other where that one is taken."""

RELAY = "relay"
"""The name of threads that pass on a connection."""

_OUTSIDE = "UNDERSTUDY_DEMO_OUTSIDE"
"""Tells the process in the network of its own which of its files is the port outside."""

_CLUSTER = ("--cluster", ADDRESS, "--cluster.gateways", "2", "--cluster.learners", "2",
            "--cluster.start_timeout_s", "120")  # fmt: skip


def main(arguments: list[str]) -> int:
    """`arguments`: of `understudy demo`."""
    outside = os.environ.pop(_OUTSIDE, None)
    network = in_own_network()
    if outside is None and network:
        with closing(_listening()) as port:
            found = port.fileno()
            command = [*network, sys.executable, "-m", "lab.demo_cluster", *arguments]
            environment = os.environ | {_OUTSIDE: str(found)}
            return subprocess.call(command, env=environment, pass_fds=(found,))
    if outside is None:
        say = "no network of its own (run as root); Ray listens on this machine's interfaces"
        print(f"scripts/demo-cluster: {say}", file=sys.stderr)
    with local_ray(nodes=2):
        command = [sys.executable, "-m", "server", "demo", *_CLUSTER]
        if outside is not None:
            port = socket.socket(fileno=int(outside))
            number = port.getsockname()[1]
            threading.Thread(target=pass_on, args=(port, number), daemon=True).start()
            command += ["--server.http_port", str(number)]
        return subprocess.call([*command, *arguments])


def _listening() -> socket.socket:
    """A port on loopback that listens."""
    try:
        return socket.create_server(("127.0.0.1", DASHBOARD))
    except OSError:
        return socket.create_server(("127.0.0.1", 0))


def pass_on(outside: socket.socket, port: int) -> None:
    """Pass on what connects to `outside`, which listens, to a port of this network, until it is
    shut down."""
    while True:
        try:
            there, _ = outside.accept()
        except OSError:
            return
        try:
            here = socket.create_connection(("127.0.0.1", port))
        except OSError:  # it does not listen yet, or no more
            there.close()
            continue
        threading.Thread(target=_relay, args=(there, here), daemon=True, name=RELAY).start()


def _relay(there: socket.socket, here: socket.socket) -> None:
    """Pass on both ways, until both have ended."""
    with there, here:
        back = threading.Thread(target=_copy, args=(here, there), daemon=True)
        back.start()
        _copy(there, here)
        back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    """Until either ends."""
    with source.makefile("rb", 0) as reader, target.makefile("wb", 0) as writer:
        try:
            shutil.copyfileobj(reader, writer)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

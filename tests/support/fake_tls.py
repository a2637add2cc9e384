"""A server that speaks TLS and nothing else."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any

from tests.support.certificates import Pair


def nothing(_sock: Any) -> None:
    """A server that says no word."""


class FakeTls:
    """A socket that shakes hands, and does something else then. Use it as a context manager."""

    def __init__(self, pair: Pair, then: Callable[[Any], None], **limits: Any) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pair.cert, pair.key)
        for name, value in limits.items():
            setattr(self._context, name, value)
        self._then = then
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> int:
        self._thread.start()
        port: int = self._listener.getsockname()[1]
        return port

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(30.0)
        assert not self._thread.is_alive()

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with sock:
                sock.settimeout(30.0)
                try:
                    with self._context.wrap_socket(sock, server_side=True) as secure:
                        self._then(secure)
                except OSError:
                    continue

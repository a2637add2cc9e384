"""Where a running server takes requests: the run's control socket, and a mailbox for threads."""

from __future__ import annotations

import logging
import socket
from pathlib import Path

from server.control.controller import Controller
from server.control.mailbox import Mailbox
from server.control.unix_socket import ControlSocket

log = logging.getLogger("supervisor")


class ControlEndpoints:
    """Both of them, for the thread that carries requests out."""

    def __init__(self, controller: Controller, folder: Path) -> None:
        """`folder`: of the run. Until `open`, nobody is answered, in this thread neither."""
        controller.close()
        self.mailbox = Mailbox(controller.handle)
        """For other threads."""
        self._controller = controller
        self._folder = folder
        self._socket: ControlSocket | None = None

    def open(self) -> None:
        """Take requests from now on. Without a socket the server runs all the same."""
        self._controller.open()
        self.mailbox.open()
        try:
            self._socket = ControlSocket(
                self._folder, lambda request: self._controller.handle(request, "cli")
            )
        except OSError as error:
            log.warning("no control socket, so settings cannot be changed: %s", error)

    @property
    def waitables(self) -> dict[socket.socket, Mailbox | ControlSocket]:
        """What is to be served when it is readable, and by whom."""
        found: dict[socket.socket, Mailbox | ControlSocket] = {}
        for endpoint in (self._socket, self.mailbox):
            if endpoint is not None:
                found |= dict.fromkeys(endpoint.waitables, endpoint)
        return found

    def close(self) -> None:
        """Answer nobody any more. Again has no effect."""
        self._controller.close()
        self.mailbox.close()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

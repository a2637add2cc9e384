"""One server from start to stop, for commands, lab and tests: folder, log, HTTP, supervisor."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from rich.console import Console

from config.models import Config
from server.net.listener import HANDSHAKES
from server.net.open_files import room_for
from server.net.tls import certificate
from server.run.directory import RunDirectory, unreadable
from server.run.logs import logged
from server.run.summary import write_summary
from server.supervisor import fork_server, preflight
from server.supervisor.exposure import is_loopback
from server.supervisor.preflight import own_files
from server.supervisor.processes import Processes, ProcessesOf
from server.supervisor.supervisor import Supervisor
from server.trainer.task import Task
from server.web.connections import OPEN, REQUESTS, Room
from server.web.server import HttpServer

log = logging.getLogger("supervisor")


@contextmanager
def running(
    config: Config,
    task: Task | None = None,
    *,
    label: str = "run",
    console: Console | None = None,
    http: bool = False,
    any_http_port: bool = False,
    make: ProcessesOf = Processes,
) -> Iterator[Supervisor]:
    """A started server, which whoever uses it polls; at the end it is stopped in order.

    `label`: of the run's folder where `run.dir` names none. `console`: shows the log. `http`: serve
    the dashboard, unless `server.http_port` is none; with `any_http_port` on another port where
    that one is taken. `make`: as of Supervisor. The run's folder is as a stopped server leaves it;
    a start that is refused, or ended before it was accepted, leaves it as it was, and none where
    none was. Errors: ConfigError for what cannot be started.
    """
    fork_server.prepare()
    task = task or Task()
    folder = RunDirectory.open(config, resume=task.resume, label=label)
    if task.init_from is not None:
        folder.init_from = str(task.init_from)
    refused = True
    try:
        form = config.server.log_format
        with logged(folder.log, console, form) as log_file, ExitStack() as stack:
            folder.when_accepted(log_file.begin)
            try:
                supervisor = Supervisor(config, folder, task, make)
            except OSError as error:  # it reads what the run's earlier starts have written
                raise unreadable(error) from error
            # Before anything listens.
            supervisor.publisher.update(device=preflight.check(supervisor.config, folder))
            if http and config.server.http_port is not None:
                # Before any game is let in: its port may be taken.
                served = _serve_http(supervisor, any_http_port)
                stack.callback(served.stop)
                supervisor.dashboard = served.url
            stack.callback(supervisor.stop)
            supervisor.start()
            try:
                yield supervisor
            finally:
                stack.close()
                refused = supervisor.refused
                if not refused:
                    write_summary(folder, supervisor.row, supervisor.last, **supervisor.found)
    finally:
        if refused:
            folder.refused()
        folder.close()


def _serve_http(supervisor: Supervisor, any_port: bool) -> HttpServer:
    """Serve HTTP for this server. Errors: ConfigError."""
    server = supervisor.config.server
    assert server.http_port is not None
    token = server.control_token
    if not is_loopback(server.http_host):
        log.warning(
            "the dashboard on %s shows the run to everyone who reaches it", server.http_host
        )
    secured = certificate(server)
    return HttpServer(
        server.http_host,
        server.http_port,
        lambda: supervisor.status,
        supervisor.mailbox,
        # Its own address may be a name, too.
        names=(server.http_host, *server.http_names),
        control_token=None if token is None else token.get_secret_value(),
        certificate=secured,
        or_any_port=any_port,
        room=_room(server.gateways, tls=secured is not None),
    )


def _room(gateways: int, *, tls: bool) -> Room:
    """What of this process's open files HTTP may have: not those that it takes to start and restart
    processes and to write files."""
    wanted = OPEN, REQUESTS, HANDSHAKES if tls else 0
    return Room(*room_for(own_files(gateways), *wanted, log=log, what="HTTP connections"))

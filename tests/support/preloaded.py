"""Commands of understudy in processes of their own that need not import torch: each is forked from
the process that has it imported. What a start is for who types it, tests look at that run
`python -m server`."""

from __future__ import annotations

import atexit
import fcntl
import io
import multiprocessing.forkserver
import multiprocessing.process
import multiprocessing.resource_tracker
import multiprocessing.util
import os
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Sequence
from multiprocessing.reduction import DupFd
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium  # noqa: F401
import pytest

import server.commands.serve
import server.play.game_process
import server.web.server  # noqa: F401
from lab import serve_process
from server import cli
from server.supervisor import fork_server

ROOT = Path(__file__).parents[2]


class Understudy(subprocess.Popen[Any]):
    """`python -u -m server WORDS`, with options of Popen: streams, cwd, env, umask, text,
    start_new_session. `first` is called in the new process before the command; it can be
    imported."""

    _made: Any

    def __init__(
        self, *words: str, first: Callable[[], None] | None = None, **options: Any
    ) -> None:
        self._first = first
        super().__init__(words, **{"cwd": ROOT, **options})

    def _execute_child(self, args: Sequence[str], *rest: Any) -> None:  # type: ignore[override]
        (
            _executable, preexec_fn, _close_fds, _pass_fds, cwd, env, _startupinfo, _creationflags,
            _shell, p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite, _restore_signals,
            _gid, _gids, _uid, umask, start_new_session, _process_group,
        ) = rest  # fmt: skip
        assert preexec_fn is None, "it has no place here"
        streams = [own if own != -1 else n for n, own in enumerate((p2cread, c2pwrite, errwrite))]
        command = _Command(
            list(args), str(cwd), dict(os.environ if env is None else env), umask,
            start_new_session, streams, self._first,
        )  # fmt: skip
        fork_server.prepare()
        self._made = fork_server.CONTEXT.Process(target=command, name=" ".join(args[:1]))
        self._made.start()
        self.pid = self._made.pid
        self._child_created = True
        self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)

    def _internal_poll(self, _deadstate: Any = None) -> int | None:
        if self.returncode is None:
            self.returncode = self._made.exitcode
        return self.returncode

    def _wait(self, timeout: float | None) -> int:
        if self.returncode is None:
            self._made.join(timeout)
            if self._internal_poll() is None:
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        return self.returncode


def completed(*words: str, timeout: float, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run `understudy WORDS` to its end: exit code, stdout and stderr. `options`: of Popen."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with Understudy(*words, **pipes | options) as process:
        try:
            out, errors = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(words, process.returncode, out, errors)


def own_terminal() -> None:
    """In a new process: the terminal on standard input is its session's."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class _Command:
    """What the new process calls."""

    def __init__(
        self,
        words: list[str],
        folder: str,
        environ: dict[str, str],
        umask: int,
        new_session: bool,
        streams: list[Any],
        first: Callable[[], None] | None,
    ) -> None:
        self._words, self._folder, self._environ = words, folder, environ
        self._umask, self._new_session, self._first = umask, new_session, first
        self._streams = streams

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_streams": [DupFd(stream) for stream in self._streams]}

    def __call__(self) -> None:
        """As a process that has just begun: with streams, environment and signals of its own, and
        nothing of the multiprocessing of whoever started it."""
        if self._new_session:
            os.setsid()
        for number, stream in enumerate(self._streams):
            given = stream.detach()
            os.dup2(given, number)
            os.close(given)
        sys.stdin = io.TextIOWrapper(io.FileIO(0, "r", closefd=False))
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), write_through=True)
        sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), write_through=True)
        os.chdir(self._folder)
        os.environ.clear()
        os.environ.update(self._environ)
        if self._umask >= 0:
            os.umask(self._umask)
        sys.argv = ["understudy", *self._words]
        start_over()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _FIRST[number])
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if self._first is not None:
            self._first()
        try:
            raise SystemExit(cli.main(self._words))
        finally:
            atexit._run_exitfuncs()


_FIRST = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}

_spawn = multiprocessing.util.spawnv_passfds


def start_over() -> None:
    """Have nothing of the fork server and the tracker of shared memory of whoever started this
    process; the fork server that it starts is forked from it."""
    _call_it("understudy")
    servers, tracker = multiprocessing.forkserver._forkserver, multiprocessing.resource_tracker
    for holder, name in ((servers, "_forkserver_alive_fd"), (tracker._resource_tracker, "_fd")):
        if getattr(holder, name) is not None:
            os.close(getattr(holder, name))
            setattr(holder, name, None)
    servers._forkserver_pid = servers._forkserver_address = None  # type: ignore[attr-defined]
    tracker._resource_tracker._pid = None  # type: ignore[attr-defined]
    multiprocessing.process._parent_process = None  # type: ignore[attr-defined]
    multiprocessing.util.spawnv_passfds = _fork_instead


def _fork_instead(path: Any, args: Any, passed: Any) -> int:
    """A fork server is forked, and runs what it would run if it were started."""
    program = args[-1]
    if "multiprocessing.forkserver" not in program:
        return _spawn(path, args, passed)
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        _call_it("forkserver")
        begin = 3
        for fd in sorted(passed):
            os.closerange(begin, fd)
            begin = fd + 1
        os.closerange(begin, os.sysconf("SC_OPEN_MAX"))
        multiprocessing.forkserver._forkserver._lock = threading.Lock()  # type: ignore[attr-defined]
        exec(program, {})
    except SystemExit:
        code = 0
    finally:
        os._exit(code)
    return 0


def _call_it(name: str) -> None:
    """What this process is, for tests.support.processes; those that it forks have its name."""
    Path("/proc/self/comm").write_text(name)


def fork_serves(patch: pytest.MonkeyPatch) -> None:
    """Have lab.serve_process start servers like this."""

    def forked(command: list[str], **options: Any) -> Understudy:
        return Understudy(*command[command.index("serve") :], **options)

    patch.setattr(serve_process, "subprocess", SimpleNamespace(Popen=forked))

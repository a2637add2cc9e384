"""Commands in the tests' own process, where torch and the process that forks children are there."""

from __future__ import annotations

import contextlib
import io
import os
import signal

from server import cli
from server.signals import STOPPING


def in_this_process(*words: str) -> tuple[int, str, str]:
    """Run `understudy WORDS`: its exit code, and what it writes to stdout and stderr. What a
    command sets for its process, handlers of signals and the umask, is taken back."""
    out, errors = io.StringIO(), io.StringIO()
    handlers = [(number, signal.getsignal(number)) for number in (*STOPPING, signal.SIGUSR1)]
    umask = os.umask(0o022)
    os.umask(umask)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            code = cli.main(list(words))
    except SystemExit as refused:  # wrong arguments
        code = int(refused.code or 0)
    finally:
        os.umask(umask)
        for number, handler in handlers:
            signal.signal(number, handler)
    return code, out.getvalue(), errors.getvalue()

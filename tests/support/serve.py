"""`understudy serve` in a process of its own."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.support.preloaded import Understudy
from tests.support.processes import descendants, end
from tests.support.running import RawClient

ROOT = Path(__file__).parents[2]

SMALL = """
[server]
port = 0
[learner]
hidden = [8]
batch_size = 16
[trainer]
device = "cpu"
threads = 1
min_steps = 20
[metrics]
every_s = 0.1
"""


ADVICE = [1, [0.5, 0.5]]


class Serve:
    """The command in a process of its own, until a signal comes."""

    def __init__(self, *options: str, open_files: int | None = None, typed: bool = False) -> None:
        """`typed`: as who types the command starts it, with all imports, which take seconds.
        `open_files`: as many may its processes have open (ulimit -n); it is typed then."""
        pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        if typed or open_files:
            few = ["sh", "-c", f'ulimit -n {open_files} && exec "$@"', "sh"] if open_files else []
            words = [*few, sys.executable, "-u", "-m", "server", "serve", *options]
            self.process = subprocess.Popen(words, cwd=ROOT, **pipes)
        else:
            self.process = Understudy("serve", *options, **pipes)
        self.out: list[str] = []
        assert self.process.stdout is not None
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.children: list[int] = []
        try:
            self.port = int(self.wait_for(r"listens on 127\.0\.0\.1:(\d+)", 100.0)[1])
        except BaseException:
            self.kill()
            raise

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.out.append(line)

    def wait_for(self, pattern: str, timeout_s: float = 30.0) -> re.Match[str]:
        """Wait until a line of the output matches."""
        deadline = time.monotonic() + timeout_s
        while not (found := re.search(pattern, "".join(self.out))):
            assert self.process.poll() is None, f"it has ended: {self.process.stderr}"
            assert time.monotonic() < deadline, f"no {pattern!r} in {''.join(self.out)}"
            time.sleep(0.02)
        return found

    def client(self, **changes: Any) -> RawClient:
        return RawClient(self.port, timeout_s=40.0).welcome(**changes)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> float:
        """Send a signal and wait for the end: seconds that it took."""
        self.children = descendants(self.process.pid)
        begin = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(75.0)
        return time.monotonic() - begin

    def finish(self) -> tuple[int, str]:
        """Exit code and stderr; nothing of it may be left."""
        code = self.process.wait(20.0)
        self._reader.join(10.0)
        assert self.process.stderr is not None
        assert self.process.stdout is not None
        errors = self.process.stderr.read()
        self.process.stderr.close()
        self.process.stdout.close()
        return code, errors

    def kill(self) -> None:
        for pid in [*descendants(self.process.pid), *self.children]:
            end(pid)
        self.process.kill()
        self.process.wait()
        if not self.process.stderr.closed:  # type: ignore[union-attr]
            self.finish()


def serving() -> Iterator[Callable[..., Serve]]:
    """Starts servers, and ends them: the fixture `serve`."""
    made: list[Serve] = []

    def start(*options: str, **how: Any) -> Serve:
        made.append(Serve(*options, **how))
        return made[-1]

    yield start
    for one in made:
        one.kill()


def play(client: RawClient, frames: int, *, only: int | None = None) -> int:
    """Play so many frames, which this actor plays alone; the newest policy version."""
    version = 0
    for seq in range(frames):
        answer = client.frame(seq, reward=1.0, expert=ADVICE)
        assert answer[:3] == [12, 0, seq]
        assert only in (None, answer[4])
        version = answer[5]
    return version


def summary_of(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "summary.json").read_text())
    return content


def memory_of(pid: int) -> set[str]:
    """Names of the shared memory that a process and those below it have open."""
    found = set()
    for one in [pid, *descendants(pid)]:
        try:
            found |= set(re.findall(r"/dev/shm/(psm_\w+)", Path(f"/proc/{one}/maps").read_text()))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found

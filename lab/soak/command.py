"""`understudy soak`: is a server after a long time under full load what it was at first?

A server of its own (`understudy serve`), with a trainer that computes all the time, a replay that
is overwritten again and again, checkpoints that are written and pruned, HTTP that is asked as
Prometheus and a dashboard ask, games that stay and visitors who come and go. Each second it is
looked at from outside: frame rate, answer times, memory and file descriptors of each process, the
disk. The first quarter begins when the replay is full and checkpoints have been pruned; until then
memory grows as it should.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any, Self

from lab.chaos import _lives
from lab.load.clients import bench_spec
from lab.soak import load as soak_load
from lab.soak.judge import Quarter, Sample, judge, together
from lab.soak.load import Second
from server.arguments import positive
from server.run.events import process_ids, read_events

_SPAWN = multiprocessing.get_context("spawn")

OBSERVATIONS, ACTIONS = 195, 44
"""Of the game: as the bench has it."""

KEEP = 3
"""Checkpoints that are kept."""

SETTINGS: dict[str, Any] = {
    "server.port": 0,
    "server.http_port": 0,
    # Soon full; a file of rows then goes, and another comes, every few seconds.
    "replay.capacity_steps": 200_000,
    # As many updates as the trainer can make.
    "trainer.replay_ratio": 1e6,
    "trainer.device": "cpu",
    "checkpoint.every_s": 10,
    "checkpoint.keep": KEEP,
    # Who was started again has not lasted.
    "supervision.max_restarts": 0,
}
"""Over the preset bench."""

STAY_S = 1.0
"""Of a visitor, on average."""

ASK_S = 5.0
"""Between two times that HTTP is asked."""

ASKED = ("/metrics", "/healthz", "/api/state", "/api/games", "/api/history?points=300", "/")

WAIT_S = 120.0
"""For the server to start and to end, on a machine that is busy."""

ADDED_TO = (".jsonl", ".log", ".log.1")
"""Files of a run that only grow."""


class NotFlat(Exception):
    """Something that ends a soak before its time."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Put a server of its own under full load for a long time: games that play as fast as they "
        "are answered, visitors who come and go, a trainer that computes all the time, a replay "
        "on the disk, checkpoints, HTTP. A JSON line for each quarter of the time, and a last one: "
        "frame rate, 99th percentile of the answer times, memory, file descriptors and disk of the "
        "last quarter, held against the first. Exit code 1 where they differ too much."
    )
    parser.add_argument(
        "--minutes", type=float, default=20.0, metavar="M",
        help="that are judged, after the warm-up (default %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--clients", type=positive, default=32, metavar="N",
        help="games that stay (default %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--visitors", type=positive, default=4, metavar="N",
        help="connections that come and go, at a time (default %(default)s)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default %(default)s")
    parser.add_argument(
        "--no-pace", action="store_true",
        help="do not judge frame rate and answer times: the machine does other things, too",
    )  # fmt: skip


def main(args: argparse.Namespace) -> int:
    ok = False
    for row in soak(
        60 * args.minutes,
        clients=args.clients,
        visitors=args.visitors,
        seed=args.seed,
        pace=not args.no_pace,
    ):
        print(json.dumps(row), flush=True)
        ok = row.get("ok", False)
    return 0 if ok else 1


def soak(
    seconds: float,
    *,
    clients: int = 32,
    visitors: int = 4,
    seed: int = 0,
    pace: bool = True,
    warm_up_s: float = 30.0,
    every_s: float = 1.0,
    settings: Mapping[str, Any] | None = None,
) -> Iterator[dict[str, Any]]:
    """Rows to print: one for the warm-up, which takes at least so long, one for each quarter, and
    the verdict. `every_s`: between two looks. `settings`: over `SETTINGS`."""
    values = SETTINGS | {"run.seed": seed} | dict(settings or {})
    base: dict[str, Any] = {"case": "soak"}
    quarters: list[Quarter] = []
    broken: list[str] = []
    try:
        with tempfile.TemporaryDirectory() as home, _Server(Path(home), values) as server:
            with _load(server.port, clients, visitors, every_s, seed) as pipe:
                watch = _Watch(server, pipe)
                warm = watch.until_it_is_in_its_stride(values, warm_up_s)
                yield base | {"warm_up": True} | warm.row()
                for number in range(1, 5):
                    quarters.append(together(watch.samples(seconds / 4)))
                    yield base | {"quarter": number} | quarters[-1].row()
            broken += server.end()
    except NotFlat as error:
        broken.append(str(error))
    if len(quarters) == 4:
        broken = judge(quarters[0], quarters[-1], pace=pace) + broken
    yield base | {
        "minutes": seconds / 60,
        "clients": clients,
        "visitors": visitors,
        "seed": seed,
        "pace_judged": pace,
        **(_compared(quarters[0], quarters[-1]) if len(quarters) == 4 else {}),
        "broken": broken,
        "ok": not broken,
    }


def _compared(first: Quarter, last: Quarter) -> dict[str, Any]:
    """The last quarter beside the first, in numbers."""
    return {
        "frames_per_s_ratio": round(last.frames_per_s / first.frames_per_s, 3),
        "p99_ratio": round(last.p99_ms / first.p99_ms, 3),
        "memory_more": {k: last.memory.get(k, 0) - v for k, v in first.memory.items()},
        "files_more": {k: last.files.get(k, 0) - v for k, v in first.files.items()},
        "disk_more": last.disk - first.disk,
        "written_per_day": last.written_per_day,
    }


@contextlib.contextmanager
def _load(port: int, clients: int, visitors: int, every_s: float, seed: int) -> Iterator[Pipe]:
    """The clients' process; what it says."""
    ours, theirs = _SPAWN.Pipe()
    spec = bench_spec(OBSERVATIONS, ACTIONS)
    args = (theirs, ("127.0.0.1", port), spec, clients, visitors, STAY_S, every_s, seed)
    process = _SPAWN.Process(target=soak_load.play, args=args, daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        process.join(WAIT_S)
        if process.is_alive():
            process.kill()
            process.join()


class _Watch:
    """Looks at a server each second."""

    def __init__(self, server: _Server, pipe: Pipe) -> None:
        self._server, self._pipe = server, pipe
        self._begin = time.monotonic()
        self._next_asked = 0.0
        self._checkpoints: set[str] = set()
        """All that were seen."""

    def samples(self, seconds: float) -> list[Sample]:
        """Of the next seconds, at least two. Errors: NotFlat."""
        until, found = time.monotonic() + seconds, list[Sample]()
        while len(found) < 2 or time.monotonic() < until:
            found.append(self._sample())
        return found

    def until_it_is_in_its_stride(self, values: Mapping[str, Any], least_s: float) -> Quarter:
        """Wait until the replay is full and checkpoints have been pruned. Errors: NotFlat."""
        capacity, begin = int(values["replay.capacity_steps"]), time.monotonic()
        found: list[Sample] = []
        while True:
            found.append(self._sample())
            row = self._server.state()["row"]
            full = (row["steps_stored"] or 0) > 1.1 * capacity
            if full and len(self._checkpoints) > KEEP + 1 and time.monotonic() > begin + least_s:
                return together([*found, self._sample()])
            if time.monotonic() > begin + least_s + 10 * WAIT_S:
                raise NotFlat(
                    f"expected a full replay of {capacity} steps and {KEEP + 2} checkpoints before "
                    f"the first quarter, got {row['steps_stored']} steps and "
                    f"{len(self._checkpoints)} checkpoints"
                )

    def _sample(self) -> Sample:
        if not self._pipe.poll(WAIT_S):
            raise NotFlat(f"the load generator said nothing for {WAIT_S:g} s")
        try:
            second = self._pipe.recv()
        except EOFError:
            second = RuntimeError("it has died")
        if not isinstance(second, Second):
            raise NotFlat(
                f"the games do not play on: {type(second).__name__}: {second}; the server's log "
                f"ends: {self._server.said()}"
            )
        if time.monotonic() >= self._next_asked:
            self._next_asked = time.monotonic() + ASK_S
            for path in ASKED:
                self._server.ask(path)
        disk, written = self._server.disk()
        self._checkpoints |= {path.name for path in self._server.checkpoints.glob("update-*.pt")}
        return Sample(
            at_s=time.monotonic() - self._begin,
            seconds=second.seconds,
            histogram=second.histogram,
            visits=second.visits,
            memory={name: _memory(pid) for name, pid in self._server.pids.items()},
            files={name: _files(pid) for name, pid in self._server.pids.items()},
            disk=disk,
            written=written,
        )


class _Server:
    """`understudy serve` in a process of its own. Errors: NotFlat, wherever it has died."""

    def __init__(self, home: Path, settings: Mapping[str, Any]) -> None:
        self.run = home / "run"
        self.checkpoints = self.run / "checkpoints"
        self._said = home / "said"
        options = [word for key, value in settings.items() for word in (f"--{key}", _word(value))]
        self._command = [
            sys.executable, "-m", "server", "serve", "--preset", "bench", "--run", str(self.run),
            *options,
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes]
        self.port = 0
        self._url = ""
        self.pids: dict[str, int] = {}
        """The processes that are looked at, by name."""

    def __enter__(self) -> Self:
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                self._command, stdout=said, stderr=said, cwd=Path(__file__).parents[2]
            )
        try:
            self._until_it_listens()
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._kill()

    def _kill(self) -> None:
        """Its children look after themselves, and are given time to: they use its folder."""
        self._process.kill()
        self._process.wait()
        deadline = time.monotonic() + WAIT_S
        while any(map(_lives, self.pids.values())) and time.monotonic() < deadline:
            time.sleep(0.05)

    def _until_it_listens(self) -> None:
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            events = read_events(self.run)
            for ready in (event for event in events if event["event"] == "ready"):
                self.port, self._url = ready["port"], ready["dashboard"].rstrip("/")
                self.pids = {"supervisor": self._process.pid} | process_ids(events)
                return
            self._check()
            time.sleep(0.1)
        raise NotFlat(f"the server does not start; it said: {self.said()}")

    def said(self) -> str:
        """The end of what it has said."""
        return self._said.read_text(errors="replace")[-2000:]

    def _check(self) -> None:
        if self._process.poll() is not None:
            raise NotFlat(f"the server has ended; it said: {self.said()}")

    def ask(self, path: str) -> bytes:
        """What HTTP answers."""
        self._check()
        try:
            with urllib.request.urlopen(self._url + path, timeout=WAIT_S) as answer:
                return bytes(answer.read())
        except (OSError, urllib.error.URLError) as error:
            self._check()
            raise NotFlat(f"HTTP does not answer to {path}: {error}") from None

    def state(self) -> Any:
        """Its newest numbers."""
        return json.loads(self.ask("/api/state"))

    def disk(self) -> tuple[int, int]:
        """Bytes of the run's folder: what is replaced and pruned, and what is only added to."""
        replaced = added = 0
        for folder, _, names in os.walk(self.run):
            for name in names:
                with contextlib.suppress(FileNotFoundError):  # it has just been pruned
                    size = Path(folder, name).stat().st_size
                    if name.endswith(ADDED_TO):
                        added += size
                    else:
                        replaced += size
        return replaced, added

    def end(self) -> list[str]:
        """SIGTERM, when the games have gone; what is wrong with how it ended."""
        self._check()
        self._process.terminate()
        code = self._process.wait(WAIT_S)
        if code:
            return [f"expected the server to end in order, got exit code {code}"]
        summary = json.loads((self.run / "summary.json").read_text())
        dropped = summary["transitions_dropped"]
        return [f"expected no step to be lost, {dropped} were"] if dropped else []


def _word(value: Any) -> str:
    return json.dumps(value) if isinstance(value, list | dict) else str(value)


def _memory(pid: int) -> int:
    """Bytes that a process has touched for itself and of shared memory. Without what is mapped of
    files: how much of a library is in memory is the system's affair. 0 where it has ended."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 1024 * sum(int(kib) for kib in re.findall(r"Rss(?:Anon|Shmem):\s+(\d+) kB", text))


def _files(pid: int) -> int:
    """Its open file descriptors. 0 where it has ended."""
    try:
        return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return 0

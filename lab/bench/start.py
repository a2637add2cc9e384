"""Bench of starts: from `understudy serve` to a game's first answer, from a killed trainer to its
next update, and a million rows of the replay's files read.

Each is measured beside something that any such start must do on this machine at this moment: a
process that imports torch, or the same bytes read, checksummed and copied once. The ratio says more
than the seconds, and processor time more than both where other work runs beside it.
"""

from __future__ import annotations

import math
import os
import re
import resource
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from agent import journal
from agent.evidence import Evidence
from agent.factory import make_learner, make_replay
from agent.journal import Journal, Position
from agent.step import STEP, StepBlock
from config.load import config_from
from lab.bench.serving import bench_server
from lab.load.clients import PreparedClient, bench_spec
from lab.proc import processor_s_below
from lab.serve_process import ROOT, WAIT_S, ServeProcess, free_port
from lab.supervised import until, updates_made
from protocol.spaces import GameSpec
from server.run.events import process_ids, read_events
from server.supervisor.supervisor import Supervisor
from server.trainer.replay_journal import take_in

OBSERVATIONS, ACTIONS = 195, 44

ROWS = {512: 1_000_000, 1: 250_000}
"""Rows of the replay's files, by the rows of the blocks that they are written in: to write a block
takes many times as long as to read it, and reading takes the same time for each."""

KEPT = 20_000
"""Rows that the killed trainer has to read again, at least."""

Row = dict[str, Any]


def measure(show: Callable[[str], None], rounds: int = 3) -> Iterator[Row]:
    """Rows to print: a cold start and a warm one, a killed trainer, and the reading of the replay
    for each length of block."""
    for cold in (True, False):
        show(f"start, {'cold' if cold else 'warm'}")
        # Two cold ones at most: they take long, and all but the first differ little.
        yield measure_start(rounds=min(rounds, 2) if cold else rounds, cold=cold)
    show("start, a killed trainer")
    yield measure_killed_trainer()
    for block, rows in ROWS.items():
        show(f"start, reading the replay in blocks of {block}")
        yield measure_reading(rows=rows, block=block)


def measure_start(*, rounds: int = 3, cold: bool = False) -> Row:
    """A row: from the start of the server's process to the first answer to a game that has waited
    for it, and the import of torch beside it; medians of the rounds.

    `cold`: each start finds no compiled Python file, and of the installed files in the system's
    cache only what this process could not have it drop: pages that others have mapped.
    """
    spec = bench_spec(OBSERVATIONS, ACTIONS)
    listening: list[float] = []
    welcome: list[float] = []
    first: list[float] = []
    cpu: list[float] = []
    torch_s: list[float] = []
    torch_cpu: list[float] = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            home = Path(folder)
            environment = _forgotten(home / "compiled") if cold else {}
            wall, used = import_torch(environment)
            torch_s.append(wall)
            torch_cpu.append(used)
            environment = _forgotten(home / "compiled again") if cold else {}
            one = _one_start(home, spec, environment)
        for times, value in zip((listening, welcome, first, cpu), one, strict=True):
            times.append(value)
    return {
        "case": "start",
        "cold": cold,
        "observations": OBSERVATIONS,
        "listening_s": round(median(listening), 3),
        "welcome_s": round(median(welcome), 3),
        "first_action_s": round(median(first), 3),
        "cpu_s": round(median(cpu), 3),
        "torch_s": round(median(torch_s), 3),
        "torch_cpu_s": round(median(torch_cpu), 3),
        "of_torch": round(median(a / b for a, b in zip(first, torch_s, strict=True)), 3),
        "cpu_of_torch": round(median(a / b for a, b in zip(cpu, torch_cpu, strict=True)), 3),
    }


def measure_killed_trainer(*, kept: int = KEPT, config: dict[str, Any] | None = None) -> Row:
    """A row: SIGKILL for a trainer while a game plays; how long until its successor has made an
    update, and how much of that it read the replay, of `kept` rows at least. `config`: settings
    over the preset `bench`."""
    spec = bench_spec(OBSERVATIONS, ACTIONS)
    quick = {
        "metrics.every_s": 0.1,
        "checkpoint.every_s": 3600.0,
        "supervision.max_restarts": 5,
    }
    torch_s, _ = import_torch({})
    with bench_server(quick | (config or {})) as server:
        client = PreparedClient(("127.0.0.1", server.port), spec, np.random.default_rng(0))
        client.send_hello()
        until(server, lambda: _arrived(client), "WELCOME comes")
        client.sock.recv(4096)
        client.sock.setblocking(True)

        def play() -> None:
            for _ in range(200):
                client.send(0.0)
                client.receive()

        until(server, lambda: server.steps >= kept and updates_made(server) > 0, "it trains", play)
        saved = server.trainer.checkpoint()
        if saved.error:
            raise RuntimeError(f"expected a checkpoint, got {saved.error}")
        rows, read = server.steps, len(_readings(server))
        saved_updates = float(Path(saved.path).stem.split("-")[1])
        os.kill(_trainer(server), 9)
        begin = time.monotonic()
        until(server, lambda: len(_readings(server)) > read, "the next trainer reads", play)
        has_read = time.time()

        def learns() -> bool:
            # What the dead trainer said last is shown for a while.
            said = server.row["time"] - server.row["report_age_s_trainer"]
            return said > has_read and updates_made(server) > saved_updates

        until(server, learns, "it makes an update", play)
        taken = time.monotonic() - begin
        client.sock.close()
        reading = _readings(server)[-1]
    return {
        "case": "killed_trainer",
        "rows": rows,
        "next_update_s": round(taken, 3),
        "reading_s": round(reading, 3),
        "without_reading_s": round(taken - reading, 3),
        "torch_s": round(torch_s, 3),
        "of_torch": round((taken - reading) / torch_s, 3),
    }


def measure_reading(*, rows: int, block: int, repeats: int = 2) -> Row:
    """A row: so many rows of the replay's files, in blocks of `block` rows, put into a replay as at
    a resume, and `bound_s` beside it: the same bytes read, their CRC-32, and one copy of them. The
    quickest of the repeats, each in turn with the other. `million_s`: for as many rows."""
    spec = bench_spec(OBSERVATIONS, ACTIONS)
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        nbytes = _write_journal(folder, spec, rows, block)
        reading, cpu, bound = [], [], []
        for _ in range(repeats):
            bound.append(_seconds(partial(_read_once, folder))[0])
            taken, used = _read(folder, spec, rows)
            reading.append(taken)
            cpu.append(used)
    return {
        "case": "reading",
        "rows": rows,
        "block": block,
        "observations": OBSERVATIONS,
        "bytes": nbytes,
        "read_s": round(min(reading), 3),
        "million_s": round(min(reading) * 1_000_000 / rows, 3),
        "cpu_s": round(min(cpu), 3),
        "bound_s": round(min(bound), 3),
        "of_bound": round(min(reading) / min(bound), 3),
    }


def import_torch(environment: dict[str, str]) -> tuple[float, float]:
    """Seconds that a Python process takes to import torch: by the clock, and of processor time."""
    command = [sys.executable, "-c", "import torch"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    subprocess.run(command, check=True, env=os.environ | environment)
    taken = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return taken, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _one_start(
    home: Path, spec: GameSpec, environment: dict[str, str]
) -> tuple[float, float, float, float]:
    """Seconds until it listens, until WELCOME, until the first ACTION, and the processor time of
    all its processes until then."""
    port = free_port()
    settings = {"server.port": port, "server.http_port": "none"}
    server = ServeProcess(home / "run", settings, output=home / "output", preset="bench")
    begin = time.monotonic()
    server.start(environment)
    try:
        client = _connected(port, spec, server)
        listening = time.monotonic() - begin
        client.hello()
        welcome = time.monotonic() - begin
        client.send(0.0)
        client.receive()
        first = time.monotonic() - begin
        used = processor_s_below(server.pid)
        client.sock.close()
    finally:
        if not server.has_ended:
            server.end()
    return listening, welcome, first, used


def _connected(port: int, spec: GameSpec, server: ServeProcess) -> PreparedClient:
    """A client, once the server listens."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline and not server.has_ended:
        with suppress(ConnectionRefusedError):
            return PreparedClient(("127.0.0.1", port), spec, np.random.default_rng(0))
        time.sleep(0.005)
    raise TimeoutError(f"expected the server to listen, it printed: {server.output()}")


def _forgotten(compiled: Path) -> dict[str, str]:
    """Have the system drop what it can of the installed files; the environment of a process that
    has to compile all Python anew, into this folder."""
    for root in {sysconfig.get_path("purelib"), sysconfig.get_path("stdlib"), str(ROOT)}:
        for folder, subfolders, names in os.walk(root):
            subfolders[:] = [each for each in subfolders if not each.startswith(".")]
            for name in names:
                _drop(Path(folder, name))
    return {"PYTHONPYCACHEPREFIX": str(compiled)}


def _drop(path: Path) -> None:
    with suppress(OSError), path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _arrived(client: PreparedClient) -> bool:
    """Whether something waits to be read."""
    client.sock.setblocking(False)
    with suppress(BlockingIOError):
        return bool(client.sock.recv(1, socket.MSG_PEEK))
    return False


def _trainer(server: Supervisor) -> int:
    return process_ids(read_events(server.folder.path))["trainer"]


def _readings(server: Supervisor) -> list[float]:
    """How long each trainer so far has read the replay's rows, by the log, s."""
    return [
        float(text) for text in re.findall(r"read in ([0-9.]+) s", server.folder.log.read_text())
    ]


def _write_journal(folder: Path, spec: GameSpec, rows: int, block: int) -> int:
    """Files as a trainer writes them, of 32 streams; their bytes."""
    writer = Journal(folder, spec, rows, Position())
    rng, many = np.random.default_rng(0), 8192
    whole = StepBlock.empty(spec, many)
    whole.obs[:] = rng.standard_normal(whole.obs.shape)
    whole.kind[:] = STEP
    whole.actor[:] = rng.integers(1, 3, many)
    for begin in range(0, rows, many):
        frame = begin + np.arange(many)
        whole.stream[:] = frame % 32
        whole.seq[:] = frame // 32
        for start in range(0, min(many, rows - begin), block):
            writer.append(whole.rows(start, min(start + block, many, rows - begin)))
    writer.close()
    return sum(path.stat().st_size for path in journal.segments(folder))


def _read(folder: Path, spec: GameSpec, rows: int) -> tuple[float, float]:
    """Read them as a trainer does, into a replay of its own."""
    config = config_from({"replay.capacity_steps": rows, "learner.hidden": [8]})
    replay = make_replay(config, spec, torch.device("cpu"))
    learner = make_learner(config, spec, torch.device("cpu"))
    taken = _seconds(lambda: take_in(folder, replay, learner, Evidence(), math.inf))
    if len(replay) != rows:
        raise RuntimeError(f"expected {rows} rows to be read, got {len(replay)}")
    return taken


def _read_once(folder: Path) -> None:
    """What any reader must do."""
    for path in journal.segments(folder):
        data = path.read_bytes()
        zlib.crc32(data)
        np.frombuffer(data, np.uint8).copy()


def _seconds(work: Callable[[], object]) -> tuple[float, float]:
    """By the clock, and of processor time."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu

"""`understudy chaos`: games play while the server's processes are killed, stopped and started at
random; in the end every step that a game was answered for is accounted for.

The games are those of the audit: each recommends actions that nobody has seen before, and logs what
it was answered. What the run's folder holds in the end is compared with their logs, row by row. No
row may be wrong, doubled or unknown; none may be missing but at the end of a stream, where somebody
was killed; and no more of those than the server has said (docs/reliability.md).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from agent import journal
from agent.journal import Damage
from agent.step import STEP
from lab import audit_player
from protocol.actor import NOBODY
from protocol.session import stream_number
from server.arguments import positive
from server.ipc.inflight import InFlight
from server.play.attribution import Attribution, compare, load_logs
from server.run.directory import game_of
from server.run.events import of_supervisor, process_ids, read_events

EVENTS = {
    "kill a gateway": 4,
    "kill the trainer": 4,
    "stop a gateway": 1,
    "stop the trainer": 1,
    "kill the supervisor": 2,
    "kill everything": 2,
    "end in order": 1,
}
"""What happens, and how often each, in proportion. Stopped is what hangs."""

GATEWAYS = 2

PAUSE_S = 0.02
"""Of a game after each answer: what is played is to fit into the replay."""

STEPS_PER_S = 4000
"""More than the games of a second can be, at that pace."""

WAIT_S = 120.0
"""For the server to start and for processes to end, on a machine that is busy."""

QUIET_S = (2.0, 10.0)
"""How long nothing happens after everybody plays again."""


@dataclass(frozen=True)
class ChaosResult:
    """What came of it."""

    seconds: float
    events: dict[str, int]
    attribution: Attribution
    wrong_decisions: int
    """Answers whose tag does not agree with whose action they carry."""
    holes: int
    """Steps that are missing, with later ones of their stream there."""
    said: InFlight
    """What the server said was in flight."""
    damages: int
    """Blocks of rows that were cut off where somebody was killed who wrote them."""
    restarts: int

    @property
    def ok(self) -> bool:
        found = self.attribution
        return (
            bool(self.events)
            and found.compared > 0
            and not (found.mismatches or self.wrong_decisions or self.holes)
            and found.missing <= self.said.steps
        )

    def report(self) -> dict[str, Any]:
        """As it is printed."""
        found = self.attribution
        return {
            "seconds": round(self.seconds, 1),
            "events": sum(self.events.values()),
            "restarts": self.restarts,
            "steps": found.compared,
            "mismatches": found.mismatches + self.wrong_decisions,
            "holes": self.holes,
            "missing": found.missing,
            "said_in_flight": self.said.steps,
            "unfinished": self.said.frames,
            "damages": self.damages,
        }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--minutes", type=float, default=30.0, metavar="M", help="%(default)s")
    parser.add_argument(
        "--players", type=positive, default=4, metavar="N", help="processes that play"
    )
    parser.add_argument("--seed", type=int, default=0, help="%(default)s")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def main(args: argparse.Namespace) -> int:
    show = None if args.json else lambda text: print(text, flush=True)
    result = chaos(60 * args.minutes, players=args.players, seed=args.seed, show=show)
    report = result.report()
    if args.json:
        print(json.dumps(report | {"by_event": result.events}))
    else:
        print("  ".join(f"{name} {value}" for name, value in report.items()))
        if not result.events:
            print("nobody was killed, so that nothing is shown: give it more --minutes")
        else:
            print("all is accounted for" if result.ok else "SOMETHING IS WRONG OR LOST")
    return 0 if result.ok else 1


def chaos(
    seconds: float,
    *,
    players: int = 4,
    seed: int = 0,
    events: list[str] | None = None,
    quiet_s: tuple[float, float] = QUIET_S,
    show: Callable[[str], None] | None = None,
) -> ChaosResult:
    """Play for so long, and until each of `events` has happened, those first. `quiet_s`: between
    two of them."""
    rng, begin = random.Random(seed), time.monotonic()
    planned, happened = list(events or ()), Counter[str]()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        home, stop = Path(name), context.Event()
        games: list[BaseProcess] = [
            context.Process(
                target=audit_player.play,
                args=(i, seed, home, stop),
                kwargs={"steadfast": True, "pause_s": PAUSE_S},
                daemon=True,
            )
            for i in range(players)
        ]
        try:
            with _Server(home, int(seconds * STEPS_PER_S) + 200_000, seed) as server:
                (home / "port").write_text(str(server.port))
                for game in games:
                    game.start()
                while True:
                    server.until_it_plays()
                    time.sleep(rng.uniform(*quiet_s))
                    if not planned and time.monotonic() - begin >= seconds:
                        break
                    what = planned.pop(0) if planned else _drawn(rng)
                    happened[what] += 1
                    if show:
                        show(f"{time.monotonic() - begin:6.0f} s  {what}")
                    server.suffer(what, rng)
                stop.set()
                for game in games:
                    game.join(WAIT_S)
                server.end()
        finally:
            stop.set()
            for game in games:
                if game.is_alive():
                    game.terminate()
        return _accounted(home, server, time.monotonic() - begin, dict(happened))


def _drawn(rng: random.Random) -> str:
    return rng.choices(list(EVENTS), list(EVENTS.values()))[0]


class _Server:
    """`understudy serve` in a process of its own, started again whenever it has ended."""

    def __init__(self, home: Path, capacity: int, seed: int) -> None:
        self.run = home / "run"
        self._errors = home / "stderr"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        settings = {
            "server.port": self.port,
            "server.http_port": "none",
            "server.gateways": GATEWAYS,
            "run.seed": seed,
            # Nothing may be overwritten before it is compared.
            "replay.capacity_steps": capacity,
            "learner.hidden": "[32]",
            "learner.batch_size": 64,
            "trainer.device": "cpu",
            "trainer.threads": 1,
            "trainer.replay_ratio": 0.01,
            "checkpoint.every_s": 5,
            "metrics.every_s": 0.5,
            "supervision.max_restarts": 1_000_000,
            "supervision.window_s": 1.0,
            "supervision.backoff_s": 0.2,
            "supervision.hang_timeout_s": 10,
        }
        self._options = [
            word for key, value in settings.items() for word in (f"--{key}", str(value))
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is None:
            return
        for pid in [*self._children().values(), self._process.pid]:
            if _lives(pid):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def _start(self) -> None:
        where = "--resume" if (self.run / "run.json").exists() else "--run"
        command = [sys.executable, "-m", "server", "serve", where, str(self.run), *self._options]
        with self._errors.open("ab") as errors:
            self._process = subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=errors, cwd=Path(__file__).parent.parent
            )

    def _children(self) -> dict[str, int]:
        """The newest process of each child."""
        assert self._process is not None
        return process_ids(of_supervisor(read_events(self.run), self._process.pid))

    def until_it_plays(self) -> None:
        """Wait until both gateways and the trainer are there and steps are stored."""
        before: float | None = None
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            assert self._process is not None
            if self._process.poll() is not None:
                raise RuntimeError(f"the server has ended: {self._errors.read_text()[-2000:]}")
            pids = self._children()
            stored = self._stored()
            if before is None and stored is not None:
                before = stored
            there = len(pids) == GATEWAYS + 1 and all(map(_lives, pids.values()))
            if there and stored is not None and before is not None and stored > before:
                return
            time.sleep(0.1)
        log = (self.run / "understudy.log").read_text(errors="replace")
        raise TimeoutError(f"the server does not play; its log ends: {log[-2000:]}")

    def _stored(self) -> float | None:
        """Stored steps in the newest row of metrics."""
        try:
            line = (self.run / "metrics.jsonl").read_bytes().split(b"\n")[-2]
            found: float | None = json.loads(line)["frames"]
        except (OSError, IndexError, ValueError, KeyError):
            return None
        return found

    def suffer(self, what: str, rng: random.Random) -> None:
        """Have this happen."""
        assert self._process is not None
        pids = self._children()
        gateway = pids[f"gateway-{rng.randrange(GATEWAYS)}"]
        number = signal.SIGSTOP if what.startswith("stop") else signal.SIGKILL
        match what:
            case "kill a gateway" | "stop a gateway":
                os.kill(gateway, number)
                self._until_replaced(gateway)
            case "kill the trainer" | "stop the trainer":
                os.kill(pids["trainer"], number)
                self._until_replaced(pids["trainer"])
            case "end in order":
                self.end()
                self._start()
            case "kill the supervisor" | "kill everything":
                self._process.kill()
                if what == "kill everything":
                    for pid in pids.values():
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)
                self._process.wait()
                _until(lambda: not any(map(_lives, pids.values())), "its children have ended")
                self._start()
            case _:
                raise ValueError(f"expected one of {list(EVENTS)}, got {what!r}")

    def _until_replaced(self, pid: int) -> None:
        _until(lambda: pid not in self._children().values(), "it is started again")

    def end(self) -> None:
        """SIGTERM, and wait."""
        assert self._process is not None
        self._process.terminate()
        if self._process.wait(WAIT_S):
            raise RuntimeError(f"it did not end in order: {self._errors.read_text()[-2000:]}")

    def said(self) -> tuple[InFlight, int]:
        """What it said, in all its time, was in flight; and how often a child was started again."""
        events = read_events(self.run)
        lost = [event for event in events if event["event"] == "in_flight_lost"]
        total = InFlight(sum(e["steps"] for e in lost), sum(e["frames"] for e in lost))
        return total, sum(event["event"] == "restarting" for event in events)


def _accounted(
    home: Path, server: _Server, seconds: float, happened: dict[str, int]
) -> ChaosResult:
    truth, damages = load_logs(home), list[Damage]()
    stored = _kept(server.run, damages)
    said, restarts = server.said()
    return ChaosResult(
        seconds=seconds,
        events=happened,
        attribution=compare(truth, stored),
        wrong_decisions=int(truth["wrong"].sum()) if "wrong" in truth else 0,
        holes=holes(truth, stored),
        said=said,
        damages=len(damages),
        restarts=restarts,
    )


def _kept(run: Path, damages: list[Damage]) -> dict[str, npt.NDArray[Any]]:
    """The steps that the run's folder holds, as a dump of the replay has them."""
    spec = game_of(run)
    assert spec is not None
    parts: dict[str, list[npt.NDArray[Any]]] = {"stream": [], "seq": [], "actor": [], "action": []}
    for block in journal.read(run / journal.FOLDER, spec, damages):
        steps = block.rows.kind == STEP
        for name, columns in parts.items():
            columns.append(getattr(block.rows, name)[steps])
    return {name: np.concatenate(columns) for name, columns in parts.items()}


def holes(truth: dict[str, npt.NDArray[Any]], stored: dict[str, npt.NDArray[Any]]) -> int:
    """Steps that games were answered for and that are not stored, though a later one of their
    stream is."""
    newest: dict[int, int] = {}
    there = set()
    for stream, seq in zip(stored["stream"].tolist(), stored["seq"].tolist(), strict=True):
        newest[stream] = max(seq, newest.get(stream, -1))
        there.add((stream, seq))
    acted = truth["actor"] != NOBODY
    sessions, slots = truth["session"][acted].tolist(), truth["slot"][acted].tolist()
    streams = [stream_number(session, slot) for session, slot in zip(sessions, slots, strict=True)]
    return sum(
        seq < newest.get(stream, -1) and (stream, seq) not in there
        for stream, seq in zip(streams, truth["seq"][acted].tolist(), strict=True)
    )


def _lives(pid: int) -> bool:
    """Whether there is such a process; one that has ended and was not waited for does not count."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited in vain until {what}")
        time.sleep(0.05)

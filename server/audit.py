"""`understudy audit`: the proof that every action is tagged with who chose it, end to end.

Games play whose every frame recommends an action of its own, never seen before. They log what each
frame was answered with and what they did instead (`took`), and disconnect now and then. In the end
their logs are compared with the replay, row by row, and with every batch that was drawn from it.
An answer tagged expert must be that frame's recommendation, and one tagged dqn must not be: a wrong
decision that both sides were told alike is seen too.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from config.load import Given, load
from protocol.actor import Actor
from server.attribution import Attribution, compare, load_dump, load_logs
from server.rundir import RunFolder
from server.supervisor import Supervisor
from understudy_client import Client, Continuous, Discrete, Observation
from understudy_client.errors import ClientError

OBSERVATIONS = 4
CHOICES = 1000
IDENTITY = 3
"""Floats in [0, 1) that make each recommendation unlike every other: 72 random bits."""

END = 1 / 50
RECOMMEND = 0.8
TOOK = 0.1
DISCONNECT = 1 / 400

SLOTS = {"frame": 3, "frames": 32}
"""Games on a connection, for players that send FRAME and for those that send FRAMES."""


@dataclass(frozen=True)
class AuditResult:
    """What the audit found."""

    steps: int
    seconds: float
    attribution: Attribution
    wrong_decisions: int
    """Answers whose tag does not agree with whose action they carry."""
    expert: int
    """Rows of the replay that are the expert's."""

    def report(self) -> dict[str, Any]:
        """As it is printed."""
        found = self.attribution
        return {
            "steps": self.steps,
            "seconds": round(self.seconds, 1),
            "compared": found.compared,
            "mismatches": found.mismatches + self.wrong_decisions,
            "missing": found.missing,
            "batch_compared": found.batch_compared,
            "expert": self.expert,
        }

    @property
    def ok(self) -> bool:
        return self.attribution.ok and not self.wrong_decisions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--steps", type=int, default=1_000_000, metavar="N", help="%(default)s")
    parser.add_argument("--players", type=int, default=4, metavar="N", help="processes that play")
    parser.add_argument("--seed", type=int, default=0, help="%(default)s")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def main(args: argparse.Namespace) -> int:
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    show = None if args.json else lambda text: print(text, flush=True)
    result = audit(args.steps, players=args.players, seed=args.seed, show=show)
    report = result.report()
    if args.json:
        print(json.dumps(report))
    else:
        print("  ".join(f"{name} {value}" for name, value in report.items()))
        print("every tag is right" if result.ok else "THE TAGS ARE WRONG")
    return 0 if result.ok else 1


def audit(steps: int, *, players: int = 4, seed: int = 0, show: Any = None) -> AuditResult:
    """Play at least `steps` steps and compare."""
    values = {
        "server.port": 0,
        "run.seed": seed,
        # Nothing may be overwritten before it is compared.
        "replay.capacity_steps": steps * 2 + 100_000,
        "expert.ratio.frames": steps,
        "exploration.epsilon.frames": steps,
        "learner.hidden": [32],
        "learner.batch_size": 256,
        "trainer.threads": 1,
        "trainer.min_steps": min(1000, steps),
        "trainer.replay_ratio": 0.005,
    }
    begin = time.monotonic()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        values["run.dir"] = str(home / "run")
        config = load(Given(values=values, options=dict.fromkeys(values, "")), {}).config
        supervisor = Supervisor(config, RunFolder.open(config, resume=False), record=True)
        stop = context.Event()
        processes = [
            context.Process(target=_player, args=(i, seed, _kind(i), home, stop), daemon=True)
            for i in range(players)
        ]
        try:
            supervisor.start()
            (home / "port").write_text(str(supervisor.port))
            for process in processes:
                process.start()
            shown = 0
            while supervisor.row.get("frames", 0) < steps:
                supervisor.poll()
                if not any(process.is_alive() for process in processes):
                    raise RuntimeError("expected the players to play on, all have ended")
                done = int(supervisor.row.get("frames", 0)) * 10 // steps
                if show and done > shown:
                    shown = done
                    show(f"{int(supervisor.row['frames'])} of {steps} steps")
            stop.set()
            for process in processes:
                while process.is_alive():
                    supervisor.poll()
            supervisor.settle()
            supervisor.dump(str(home / "replay.npz"))
        finally:
            stop.set()
            for process in processes:
                if process.is_alive():
                    process.terminate()
            supervisor.stop()
        truth, stored = load_logs(home), load_dump(home / "replay.npz")
    found = compare(truth, stored)
    return AuditResult(
        steps=len(stored["seq"]),
        seconds=time.monotonic() - begin,
        attribution=found,
        wrong_decisions=int(truth["wrong"].sum()) if "wrong" in truth else 0,
        expert=int(np.count_nonzero(stored["actor"] == Actor.EXPERT)),
    )


def _kind(index: int) -> str:
    return "frames" if index % 2 == 0 else "frame"


def _player(index: int, seed: int, kind: str, home: Path, stop: Event) -> None:
    """One process that plays, logs and disconnects until it is told to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    rng = np.random.default_rng([seed, index])
    port = int((home / "port").read_text())
    log = _Log()
    try:
        while not stop.is_set():
            with Client.connect(
                "127.0.0.1",
                port,
                client=f"audit/{index}",
                game="audit",
                observation=Observation("float32", (OBSERVATIONS,)),
                actions=(Discrete("choice", CHOICES), Continuous("identity", 0.0, 1.0, IDENTITY)),
                slots=SLOTS[kind],
            ) as client:
                play = _play_frames if kind == "frames" else _play_frame
                play(client, rng, log, stop)
                # One in two is gone without a word.
                client.close(bye=bool(rng.integers(2)))
    except ClientError as error:
        print(f"audit: player {index}: {error}", file=sys.stderr)
    finally:
        log.save(home / f"client-{index}.npz")


class _Log:
    """Truths of one player, in columns."""

    def __init__(self) -> None:
        self.parts: list[tuple[npt.NDArray[Any], ...]] = []

    def save(self, path: Path) -> None:
        if not self.parts:
            return
        names = ("session", "slot", "seq", "actor", "action", "wrong")
        columns = [np.concatenate(column) for column in zip(*self.parts, strict=True)]
        np.savez(path, allow_pickle=False, **dict(zip(names, columns, strict=True)))


def _actions(rng: np.random.Generator, n: int) -> npt.NDArray[np.float32]:
    """Action rows that nobody has seen before, [n, 1 + IDENTITY]."""
    rows = rng.random((n, 1 + IDENTITY), dtype=np.float32)
    rows[:, 0] = rng.integers(CHOICES, size=n)
    return rows


class _Pending:
    """The last answers of a connection: they become truths when the next frame says what was
    really done."""

    def __init__(self, slots: int) -> None:
        self.alive = np.zeros(slots, np.bool_)
        self.actor = np.zeros(slots, np.uint8)
        self.action = np.zeros((slots, 1 + IDENTITY), np.float32)
        self.seq = np.zeros(slots, np.int64)
        self.wrong = np.zeros(slots, np.bool_)

    def log(self, log: _Log, session: int, slots: npt.NDArray[np.int64]) -> None:
        """The truths of these slots, of those that have one."""
        at = slots[self.alive[slots]]
        if len(at):
            log.parts.append(
                (
                    np.full(len(at), session, np.int64),
                    at,
                    self.seq[at],
                    self.actor[at],
                    self.action[at],
                    self.wrong[at],
                )
            )


def _play_frames(client: Client, rng: np.random.Generator, log: _Log, stop: Event) -> None:
    """All slots at once, until the next disconnect."""
    n = client.slots
    everyone = np.arange(n)
    pending = _Pending(n)
    for _ in range(int(rng.geometric(DISCONNECT))):
        if stop.is_set():
            break
        ends = pending.alive & (rng.random(n) < END)
        statuses = np.where(ends, rng.integers(1, 3, n), 0).astype(np.uint8)
        experts = _actions(rng, n)
        experts[rng.random(n) >= RECOMMEND, 0] = np.nan
        took = pending.alive & (rng.random(n) < TOOK)
        instead, by = _actions(rng, n), rng.integers(1, 3, n).astype(np.uint8)
        pending.action[took], pending.actor[took] = instead[took], by[took]
        pending.wrong[took] = False
        pending.log(log, client.session, everyone)
        answers = client.act_all(
            rng.standard_normal((n, OBSERVATIONS), dtype=np.float32),
            rng.standard_normal(n, dtype=np.float32),
            statuses,
            experts,
            (np.where(took[:, None], instead, 0).astype(np.float32), np.where(took, by, 0)),
        )
        pending.alive = answers.actors != 0
        pending.actor = answers.actors.copy()
        pending.action = answers.actions.copy()
        pending.seq[:] = answers.seq
        recommended = (answers.actions == experts).all(axis=1)
        pending.wrong = pending.alive & (recommended != (answers.actors == Actor.EXPERT))
        pending.wrong |= pending.alive != (statuses == 0)
    pending.log(log, client.session, everyone)


def _play_frame(client: Client, rng: np.random.Generator, log: _Log, stop: Event) -> None:
    """Slot by slot, until the next disconnect."""
    pending = _Pending(client.slots)
    for _ in range(int(rng.geometric(DISCONNECT / 4))):
        if stop.is_set():
            break
        slot = int(rng.integers(client.slots))
        alive = bool(pending.alive[slot])
        status = int(rng.integers(1, 3)) if alive and rng.random() < END else 0
        row = _actions(rng, 1)[0]
        expert = _action(row) if rng.random() < RECOMMEND else None
        took = None
        if alive and rng.random() < TOOK:
            instead, by = _actions(rng, 1)[0], int(rng.integers(1, 3))
            took = (_action(instead), by)
            pending.action[slot], pending.actor[slot] = instead, by
            pending.wrong[slot] = False
        pending.log(log, client.session, np.array([slot]))
        answer = client.act(
            rng.standard_normal(OBSERVATIONS, dtype=np.float32),
            float(rng.standard_normal()),
            status,
            expert,
            took,
            slot,
        )
        pending.alive[slot] = answer.action is not None
        pending.seq[slot] = answer.seq
        pending.actor[slot] = answer.actor
        if answer.action is not None:
            got = np.array([answer.action[0], *answer.action[1]], np.float32)  # type: ignore[misc]
            pending.action[slot] = got
            recommended = expert is not None and bool((got == row).all())
            pending.wrong[slot] = recommended != (answer.actor == Actor.EXPERT) or status != 0
    pending.log(log, client.session, np.arange(client.slots))


def _action(row: npt.NDArray[np.float32]) -> list[Any]:
    return [int(row[0]), [float(x) for x in row[1:]]]

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
import secrets
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agent import journal
from lab import audit_player
from lab.chaos.accounting import journals
from lab.supervised import supervised
from protocol.actor import Actor
from server.arguments import positive
from server.cluster.start import on_cluster
from server.play.attribution import Attribution, compare, load_dump, load_logs
from server.run.directory import game_of
from server.supervisor.processes import Processes


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
    rows_missing: int
    """Rows of gateways that their numbers say are not in the run's files."""
    rows_doubled: int
    """Rows that are there twice."""
    lost: int = 0
    """Steps and frames that the server says were lost, with a process that died."""

    def report(self) -> dict[str, Any]:
        """As it is printed."""
        found = self.attribution
        return {
            "steps": self.steps,
            "seconds": round(self.seconds, 1),
            "compared": found.compared,
            "mismatches": found.mismatches + self.wrong_decisions,
            "missing": found.missing + self.rows_missing,
            "doubled": self.rows_doubled,
            "batch_compared": found.batch_compared,
            "expert": self.expert,
        }

    @property
    def ok(self) -> bool:
        found = self.attribution
        wrong = self.wrong_decisions or self.rows_missing or self.rows_doubled
        return found.ok and found.batch_compared > 0 and not wrong


def reached_from_elsewhere(home: Path) -> dict[str, Any]:
    """Settings of a server whose games are on other machines than its gateways. `home`: of its
    games."""
    token = home / audit_player.TOKEN
    token.write_text(secrets.token_hex(16))
    return {"server.host": "0.0.0.0", "server.token_file": str(token)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--steps",
        type=positive,
        default=1_000_000,
        metavar="N",
        help="steps to compare (%(default)s)",
    )
    parser.add_argument(
        "--players",
        type=positive,
        default=4,
        metavar="N",
        help="number of processes that play (%(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the random numbers (%(default)s)"
    )
    parser.add_argument(
        "--cluster",
        metavar="auto|HOST:PORT",
        help="the server runs on a Ray cluster (`understudy serve --cluster auto`); the games are "
        "here, and connect to all of its gateway nodes",
    )
    parser.add_argument(
        "--nodes",
        type=positive,
        default=1,
        metavar="N",
        help="with --cluster: gateway nodes (%(default)s)",
    )
    parser.add_argument(
        "--learners",
        type=positive,
        default=1,
        metavar="N",
        help="with --cluster: learners (%(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def main(args: argparse.Namespace) -> int:
    warnings = logging.StreamHandler()
    warnings.setLevel(logging.WARNING)
    warnings.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    logging.basicConfig(handlers=[warnings])
    show = None if args.json else lambda text: print(text, flush=True)
    cluster = {"cluster.gateways": args.nodes, "cluster.learners": args.learners}
    result = audit(
        args.steps, players=args.players, seed=args.seed, show=show,
        cluster=args.cluster, values=cluster,
    )  # fmt: skip
    report = result.report()
    if args.json:
        print(json.dumps(report))
    else:
        print("  ".join(f"{name} {value}" for name, value in report.items()))
        print("every tag is right" if result.ok else "TAGS ARE WRONG")
    return 0 if result.ok else 1


def audit(
    steps: int,
    *,
    players: int = 4,
    seed: int = 0,
    show: Any = None,
    cluster: str | None = None,
    values: Mapping[str, Any] | None = None,
    steadfast: bool = False,
) -> AuditResult:
    """Play at least `steps` steps and compare. `cluster`: the address of that which the server is
    to run on. `values`: settings beside those of the audit. `steadfast`: games wait for a
    server that goes away, and come back. Errors: ConfigError."""
    make = Processes if cluster is None else on_cluster(cluster)
    values = {
        "server.port": 0,
        "run.game": "audit",
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
        "metrics.every_s": 0.2,
        "supervision.max_restarts": 0,
        **(values or {}),
    }
    begin = time.monotonic()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        if cluster is not None:
            values |= reached_from_elsewhere(home)
        stop = context.Event()
        processes = [
            context.Process(
                target=audit_player.play,
                args=(i, seed, home, stop),
                kwargs={"steadfast": steadfast},
                daemon=True,
            )
            for i in range(players)
        ]
        with supervised(values, record=True, make=make) as supervisor:
            try:
                while not supervisor.row:  # by then the nodes of a cluster are known
                    supervisor.poll()
                here = [("127.0.0.1", supervisor.port)]
                audit_player.tell(home, list(supervisor.status.gateway_nodes) or here)
                for process in processes:
                    process.start()
                shown = 0
                while supervisor.steps < steps:
                    supervisor.poll()
                    if not any(process.is_alive() for process in processes):
                        raise RuntimeError("expected the players to play on, all have ended")
                    done = supervisor.steps * 10 // steps
                    if show and done > shown:
                        shown = done
                        show(f"{supervisor.steps} of {steps} steps")
                stop.set()
                for process in processes:
                    while process.is_alive():
                        supervisor.poll()
                supervisor.settle()
                lost = int(supervisor.row["steps_lost"] + supervisor.row["frames_lost"])
                supervisor.trainer.dump(str(home / "replay.npz"))
                run = supervisor.folder.path
                spec = game_of(run)
                numbers = [journal.next_rows(each, spec) for each in journals(run)] if spec else []
            finally:
                stop.set()
                for process in processes:
                    if process.is_alive():
                        process.terminate()
        truth, stored = load_logs(home), load_dump(*home.glob("replay*.npz"))
    found = compare(truth, stored)
    return AuditResult(
        steps=len(stored["seq"]),
        seconds=time.monotonic() - begin,
        attribution=found,
        wrong_decisions=int(truth["wrong"].sum()) if "wrong" in truth else 0,
        expert=int(np.count_nonzero(stored["actor"] == Actor.EXPERT)),
        rows_missing=sum(each.missing for each in numbers),
        rows_doubled=sum(each.doubled for each in numbers),
        lost=lost,
    )

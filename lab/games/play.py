"""Plays games of every kind against a real server, each in a run of its own, and looks whether all
is right: `python -m lab.games.play [--learn] [NAME ...]`.

Each game is played as `understudy play` plays it, with the server's defaults. Updates must be made,
with finite losses; the replay must hold what the games were answered, with the same tags; nothing
may be lost, and no warning said. With --learn, where 5,000 or 10,000 frames suffice, the network
alone is compared with random play. Prints the table of docs/gymnasium.md.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lab.games.cases import CASES, PlayedCase
from lab.supervised import supervised
from server.play.attribution import Attribution, compare, load_dump, load_logs
from server.play.game_messages import GameOptions
from server.play.games import Games
from server.supervisor.supervisor import Supervisor
from understudy_client.environments import make

FRAMES = 2000
RANDOM_SEED = 1_000_000
PATIENCE_S = 1800.0


@dataclass(frozen=True)
class PlayedGame:
    """What came of a game."""

    frames: int
    updates: int
    loss: float
    """The last one; NaN before there was any."""
    skipped: int
    """Updates whose loss or gradient was not finite."""
    attribution: Attribution
    lost: int
    warnings: Sequence[str]
    """Lines of the run's log."""
    failures: Sequence[str]
    """What ended a process of the game."""
    seconds: float
    student: Sequence[float] = ()
    """Returns of the network alone."""
    chance: Sequence[float] = ()
    """Returns of random play from the same seeds."""

    def wrong(self, frames: int, failures: int = 0) -> list[str]:
        """What is not as it must be, in words. `failures`: so many may be."""
        found = self.attribution
        told = {
            f"{self.frames} frames instead of {frames}": self.frames < frames,
            "no updates": self.updates == 0,
            f"the loss is {self.loss}": not math.isfinite(self.loss),
            f"{self.skipped} updates with a loss that is not finite": self.skipped > 0,
            f"{found.mismatches} rows of {found.compared} are not what games were told": (
                not found.ok
            ),
            f"{self.lost} steps were lost": self.lost > 0,
            f"failures: {'; '.join(self.failures)}": len(self.failures) > failures,
            f"warnings: {'; '.join(self.warnings)}": bool(self.warnings),
        }
        return [text for text, holds in told.items() if holds]

    @property
    def better(self) -> bool:
        """The network's mean is above that of random play by more than twice the standard error of
        their difference."""
        if not self.student or not self.chance:
            return False
        sides = (self.student, self.chance)
        error = math.sqrt(sum(statistics.variance(side) / len(side) for side in sides))
        return statistics.fmean(self.student) - statistics.fmean(self.chance) > 2 * error


def play(
    case: PlayedCase, frames: int, settings: Mapping[str, Any], episodes: int = 0
) -> PlayedGame:
    """Play so many frames of a game, and so many episodes of the network alone afterwards.

    settings: over those of the case. Errors: RuntimeError where it does not end.
    """
    begin = time.monotonic()
    values = {
        "server.port": 0, "trainer.device": "cpu", "trainer.threads": 1, "run.seed": 0,
        "metrics.every_s": 0.2,
    }  # fmt: skip
    with (
        tempfile.TemporaryDirectory() as name,
        supervised(values | dict(case.settings) | dict(settings)) as supervisor,
    ):
        logs = Path(name)
        options = GameOptions(
            case.env, "127.0.0.1", supervisor.port, frames=frames, seed=0, making=case.making,
            expert=case.expert, log_dir=logs, restarts=case.restarts,
        )  # fmt: skip
        with Games(options) as games:
            games.start(case.clients)
            _wait(supervisor, games)
            failures = [failure.message for failure in games.failures]
            played = games.frames
        supervisor.settle()
        row = dict(supervisor.last)
        supervisor.trainer.dump(str(logs / "replay.npz"))
        found = compare(load_logs(logs), load_dump(logs / "replay.npz"))
        student = []
        if episodes:
            more = replace(
                options, frames=None, log_dir=None, role="eval", episodes=episodes, seed=RANDOM_SEED
            )
            with Games(more) as games:
                games.start(1)
                _wait(supervisor, games)
                student = [episode.return_ for episode in games.episodes()]
        log = supervisor.folder.log.read_text()
    return PlayedGame(
        frames=played,
        updates=int(row["updates"]),
        loss=row.get("loss", math.nan),
        attribution=found,
        lost=int(row["transitions_dropped"]),
        skipped=int(row["updates_skipped"]),
        warnings=[line for line in log.splitlines() if " WARNING " in line or " ERROR " in line],
        failures=failures,
        seconds=time.monotonic() - begin,
        student=student,
        chance=random_returns(case, episodes),
    )


def _wait(supervisor: Supervisor, games: Games) -> None:
    """Until the games have ended."""
    deadline = time.monotonic() + PATIENCE_S
    while not games.wait(0.0):
        supervisor.poll(0.05)
        if time.monotonic() > deadline:
            raise RuntimeError(f"expected the games to end within {PATIENCE_S:g} s")


def random_returns(case: PlayedCase, episodes: int) -> list[float]:
    """Returns of random play, of legal choices where the environment says which are."""
    if not episodes:
        return []
    env = make(case.env, case.making)
    env.action_space.seed(0)
    returns = []
    for episode in range(episodes):
        _, info = env.reset(seed=RANDOM_SEED + episode)
        total, over = 0.0, False
        while not over:
            action = env.action_space.sample(info.get("action_mask"))
            _, reward, terminated, truncated, info = env.step(action)
            total, over = total + float(reward), terminated or truncated
        returns.append(total)
    env.close()
    return returns


def line(case: PlayedCase, played: PlayedGame) -> str:
    """A line of the table."""
    learnt = ["", ""]
    if played.student:
        learnt = [_mean(played.chance), _mean(played.student)]
    cells = [
        f"`{case.name}`" + (f" `{case.options}`" if case.options else ""),
        f"{played.frames:,}",
        f"{played.updates:,}",
        f"{played.loss:.3g}",
        f"{played.attribution.compared:,}",
        *learnt,
    ]
    return f"| {' | '.join(cells)} |"


def _mean(returns: Sequence[float]) -> str:
    error = np.std(returns, ddof=1) / math.sqrt(len(returns))
    return f"{statistics.fmean(returns):.2f} ± {error:.2f}"


HEAD = """\
| game | frames | updates | loss | rows compared | random play | the network |
|---|---|---|---|---|---|---|"""


def main() -> int:
    """Play them; 1 where something is not as it must be."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="of these games only, as CartPole-v1")
    add("--frames", type=int, default=FRAMES, help="of each game (%(default)s)")
    add("--learn", action="store_true", help="play on where that shows that something was learnt")
    args = parser.parse_args()
    if unknown := set(args.names) - {case.name for case in CASES}:
        parser.error(f"expected names of {', '.join(c.name for c in CASES)}, got {unknown}")
    bad = 0
    print(HEAD, flush=True)
    for case in CASES:
        if args.names and case.name not in args.names:
            continue
        learns = case.learns if args.learn else None
        frames = learns or args.frames
        played = play(case, frames, {}, case.episodes if learns else 0)
        print(line(case, played), flush=True)
        wrong = played.wrong(frames, case.restarts)
        if learns and not played.better:
            wrong.append("the network is not better than random play")
        for text in wrong:
            print(f"{case.name}: {text}", file=sys.stderr, flush=True)
        bad += bool(wrong)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

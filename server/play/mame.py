"""Games that run in MAME, each a process with a Lua client (`clients/mame`) that talks to the
server, and what they print and log.

    this process                          one MAME per game
    Mames ── starts, with settings in the environment ──▶ mame -autoboot_script breakout.lua
      ▲                                                        │ TCP ──▶ the server
      └── a thread for each ◀── a line of JSON an episode ◀────┘ log of answers, as text
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from protocol.errors import CODES
from server.play.game_messages import share
from server.play.tries import BAD_FRAME, Tries

SCRIPTS = Path(__file__).parents[2] / "clients" / "mame"

GAMES = ("breakout", "pong")
"""Both need no ROM files: MAME simulates their circuits."""

INSTALL = "MAME is not installed; on Debian and Ubuntu: apt-get install mame"

STOP_S = 10.0


class MameError(RuntimeError):
    """MAME is missing, or one has ended before its time; the message says why."""


@dataclass(frozen=True)
class MameEpisode:
    """One complete episode."""

    client: int
    return_: float
    acts: int
    dqn: int
    """Actions that the network chose; `expert` those that the expert did."""
    expert: int
    frames: int
    """That the emulator made."""


def find_mame() -> str:
    """The program. Debian puts games where the PATH of root does not look. Errors: MameError."""
    found = shutil.which("mame") or shutil.which("mame", path="/usr/games:/usr/local/games")
    if found is None:
        raise MameError(INSTALL)
    return found


@dataclass
class _Emulator:
    """One game over all of its MAMEs."""

    client: int
    share: int | None
    """Episodes that it has to play."""
    process: subprocess.Popen[str] | None = None
    thread: threading.Thread | None = None
    said: deque[str] = field(default_factory=lambda: deque(maxlen=3))
    """Lines that its MAME printed last, beside episodes."""
    played: int = 0
    begun: int = 0
    done: bool = False
    """It has played what it had to play."""
    given_up: bool = False
    begins_at: float = 0.0
    tries: Tries = field(default_factory=Tries)


class MameGames:
    """Some MAMEs that play one game in one role. Use it as a context manager, or `stop` it.

    One that ends before its time begins again (server.play.tries), with what is left of its share;
    the others play on. `check` looks after that: call it again and again.
    """

    def __init__(
        self,
        game: str,
        clients: int,
        *,
        port: int,
        home: Path,
        host: str = "127.0.0.1",
        token: str | None = None,
        role: str = "train",
        weaken: float = 0.0,
        episodes: int | None = None,
        seed: int = 0,
        log_dir: Path | None = None,
    ) -> None:
        """Start them.

        clients: how many; each is seeded apart, the same each time. home: a folder for what MAME
        writes (nothing else does). weaken: the share of the expert's actions that are random; 1
        is random play. episodes: of all together; None plays until stopped. log_dir: where each
        writes its answers, answers-<n>.txt.
        Errors: MameError.
        """
        self._command = command(find_mame(), game)
        self._home, self._log_dir, self._seed = home, log_dir, seed
        self._settings: dict[str, object] = {
            "HOST": host, "PORT": port, "ROLE": role, "WEAKEN": weaken, "TOKEN": token,
        }  # fmt: skip
        self.episodes: list[MameEpisode] = []
        """Those that have ended, as they come."""
        self.failures: list[str] = []
        """What ended a MAME before its time, be it that it begins again."""
        shares = [share(episodes, client, clients) for client in range(clients)]
        self._games = [_Emulator(client, own) for client, own in enumerate(shares) if own != 0]
        home.mkdir(parents=True, exist_ok=True)
        if log_dir is not None:
            log_dir.mkdir(parents=True, exist_ok=True)
        try:
            for each in self._games:
                self._start(each)
        except BaseException:
            self.stop()
            raise

    def check(self) -> None:
        """Have those that ended before their time begin again. Errors: MameError where all are
        given up."""
        now = time.monotonic()
        for game in self._games:
            if game.process is not None and game.process.poll() is not None:
                self._ended(game, now)
            elif game.process is None and not game.given_up and now >= game.begins_at:
                self._start(game)
        if self._games and all(game.given_up for game in self._games):
            raise MameError(self.failures[-1])

    @property
    def over(self) -> bool:
        """Whether none plays any more, or begins again, and what they printed has been read."""
        return all(game.given_up or self._through(game) for game in self._games)

    def stop(self) -> None:
        """End those that still play, and wait for them."""
        playing = [game for game in self._games if game.process is not None]
        for game in playing:
            assert game.process is not None
            game.process.terminate()
        for game in playing:
            assert game.process is not None
            try:
                game.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                game.process.kill()
                game.process.wait()
        for game in playing:
            if game.thread is not None:
                game.thread.join(STOP_S)

    def __enter__(self) -> MameGames:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _through(self, game: _Emulator) -> bool:
        return game.done and game.thread is not None and not game.thread.is_alive()

    def _ended(self, game: _Emulator, now: float) -> None:
        """Its MAME has ended."""
        assert game.process is not None
        assert game.thread is not None
        game.thread.join(STOP_S)
        # Its exit code says nothing: 0 after an error in a script, and MAME 0.251 crashes now
        # and then when it has nothing left to do but to end.
        game.done |= game.share is not None and game.played >= game.share
        if game.done:
            return
        said = "; ".join(game.said) or "it said nothing"
        failure = f"game {game.client} ended with exit code {game.process.returncode}: {said}"
        refused = (code for code in CODES if code not in BAD_FRAME and f"{code}:" in said)
        wait_s = None if next(refused, None) else game.tries.failed(now)
        game.process, game.given_up = None, wait_s is None
        if wait_s is not None:
            game.begun, game.begins_at = game.begun + 1, now + wait_s
            print(f"{failure}; it begins again in {wait_s:g} s", file=sys.stderr, flush=True)
        self.failures.append(failure)

    def _start(self, game: _Emulator) -> None:
        again = f"-{game.begun}" if game.begun else ""
        log = self._log_dir and (self._log_dir / f"answers-{game.client}{again}.txt").resolve()
        settings = self._settings | {
            "EPISODES": None if game.share is None else game.share - game.played,
            # Another one each time: the same might only fail again.
            "SEED": self._seed + 100_000 * game.client + 10_000 * game.begun,
            "LOG": log,
        }
        given = {f"UNDERSTUDY_{k}": str(v) for k, v in settings.items() if v is not None}
        own = {k: v for k, v in os.environ.items() if not k.startswith("UNDERSTUDY_")}
        game.process = subprocess.Popen(
            self._command,
            cwd=self._home,
            # With SDL's own handlers SIGTERM would be heard by no window.
            env=own
            | given
            | {
                "HOME": str(self._home.resolve()),
                "SDL_VIDEODRIVER": "dummy",
                "SDL_NO_SIGNAL_HANDLERS": "1",
            },
            # SIGPIPE stays ignored, as Python has it: MAME would end of it when the server does.
            restore_signals=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        game.said.clear()
        game.thread = threading.Thread(
            target=self._read, args=(game, game.process), name=f"mame-{game.client}", daemon=True
        )
        game.thread.start()

    def _read(self, game: _Emulator, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                if not line.startswith("{"):
                    game.said.append(line.strip())
                    continue
                with contextlib.suppress(ValueError, KeyError):  # killed in the middle of a line
                    one = json.loads(line)
                    if "done" in one:
                        game.done = True
                        continue
                    self.episodes.append(
                        MameEpisode(
                            game.client, one["return"], one["acts"], one["dqn"], one["expert"],
                            one["frames"],
                        )
                    )  # fmt: skip
                    game.played += 1


def command(mame: str, game: str) -> list[str]:
    """The command line of a MAME that plays without screen and sound, as fast as it can."""
    options = ["-video", "none", "-sound", "none", "-nothrottle", "-skip_gameinfo"]
    boot = ["-autoboot_delay", "0", "-autoboot_script", str(SCRIPTS / f"{game}.lua")]
    # Nothing of a user's own settings: a mapped key or a cheat would make another game of it.
    return [mame, game, "-noreadconfig", *options, *boot]


def load_answers(folder: Path) -> dict[str, npt.NDArray[Any]]:
    """The logs of all MAMEs in a folder (answers-*.txt), as `server.play.attribution.compare` takes
    them: `session`, `slot`, `seq` int64 [n], `actor` uint8 [n], `action` float32 [n, A]."""
    rows = []
    for path in sorted(folder.glob("answers-*.txt")):
        # A line that its MAME was killed in has no end.
        lines = [line for line in path.read_text().splitlines(keepends=True) if line[-1] == "\n"]
        rows += [line.split() for line in lines]
    width = max((len(row) - 3 for row in rows), default=0)
    action = np.full((len(rows), width), np.nan, np.float32)
    for i, row in enumerate(rows):
        if len(row) > 3:
            action[i] = row[3:]
    numbers = np.array([row[:3] for row in rows], np.int64).reshape(-1, 3)
    return {
        "session": numbers[:, 0],
        "slot": np.zeros(len(rows), np.int64),
        "seq": numbers[:, 1],
        "actor": numbers[:, 2].astype(np.uint8),
        "action": action,
    }

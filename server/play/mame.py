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
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

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


class MameGames:
    """Some MAMEs that play one game in one role. Use it as a context manager, or `stop` it."""

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
        mame = find_mame()
        self.episodes: list[MameEpisode] = []
        """Those that have ended, as they come."""
        self._processes: list[subprocess.Popen[str]] = []
        self._threads: list[threading.Thread] = []
        self._said: list[deque[str]] = []
        self._done: set[int] = set()
        """Those that have played what they had to play."""
        home.mkdir(parents=True, exist_ok=True)
        if log_dir is not None:
            log_dir.mkdir(parents=True, exist_ok=True)
        try:
            for client in range(clients):
                share = None if episodes is None else len(range(client, episodes, clients))
                if share == 0:
                    continue
                settings: dict[str, object] = {
                    "HOST": host, "PORT": port, "ROLE": role, "WEAKEN": weaken, "TOKEN": token,
                    "EPISODES": share, "SEED": seed + 100_000 * client,
                    "LOG": log_dir and (log_dir / f"answers-{client}.txt").resolve(),
                }  # fmt: skip
                self._start(command(mame, game), home, settings)
        except BaseException:
            self.stop()
            raise

    def check(self) -> None:
        """Errors: MameError where one has ended before its time."""
        for client, process in enumerate(self._processes):
            if process.poll() is None:
                continue
            self._threads[client].join(STOP_S)
            # Its exit code says nothing: 0 after an error in a script, and MAME 0.251 crashes now
            # and then when it has nothing left to do but to end.
            if client not in self._done:
                said = "; ".join(self._said[client]) or "it said nothing"
                raise MameError(f"game {client} ended with exit code {process.returncode}: {said}")

    @property
    def over(self) -> bool:
        """Whether all have ended, and what they printed has been read."""
        return not any(thread.is_alive() for thread in self._threads)

    def stop(self) -> None:
        """End those that still play, and wait for them."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for thread in self._threads:
            thread.join(STOP_S)

    def __enter__(self) -> MameGames:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self, line: list[str], home: Path, settings: Mapping[str, object]) -> None:
        given = {f"UNDERSTUDY_{k}": str(v) for k, v in settings.items() if v is not None}
        own = {k: v for k, v in os.environ.items() if not k.startswith("UNDERSTUDY_")}
        process = subprocess.Popen(
            line,
            cwd=home,
            # With SDL's own handlers SIGTERM would be heard by no window.
            env=own
            | given
            | {
                "HOME": str(home.resolve()),
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
        client = len(self._processes)
        said: deque[str] = deque(maxlen=3)
        thread = threading.Thread(
            target=self._read, args=(client, process, said), name=f"mame-{client}", daemon=True
        )
        self._processes.append(process)
        self._threads.append(thread)
        self._said.append(said)
        thread.start()

    def _read(self, client: int, process: subprocess.Popen[str], said: deque[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                if not line.startswith("{"):
                    said.append(line.strip())
                    continue
                with contextlib.suppress(ValueError, KeyError):  # killed in the middle of a line
                    one = json.loads(line)
                    if "done" in one:
                        self._done.add(client)
                        continue
                    self.episodes.append(
                        MameEpisode(
                            client, one["return"], one["acts"], one["dqn"], one["expert"],
                            one["frames"],
                        )
                    )  # fmt: skip


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

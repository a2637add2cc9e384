"""The games of the audit: what one of its processes plays and writes down.

Every frame recommends an action of its own, never seen before. What each frame was answered with,
or what the game did instead (`took`), is logged; connections end now and then, with and without a
word. Imports neither torch nor the server.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Sequence
from functools import partial
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from protocol.actor import Actor
from understudy_client import Backoff, Client, Continuous, Discrete, Observation
from understudy_client.errors import Cancelled, ClientError, Reconnected

TOKEN = "token"
"""A file beside the port's, where the server asks for one."""

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


def play(
    index: int, seed: int, home: Path, stop: Event, *, steadfast: bool = False, pause_s: float = 0.0
) -> None:
    """One process that plays, logs and disconnects until it is told to stop. It reads from `home`
    where the server is (`tell`), one of several places where there are more, and leaves its log
    there, client-<index>.npz.

    `steadfast`: a server that goes away is waited for, also where it moves. `pause_s`: after each
    answer.
    """
    kind = "frames" if index % 2 == 0 else "frame"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    rng = np.random.default_rng([seed, index])
    log = TruthLog()
    token = home / TOKEN
    try:
        while not stop.is_set():
            address = _address(home, index)
            with (
                contextlib.suppress(*(Reconnected, Cancelled) if steadfast else ()),
                Client.connect(
                    *address,
                    token=token.read_text() if token.exists() else None,
                    client=f"audit/{index}",
                    game="audit",
                    observation=Observation("float32", (OBSERVATIONS,)),
                    actions=(
                        Discrete("choice", CHOICES),
                        Continuous("identity", 0.0, 1.0, IDENTITY),
                    ),
                    slots=SLOTS[kind],
                    backoff=Backoff(give_up_s=600.0) if steadfast else None,
                    cancelled=partial(_is_over, stop, home, index, address) if steadfast else None,
                    on_answer=(lambda *_: time.sleep(pause_s)) if pause_s else None,
                ) as client,
            ):
                pending, session = Pending(client.slots), client.session
                play_on = _play_frames if kind == "frames" else _play_frame
                try:
                    play_on(client, rng, log, stop, pending)
                finally:
                    pending.log(log, session, np.arange(client.slots))
                # One in two is gone without a word.
                client.close(bye=bool(rng.integers(2)))
    except ClientError as error:
        print(f"audit: player {index}: {error}", file=sys.stderr)
    finally:
        log.save(home / f"client-{index}.npz")


def tell(home: Path, places: Sequence[tuple[str, int]]) -> None:
    """Say where the server is: hosts and ports."""
    new = home / "port.new"
    new.write_text(" ".join(f"{host}:{port}" for host, port in places))
    new.replace(home / "port")


def _address(home: Path, index: int) -> tuple[str, int]:
    places = (home / "port").read_text().split()
    host, _, port = places[index % len(places)].rpartition(":")
    return host, int(port)


def _is_over(stop: Event, home: Path, index: int, address: tuple[str, int]) -> bool:
    return stop.is_set() or _address(home, index) != address


class TruthLog:
    """Truths of one player, in columns."""

    def __init__(self) -> None:
        self.parts: list[tuple[npt.NDArray[Any], ...]] = []

    def save(self, path: Path) -> None:
        if not self.parts:
            return
        names = (
            "session",
            "slot",
            "seq",
            "policy_version",
            "actor",
            "action",
            "recommended",
            "wrong",
        )
        columns = [np.concatenate(column) for column in zip(*self.parts, strict=True)]
        np.savez(path, allow_pickle=False, **dict(zip(names, columns, strict=True)))


def unique_actions(rng: np.random.Generator, n: int) -> npt.NDArray[np.float32]:
    """Action rows that nobody has seen before, [n, 1 + IDENTITY]."""
    rows = rng.random((n, 1 + IDENTITY), dtype=np.float32)
    rows[:, 0] = rng.integers(CHOICES, size=n)
    return rows


class Pending:
    """The last answers of a connection: they become truths when the next frame says what was
    really done."""

    def __init__(self, slots: int) -> None:
        self.alive = np.zeros(slots, np.bool_)
        self.answered = np.zeros(slots, np.bool_)
        self.actor = np.zeros(slots, np.uint8)
        self.action = np.zeros((slots, 1 + IDENTITY), np.float32)
        self.recommended = np.full((slots, 1 + IDENTITY), np.nan, np.float32)
        """NaN where nothing was."""
        self.policy_version = np.zeros(slots, np.uint32)
        self.seq = np.zeros(slots, np.int64)
        self.wrong = np.zeros(slots, np.bool_)

    def log(self, log: TruthLog, session: int, slots: npt.NDArray[np.int64]) -> None:
        """The truths of these slots, of those that were answered since; actor 0 and NaN where an
        episode had ended."""
        at = slots[self.answered[slots]]
        self.answered[at] = False
        if len(at):
            log.parts.append(
                (
                    np.full(len(at), session, np.int64),
                    at,
                    self.seq[at],
                    self.policy_version[at],
                    self.actor[at],
                    self.action[at],
                    self.recommended[at],
                    self.wrong[at],
                )
            )


def _play_frames(
    client: Client, rng: np.random.Generator, log: TruthLog, stop: Event, pending: Pending
) -> None:
    """All slots at once, until the next disconnect."""
    n = client.slots
    everyone = np.arange(n)
    for _ in range(int(rng.geometric(DISCONNECT))):
        if stop.is_set():
            break
        ends = pending.alive & (rng.random(n) < END)
        statuses = np.where(ends, rng.integers(1, 3, n), 0).astype(np.uint8)
        experts = unique_actions(rng, n)
        silent = rng.random(n) >= RECOMMEND
        experts[silent, 0] = np.nan
        took = pending.alive & (rng.random(n) < TOOK)
        instead, by = unique_actions(rng, n), rng.integers(1, 3, n).astype(np.uint8)
        pending.action[took], pending.actor[took] = instead[took], by[took]
        pending.log(log, client.session, everyone)
        answers = client.act_all(
            rng.standard_normal((n, OBSERVATIONS), dtype=np.float32),
            rng.standard_normal(n, dtype=np.float32),
            statuses,
            experts,
            (np.where(took[:, None], instead, 0).astype(np.float32), np.where(took, by, 0)),
        )
        pending.alive = answers.actors != 0
        pending.answered[:] = True
        pending.actor = answers.actors.copy()
        pending.action = answers.actions.copy()
        pending.recommended = np.where(silent[:, None], np.float32(np.nan), experts)
        pending.policy_version[:] = answers.policy_version
        pending.seq[:] = answers.seq
        recommended = (answers.actions == experts).all(axis=1)
        pending.wrong = pending.alive & (recommended != (answers.actors == Actor.EXPERT))
        pending.wrong |= pending.alive != (statuses == 0)


def _play_frame(
    client: Client, rng: np.random.Generator, log: TruthLog, stop: Event, pending: Pending
) -> None:
    """Slot by slot, until the next disconnect."""
    for _ in range(int(rng.geometric(DISCONNECT / 4))):
        if stop.is_set():
            break
        slot = int(rng.integers(client.slots))
        alive = bool(pending.alive[slot])
        status = int(rng.integers(1, 3)) if alive and rng.random() < END else 0
        row = unique_actions(rng, 1)[0]
        expert = _action(row) if rng.random() < RECOMMEND else None
        took = None
        if alive and rng.random() < TOOK:
            instead, by = unique_actions(rng, 1)[0], int(rng.integers(1, 3))
            took = (_action(instead), by)
            pending.action[slot], pending.actor[slot] = instead, by
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
        pending.answered[slot] = True
        pending.recommended[slot] = np.nan if expert is None else row
        pending.policy_version[slot] = answer.policy_version
        pending.seq[slot] = answer.seq
        pending.actor[slot] = answer.actor
        if answer.action is not None:
            got = np.array([answer.action[0], *answer.action[1]], np.float32)  # type: ignore[misc]
            pending.action[slot] = got
            recommended = expert is not None and bool((got == row).all())
            pending.wrong[slot] = recommended != (answer.actor == Actor.EXPERT) or status != 0
        else:
            pending.action[slot] = np.nan
            pending.wrong[slot] = answer.actor != 0 or status == 0


def _action(row: npt.NDArray[np.float32]) -> list[Any]:
    return [int(row[0]), [float(x) for x in row[1:]]]

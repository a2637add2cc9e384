"""Processes of the server that tell which settings they read, and what they found.

`os.environ[FILE]` names the file. A line of it: who read it, key, value. The replay has copies of
its settings, so it is `REPLAY` that tells what it samples with.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.replay import Batch, Replay
from config.models import Config, Section
from server.gateway import process as gateway_process
from server.trainer import process as trainer_process

FILE = "SETTINGS_SPY"

GATEWAY, TRAINER, REPLAY = "gateway", "trainer", "replay"

WARNINGS = "agent.health"
"""The module that reads settings to warn of numbers alone, and acts on none."""

Read = tuple[str, str, str]
"""One of the three above, key, and the repr of the value."""

# As they are before a test puts the two below in their place.
_gateway_main, _trainer_main = gateway_process.main, trainer_process.main


def gateway_main(*args: Any) -> None:
    """`gateway_process.main`, told on."""
    _spy(GATEWAY)
    _gateway_main(*args)


def trainer_main(*args: Any) -> None:
    """`trainer_process.main`, told on."""
    tell = _spy(TRAINER)
    sample = Replay.sample_several

    def sampled(replay: Replay, batch_size: int, batches: int) -> Batch:
        tell((REPLAY, "learner.n_step", repr(replay.n_step)))
        tell((REPLAY, "learner.gamma", repr(replay.gamma)))
        return sample(replay, batch_size, batches)

    Replay.sample_several = sampled  # type: ignore[method-assign]
    _trainer_main(*args)


def reads(path: Path) -> set[Read]:
    """What was read so far."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {tuple(json.loads(line)) for line in lines}


def _spy(process: str) -> Callable[[Read], None]:
    """From now on this process tells what it reads of each configuration that it is sent. Returns
    what tells of other reads."""
    prefixes: dict[int, str] = {}
    sent: list[Config] = []  # kept, so that no other object gets the id of a section
    told: set[Read] = set()
    file = os.open(os.environ[FILE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    setstate = Config.__setstate__

    def tell(line: Read) -> None:
        if line not in told:
            told.add(line)
            os.write(file, (json.dumps(line) + "\n").encode())

    def received(config: Config, state: dict[Any, Any]) -> None:
        setstate(config, state)
        sent.append(config)
        _number(config, "", prefixes)

    def read(section: Section, name: str) -> Any:
        value = object.__getattribute__(section, name)
        prefix = prefixes.get(id(section))
        setting = not name.startswith("_") and not isinstance(value, Section)
        reader = sys._getframe(1).f_globals["__name__"]
        if prefix is not None and setting and reader != WARNINGS:
            tell((process, prefix + name, repr(value)))
        return value

    Config.__setstate__ = received  # type: ignore[method-assign,assignment]
    Section.__getattribute__ = read  # type: ignore[method-assign,assignment]
    return tell


def _number(section: Section, prefix: str, prefixes: dict[int, str]) -> None:
    """Remember where in the configuration each section stands."""
    prefixes[id(section)] = prefix
    for name, value in section.__dict__.items():
        if isinstance(value, Section):
            _number(value, f"{prefix}{name}.", prefixes)

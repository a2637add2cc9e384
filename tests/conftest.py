"""Fixtures and settings that several test modules share."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from server.ipc import shared_memory

# Examples share two cores with servers of other tests: slow is no failure.
settings.register_profile("understudy", deadline=None)
settings.load_profile("understudy")


@pytest.fixture(autouse=True, scope="session")
def _few_threads() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _no_settings_from_outside() -> Iterator[None]:
    """What the person who runs the tests has set for a server of their own is not for these."""
    patch = pytest.MonkeyPatch()
    for name in list(os.environ):
        if name.startswith("UNDERSTUDY_"):
            patch.delenv(name)
    yield
    patch.undo()


@pytest.fixture(autouse=True)
def _umask_as_it_was() -> Iterator[None]:
    """Commands that write private files set it for their process: here, that of all tests."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)


@pytest.fixture
def no_leaks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fails if a test leaves shared memory or processes of its own behind."""
    made: list[str] = []

    def create(size: int, name: str | None = None) -> SharedMemory:
        memory = real(size, name)
        made.append(memory.name)
        return memory

    real = shared_memory.create
    monkeypatch.setattr(shared_memory, "create", create)
    processes = set(descendants(os.getpid()))
    yield
    deadline = time.monotonic() + 5.0
    # A process that has just been made does not say yet what it is.
    while (left := set(descendants(os.getpid())) - processes) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not left, f"processes were left behind: {[command_of(pid) for pid in left]}"
    assert not living_memory(made), "shared memory was left behind"


def living_memory(names: Iterable[str]) -> set[str]:
    """Of these names of shared memory, those that still exist."""
    return {name for name in names if Path("/dev/shm", name.lstrip("/")).exists()}


def descendants(pid: int) -> list[int]:
    """The living processes below this one, the tracker of shared memory (one for each test run,
    and it outlives its first user by design) left out."""
    found: list[int] = []
    for child in children(pid):
        if "resource_tracker" not in command_of(child):
            found.append(child)
        found += descendants(child)
    return found


def children(pid: int) -> list[int]:
    out: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            out += [int(word) for word in path.read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return [child for child in out if not is_zombie(child)]


def is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def end(pid: int) -> None:
    """Kill one process that a test has started, if it still lives."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the servers of a whole test run keep their runs."""
    return tmp_path_factory.mktemp("runs")

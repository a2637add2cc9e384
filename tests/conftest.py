"""Fixtures and settings that several test modules share."""

from __future__ import annotations

import gc

# What is imported and collected stays: looking through it again and again would be a quarter of the
# time that unit tests take. `_look_for_garbage` ends this.
gc.disable()

# ruff: noqa: E402

import os
import time
from collections.abc import Iterator
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from server.ipc import shared_memory
from tests.support.forked import fork_children, fork_workers
from tests.support.needs import to_install
from tests.support.processes import command_of, descendants, living_memory
from tests.support.scheduler import SideBySide, tell_alone
from tests.support.serve import serving

# Examples share two cores with servers of other tests: slow is no failure. `scripts/fuzz` tries
# millions of what comes from outside.
settings.register_profile("understudy", max_examples=30, deadline=None)
settings.load_profile("understudy")

UNIT = Path(__file__).parent / "unit"
MOST_OF_A_UNIT_TEST_S = 6.0
"""On cores that others use too; alone, the longest takes a sixth of that."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--promise", metavar="ID", help="only what proves this line of reliability.md")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """As many as there are cores; tests with servers wait as long as they compute."""
    cores = len(os.sched_getaffinity(0))
    unit = all(Path(arg).is_relative_to("tests/unit") for arg in config.args)
    return cores if unit else 2 * cores


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> SideBySide:
    _look_for_garbage()
    return SideBySide(config, log)


def pytest_collection_finish() -> None:
    _look_for_garbage()


def _look_for_garbage() -> None:
    """From now on, and in what comes from now on."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """The last line of all: what to install."""
    yield
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    if line := to_install(str(report.longrepr) for report in skipped):
        reporter.write_line(line, yellow=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """A unit test that takes long fails: thousands of them are to take less than a minute."""
    before = processor_s()
    yield
    took = processor_s() - before
    if item.path.is_relative_to(UNIT) and took > MOST_OF_A_UNIT_TEST_S:
        pytest.fail(
            f"expected at most {MOST_OF_A_UNIT_TEST_S} s of processor time, got {took:.1f} s; make "
            "the test smaller, or move it to tests/integration",
            pytrace=False,
        )


def processor_s() -> float:
    """What this process has had of the processors, with its children that have ended."""
    return sum(os.times()[:4])


def is_alone(item: pytest.Item) -> bool:
    return item.get_closest_marker("alone") is not None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if not item.path.is_relative_to(UNIT):
            # It waits for processes, on cores that others use too. The summary lists it as rerun.
            item.add_marker(pytest.mark.flaky(reruns=1))
    _sort(items)
    tell_alone(config, [item.nodeid for item in filter(is_alone, items)])
    wanted = config.getoption("--promise")
    if wanted is None:
        return
    chosen = [item for item in items if any(wanted in m.args for m in item.iter_markers("promise"))]
    if not chosen:
        raise pytest.UsageError(f"no test proves {wanted!r}; docs/reliability.md has the ids")
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen


def _sort(items: list[pytest.Item]) -> None:
    """The files that wait for processes, the longest first: no worker begins one of many tests when
    the others are at their end. Then the unit tests, which fill what is left, and those alone."""
    sizes = {path: path.stat().st_size for path in {item.path for item in items}}

    def place(item: pytest.Item) -> tuple[bool, bool, int]:
        unit = item.path.is_relative_to(UNIT)
        return is_alone(item), unit, 0 if unit else -sizes[item.path]

    items.sort(key=place)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, for the tests of a module that has the mark `needs_chromium`."""
    from tests.support.browser import chromium

    with chromium() as browser:
        yield browser


@pytest.fixture(autouse=True, scope="session")
def _few_threads() -> None:
    import torch  # the process that only distributes tests runs none of them, and does without it

    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _children_are_forked() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        fork_children(patch)
        fork_workers(patch)
        yield


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


serve = pytest.fixture(serving, name="serve")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the servers of a whole test run keep their runs."""
    return tmp_path_factory.mktemp("runs")

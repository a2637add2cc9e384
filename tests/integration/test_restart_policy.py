"""Who hangs, who is started again, and what is said of it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from config.models import SupervisionConfig
from server.ipc.heartbeat import LONG_S, Heartbeat, HeartbeatMonitor
from server.ipc.messages import GATEWAY
from server.supervisor.child import Child
from server.supervisor.restart_policy import LONGEST_PAUSE_S, STANDSTILL_S, RestartPolicy, cause
from tests.support.processes import descendants, end, is_zombie


def test_restart_pauses_double_until_the_last_restart() -> None:
    policy = RestartPolicy(SupervisionConfig(max_restarts=3, window_s=100.0, backoff_s=0.5))
    child = Child("gateway-0", GATEWAY)
    assert [policy.restart_in(child, now) for now in (0.0, 1.0, 2.0, 3.0)] == [0.5, 1.0, 2.0, None]
    assert "3 times within 100 s" in policy.refusal


def test_restarts_outside_the_window_do_not_count() -> None:
    policy = RestartPolicy(SupervisionConfig(max_restarts=1, window_s=100.0, backoff_s=0.5))
    child = Child("gateway-0", GATEWAY)
    assert policy.restart_in(child, 0.0) == 0.5
    assert policy.restart_in(child, 99.0) is None
    assert policy.restart_in(child, 101.0) == 0.5


def test_restarts_are_counted_per_child() -> None:
    policy = RestartPolicy(SupervisionConfig(max_restarts=1))
    first, second = Child("gateway-0", GATEWAY), Child("gateway-1", GATEWAY)
    assert policy.restart_in(first, 0.0) is not None
    assert policy.restart_in(second, 0.0) is not None
    assert policy.restart_in(first, 1.0) is None


def test_restart_pause_is_capped() -> None:
    policy = RestartPolicy(SupervisionConfig(max_restarts=2000, backoff_s=0.5))
    child = Child("gateway-0", GATEWAY)
    pauses = [policy.restart_in(child, 0.0) for _ in range(1500)]
    assert max(pause for pause in pauses if pause) == LONGEST_PAUSE_S


def test_restarts_switched_off_are_named_as_the_reason() -> None:
    policy = RestartPolicy(SupervisionConfig(max_restarts=0))
    assert policy.restart_in(Child("trainer", "trainer"), 0.0) is None
    assert "supervision.max_restarts is 0" in policy.refusal


def test_child_is_due_once_after_its_pause() -> None:
    policy = RestartPolicy(SupervisionConfig(backoff_s=2.0))
    child = Child("gateway-0", GATEWAY)
    policy.restart_in(child, 10.0)
    assert policy.due(11.9) == []
    assert policy.due(12.0) == [child]
    assert policy.due(13.0) == []


# Hanging.


def beating(heartbeat: Heartbeat, now: float = 0.0) -> Child:
    """A child as if it lived, with this heartbeat."""
    child = Child("trainer", "trainer")
    child.pipe, _ = multiprocessing.Pipe()
    child.monitor = HeartbeatMonitor(heartbeat, now)
    return child


def looks(policy: RestartPolicy, child: Child, start: float, stop: float) -> list[float]:
    """Look every second: when it was found to hang."""
    times = [start + i for i in range(int(stop - start) + 1)]
    return [now for now in times if policy.hung([child], now)]


def test_child_without_heartbeat_hangs() -> None:
    heartbeat, policy = Heartbeat(), RestartPolicy(SupervisionConfig(hang_timeout_s=5.0))
    heartbeat.beat()
    child = beating(heartbeat)
    assert looks(policy, child, 0.0, 5.0) == []
    assert looks(policy, child, 6.0, 8.0) == [6.0, 7.0, 8.0]
    heartbeat.beat()
    assert looks(policy, child, 9.0, 14.0) == []


def test_announced_silence_is_no_hang_until_the_next_beat() -> None:
    heartbeat, policy = Heartbeat(), RestartPolicy(SupervisionConfig(hang_timeout_s=5.0))
    heartbeat.beat()
    heartbeat.busy(20.0)
    child = beating(heartbeat)
    assert looks(policy, child, 0.0, 20.0) == []
    assert looks(policy, child, 21.0, 21.0) == [21.0]
    heartbeat.beat()
    assert looks(policy, child, 22.0, 30.0) == [28.0, 29.0, 30.0]


def test_starting_child_may_be_slow_but_not_forever() -> None:
    heartbeat, policy = Heartbeat(), RestartPolicy(SupervisionConfig(hang_timeout_s=5.0))
    found = looks(policy, beating(heartbeat), 0.0, LONG_S + 10)
    assert found
    assert found[0] == LONG_S + 1


def test_machine_that_slept_makes_no_child_hang() -> None:
    """A machine that slept: nobody looked, and nobody could beat."""
    heartbeat, policy = Heartbeat(), RestartPolicy(SupervisionConfig(hang_timeout_s=5.0))
    heartbeat.beat()
    child = beating(heartbeat)
    assert looks(policy, child, 0.0, 1.0) == []
    later = 1.0 + STANDSTILL_S + 1000.0
    assert looks(policy, child, later, later + 5.0) == []
    assert looks(policy, child, later + 6.0, later + 6.0)


# Words.


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (1, "exit code 1"),
        (-9, "killed by SIGKILL"),
        (-9, "ran out of memory"),
        (-11, "killed by SIGSEGV"),
        (-7, "shared memory or the disk behind it is full"),
        (-99, "signal 99"),
    ],
)
def test_exit_codes_are_described_in_words(code: int, words: str) -> None:
    assert words in cause(code)


# A child without a parent, for real.


@pytest.mark.timeout(120)
@pytest.mark.promise("kill-supervisor")
def test_hanging_children_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    """One in its loop, and one that was stopped."""
    command = [sys.executable, "-m", "tests.support.hanging_children", str(tmp_path)]
    parent = subprocess.Popen(command, cwd=Path(__file__).parents[2])
    files = [tmp_path / "one", tmp_path / "two"]
    try:
        deadline = time.monotonic() + 60.0
        while not all(file.exists() for file in files) and time.monotonic() < deadline:
            time.sleep(0.02)
        pids = [int(file.read_text()) for file in files]
        assert set(pids) <= set(descendants(parent.pid))
        os.kill(pids[1], signal.SIGSTOP)
    finally:
        parent.kill()
        parent.wait()
    # It is to take 10 s at most; the rest is for a machine that is busy.
    deadline = time.monotonic() + 30.0
    while not all(map(is_zombie, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    left = [pid for pid in pids if not is_zombie(pid)]
    for pid in left:
        end(pid)
    assert not left, "they live on without their parent"

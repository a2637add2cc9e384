"""`understudy record` as its users start and stop it."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent import recording
from agent.step import FINAL, STEP
from server import cli
from tests.support.commands import in_this_process
from tests.support.preloaded import Understudy
from tests.support.processes import descendants, end, is_zombie
from tests.support.running import RawClient, obs_of
from tests.support.worlds import DQN, EXPERT, SPEC
from understudy_client.experts import find, returns

pytestmark = pytest.mark.timeout(300)

ROOT = Path(__file__).parents[2]
HYBRID = "LunarLanderHybrid-v3"
OWN = [3, [0.25, 0.5]]


class Command:
    """`understudy record` in a process of its own."""

    def __init__(self, *options: str, **environment: str) -> None:
        here = {"PYTHONPATH": f"{os.environ.get('PYTHONPATH', '')}:{ROOT / 'tests'}"}
        self.process = Understudy(
            "record", *options, env=os.environ | here | environment,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def port(self) -> int:
        """Where it listens."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"connects to 127\.0\.0\.1:(\d+)", line)
        assert found, line
        return int(found[1])

    def finish(self, number: signal.Signals | None = None) -> tuple[int, str, str]:
        """Send a signal, if any, and wait: exit code, stdout, stderr."""
        if number is not None:
            self.process.send_signal(number)
        out, errors = self.process.communicate(timeout=200)
        return self.process.returncode, out, errors

    def kill(self) -> None:
        for pid in descendants(self.process.pid):
            end(pid)
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def record() -> Iterator[Any]:
    made: list[Command] = []

    def start(*options: str, **environment: str) -> Command:
        made.append(Command(*options, **environment))
        return made[-1]

    yield start
    for command in made:
        if command.process.poll() is None:
            command.kill()


def test_record_with_own_games_writes_a_recording(tmp_path: Path) -> None:
    out = tmp_path / "demo.npz"
    code, said, errors = in_this_process(
        "record", "--out", str(out), "--env", HYBRID, "--clients", "2", "--episodes", "3",
        "--seed", "40",
    )  # fmt: skip
    assert (code, errors) == (0, "")
    found = recording.read(out)
    expert = find(HYBRID)
    assert expert is not None
    # Exactly the episodes that the expert plays without a server, whoever plays them.
    alone = returns(HYBRID, expert, 3, seed=40)
    assert sorted(found.returns()) == pytest.approx(sorted(alone), abs=1e-3)
    assert found.spec.game == HYBRID
    assert found.steps(EXPERT) > 0
    assert found.steps(DQN) == 0
    assert np.count_nonzero(found.rows.kind == FINAL) == 3
    steps = found.steps(EXPERT)
    assert f"3 complete episodes, steps: {steps:,} of expert, mean return " in said
    assert [path.name for path in tmp_path.iterdir()] == ["demo.npz"]


def test_record_of_connecting_games_keeps_rows_and_tags(record: Any, tmp_path: Path) -> None:
    """An expert that recommends, a person at the controls, and frames with nobody at all: every row
    is as it was sent, and says who played it. Ctrl-C in the middle of an episode keeps all."""
    settings = tmp_path / "training.toml"
    settings.write_text(
        "[expert.ratio]\nstart = 0.0\nend = 0.0\n[reward]\nclip = 1.0\n"
        "weights = {reward = 0.5}\n[server]\nport = 0\n"
    )
    out = tmp_path / "demo.npz"
    command = record("--out", str(out), "--config", str(settings))
    client = RawClient(command.port(), timeout_s=40.0).welcome()
    own = OWN
    answers = []
    for seq in range(12):
        ended = seq in (5, 11)
        answers.append(
            client.frame(
                seq,
                reward=float(seq),
                status=0 if not ended else 1 + (seq > 5),
                expert=own if seq % 3 == 0 and not ended else None,
                took=[own, EXPERT] if seq % 3 == 2 and seq > 0 else None,
            )
        )
    client.frame(12, expert=own)
    client.frame(13, expert=own)
    code, said, errors = command.finish(signal.SIGINT)
    assert (code, errors) == (0, "")
    client.close()
    found = recording.read(out, spec=SPEC)
    rows = found.rows
    assert rows.seq.tolist() == list(range(14))
    assert rows.kind.tolist() == [FINAL if seq in (5, 11, 13) else STEP for seq in range(14)]
    # A recommendation is followed; `took` says what a person did instead; else it was the network.
    for seq in range(11):
        if seq == 5:
            continue
        by_expert = seq % 3 == 0 or (seq + 1) % 3 == 2
        assert rows.actor[seq] == (EXPERT if by_expert else DQN), seq
        told = answers[seq][3]
        sent = own if by_expert else told
        assert rows.action[seq].tolist() == pytest.approx([sent[0], *sent[1]])
        assert rows.reward[seq] == (seq + 1) * 0.5, "weighted, and not clipped"
    assert rows.obs[7].tobytes() == obs_of(7)
    assert rows.status[[4, 10, 12]].tolist() == [1, 2, 0]
    assert found.reward_weights == (0.5,)
    assert found.returns().tolist() == [0.5 * sum(range(1, 6)), 0.5 * sum(range(7, 12))]
    assert "2 of dqn, 9 of expert (4 by a person who took over, 4 times), mean return 15.0" in said


def test_record_of_connecting_games_ends_after_its_episodes(record: Any, tmp_path: Path) -> None:
    """It ends by itself, with the token of its own environment."""
    out = tmp_path / "demo.npz"
    command = record(
        "--out", str(out), "--port", "0", "--episodes", "2", UNDERSTUDY_SERVER__TOKEN="secret"
    )
    client = RawClient(command.port(), timeout_s=40.0).welcome(token="secret")
    stop = threading.Event()

    def play() -> None:
        with contextlib.suppress(OSError):
            for seq in range(10**6):
                ended = seq % 5 == 4
                answer = client.frame(seq, status=int(ended), expert=None if ended else [0, [0, 0]])
                if answer is None or answer[0] == 15 or stop.is_set():
                    return

    thread = threading.Thread(target=play)
    thread.start()
    try:
        code, _, errors = command.finish()
    finally:
        stop.set()
        thread.join(10)
        client.close()
    assert (code, errors) == (0, "")
    assert len(recording.read(out).returns()) >= 2


@pytest.mark.parametrize("dies", ["gateway", "trainer"])
def test_record_with_a_dead_process_keeps_rows_and_fails(
    record: Any, tmp_path: Path, dies: str
) -> None:
    """What was played is written while there is somebody who has it; and it is no success."""
    out = tmp_path / "demo.npz"
    command = record("--out", str(out), "--port", "0")
    client = RawClient(command.port(), timeout_s=40.0).welcome()
    for seq in range(4):
        client.frame(seq, expert=[0, [0, 0]])
    gateway, trainer = sorted(descendants(command.process.pid))
    os.kill(gateway if dies == "gateway" else trainer, signal.SIGKILL)
    code, _, errors = command.finish()
    client.close()
    assert code == 1
    assert errors.count("\n") == 1
    assert "understudy record: " in errors
    assert ("died (killed by SIGKILL" if dies == "gateway" else "the trainer ended") in errors
    if dies == "gateway":
        # It may have been between an answer and the ring.
        assert recording.read(out).steps(EXPERT) in (2, 3)
    else:
        assert list(tmp_path.iterdir()) == []


ENV = "tests.support.failing_envs:Crash-v0"
"""Ten steps an episode, a reward of 1 for each; from the seed 3000 on none fails."""

GAMES = ("--env", ENV, "--expert", "tests.support.failing_envs:advise", "--clients", "3")


def imported(out: Path, run: Path) -> str:
    """What `understudy import` prints of a file."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert cli.main(["import", str(out), "--run", str(run)]) == 0
    return said.getvalue()


@pytest.mark.promise("record-killed")
@pytest.mark.parametrize("whom", ["command", "everything"])
def test_killed_recording_keeps_every_episode_that_had_ended(
    record: Any, tmp_path: Path, whom: str
) -> None:
    out = tmp_path / "demo.npz"
    command = record("--out", str(out), *GAMES, "--seed", "3000")
    wait_for(lambda: written(out) and len(recording.read(out).returns()) >= 20)
    below = descendants(command.process.pid)
    before = len(recording.read(out).returns())
    command.process.kill()
    if whom == "everything":
        for pid in below:
            end(pid)
    command.process.communicate()
    wait_for(lambda: not set(below) & living(below))
    found = recording.read(out)
    returns = found.returns()
    assert len(returns) >= before
    assert set(returns.tolist()) == {10.0}
    # Nothing is there twice or halved: all but the last of each stream are whole.
    assert found.steps(EXPERT) - 10 * len(returns) < 3 * 10
    assert f"{len(returns)} complete episodes" in imported(out, tmp_path / "run")


@pytest.mark.promise("record-killed")
def test_episode_is_in_the_file_while_the_next_one_is_played(record: Any, tmp_path: Path) -> None:
    out = tmp_path / "demo.npz"
    command = record("--out", str(out), "--port", "0")
    client = RawClient(command.port(), timeout_s=40.0).welcome()
    for seq in range(5):
        client.frame(seq, reward=1.0, status=int(seq == 4), expert=None if seq == 4 else OWN)
    client.frame(5, expert=OWN)
    client.frame(6, expert=OWN)
    wait_for(lambda: written(out))
    assert recording.read(out).rows.seq.tolist() == [0, 1, 2, 3, 4]
    command.kill()
    client.close()
    assert recording.read(out).returns().tolist() == [4.0]


@pytest.mark.promise("game-fails")
def test_game_that_fails_begins_again_and_its_episode_is_recorded_as_cut(
    tmp_path: Path,
) -> None:
    out = tmp_path / "demo.npz"
    code, said, errors = in_this_process(
        "record", "--out", str(out), *GAMES, "--episodes", "6", "--seed", "0"
    )
    assert code == 0, errors
    assert "RuntimeError: the emulator has crashed" in errors
    assert "understudy record: game 1 failed 2 times, begun again: " in errors
    assert "6 complete episodes" in said
    found = recording.read(out)
    assert found.returns().tolist() == [10.0] * 6
    # Of the fifth step nobody knows what it earned.
    assert found.steps(EXPERT) == 6 * 10 + 2 * 4


def test_recording_ends_when_all_games_are_given_up(tmp_path: Path) -> None:
    out = tmp_path / "demo.npz"
    always = [word.replace("Crash", "CrashAlways") for word in GAMES]
    code, _, errors = in_this_process(
        "record", "--out", str(out), *always, "--clients", "1", "--seed", "1", "--restarts", "1"
    )
    assert code == 1
    assert "all games were given up" in errors
    # What was played is there all the same.
    assert recording.read(out).steps(EXPERT) == 2 * 4


def living(pids: list[int]) -> set[int]:
    return {pid for pid in pids if not is_zombie(pid)}


def written(out: Path) -> bool:
    """An episode is there: the file is made a moment before it has its first."""
    return out.exists() and out.stat().st_size > 0


def wait_for(condition: Any, timeout_s: float = 90.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def test_record_without_steps_writes_nothing(record: Any, tmp_path: Path) -> None:
    out = tmp_path / "demo.npz"
    command = record("--out", str(out), "--port", "0")
    command.port()
    code, _, errors = command.finish(signal.SIGTERM)
    assert (code, out.exists()) == (1, False)
    assert errors == "understudy record: nothing was played, so no file is written\n"


def test_record_options_that_conflict_are_refused(tmp_path: Path) -> None:
    (tmp_path / "there.npz").write_text("mine")
    for options, message in (
        (["--out", str(tmp_path / "there.npz")], "exists; name a new file"),
        (["--out", str(tmp_path / "demo.bin")], "ends in .npz"),
        (["--out", str(tmp_path / "none/demo.npz")], "there is no folder"),
        (["--out", str(tmp_path / "d.npz"), "--weaken", "0.5"], "--weaken needs --env"),
        (["--out", str(tmp_path / "d.npz"), "--expert", "a:b"], "--expert needs --env"),
        (["--out", str(tmp_path / "d.npz"), "--env", "CartPole-v1"], "no expert is known"),
        (
            ["--out", str(tmp_path / "d.npz"), "--env", HYBRID, "--expert", "no:f"],
            "No module named 'no'",
        ),
        (["--out", str(tmp_path / "d.npz"), "--port", "99999"], "from 0 to 65535"),
        (["--out", str(tmp_path / "d.npz"), "--config", "no-such.toml"], "cannot read"),
    ):
        code, _, errors = in_this_process("record", *options)
        assert (code, len(errors.splitlines())) == (2, 1), errors
        assert message in errors
    assert (tmp_path / "there.npz").read_text() == "mine"

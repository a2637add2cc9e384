"""Folders of runs that cannot be gone on with as they are: each start ends, or goes on, with a
message that says what is wrong and what to do."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent import checkpoint, journal
from agent.journal import Journal, Position
from agent.step import StepBlock
from server import cli
from server.control.unix_socket import ask
from server.ipc import shared_memory
from tests.support.commands import in_this_process
from tests.support.folders import begun
from tests.support.preloaded import completed
from tests.support.processes import descendants, end, everything_below, is_zombie, living_memory
from tests.support.serve import SMALL, memory_of, play
from tests.support.trainer import World, config_with, played
from tests.support.worlds import SPEC

pytestmark = [pytest.mark.usefixtures("no_leaks"), pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped in order, with 100 steps."""
    path = tmp_path_factory.mktemp("finished") / "run"
    config = config_with(run__dir=str(path), server__port=0)
    folder = begun(config)
    folder.keep_game(SPEC)
    folder.close()
    world = World(path)
    try:
        for start in range(0, 100, 10):
            world.play(played(start, 10))
            world.until(lambda n=start + 10: world.metrics.get("steps_stored") == n, "it is stored")
        world.stop()
    finally:
        world.close()
    return path


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def run_serve(run: Path) -> tuple[int, str]:
    """Go on with a run: exit code, and what was said."""
    code, _, errors = in_this_process("serve", "--resume", str(run))
    return code, errors


def run_serve_without_override(run: Path) -> tuple[int, str]:
    """The same in a process of its own, for which permissions count though it may be root's."""
    first = without_override if os.geteuid() == 0 else None
    done = completed("serve", "--resume", str(run), first=first, timeout=120)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


@pytest.mark.promise("foreign-rows")
def test_resume_refuses_a_folder_with_rows_of_another_game(run: Path) -> None:
    other = msgspec.structs.replace(SPEC, game="another")
    shutil.rmtree(run / journal.FOLDER)
    writer = Journal(run / journal.FOLDER, other, 1000, Position())
    writer.append(StepBlock.empty(other, 3))
    writer.close()
    code, said = run_serve(run)
    assert code == 2
    assert "holds rows of another game" in said
    assert f"start a new run, or move {run / journal.FOLDER} away" in said


@pytest.mark.promise("unusable-folder")
def test_resume_refuses_a_folder_that_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"sun")
    code, said = run_serve(tmp_path)
    assert code == 2
    assert str(tmp_path) in said
    assert (tmp_path / "holiday.jpg").read_bytes() == b"sun"


@pytest.mark.promise("truncated-checkpoint")
def test_resume_refuses_a_truncated_checkpoint(run: Path) -> None:
    path = checkpoint.latest(run / "checkpoints")
    assert path
    path.write_bytes(path.read_bytes()[:-500])
    code, said = run_serve(run)
    assert code == 2
    assert f"{path}: expected a complete checkpoint" in said
    assert "remove it to resume from the checkpoint before it" in said
    path.unlink()  # as it says


@pytest.mark.promise("damaged-rows")
def test_resume_drops_a_damaged_block_and_names_it(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (path,) = journal.segments(run / journal.FOLDER)
    data = bytearray(path.read_bytes())
    data[data.index(played(20, 10).obs.tobytes())] ^= 1
    path.write_bytes(data)
    world = World(run, resume=True)
    try:
        row = world.reports()
        assert row["buffer_total"] == 90
        assert row["frames"] == 100
    finally:
        world.close()
    (said,) = [r.getMessage() for r in caplog.records if "damaged" in r.getMessage()]
    assert str(path) in said
    assert "10 rows in them are dropped, all others are used" in said


def without_override() -> None:
    """Have permissions count for root too, in this process and those that are forked from it."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; then those over 31
    for call in (libc.capget, libc.capset):
        if call(header, sets):
            raise OSError(ctypes.get_errno(), "cannot drop a capability")
        sets[0] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH


@pytest.mark.parametrize("part", [".", "replay"])
@pytest.mark.promise("unusable-folder")
def test_resume_refuses_a_folder_without_write_permission(run: Path, part: str) -> None:
    folder = run / part
    folder.chmod(0o500)
    try:
        code, said = run_serve_without_override(run)
    finally:
        folder.chmod(0o700)
    assert code == 2
    assert "Permission denied" in said
    assert str(folder) in said
    assert not descendants(os.getpid())


@pytest.mark.promise("stale-leftovers")
def test_resume_cleans_up_after_a_killed_server(
    serve: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody could tidy up: its lock, its socket and its shared memory are still there."""
    config, path = tmp_path / "small.toml", tmp_path / "run"
    config.write_text(SMALL)
    options = ("--server.http_port", "none")
    first = serve("--config", str(config), "--run", str(path), *options)
    client = first.client()
    play(client, 50)
    memory = memory_of(first.process.pid)
    assert len(memory) == 2, "a ring and a weight slot"
    # The tracker of shared memory, too, which would remove it.
    pids = everything_below(first.process.pid)
    assert len(pids) == 4, "that, what forks, a gateway, a trainer"
    first.process.send_signal(signal.SIGSTOP)  # so that it does not see the others' end
    for pid in pids:
        end(pid)
    first.process.kill()
    first.process.wait()
    client.close()
    deadline = time.monotonic() + 30.0
    while not all(map(is_zombie, pids)):
        assert time.monotonic() < deadline, "they live on"
        time.sleep(0.02)
    try:
        assert living_memory(memory) == memory
        names = {each.name for each in path.iterdir()}
        assert {"lock", "trainer-lock", "control.sock", "in-flight", "shared-memory"} <= names

        assert cli.main(["set", "--run", str(path), "expert.ratio=0.5"]) == 1
        said = capsys.readouterr().err
        assert f"no server is running for {path}; pass the folder of a run" in said

        second = serve("--resume", str(path), *options)
        with second.client() as client:
            play(client, 50)
            assert ask(path, {"set": {"expert.ratio": 0.5}})["changes"]
        assert not living_memory(memory)
        second.stop()
    finally:
        for name in memory:
            shared_memory.remove(name)
    assert second.finish() == (0, "")
    log = (path / "understudy.log").read_text()
    assert "the previous run did not shut down cleanly" in log
    assert "MB of shared memory of a server that was killed" in log
    assert not (path / "shared-memory").exists()

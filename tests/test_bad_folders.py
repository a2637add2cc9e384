"""Folders of runs that cannot be gone on with as they are: each start ends, or goes on, with a
message that says what is wrong and what to do."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from conftest import descendants
from test_trainer import World, config_with, played
from worlds import SPEC

from agent import checkpoint, journal
from agent.journal import Journal, Position
from agent.step import StepBlock
from server.rundir import RunFolder

pytestmark = [pytest.mark.usefixtures("no_leaks"), pytest.mark.timeout(300)]

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped in order, with 100 steps."""
    path = tmp_path_factory.mktemp("finished") / "run"
    config = config_with(run__dir=str(path), server__port=0)
    folder = RunFolder.open(config, resume=False)
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


def serve(run: Path, before: Callable[[], None] | None = None) -> tuple[int, str]:
    """Go on with a run: exit code, and what was said."""
    done = subprocess.run(
        [sys.executable, "-m", "server", "serve", "--resume", str(run)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        preexec_fn=before,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def test_rows_of_another_game_in_the_folder(run: Path) -> None:
    other = msgspec.structs.replace(SPEC, game="another")
    shutil.rmtree(run / journal.FOLDER)
    writer = Journal(run / journal.FOLDER, other, 1000, Position())
    writer.append(StepBlock.empty(other, 3))
    writer.close()
    code, said = serve(run)
    assert code == 2
    assert "holds rows of another game" in said
    assert f"start a new run, or move {run / journal.FOLDER} away" in said


def test_a_folder_that_holds_something_else(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"sun")
    code, said = serve(tmp_path)
    assert code == 2
    assert str(tmp_path) in said
    assert (tmp_path / "holiday.jpg").read_bytes() == b"sun"


def test_a_truncated_checkpoint(run: Path) -> None:
    path = checkpoint.latest(run / "checkpoints")
    assert path
    path.write_bytes(path.read_bytes()[:-500])
    code, said = serve(run)
    assert code == 2
    assert f"{path}: expected a complete checkpoint" in said
    assert "remove it to go on from the one before it" in said
    path.unlink()  # as it says


def test_a_flipped_bit_in_the_replay(run: Path, caplog: pytest.LogCaptureFixture) -> None:
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
    """Have permissions count for root too."""
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        if libc.prctl(24, capability, 0, 0, 0):  # PR_CAPBSET_DROP
            raise OSError(ctypes.get_errno(), "cannot drop a capability")


@pytest.mark.parametrize("part", [".", "replay"])
def test_a_folder_that_cannot_be_written_to(run: Path, part: str) -> None:
    folder = run / part
    folder.chmod(0o500)
    try:
        code, said = serve(run, without_override if os.geteuid() == 0 else None)
    finally:
        folder.chmod(0o700)
    assert code == 2
    assert "Permission denied" in said
    assert str(folder) in said
    assert not descendants(os.getpid())

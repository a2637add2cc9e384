"""A run's folder that was copied while its server ran: it goes on, and takes nothing away."""

from __future__ import annotations

import secrets
import subprocess
from pathlib import Path

import pytest

from server.cli import main
from server.ipc import shared_memory
from tests.support.processes import living_memory
from tests.support.running import Bystander, Running


@pytest.mark.promise("copied-run")
def test_copy_of_a_running_run_starts_beside_it_and_both_play(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, copy = tmp_path / "run", tmp_path / "copy"
    with Running(run, checkpoint__every_s=1000) as first:
        game = Bystander(first.port)
        first.until(lambda: first.row.get("updates", 0) > 20, "it learns", 60.0)
        saved = first.do(lambda: first.supervisor.controller.handle({"checkpoint": True}, "test"))
        assert "error" not in saved.result(60.0)
        frames = first.row["frames"]
        subprocess.run(["cp", "-a", str(run), str(copy)], check=True)
        memory = {ring.name for ring in first.supervisor._processes.rings}
        assert living_memory(memory) == memory
        # The copy's last block may be cut; all else is whole.
        assert main(["inspect", str(copy)]) in (0, 1)
        with Running(copy, resume=True) as second:
            assert living_memory(memory) == memory, "the first server's memory is still its own"
            other = Bystander(second.port)
            second.until(lambda: (second.row.get("frames") or 0) > frames, "it plays on", 60.0)
            assert "did not shut down cleanly" in second.log()
            before = first.wait_rows()["frames"]
            first.until(lambda: first.row["frames"] > before, "the first one plays on, too")
            other.stop()
            second.settle()
            # What was in flight when the copy was made is lost in it, and counted.
            second.close(check=False)
            assert second.error is None
        game.stop()
    assert main(["inspect", str(run)]) == 0
    assert main(["inspect", str(copy)]) == 0
    capsys.readouterr()


def test_shared_memory_is_removed_for_the_run_itself_and_not_for_a_copy(tmp_path: Path) -> None:
    run, copy = tmp_path / "run", tmp_path / "copy"
    run.mkdir()
    memory = Path("/dev/shm", f"psm_{secrets.token_hex(8)}")
    memory.write_bytes(bytes(4096))
    try:
        shared_memory.note(run, [memory.name])
        subprocess.run(["cp", "-a", str(run), str(copy)], check=True)
        assert shared_memory.remove_left(copy) == 0
        assert memory.exists()
        moved = run.rename(tmp_path / "moved")
        assert shared_memory.remove_left(moved) == 4096, "a folder that was moved is the same one"
        assert not memory.exists()
        # As an earlier revision wrote it.
        memory.write_bytes(bytes(4096))
        (moved / shared_memory.FILE).write_text(f"{memory.name}\n")
        assert shared_memory.remove_left(moved) == 4096
    finally:
        memory.unlink(missing_ok=True)

"""A disk that is full, and files that cannot be written: nothing good is replaced by half of what
was to come, it is said once, and what serves goes on."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from agent import checkpoint
from agent.files import append_whole
from config.models import Config
from server.run.directory import append_lines
from server.run.disk import Writes, reason
from tests.support.folders import begun
from tests.support.needs import missing
from tests.support.worlds import SPEC

ROOT = Path(__file__).parents[2]

STATE = {"learner": {"w": torch.zeros(200_000)}}


PRELUDE = """
import os, sys
from pathlib import Path

DISK = Path(sys.argv[1])

def fill():
    "To the last byte, but for a few: a part of what comes next still fits."
    with (DISK / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass
"""


def in_a_full_disk(script: str, size: str = "256k") -> None:
    """Run a script whose folder DISK is a file system of this size, of its own and gone with it."""
    program = PRELUDE + textwrap.dedent(script)
    command = f'mount -t tmpfs -o size={size} none "$1" && exec "$2" -c "$3" "$1"'
    folder = Path(os.environ["FULL_DISK"])
    done = subprocess.run(
        [
            "unshare",
            "-m",
            "sh",
            "-c",
            command,
            "sh",
            str(folder),
            sys.executable,
            program,
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A place for a small file system. Skips where none can be mounted."""
    (tmp_path / "disk").mkdir()
    monkeypatch.setenv("FULL_DISK", str(tmp_path / "disk"))
    probe = [
        "unshare",
        "-m",
        "mount",
        "-t",
        "tmpfs",
        "-o",
        "size=64k",
        "none",
        str(tmp_path / "disk"),
    ]
    try:
        done = subprocess.run(probe, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip(missing("unshare"))
    if done.returncode:
        pytest.skip(f"no file system can be mounted here, be root: {done.stderr.strip()}")


@pytest.mark.usefixtures("full_disk")
@pytest.mark.promise("disk-full")
def test_full_disk_leaves_every_file_as_it_was() -> None:
    in_a_full_disk(
        """
        import errno, json, logging
        import torch
        from agent import checkpoint
        from agent.files import append_whole, written_whole
        from config.models import Config
        from server.run.logs import LogFile
        from server.run.directory import append_lines, write_effective

        def fails(act):
            try:
                act()
            except OSError as error:
                assert error.errno == errno.ENOSPC, repr(error)
            else:
                raise AssertionError("it was written on a full disk")

        small = {"learner": {"w": torch.ones(10)}}
        checkpoint.save(DISK / "update-1.pt", small)
        write_effective(Config(), DISK)
        before = (DISK / "config.toml").read_bytes()
        log = LogFile(DISK / "a.log")
        log.begin()
        line = lambda text: log.emit(logging.LogRecord("x", 30, "", 0, text, None, None))
        line("first")
        append_lines(DISK / "rows.jsonl", [{"a": 1}])
        fill()
        rows, said = (DISK / "rows.jsonl").read_bytes(), (DISK / "a.log").read_bytes()

        fails(lambda: checkpoint.save(DISK / "update-1.pt", {"learner": {"w": torch.zeros(99999)}}))
        assert torch.equal(checkpoint.load(DISK / "update-1.pt")["learner"]["w"], torch.ones(10))
        fails(lambda: checkpoint.save(DISK / "best.pt", {"learner": {"w": torch.zeros(99999)}}))
        assert not (DISK / "best.pt").exists()
        def whole():
            with written_whole(DISK / "config.toml") as file:
                file.write(b"y" * 10000)
        fails(whole)
        settings = {f"x{i}": "y" * 1000 for i in range(10)}
        big = Config.model_validate({"server": {"settings": settings}})
        fails(lambda: write_effective(big, DISK))
        assert (DISK / "config.toml").read_bytes() == before
        # What still fits into the block of a file may be written; then nothing is, or all.
        fails(lambda: append_lines(DISK / "rows.jsonl", [{"b": "z" * 10000}]))
        assert (DISK / "rows.jsonl").read_bytes() == rows, "half a line"
        for _ in range(50):
            line("v" * 10000)
        assert (DISK / "a.log").read_bytes() == said, "half a line"
        assert LogFile.failed == 50
        assert sorted(p.name for p in DISK.iterdir()) == [
            "a.log", "config.toml", "filler", "rows.jsonl", "update-1.pt"], list(DISK.iterdir())

        (DISK / "filler").unlink()
        append_lines(DISK / "rows.jsonl", [{"c": 3}])
        line("last")
        assert [json.loads(x) for x in (DISK / "rows.jsonl").open()] == [{"a": 1}, {"c": 3}]
        assert (DISK / "a.log").read_text().splitlines() == ["first", "last"]
        checkpoint.save(DISK / "update-1.pt", {"learner": {"w": torch.zeros(99)}})
        """
    )


@pytest.mark.usefixtures("full_disk")
@pytest.mark.promise("disk-full")
def test_full_disk_server_keeps_serving_and_logs_it_once() -> None:
    in_a_full_disk(
        """
        sys.path[:0] = ["tests", "clients/python"]
        import json, time
        from tests.support.running import RawClient, Running
        from agent import checkpoint

        if __name__ == "__main__":
            run = DISK / "run"
            settings = {
                "checkpoint__every_s": 0.3, "metrics__every_s": 0.3, "metrics__tensorboard": True,
            }
            with Running(run, **settings) as server, RawClient(server.port, 60) as client:
                client.welcome()
                seq = 0
                def play(n):
                    global seq
                    for _ in range(n):
                        assert client.frame(seq)[0] == 12
                        seq += 1
                play(60)
                server.until(lambda: checkpoint.latest(run / "checkpoints"), "it saves", 60)
                fill()
                def failed(name, n):
                    play(20)
                    return server.row.get(name, 0) >= n
                server.until(lambda: failed("checkpoints_failed", 2), "checkpoints fail", 60)
                server.until(lambda: failed("writes_failed", 3), "writes fail", 60)
                newest = checkpoint.latest(run / "checkpoints")
                checkpoint.load(newest)
                before = server.row["updates"]
                def learns():
                    play(20)
                    return server.row["updates"] > before
                server.until(learns, "it goes on learning", 60)
                (DISK / "filler").unlink()
                def saved():
                    play(20)
                    return checkpoint.latest(run / "checkpoints") != newest
                server.until(saved, "it saves again", 60)
                server.until(lambda: "can be written again" in server.log(), "it says so", 60)
                client.send([5])
                client.rest()
                server.settle()
            assert checkpoint.load(checkpoint.latest(run / "checkpoints"))["frames"] > 100
            for line in (run / "metrics.jsonl").read_text().splitlines():
                json.loads(line)
        """,
        size="8m",
    )


@pytest.mark.usefixtures("full_disk")
@pytest.mark.promise("disk-full", "refused-start")
def test_full_disk_refuses_a_start_and_changes_nothing() -> None:
    """With room for nothing, and with room for some of the files that it writes."""
    in_a_full_disk(
        """
        sys.path[:0] = ["tests", "clients/python"]
        from tests.support.photograph import differences, photograph
        from tests.support.running import RawClient, Running

        def give_back(pages):
            file = DISK / "filler"
            os.truncate(file, file.stat().st_size // 4096 * 4096 - 4096 * pages)

        def refused():
            with Running(DISK / "run", resume=True) as server:
                try:
                    server.until(lambda: server.supervisor.frames is not None, "it is loaded", 60)
                except AssertionError:
                    assert "No space left" in str(server.error), server.error
                    server.error = None
                    server.close(check=False)
                    return True
            return False

        if __name__ == "__main__":
            run = DISK / "run"
            with Running(run) as server, RawClient(server.port, 60) as client:
                client.welcome()
                for seq in range(60):
                    assert client.frame(seq)[0] == 12
            fill()
            before = photograph(run)
            for pages in (0, 3):
                give_back(pages)
                assert refused()
                assert differences(before, photograph(run)) == []
        """,
        size="4m",
    )


# Without a full disk.


def test_write_failure_and_recovery_are_logged_once_each(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    writes = Writes(logging.getLogger("trainer"), "training continues")
    for _ in range(1000):
        with writes.tried("checkpoints") as errors:
            raise OSError(errno.ENOSPC, "No space left on device")
        assert errors
    with writes.tried("metrics"):
        pass
    assert writes.failed == 1000
    (record,) = caplog.records
    assert (
        "could not write checkpoints: No space left on device: the disk is full" in record.message
    )
    assert "training continues" in record.message
    with writes.tried("checkpoints") as errors:
        pass
    assert not errors
    with writes.tried("checkpoints"):
        pass
    assert [r.message for r in caplog.records[1:]] == [
        "checkpoints can be written again, after 1000 failures"
    ]
    with writes.tried("checkpoints", ValueError):
        raise ValueError("bad")
    assert "could not write checkpoints: bad" in caplog.records[-1].message
    with pytest.raises(KeyError), writes.tried("checkpoints"):
        raise KeyError


def test_write_failure_names_its_reason() -> None:
    assert (
        reason(PermissionError(errno.EACCES, "Permission denied")) == "[Errno 13] Permission denied"
    )
    assert "the disk is full" in reason(OSError(errno.EDQUOT, "Quota exceeded"))


def test_appended_line_starts_on_its_own_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"half": ')
    append_whole(path, b"one\n")
    append_whole(path, b"two\n")
    assert path.read_text() == '{"half": \none\ntwo\n'


@pytest.mark.promise("partial-write")
def test_failed_write_leaves_no_partial_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows.jsonl"
    append_lines(path, [{"a": 1}])
    real, calls = os.write, []

    def write(file: int, data: bytes) -> int:
        calls.append(data)
        if len(calls) == 1:
            return real(file, data[:5])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(OSError, match="No space"):
        append_lines(path, [{"b": 2}])
    monkeypatch.undo()
    assert path.read_text() == '{"a": 1}\n'


@pytest.mark.parametrize("writer", ["game", "launches"])
@pytest.mark.promise("partial-write")
def test_failed_write_keeps_files_that_a_resume_needs(
    writer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """game.json and run.json: a start on a full disk must not end the run for good."""
    config = Config.model_validate({"run": {"dir": str(tmp_path / "run")}})
    folder = begun(config)
    folder.keep_game(SPEC)
    folder.close()
    before = {p.name: p.read_bytes() for p in folder.path.iterdir() if p.is_file()}

    def fsync(_file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    if writer == "game":
        with pytest.raises(OSError, match="No space"):
            folder.keep_game(SPEC)
    else:
        with pytest.raises(Exception, match="No space left"):
            begun(config, resume=True)
    monkeypatch.undo()
    assert {p.name: p.read_bytes() for p in folder.path.iterdir() if p.is_file()} == before
    again = begun(config, resume=True)
    assert again.launch == 2
    assert again.game() == SPEC
    again.close()


# Old checkpoints.


def _kept(folder: Path) -> list[int]:
    return [int(path.name[7:-3]) for path in checkpoint.checkpoints(folder)]


def test_pruning_keeps_the_first_checkpoint_of_every_interval(tmp_path: Path) -> None:
    for updates in range(0, 1000, 37):
        (tmp_path / checkpoint.file_name(updates)).touch()
        (tmp_path / checkpoint.BEST).touch()
        checkpoint.prune(tmp_path, 2, 250)
    # After 250, 500 and 750 updates, and the newest two.
    assert _kept(tmp_path) == [259, 518, 777, 962, 999]
    assert (tmp_path / checkpoint.BEST).exists()
    checkpoint.prune(tmp_path, 1)
    assert _kept(tmp_path) == [999]


def test_pruning_keeps_checkpoints_of_other_names(tmp_path: Path) -> None:
    for name in ("a-mine.pt", "update-0000000001.pt", "update-0000000002.pt"):
        (tmp_path / name).touch()
    checkpoint.prune(tmp_path, 1, 100)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a-mine.pt", "update-0000000002.pt"]

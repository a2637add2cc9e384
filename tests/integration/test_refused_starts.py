"""A refused start changes nothing: a photograph of the folder before and after every refusal there
is (docs/reliability.md, refused-start)."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from agent import checkpoint, demonstrations, journal, recording
from agent.checkpoint import spec_text
from agent.journal import Journal, Position
from agent.step import StepBlock
from config.load import ConfigError, Layer, Overrides, config_of_run, load
from config.models import Config
from server import cli
from server.commands import demo
from server.ipc.messages import ProcessFailed
from server.run.directory import RunDirectory, write_effective
from server.supervisor.child import ChildDied
from server.supervisor.session import running
from server.supervisor.supervisor import Supervisor
from server.trainer.task import Task
from tests.support.folders import begun
from tests.support.photograph import differences, photograph
from tests.support.recordings import demonstrated
from tests.support.trainer import World, config_with, played
from tests.support.worlds import PIXELS, SPEC

pytestmark = [
    pytest.mark.usefixtures("no_leaks"),
    pytest.mark.timeout(120),
    pytest.mark.promise("refused-start"),
]

RUN: dict[str, Any] = {"server__port": 0, "server__http_port": None, "trainer__min_steps": 20}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped in order, with 100 steps and two checkpoints, one of them the best."""
    path = tmp_path_factory.mktemp("finished") / "run"
    folder = begun(config_with(run__dir=str(path), **RUN))
    folder.keep_game(SPEC)
    folder.close()
    world = World(path)
    try:
        world.play(played(0, 100))
        world.until(lambda: world.metrics.get("updates"), "it learns")
        world.stop()
    finally:
        world.close()
    saved = path / "checkpoints"
    newest = checkpoint.latest(saved)
    assert newest is not None
    shutil.copy(newest, saved / checkpoint.BEST)
    newest.rename(saved / checkpoint.file_name(99_999))
    for name in ("understudy.log", "events.jsonl", "metrics.jsonl", "starts.jsonl"):
        (path / name).write_text("{}\n")
    (path / "in-flight").write_bytes(b"of a server that was killed")
    (path / "shared-memory").write_text("psm_is_gone\n")
    (path / "notes.txt").write_text("mine")
    return path


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody else listens on."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock.getsockname()[1]


@dataclass
class Refusal:
    """A way in which a start is refused."""

    name: str
    said: str
    """Part of the message."""
    options: tuple[str, ...] = ()
    spoil: Callable[[Path], None] | None = None
    """What happens to the run's folder before."""
    command: str = "serve"
    code: int = 2

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


def newest(run: Path) -> Path:
    path = checkpoint.latest(run / "checkpoints")
    assert path is not None
    return path


def rewritten(change: Callable[[dict[str, Any]], Any], which: str = "newest") -> Any:
    """Have a checkpoint hold another state."""

    def spoil(run: Path) -> None:
        path = newest(run) if which == "newest" else run / "checkpoints" / checkpoint.BEST
        state = checkpoint.load(path)
        change(state)
        torch.save({"format": checkpoint.FORMAT, "version": 1, "state": state}, path)

    return spoil


def truncated(which: str) -> Callable[[Path], None]:
    def spoil(run: Path) -> None:
        path = newest(run) if which == "newest" else run / "checkpoints" / which
        path.write_bytes(path.read_bytes()[:-500])

    return spoil


def newer_checkpoint(run: Path) -> None:
    state = checkpoint.load(newest(run))
    torch.save({"format": checkpoint.FORMAT, "version": 99, "state": state}, newest(run))


def with_nan(state: dict[str, Any]) -> None:
    next(iter(state["learner"]["network"].values())).view(-1)[0] = np.nan


def text(name: str, content: str) -> Callable[[Path], None]:
    return lambda run: (run / name).write_text(content) and None


def newer_settings(run: Path) -> None:
    with (run / "config.toml").open("a") as file:
        file.write("\n[learner.of_the_future]\nwisdom = 1\n")


def rows_of(game: str) -> Callable[[Path], None]:
    def spoil(run: Path) -> None:
        other = msgspec.structs.replace(SPEC, game=game)
        shutil.rmtree(run / journal.FOLDER)
        writer = Journal(run / journal.FOLDER, other, 1000, Position())
        writer.append(StepBlock.empty(other, 3))
        writer.close()

    return spoil


def newer_rows(run: Path) -> None:
    (path,) = journal.segments(run / journal.FOLDER)
    data = bytearray(path.read_bytes())
    data[8] = 99
    path.write_bytes(data)


def unreadable_rows(run: Path) -> None:
    (path,) = journal.segments(run / journal.FOLDER)
    path.rename(path.with_suffix(".away"))
    path.mkdir()


def demonstrations_of(spec: Any = SPEC, n: int = 5) -> Callable[[Path], None]:
    return lambda run: demonstrations.add(run, "teacher", demonstrated(n=n, spec=spec)) and None


def damaged_demonstration(run: Path) -> None:
    demonstrations_of()(run)
    (path,) = demonstrations.files(run)
    path.write_bytes(path.read_bytes()[:-40])


def no_rows(run: Path) -> None:
    shutil.rmtree(run / journal.FOLDER)
    (run / journal.FOLDER).write_text("a file")


def folder_for(name: str) -> Callable[[Path], None]:
    """Something that cannot be read, as a file that another user has written."""

    def spoil(run: Path) -> None:
        (run / name).unlink(missing_ok=True)
        (run / name).mkdir()

    return spoil


EARLY = [
    Refusal("unknown preset", "no preset", ("--preset", "none-such")),
    Refusal("bad value", "learner.hidden", ("--learner.hidden", "[0]")),
    Refusal("missing file", "cannot read", ("--config", "none-such.toml")),
    Refusal("missing certificate", "none-such.pem",
            ("--server.tls_cert", "none-such.pem", "--server.tls_key", "none-such.pem")),
    Refusal("missing token file", "none-such", ("--server.token_file", "none-such")),
    Refusal("token file is a folder", "token_file", ("--server.token_file", "/")),
    Refusal("exposed without token", "server.token", ("--server.host", "0.0.0.0")),
    Refusal("address of another machine", "192.0.2.1",
            ("--server.host", "192.0.2.1", "--insecure"), code=75),
    Refusal("unknown device", "trainer.device", ("--trainer.device", "cuda:99")),
    Refusal("unknown device of the gateway", "server.device", ("--server.device", "cuda:99")),
    Refusal("unknown device of the replay", "replay.device", ("--replay.device", "cuda:99")),
    Refusal("expert that does not import", "none_such",
            ("--expert.plugin", "none_such:expert")),
    Refusal("run of another game", "run.game: expected 'test', the game of the run",
            ("--run.game", "another")),
    Refusal("ring beyond the memory", "server.ring_steps",
            ("--server.ring_steps", "100000000000")),
    Refusal("replay beyond the memory",
            "that of replay.capacity_steps and trainer.min_steps (2,147,483,647), which",
            # Fewer are kept where they do not fit, but never fewer than training begins with.
            ("--replay.capacity_steps", str(2**31 - 1), "--trainer.min_steps", str(2**31 - 1),
             "--server.max_game_bytes", str(2**30))),
    Refusal("batch beyond the memory", "that of learner.batch_size, which",
            ("--learner.batch_size", "2000000000000")),
    Refusal("settings of a newer version", "of_the_future", spoil=newer_settings),
    Refusal("settings that are no TOML", "expected TOML", spoil=text("config.toml", "[")),
    Refusal("damaged mark", "run.json is damaged", spoil=text("run.json", "{")),
    Refusal("damaged game", "game.json is damaged", spoil=text("game.json", "{")),
    *(
        Refusal(f"unreadable {name}", f"{name}: Is a directory; the user", spoil=folder_for(name))
        for name in ("game.json", "metrics.jsonl", "evaluations.jsonl", "starts.jsonl")
    ),
    Refusal("no best checkpoint", "best.pt", ("--best",),
            lambda run: (run / "checkpoints" / checkpoint.BEST).unlink()),
    Refusal("log that cannot be written", "understudy.log",
            spoil=folder_for("understudy.log")),
]  # fmt: skip
"""What is known before a process is started."""

LATE = [
    Refusal("other hidden", "learner.hidden is [32], and was [8] there",
            ("--learner.hidden", "[32]")),
    Refusal("other value", "learner.value is c51, and was scalar there",
            ("--learner.value", "c51")),
    Refusal("other heads", "learner.continuous is bins, and was regression",
            ("--learner.continuous", "bins")),
    Refusal("normalized observations", "learner.normalize_observations is true, and was false",
            ("--learner.normalize_observations",)),
    Refusal("frame stack", "replay.frame_stack is 4, and was 1", ("--replay.frame_stack", "4")),
    Refusal("truncated checkpoint", "expected a complete checkpoint", spoil=truncated("newest")),
    Refusal("truncated best checkpoint", "expected a complete checkpoint", ("--best",),
            truncated(checkpoint.BEST)),
    Refusal("best of another network", "learner.hidden is [32]",
            ("--best", "--learner.hidden", "[32]")),
    Refusal("checkpoint of a newer version", "expected format version 1, got 99",
            spoil=newer_checkpoint),
    Refusal("checkpoint of another game", "expected a checkpoint of the game",
            spoil=rewritten(lambda state: state.update(spec=spec_text(PIXELS)))),
    Refusal("checkpoint with NaN", "NaN", spoil=rewritten(with_nan)),
    Refusal("checkpoint without learner", "expected what a trainer saves",
            spoil=rewritten(lambda state: state.pop("learner"))),
    Refusal("checkpoint without optimizer", "expected what a trainer saves",
            spoil=rewritten(lambda state: state["learner"].pop("adam"))),
    Refusal("checkpoint without progress", "expected what a trainer saves",
            spoil=rewritten(lambda state: state.pop("frames"))),
    Refusal("rows of another game", "rows of another game", spoil=rows_of("another")),
    Refusal("rows of another game and best", "rows of another game", ("--best",),
            rows_of("another")),
    Refusal("rows of a newer version", "got 99", spoil=newer_rows),
    Refusal("rows that cannot be read", "Is a directory", spoil=unreadable_rows),
    Refusal("no place for rows", "File exists", spoil=no_rows),
    Refusal("demonstrations of another game", "correct or remove it",
            spoil=demonstrations_of(PIXELS)),
    Refusal("damaged demonstration", "correct or remove it", spoil=damaged_demonstration),
    Refusal("more demonstrations than room", "replay.capacity_steps",
            ("--replay.capacity_steps", "100"), demonstrations_of(n=200)),
    Refusal("pretraining of another game", "run.game: expected 'test'",
            ("--run.game", "another"), demonstrations_of(), "pretrain"),
    Refusal("pretraining without demonstrations", "understudy import", command="pretrain"),
    Refusal("pretraining of another network", "learner.hidden is [32]",
            ("--learner.hidden", "[32]"), demonstrations_of(), "pretrain", 1),
    Refusal("pretraining with a damaged one", "correct or remove it", (), damaged_demonstration,
            "pretrain", 1),
]  # fmt: skip
"""What the trainer finds."""


def said_by(
    capsys: pytest.CaptureFixture[str], command: str, run: Path, options: tuple[str, ...]
) -> tuple[int, str]:
    """Go on with a run: exit code, and the error."""
    words = {"serve": ["--resume", str(run)], "pretrain": ["--run", str(run), "--updates", "5"]}
    capsys.readouterr()
    code = cli.main([command, *words[command], *options])
    return code, capsys.readouterr().err


@pytest.mark.parametrize("refusal", [*EARLY, *LATE], ids=str)
def test_refused_resume_leaves_the_folder_byte_for_byte(
    refusal: Refusal, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if refusal.spoil:
        refusal.spoil(run)
    before = photograph(run)
    code, error = said_by(capsys, refusal.command, run, refusal.options)
    assert differences(before, photograph(run)) == []
    assert refusal.said in error
    assert code == refusal.code


@pytest.mark.parametrize("setting", ["server.port", "server.http_port", "tempest.port"])
def test_resume_refused_for_a_port_leaves_the_folder_byte_for_byte(
    setting: str, run: Path, taken: int, capsys: pytest.CaptureFixture[str]
) -> None:
    before = photograph(run)
    code, error = said_by(capsys, "serve", run, (f"--{setting}", str(taken)))
    assert differences(before, photograph(run)) == []
    assert str(taken) in error
    assert code == 75


def test_resume_of_a_run_in_use_leaves_the_folder_byte_for_byte(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = RunDirectory.take(run)
    try:
        before = photograph(run)
        code, error = said_by(capsys, "serve", run, ("--learner.hidden", "[32]"))
        assert differences(before, photograph(run)) == []
    finally:
        other.close()
    assert "in use by another server" in error
    assert code == 75


@pytest.mark.parametrize("best", [True, False], ids=["best", "newest"])
@pytest.mark.parametrize("files", [0, 1])
def test_resume_on_a_disk_that_fills_leaves_the_folder_byte_for_byte(
    files: int,
    best: bool,
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The supervisor can write so many files. tests/e2e/test_disk.py has a full file system."""
    real, written = os.fsync, []

    def fsync(file: int) -> None:
        if len(written) == files:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(file)
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
    before = photograph(run)
    code, error = said_by(capsys, "serve", run, ("--best",) * best)
    assert differences(before, photograph(run)) == []
    assert "No space left on device" in error
    assert code == 75, "there may be room again soon"


def resumed(run: Path, values: dict[str, Any] | None = None) -> Config:
    layer = Layer("test", {"run.dir": str(run)} | (values or {}))
    return load(Overrides(resume=run, settings=layer)).config


def test_accepted_resume_changes_the_folder(run: Path) -> None:
    """The photograph sees what a start does, when it is accepted."""
    before = photograph(run)
    with running(resumed(run), Task(resume=True)) as supervisor:
        while supervisor.frames is None:
            supervisor.poll()
        assert supervisor.frames == 100
    changed = {line.split()[0] for line in differences(before, photograph(run))}
    assert {"run.json", "understudy.log", "events.jsonl", "starts.jsonl"} <= changed


def poll_for_ever(supervisor: Supervisor) -> None:
    while True:
        supervisor.poll()


def test_resume_whose_trainer_dies_while_it_loads_changes_nothing(run: Path) -> None:
    """Killed for want of memory, say: nothing was begun, so nothing is restored."""
    before = photograph(run)
    config = resumed(run, {"supervision.max_restarts": 0})
    with running(config, Task(resume=True)) as supervisor:
        os.kill(supervisor._processes.trainer.pid, signal.SIGKILL)
        with pytest.raises(ChildDied, match="SIGKILL"):
            poll_for_ever(supervisor)
    assert differences(before, photograph(run)) == []


def test_settings_spoilt_by_an_older_version_are_mended_as_the_message_says(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """There a refused start had written them."""
    write_effective(resumed(run, {"learner.hidden": [32]}), run)
    before = photograph(run)
    code, error = said_by(capsys, "serve", run, ())
    assert code == 2
    assert "resume with --learner.hidden '[8]'" in error
    assert differences(before, photograph(run)) == []
    with running(resumed(run, {"learner.hidden": [8]}), Task(resume=True)) as supervisor:
        while supervisor.frames is None:
            supervisor.poll()
    assert config_of_run(run).learner.hidden == (8,)


def test_checkpoint_of_an_older_version_tells_its_hidden_layers(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It does not have the settings of its network."""
    rewritten(lambda state: state["learner"].pop("settings"))(run)
    before = photograph(run)
    code, error = said_by(capsys, "serve", run, ("--learner.hidden", "[32, 16]"))
    assert code == 2
    assert "learner.hidden is [32, 16], and was [8] there" in error
    code, error = said_by(capsys, "serve", run, ("--learner.value", "c51"))
    assert code == 2
    assert "a network of another shape" in error
    assert differences(before, photograph(run)) == []


def test_controls_wait_until_the_start_is_accepted(run: Path) -> None:
    """What they write would stay, and the start may still be refused."""
    before = photograph(run)
    with running(resumed(run), Task(resume=True)) as supervisor:
        answer = supervisor.controller.handle({"set": {"expert.ratio": 0.2}}, "terminal")
        assert "ask again when it runs" in str(answer)
    assert differences(before, photograph(run)) == []


def test_resume_that_is_stopped_while_it_loads_changes_nothing(run: Path) -> None:
    before = photograph(run)
    with running(resumed(run), Task(resume=True)):
        pass
    assert differences(before, photograph(run)) == []


# New runs.

OF_A_RUN = ("beyond the memory", "run of another game")
NEW = [each for each in EARLY if not each.spoil and not each.name.endswith(OF_A_RUN)]


@pytest.mark.parametrize("given", ["nothing", "nested", "empty", "waited"])
@pytest.mark.parametrize("refusal", NEW, ids=str)
def test_refused_new_run_leaves_no_folder_or_the_given_one_as_it_was(
    refusal: Refusal, given: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "deep" / "down" / "run" if given == "nested" else tmp_path / "run"
    if given == "empty":
        run.mkdir()
    if given == "waited":
        waited(run)
    before = photograph(tmp_path)
    code = cli.main(["serve", "--run", str(run), "--server.http_port", "none", *refusal.options])
    assert differences(before, photograph(tmp_path)) == []
    assert refusal.said in capsys.readouterr().err
    assert code == refusal.code


def waited(run: Path) -> None:
    """A folder of a server that no game came to."""
    with running(config_with(run__dir=str(run), **RUN)) as supervisor:
        supervisor.poll(0.01)
    assert (run / "summary.json").exists()


@pytest.mark.parametrize("given", ["nothing", "nested", "empty", "waited"])
@pytest.mark.parametrize("setting", ["server.port", "server.http_port", "tempest.port"])
def test_new_run_refused_for_a_port_leaves_nothing(
    setting: str, given: str, tmp_path: Path, taken: int, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "deep" / "down" / "run" if given == "nested" else tmp_path / "run"
    if given == "empty":
        run.mkdir()
    if given == "waited":
        waited(run)
    before = photograph(tmp_path)
    ports = {"server.port": 0, "server.http_port": "none", setting: taken}
    options = [word for name, port in ports.items() for word in (f"--{name}", str(port))]
    assert cli.main(["serve", "--run", str(run), *options]) == 75
    assert differences(before, photograph(tmp_path)) == []
    assert str(taken) in capsys.readouterr().err


@pytest.mark.parametrize("given", ["nothing", "empty", "waited"])
def test_new_run_whose_game_cannot_be_learnt_leaves_nothing(given: str, tmp_path: Path) -> None:
    """The trainer says so when the game is known: the run has not begun."""
    run = tmp_path / "run"
    if given == "empty":
        run.mkdir()
        (run.parent / "beside.txt").write_text("mine")
    if given == "waited":
        waited(run)
    before = photograph(tmp_path)
    with running(config_with(run__dir=str(run), **RUN)) as supervisor:
        supervisor.poll(0.01)
        assert (run / "config.toml").exists(), "it waits for a game, and says where"
        supervisor.folder.keep_game(SPEC)
        if given != "nothing":
            (run / "mine.txt").write_text("put there meanwhile")
        with pytest.raises(ConfigError, match="no such network"):
            supervisor._handle(ProcessFailed("trainer: no such network"))
    if given != "nothing":
        (run / "mine.txt").unlink()
    assert differences(before, photograph(tmp_path)) == []


# Other commands.


@pytest.mark.parametrize("second", ["nothing", "another game", "damaged"])
@pytest.mark.parametrize("new", [True, False], ids=["new", "existing"])
def test_refused_import_leaves_the_folder_byte_for_byte(
    second: str, new: bool, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two recordings, and the second one is wrong."""
    good, bad = tmp_path / "good.npz", tmp_path / "bad.npz"
    recording.write(good, demonstrated())
    if second == "another game":
        recording.write(bad, demonstrated(spec=PIXELS))
    elif second == "damaged":
        bad.write_bytes(good.read_bytes()[:-40])
    to = tmp_path / "new" / "run" if new else run
    before = photograph(tmp_path)
    assert cli.main(["import", str(good), str(bad), "--run", str(to)]) == 1
    assert differences(before, photograph(tmp_path)) == []
    assert "bad.npz" in capsys.readouterr().err


@pytest.mark.parametrize("new", [True, False], ids=["new", "existing"])
def test_import_on_a_full_disk_leaves_the_folder_byte_for_byte(
    new: bool, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """There is room for the first recording, and none for the second."""
    sources = [tmp_path / "a.npz", tmp_path / "b.npz"]
    for number, path in enumerate(sources):
        recording.write(path, demonstrated(n=5 + number))
    to = tmp_path / "new" / "run" if new else run
    before = photograph(tmp_path)
    real, written = recording.write, []

    def write(path: Path, found: Any) -> None:
        if written:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(path)
        real(path, found)

    monkeypatch.setattr(recording, "write", write)
    assert cli.main(["import", *map(str, sources), "--run", str(to)]) == 1
    assert written
    assert differences(before, photograph(tmp_path)) == []
    assert "No space left" in capsys.readouterr().err


def test_demo_whose_games_cannot_start_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def cannot(*_: Any) -> Any:
        raise demo.DemoError("game 0: no such package")

    monkeypatch.setattr(demo, "_run", cannot)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["demo", "--port", "0", "--server.http_port", "none"]) == 1
    assert photograph(tmp_path).keys() == {"."}
    assert "no such package" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["demo", "record"])
def test_refused_command_leaves_no_folder(
    command: str,
    tmp_path: Path,
    taken: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    options = {
        "demo": ["--server.http_port", "none"],
        "record": ["--out", "x.npz", "--env", "CatchPixels-v0"],
    }
    assert cli.main([command, "--port", str(taken), *options[command]]) == 75
    assert photograph(tmp_path).keys() == {"."}
    assert str(taken) in capsys.readouterr().err

"""`understudy serve --init-from`: a new run that begins with the weights of another one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from agent import checkpoint
from agent.checkpoint import CheckpointError
from protocol.spaces import Discrete, GameSpec, Observation
from server import cli
from server.run import checkpoints
from server.run.directory import RunDirectory
from server.run.overview import overview
from server.trainer.task import Task
from tests.support.folders import begun
from tests.support.running import RawClient, Running, hello_fields
from tests.support.trainer import World, config_with, played
from tests.support.worlds import PIXELS, SPEC

pytestmark = [pytest.mark.usefixtures("no_leaks"), pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that has learnt a little, with two checkpoints. Its values are in units
    of the game, as those of a run that begins are."""
    path = tmp_path_factory.mktemp("door_source") / "run"
    folder = begun(config_with(run__dir=str(path)))
    folder.keep_game(SPEC)
    folder.close()
    world = World(path, learner__normalize_values=False)
    try:
        world.play(played(0, 100))
        world.until(lambda: world.metrics.get("updates"), "it learns")
        world.stop()
    finally:
        world.close()
    newest = checkpoint.latest(path / "checkpoints")
    assert newest is not None
    (path / "checkpoints" / checkpoint.file_name(1)).write_bytes(newest.read_bytes())
    return path


@pytest.fixture
def world(tmp_path: Path, source: Path) -> Iterator[World]:
    made = World(tmp_path, init_from=checkpoints.named(source))
    yield made
    made.close()


def weights(path: Path) -> torch.Tensor:
    state = checkpoint.load(path)["learner"]["network"]
    parts = [tensor.reshape(-1) for name, tensor in state.items() if name != "value_scale"]
    return torch.cat(parts)


def test_new_run_begins_with_the_weights_and_nothing_else(
    world: World, source: Path, tmp_path: Path
) -> None:
    theirs = weights(checkpoints.named(source))
    out = np.empty(world.slot.size, np.float32)
    assert world.slot.fetch(out) == 1
    np.testing.assert_array_equal(out, theirs)
    row = world.reports()
    assert (row["updates"], row["frames"], row["buffer_total"]) == (0, 0, 0)
    assert world.trainer._learner._optimizer.state_dict() == {}
    own = checkpoint.latest(tmp_path / "checkpoints")
    assert own == tmp_path / "checkpoints" / checkpoint.file_name(0)
    assert torch.equal(weights(own), theirs), "a run that is killed now begins with others"


def test_weights_of_its_own_come_before_those_of_another_run(
    world: World, source: Path, tmp_path: Path
) -> None:
    world.play(played(0, 100))
    world.until(lambda: world.metrics.get("updates"), "it learns")
    world.stop()
    own = checkpoint.latest(tmp_path / "checkpoints")
    assert own is not None
    again = World(tmp_path, resume=True, init_from=checkpoints.named(source))
    try:
        assert torch.equal(again.trainer._learner.policy_vector(), weights(own))
    finally:
        again.close()


def test_game_that_nothing_fits_is_refused_and_the_next_one_begins_warm(
    source: Path, tmp_path: Path
) -> None:
    path = checkpoints.named(source)
    more = msgspec.structs.replace(
        SPEC,
        observation=Observation("float32", (SPEC.observation_size + 2,)),
        actions=(*SPEC.actions, Discrete("jump", 2)),
    ).checked()
    task = Task(init_from=path)
    with Running(tmp_path / "run", task=task) as server:
        assert "nothing of them fits 'pixels'" in refusal(server, PIXELS)
        with RawClient(server.port, timeout_s=90) as client:
            client.welcome(more)
        log = server.log()
        assert "trunk.0 (it reads 6 x number (uint8, (2, 3)); there: " in log
        assert f"weights from {path}: trunk.0 (2 new inputs begin with weight 0), value" in log
        assert f"not taken from {path}: head jump (it is not there)" in log
    assert overview(tmp_path / "run").init_from == str(path)
    mark = json.loads((tmp_path / "run" / "run.json").read_text())
    assert mark["init_from"] == str(path)


def refusal(server: Running, spec: GameSpec) -> str:
    with RawClient(server.port, timeout_s=90) as client:
        client.send([1, hello_fields(spec)])
        return client.refusal()[1]


def test_origin_of_the_weights_is_shown_and_stays(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_with(run__dir=str(tmp_path / "warm"))
    folder = RunDirectory.open(config, resume=False)
    folder.init_from = "runs/a/checkpoints/best.pt"
    folder.accept(config)
    folder.keep_game(SPEC)
    folder.close()
    begun(config, resume=True).close()
    capsys.readouterr()
    assert cli.main(["runs", str(tmp_path)]) == 0
    assert "warm began with the weights of runs/a/checkpoints/best.pt" in capsys.readouterr().out
    assert cli.main(["compare", str(tmp_path / "warm"), str(source)]) == 0
    assert "began with" in capsys.readouterr().out


def test_checkpoint_is_named_by_run_word_file_or_path(source: Path) -> None:
    saved = source / "checkpoints"
    first, newest = checkpoint.checkpoints(saved)
    assert checkpoints.named(source) == newest
    assert checkpoints.named(source / "newest") == newest
    assert checkpoints.named(source / first.name) == first
    assert checkpoints.named(first) == first
    for named, said in (
        (source / "best", "has no best checkpoint"),
        (source / "worst", f"it has {first.name}, {newest.name}"),
        (source.parent, "expected the folder of a run"),
    ):
        with pytest.raises(CheckpointError, match=said):
            checkpoints.named(named)


@pytest.mark.promise("refused-start")
def test_refused_weights_leave_no_folder(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = tmp_path / "damaged.pt"
    damaged.write_bytes(checkpoints.named(source).read_bytes()[:-300])
    new = tmp_path / "new"
    for words, said in (
        (["--run.dir", str(new), "--init-from", str(tmp_path / "none")], "expected the folder of"),
        (["--run.dir", str(new), "--init-from", str(damaged)], "expected a complete checkpoint"),
        (["--resume", str(source), "--init-from", str(source)], "leave one of them out"),
    ):
        code = cli.main(["serve", "--server.http_port", "none", *words])
        assert (code, said in capsys.readouterr().err) == (2, True), words
        assert not new.exists()

"""`understudy import`: recordings and Minari's datasets become a run's demonstrations."""

from __future__ import annotations

import contextlib
import io
import sys
import warnings
from pathlib import Path
from typing import Any

import gymnasium
import minari
import msgspec
import numpy as np
import pytest
from gymnasium import spaces
from minari.data_collector.episode_buffer import EpisodeBuffer

from agent import demonstrations, recording
from agent.recording import Recording
from agent.step import FINAL, STEP
from config.load import file_layer
from protocol.spaces import Continuous, Discrete, GameSpec, Observation
from server import cli
from tests.support import forged
from tests.support.recordings import demonstrated
from tests.support.worlds import DQN, EXPERT, PIXELS


def imported(*options: str) -> tuple[int, str, str]:
    """Exit code, stdout, stderr of `understudy import`."""
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        code = cli.main(["import", *options])
    return code, out.getvalue(), errors.getvalue()


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    path = tmp_path / "demo.npz"
    recording.write(path, demonstrated())
    return path


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


def test_import_creates_a_run_with_its_settings(demo: Path, run: Path) -> None:
    code, said, errors = imported(
        str(demo), "--run", str(run), "--learner.hidden", "[8]", "--preset", "demo"
    )
    assert (code, errors) == (0, "")
    assert "2 complete episodes, steps: 10 of expert, mean return 15.0" in said
    (path,) = demonstrations.files(run)
    assert f"written to {path}" in said
    assert recording.read(path).digest == demonstrated().digest
    assert msgspec.json.decode((run / "game.json").read_bytes(), type=GameSpec).game == "test"
    assert file_layer(run / "config.toml", "run").values["learner.hidden"] == [8]
    assert (run / "run.json").exists()


def test_second_import_adds_and_a_duplicate_is_detected(
    demo: Path, run: Path, tmp_path: Path
) -> None:
    assert imported(str(demo), "--run", str(run))[0] == 0
    before = (run / "config.toml").read_text(), (run / "run.json").read_text()
    copy = tmp_path / "copy.npz"
    copy.write_bytes(demo.read_bytes())
    code, said, _ = imported(str(copy), "--run", str(run))
    assert (code, len(demonstrations.files(run))) == (0, 1)
    assert "imported before" in said
    other = tmp_path / "other.npz"
    recording.write(other, demonstrated(3))
    code, said, _ = imported(str(other), str(demo), "--resume", str(run))
    assert code == 0
    assert "written to" in said
    assert "imported before" in said
    assert len(demonstrations.files(run)) == 2
    assert ((run / "config.toml").read_text(), (run / "run.json").read_text()) == before


def test_import_skips_and_counts_steps_of_the_network(run: Path, tmp_path: Path) -> None:
    found = demonstrated(2, 5)
    found.rows.actor[[1, 8]] = DQN
    path = tmp_path / "mixed.npz"
    recording.write(path, found)
    code, said, _ = imported(str(path), "--run", str(run))
    assert code == 0
    assert "steps: 2 of dqn, 8 of expert" in said
    assert "left out: 2 steps of dqn" in said
    (file,) = demonstrations.files(run)
    rows = recording.read(file).rows
    assert set(rows.actor.tolist()) == {0, EXPERT}
    assert np.count_nonzero(rows.actor == EXPERT) == 8


def test_import_of_a_recording_without_expert_adds_nothing(run: Path, tmp_path: Path) -> None:
    found = demonstrated()
    found.rows.actor[found.rows.kind == STEP] = DQN
    path = tmp_path / "own.npz"
    recording.write(path, found)
    code, said, _ = imported(str(path), "--run", str(run))
    assert code == 0
    assert "no step of an expert (10 of dqn)" in said
    assert demonstrations.files(run) == []


def test_failed_import_changes_nothing(demo: Path, run: Path, tmp_path: Path) -> None:
    pixels = tmp_path / "pixels.npz"
    recording.write(pixels, demonstrated(spec=PIXELS))
    damaged = tmp_path / "damaged.npz"
    damaged.write_bytes(demo.read_bytes()[:-40])
    bomb, rows = tmp_path / "bomb.npz", tmp_path / "rows.npz"
    recording.write(bomb, demonstrated())
    forged.zeros_behind(bomb, "more.npy", b"", 2**24)
    recording.write(rows, demonstrated())
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }\n"
    forged.write(rows, forged.entries(rows) | {"reward.npy": forged.npy(header)})
    for sources, message in (
        ([str(bomb)], "and no others, got 'more.npy'"),
        ([str(rows)], "header for 4,000,000,000,000"),
        ([str(tmp_path / "none.npz")], "found none"),
        ([str(damaged)], "cannot be read"),
        ([str(demo), str(pixels)], "expected a recording of 'test'"),
    ):
        code, _, errors = imported(*sources, "--run", str(run))
        assert (code, len(errors.splitlines())) == (1, 1), errors
        assert message in errors
        assert not run.exists()
    imported(str(demo), "--run", str(run))
    code, _, errors = imported(str(pixels), "--run", str(run))
    assert code == 1
    assert "expected a recording of 'test'" in errors
    assert len(demonstrations.files(run)) == 1


def test_import_into_unsuitable_runs_is_refused(demo: Path, run: Path, tmp_path: Path) -> None:
    code, _, errors = imported(str(demo))
    assert (code, "expected --run DIR" in errors) == (2, True)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/text").write_text("mine")
    code, _, errors = imported(str(demo), "--run", str(tmp_path / "thesis"))
    assert (code, "holds something else" in errors) == (2, True)
    imported(str(demo), "--run", str(run))
    code, _, errors = imported(str(demo), "--run", str(run), "--learner.hidden", "[8]")
    assert (code, "a run with settings of its own" in errors) == (2, True)
    from server.run.directory import RunDirectory

    taken = RunDirectory.take(run)
    try:
        code, _, errors = imported(str(demo), "--run", str(run))
    finally:
        taken.close()
    assert (code, "in use by another server" in errors) == (75, True)
    (run / "run.json").write_text("{}")
    code, _, errors = imported(str(demo), "--run", str(run))
    assert (code, "is damaged" in errors) == (2, True)


# Minari.


class Toy(gymnasium.Env[Any, Any]):
    """An environment with chosen spaces."""

    def __init__(self, observation: spaces.Space[Any], action: spaces.Space[Any]) -> None:
        self.observation_space, self.action_space = observation, action


@pytest.fixture(autouse=True)
def _datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))


def dataset(name: str, env: gymnasium.Env[Any, Any], *episodes: EpisodeBuffer) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        minari.create_dataset_from_buffers(
            name,
            list(episodes),
            env=env if env.spec is not None else None,
            observation_space=env.observation_space,
            action_space=env.action_space,
            author="nobody", author_email="nobody@example", code_permalink="none",
            algorithm_name="none", description="made by a test",
        )  # fmt: skip


def episode(observations: Any, actions: Any, ends: tuple[bool, bool], n: int = 4) -> EpisodeBuffer:
    last = [False] * (n - 1)
    return EpisodeBuffer(
        observations=observations,
        actions=actions,
        rewards=[float(i) for i in range(n)],
        terminations=[*last, ends[0]],
        truncations=[*last, ends[1]],
    )


def test_minari_dataset_is_imported(run: Path) -> None:
    env = gymnasium.make("CartPole-v1")
    obs = np.arange(20, dtype=np.float32).reshape(5, 4) / 10
    acts = np.array([0, 1, 1, 0])
    dataset(
        "cartpole/toy-v0",
        env,
        episode(obs, acts, (True, False)),
        episode(obs + 1, 1 - acts, (False, True)),
        episode(obs + 2, acts, (False, False)),
    )
    code, said, errors = imported("minari:cartpole/toy-v0", "--run", str(run))
    assert (code, errors) == (0, "")
    assert "3 complete episodes, steps: 12 of expert, mean return 6.0" in said
    (path,) = demonstrations.files(run)
    assert path.name.startswith("minari-cartpole-toy-v0-")
    found = recording.read(path)
    assert found.spec == GameSpec(
        "CartPole-v1", Observation("float32", (4,)), (Discrete("action", 2),)
    )
    rows = found.rows
    assert rows.kind.tolist() == [STEP, STEP, STEP, STEP, FINAL] * 3
    assert rows.actor.tolist() == [EXPERT] * 4 + [0] + [EXPERT] * 4 + [0] + [EXPERT] * 4 + [0]
    assert rows.seq.tolist() == [0, 1, 2, 3, 4] * 3
    assert np.unique(rows.stream).tolist() == [0, 1, 2]
    np.testing.assert_array_equal(rows.obs[5:10], obs + 1)
    assert rows.action[:, 0].tolist() == [0, 1, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 1, 0, 0]
    assert rows.reward[:5].tolist() == [0, 1, 2, 3, 0]
    # Terminated, truncated, and one that just stops: a truncation too.
    assert rows.status[[3, 8, 13]].tolist() == [1, 2, 2]
    assert np.count_nonzero(rows.status) == 3
    code, said, _ = imported("minari:cartpole/toy-v0", "--run", str(run))
    assert "imported before" in said


def test_minari_spaces_become_action_heads(run: Path) -> None:
    """Nested actions, a start other than 0, pictures: as a game with these spaces sends them."""
    space = spaces.Dict(
        {"engine": spaces.Discrete(3, start=5), "aim": spaces.Box(-2.0, 2.0, (2,), np.float32)}
    )
    env = Toy(spaces.Box(0, 255, (8, 8, 1), np.uint8), space)
    pictures = np.random.default_rng(0).integers(0, 255, (5, 8, 8, 1), np.uint8)
    # Not compressed as jpeg: what is imported is what was seen.
    actions = {
        "engine": np.array([5, 6, 7, 5]),
        "aim": np.arange(8, dtype=np.float32).reshape(4, 2) / 4,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        minari.create_dataset_from_buffers(
            "toy/dict-v0",
            [episode(pictures, actions, (True, False))],
            observation_space=env.observation_space,
            action_space=env.action_space,
            author="nobody", author_email="nobody@example", code_permalink="none",
            algorithm_name="none", description="made by a test", jpeg_encoding=False,
        )  # fmt: skip
    code, _, errors = imported("minari:toy/dict-v0", "--run", str(run))
    assert (code, errors) == (0, "")
    (path,) = demonstrations.files(run)
    found = recording.read(path)
    names = [head.name for head in found.spec.actions]
    assert sorted(names) == ["aim", "engine"]
    assert Continuous("aim", -2.0, 2.0, 2) in found.spec.actions
    assert found.spec.observations == (Observation("uint8", (8, 8, 1)),)
    np.testing.assert_array_equal(found.rows.obs.reshape(5, 8, 8, 1), pictures)
    engine = found.spec.columns[names.index("engine")]
    aim = found.spec.columns[names.index("aim")]
    assert found.rows.action[:4, engine].ravel().tolist() == [0, 1, 2, 0]
    np.testing.assert_array_equal(found.rows.action[:4, aim], actions["aim"])


def test_minari_dataset_with_stated_bounds_and_nested_observations_is_imported(run: Path) -> None:
    seen = spaces.Dict({"at": spaces.Discrete(3), "speed": spaces.Box(-9, 9, (2,), np.float64)})
    env = Toy(seen, spaces.Box(-np.inf, np.inf, (2,), np.float32))
    obs = {"at": np.array([0, 1, 2, 0, 1]), "speed": np.arange(10.0).reshape(5, 2) / 2}
    acts = np.arange(8, dtype=np.float32).reshape(4, 2) / 4
    dataset("toy/nested-v0", env, episode(obs, acts, (True, False)))
    words = ["minari:toy/nested-v0", "--run", str(run), "--action-bounds=-1,2"]
    code, _, errors = imported(*words)
    assert (code, errors) == (0, "")
    (path,) = demonstrations.files(run)
    found = recording.read(path)
    assert found.spec.actions == (Continuous("action", -1.0, 2.0, 2),)
    np.testing.assert_array_equal(found.rows.action[:4], acts)
    at, speed = found.spec.parts(found.rows.obs)
    np.testing.assert_array_equal(at[:, 0, 0], obs["at"])
    np.testing.assert_array_equal(speed[:, 0], obs["speed"])


def test_minari_dataset_without_environment_takes_the_runs_game(run: Path, tmp_path: Path) -> None:
    spec = GameSpec("my game", Observation("float32", (2,)), (Discrete("action", 2),)).checked()
    first = Recording(spec, demonstrated(spec=spec).rows, (1.0,))
    path = tmp_path / "demo.npz"
    recording.write(path, first)
    imported(str(path), "--run", str(run))
    env = Toy(spaces.Box(-9, 9, (2,), np.float32), spaces.Discrete(2))
    dataset(
        "toy/nameless-v0",
        env,
        episode(np.ones((5, 2), np.float32), np.array([0, 1, 0, 1]), (True, False)),
    )
    assert imported("minari:toy/nameless-v0", "--run", str(run))[0] == 0
    assert len(demonstrations.files(run)) == 2


def test_unsuitable_minari_datasets_are_refused(
    run: Path, demo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    obs = np.ones((5, 2), np.float32)
    box, choice = spaces.Box(-9, 9, (2,), np.float32), spaces.Discrete(2)
    acts = np.array([0, 1, 0, 1])
    dataset(
        "toy/strange-v0",
        Toy(box, spaces.Box(-np.inf, np.inf, (2,))),
        episode(obs, np.ones((4, 2), np.float32), (True, False)),
    )
    early = episode(obs, acts, (True, False))
    early.terminations[1] = True
    dataset("toy/early-v0", Toy(box, choice), early)
    wild = obs.copy()
    wild[2, 1] = np.inf
    dataset("toy/wild-v0", Toy(box, choice), episode(wild, acts, (True, False)))
    imported(str(demo), "--run", str(run))
    for name, where, message in (
        ("no/such-v0", "new", "minari download no/such-v0"),
        (
            "toy/strange-v0",
            "new",
            "strange-v0: action space for 'action': expected finite bounds",
        ),
        ("toy/early-v0", "new", "expected steps and one end behind them, got 4 steps and 2 ends"),
        ("toy/wild-v0", "new", "got inf in element 1"),
        ("toy/early-v0", "run", "expected a dataset of 'test'"),
    ):
        code, _, errors = imported(f"minari:{name}", "--run", str(run.parent / where))
        assert (code, len(errors.splitlines())) == (1, 1), errors
        assert message in errors
    monkeypatch.setitem(sys.modules, "minari", None)
    code, _, errors = imported("minari:toy/early-v0", "--run", str(run))
    assert (code, "with the extra minari" in errors) == (1, True)

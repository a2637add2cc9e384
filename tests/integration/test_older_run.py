"""A run that an older version wrote (tests/golden/run-before-11) goes on with today's server."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import msgspec
import numpy as np
import onnxruntime
import pytest

from agent import journal
from config import renamed
from config.fields import flat
from config.load import config_of_run
from server.cli import main
from server.run.directory import game_of
from tests.support.running import RawClient, Running

GOLDEN = Path(__file__).parents[1] / "golden" / "run-before-11"
ADVICE = [3, [0.5, -0.5]]

# What the version that wrote the run said of it.
FRAMES, UPDATES, ROWS, EVALUATED, PRIORITY_MAX = 288, 67, 300, 20.0, 3.8130853176116943
INSPECTED = {
    "game": "golden",
    "checkpoint": f"update-{UPDATES:010}.pt",
    "best": {"name": "best.pt", "mean": EVALUATED, "frames": 192},
    "left": [],
    "replay_bytes": 28384,
    "rows": ROWS,
    "damages": [],
    "run_steps": FRAMES,
    "steps": {"dqn": 165, "expert": 123},
    "streams": 2,
    "mean_reward": {"dqn": 2.1151515151515152, "expert": 2.040650406504065},
    "returns": {"mixed": {"episodes": 12, "mean": 50.0}},
}
OBSERVATIONS = [[0.0, 0.0, 0.0], [1.0, -1.0, 0.5]]
Q = [
    [-0.277072936296463, -0.049575336277484894, 0.12692517042160034, 0.12185600399971008],
    [-0.3179200291633606, 0.07392460107803345, -0.06881718337535858, 0.1709563136100769],
]
AIM = [[0.05730181187391281, 0.4121553301811218], [0.3901882469654083, 0.25338810682296753]]
SETTINGS = {
    "learner.normalise_observations": True,
    "replay.prioritised": True,
    "health.then": "go_back",
    "health.skips_in_a_row": 11,
    "health.lower_rate": 0.25,
    "health.go_back_most": 7,
    "supervision.restarts": 6,
    "supervision.within_s": 700.0,
    "supervision.pause_s": 0.25,
    "supervision.hang_s": 70.0,
    "advantage.normalise": True,
}
CHANGED = {"learner.gamma": 0.9, "expert.ratio.start": 0.25, "expert.ratio.end": 0.25}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    path = Path(shutil.copytree(GOLDEN, tmp_path / "run"))
    path.chmod(0o700)
    return path


def test_older_run_settings_get_current_names(run: Path) -> None:
    found = flat(config_of_run(run))
    assert SETTINGS.keys() == renamed.KEYS.keys()
    expected = dict(renamed.current(key, value) for key, value in SETTINGS.items()) | CHANGED
    assert {key: found[key] for key in expected} == expected


def test_older_run_journal_is_read_to_the_last_row() -> None:
    spec, damages = game_of(GOLDEN), list[journal.Damage]()
    assert spec is not None
    blocks = list(journal.read(GOLDEN / journal.FOLDER, spec, damages))
    assert sum(len(block.rows) for block in blocks) == ROWS
    assert (blocks[-1].end.rows, blocks[-1].end.steps, damages) == (ROWS, FRAMES, [])
    assert journal.read_priorities(GOLDEN / journal.FOLDER) is not None


def test_older_run_is_shown_by_inspect(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found.items() >= INSPECTED.items()


def test_older_run_network_exports_and_computes_the_same(run: Path, tmp_path: Path) -> None:
    onnx = tmp_path / "policy.onnx"
    assert main(["export", "--run", str(run), "--checkpoint", "newest", "--onnx", str(onnx)]) == 0
    session = onnxruntime.InferenceSession(str(onnx))
    q, aim, _ = session.run(None, {"observation": np.array(OBSERVATIONS, np.float32)})
    np.testing.assert_allclose(q, Q, rtol=0, atol=1e-6)
    np.testing.assert_allclose(aim, AIM, rtol=0, atol=1e-6)
    assert main(["export", "--run", str(run), "--onnx", str(tmp_path / "best.onnx")]) == 0


@pytest.mark.timeout(120)
def test_older_run_resumes(run: Path) -> None:
    config = config_of_run(run)
    spec = game_of(run)
    assert spec is not None
    with Running(run, resume=True, config=config) as server:
        server.until(lambda: server.supervisor.frames == FRAMES, "its frames are counted", 50.0)
        server.until_row(50.0, frames=FRAMES, buffer_dqn=165, buffer_expert=123)
        server.until_row(updates=UPDATES, eval_return_mean=EVALUATED, expert_ratio=0.25)
        assert server.row["priority_max"] == pytest.approx(PRIORITY_MAX)
        status = server.supervisor.status
        assert [each["key"] for each in status.changes] == [
            "learner.gamma", "advantage.normalise", "expert.ratio.start", "expert.ratio.end",
        ]  # fmt: skip
        assert (len(status.evaluations), len(status.starts)) == (1, 2)
        assert "WARNING" not in server.log().removeprefix((GOLDEN / "understudy.log").read_text())
        with RawClient(server.port, timeout_s=50.0) as client:
            client.welcome(msgspec.convert(msgspec.to_builtins(spec), type(spec)))
            for seq in range(101):
                client.frame(seq, reward=1.0, expert=ADVICE)
        server.until_row(50.0, frames=FRAMES + 100, buffer_total=FRAMES + 100)
        server.until(lambda: server.row["updates"] >= UPDATES + 20, "it learns on", 50.0)
    text = (run / "config.toml").read_text()
    for old, new in renamed.KEYS.items():
        assert f"\n{new.partition('.')[2]} = " in text
        assert f"\n{old.partition('.')[2]} = " not in text
    assert flat(config_of_run(run)) == flat(config)

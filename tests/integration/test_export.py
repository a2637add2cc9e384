"""What is exported says what the network says, and what cannot be trusted is not written."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import msgspec
import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch

from agent import checkpoint, demonstrations
from agent.learner import Learner
from agent.networks import QNetwork
from agent.policy import Policy
from agent.replay import Replay
from agent.step import FINAL, STEP, StepBlock
from config.load import config_from
from config.models import AdvantageConfig, ImitationConfig, LearnerConfig
from protocol.masks import are_legal
from protocol.spaces import Continuous, Discrete, GameSpec, Observation
from server import cli
from server.commands import export, exported_network
from server.commands.exported_network import ExportError, Trained, check, random_masks
from server.commands.onnx_model import OPSETS, onnx_file
from server.commands.torchscript_model import METADATA, torchscript_file
from server.gateway.frame_stacks import FrameStacks
from server.play.play_policy import Stack
from server.play.policy_file import PolicyError, PolicyFile
from server.run.directory import game_of, write_effective
from tests.support.recordings import demonstrated
from tests.support.worlds import EXPERT, SPEC
from tests.support.worlds import PIXELS as PIXELS_GAME
from understudy_client import gym as client_gym
from understudy_client.observation_spaces import observation_space
from understudy_client.spaces import action_space

ROOT = Path(__file__).parents[2]

FLOATS, PIXELS = Observation("float32", (5,)), Observation("uint8", (3, 4))
PICTURE = Observation("uint8", (10, 9, 3))
AIM, FIRE, GEAR = Continuous("aim", -2.0, 6.0, 2), Discrete("fire", 4), Discrete("gear", 3)

SEVERAL = (
    Observation("uint8", (10, 9, 3), "camera"),
    Observation("float16", (2,), "speed"),
    Observation("int64", (2,), "place", kind="choices", n=(9, 4)),
    Observation("bool", (3,), "keys"),
    Observation("int32", (1,), "town", kind="choice", n=3000),
    Observation("float32", (2, 6, 6, 4), "planes", kind="picture", low=-1, high=1),
)

GAMES: dict[str, tuple[Any, tuple[Any, ...], dict[str, Any], int]] = {
    "discrete": (FLOATS, (FIRE,), {}, 1),
    # The continuous head first: columns of the action row are not in the network's order.
    "hybrid": (FLOATS, (AIM, FIRE), {}, 1),
    "several heads": (FLOATS, (FIRE, AIM, GEAR), {"value": "quantile", "atoms": 7}, 1),
    "continuous": (FLOATS, (AIM,), {}, 1),
    "gradient": (FLOATS, (AIM, GEAR), {"continuous": "gradient"}, 1),
    "bins": (FLOATS, (GEAR, AIM), {"continuous": "bins", "value": "c51"}, 1),
    "normalised": (FLOATS, (FIRE, GEAR), {"normalize_observations": True}, 2),
    "uint8": (PIXELS, (FIRE, FIRE), {}, 1),
    "pictures": (PICTURE, (FIRE, AIM), {"value": "c51", "value_max": 3000.0}, 3),
    "memory": (FLOATS, (FIRE, AIM), {"memory": "gru", "memory_units": 6}, 2),
    "observations": (SEVERAL, (FIRE, AIM), {"normalize_observations": True}, 2),
}


def trained(name: str, **changes: Any) -> Trained:
    """A network with weights far from the small ones that it begins with."""
    observation, heads, settings, stack = GAMES[name]
    heads = tuple(msgspec.structs.replace(h, name=f"{h.name}{i}") for i, h in enumerate(heads))
    spec = GameSpec("toy", observation, heads).checked()
    torch.manual_seed(len(name))
    learner = LearnerConfig(hidden=(16, 12), **{**settings, **changes})
    network = QNetwork(spec, learner, frame_stack=stack)
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.data *= 3
    if network.normalizes:
        n = len(network.obs_mean)
        network.obs_mean.data[:] = torch.tensor([100.0, -5.0, 0.0, 1e-3, 7.0])[:n]
        network.obs_scale.data[:] = torch.tensor([0.01, 2.0, 1.0, 1000.0, 0.3])[:n]
    return Trained(network.requires_grad_(False).eval(), spec, stack, "run", 12, 345)


def opset_of(data: bytes) -> int:
    (opset,) = onnx.load_from_string(data).opset_import
    return int(opset.version)


@pytest.mark.parametrize("name", ["hybrid", "several heads", "bins"])
@pytest.mark.parametrize("script", [False, True])
def test_exported_file_of_a_game_with_masks_does_what_is_legal(
    name: str, script: bool, tmp_path: Path
) -> None:
    free = trained(name)
    known = replace(free, spec=msgspec.structs.replace(free.spec, masks=True).checked())
    _, run = torchscript_file(known) if script else onnx_file(known)
    observations = export.observations_for(known, tmp_path)
    assert check(run, known, observations) <= 1e-5
    obs, spec = observations[-1], known.spec
    legal = random_masks(spec, len(obs), np.random.default_rng(1))
    rows = run.run(obs, legal)["action"]
    assert are_legal(rows, legal, spec).all()
    assert not are_legal(run.run(obs, np.ones_like(legal))["action"], legal, spec).all()
    with torch.inference_mode():
        there = known.network.greedy(*known.parts(obs), legal=torch.from_numpy(legal)).numpy()
    np.testing.assert_allclose(rows, there, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("opset", [OPSETS[0], OPSETS[-1]])
@pytest.mark.parametrize("name", GAMES)
def test_exported_file_computes_what_the_network_computes(
    name: str, opset: int, tmp_path: Path
) -> None:
    known = trained(name)
    data, run = onnx_file(known, opset)
    assert opset_of(data) == opset
    observations = export.observations_for(known, tmp_path)
    assert check(run, known, observations) <= 1e-5
    path = tmp_path / "policy.onnx"
    path.write_bytes(data)
    policy = PolicyFile.load(path)
    spec, network = known.spec, known.network
    assert policy.spec == spec
    assert (policy.frame_stack, policy.updates) == (known.frame_stack, 12)
    assert policy.outputs == [
        *(["q"] if network.sizes else []),
        *(["continuous"] if spec.continuous else []),
        "action",
        *(["next_memory"] if known.memory else []),
    ]
    # What is compared: any number of observations at a time, and different outcomes.
    assert [len(batch) for batch in observations] == [1, 7, 248]
    obs = observations[-1]
    sides = (known.frame_stack * spec.observation_size,)
    assert obs.shape[1:] == sides
    assert obs.dtype == spec.observation_dtype
    rows = policy.act(obs)
    assert rows.shape == (248, spec.action_width)
    assert len(np.unique(rows, axis=0)) > 2
    spec.check_action_rows(rows)  # inside their heads, to the last digit
    with torch.inference_mode():
        there = network.greedy(*known.parts(obs)).numpy()
    choices = list(spec.discrete_columns)
    np.testing.assert_array_equal(rows[:, choices], there[:, choices])
    np.testing.assert_allclose(rows, there, atol=1e-4)
    onnx.checker.check_model(onnx.load_from_string(data), full_check=True)
    meta = {entry.key: entry.value for entry in onnx.load_from_string(data).metadata_props}
    assert meta.keys() == {
        "format", "version", "game", "frame_stack", "run", "updates", "frames", "digest",
        *(["memory"] if known.memory else []),
    }  # fmt: skip
    assert (meta["run"], meta["frames"]) == ("run", "345")


@pytest.mark.parametrize("name", ["discrete", "uint8", "pictures", "observations"])
@pytest.mark.parametrize("opset", [OPSETS[0], OPSETS[-1]])
def test_file_with_float_input_says_of_bytes_what_the_network_says(
    name: str, opset: int, tmp_path: Path
) -> None:
    known = trained(name)
    data, policy = onnx_file(known, opset, float_input=True)
    taken = {each.name: each.type.tensor_type for each in onnx.load_from_string(data).graph.input}
    assert list(taken) == [each.name for each in known.spec.observations]
    assert {each.elem_type for each in taken.values()} == {onnx.TensorProto.FLOAT}
    observations = export.observations_for(known, tmp_path)
    assert check(policy, known, observations) <= 1e-5
    rows = policy.act(observations[-1])
    there = known.network.greedy(*known.parts(observations[-1])).numpy()
    np.testing.assert_allclose(rows, there, atol=1e-4)


@pytest.mark.parametrize("float_input", [False, True], ids=["", "float"])
@pytest.mark.parametrize("name", GAMES)
def test_torchscript_file_computes_what_the_network_computes(
    name: str, float_input: bool, tmp_path: Path
) -> None:
    known = trained(name)
    data, policy = torchscript_file(known, float_input=float_input)
    assert check(policy, known, export.observations_for(known, tmp_path)) <= 1e-5
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        (name,) = (each for each in archive.namelist() if each.endswith(f"extra/{METADATA}"))
        about = json.loads(archive.read(name))
    assert about["outputs"] == policy.outputs
    assert about["float_input"] == float_input
    assert msgspec.json.decode(about["game"], type=GameSpec) == known.spec


@pytest.mark.parametrize("script", [False, True])
def test_exported_memory_goes_step_by_step_as_the_servers_policy(script: bool) -> None:
    """Games play by the file, and by the policy of the gateway; one begins anew on the way."""
    known = trained("memory")
    _, run = torchscript_file(known) if script else onnx_file(known)
    vector = torch.nn.utils.parameters_to_vector(known.network.parameters()).numpy()
    settings = LearnerConfig(hidden=(16, 12), memory="gru", memory_units=6)
    policy = Policy(known.spec, settings, FixedWeights(vector), frame_stack=2)
    policy.refresh()
    rng = np.random.default_rng(3)
    here, there = np.zeros((3, 6), np.float32), np.zeros((3, 6), np.float32)
    seen = set()
    for step in range(30):
        if step == 17:
            here[1] = there[1] = 0
        obs = rng.standard_normal((3, 2 * known.spec.observation_size), np.float32)
        found = run.run(obs, None, here)
        expected = policy.greedy(obs, None, there)
        np.testing.assert_allclose(found["action"], expected, atol=1e-3)
        here = found["next_memory"]
        np.testing.assert_allclose(here, there, atol=1e-4)
        seen.update(expected[:, 0].tolist())
        zeros = run.run(obs, None, np.zeros_like(here))["q"]
        assert (found["q"] != zeros).any() or not step
    assert len(seen) > 1


class FixedWeights:
    """A source of weights that never change."""

    version = 1

    def __init__(self, vector: npt.NDArray[np.float32]) -> None:
        self._vector = vector

    def fetch(self, out: npt.NDArray[np.float32]) -> int:
        out[:] = self._vector
        return 1


# What is not written.


@pytest.fixture(scope="module")
def hybrid() -> tuple[Trained, bytes]:
    known = trained("hybrid")
    return known, onnx_file(known)[0]


def test_exported_file_with_other_outputs_is_refused(
    hybrid: tuple[Trained, bytes], tmp_path: Path
) -> None:
    """Each output, when the network is another one than the file's."""
    known, data = hybrid
    policy = PolicyFile(data, "p.onnx")
    observations = export.observations_for(known, tmp_path)
    assert check(policy, known, observations) < 1e-5
    bias = known.network.heads.bias
    for column, name in ((0, "q"), (2, "q"), (5, "continuous"), (6, "continuous")):
        bias[column] += 1e-3
        with pytest.raises(ExportError, match=rf"^{name} of the exported file differs"):
            check(policy, known, observations)
        bias[column] -= 1e-3
    assert check(policy, known, observations) < 1e-5
    bias[5] = np.nan
    with pytest.raises(ExportError, match="differs from the network's by nan"):
        check(policy, known, observations)


def test_exported_file_with_another_choice_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Q may agree and the choice made of it not: the second best is exported here."""
    known = trained("hybrid")

    def second(q: torch.Tensor, _sizes: Any) -> torch.Tensor:
        return q.topk(2, dim=1).indices[:, 1:]

    monkeypatch.setattr(exported_network, "best_choices", second)
    with pytest.raises(ExportError, match=r"^action of the exported file differs"):
        check(onnx_file(known)[1], known, export.observations_for(known, tmp_path))


def test_export_check_ignores_exact_ties_only(tmp_path: Path) -> None:
    """All choices equally good: any will do. A thousandth apart: only the best."""
    known = trained("discrete")
    known.network.heads.weight[1:] = 0
    known.network.heads.bias[1:] = 0
    q = known.network(torch.zeros(3, 5)).q.numpy()
    scale = exported_network.scales(known, q)["q"]
    assert not exported_network._no_ties(q, (4,), scale).any()
    q[1, 2] += 1e-3 * scale[1, 0]
    assert exported_network._no_ties(q, (4,), scale).tolist() == [False, True, False]
    check(onnx_file(known)[1], known, export.observations_for(known, tmp_path))


def test_exported_file_with_fixed_batch_size_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    known = trained("hybrid")
    real = torch.onnx.export
    monkeypatch.setattr(
        torch.onnx, "export", lambda *args, **kw: real(*args, **(kw | {"dynamic_axes": {}}))
    )
    with pytest.raises(ExportError, match="cannot be run on 1 observations"):
        check(onnx_file(known)[1], known, export.observations_for(known, tmp_path))


# Files that cannot be used.


def test_damaged_policy_file_is_refused(hybrid: tuple[Trained, bytes]) -> None:
    _, data = hybrid
    for place in range(0, len(data) - 80, len(data) // 40):
        changed = bytearray(data)
        changed[place] ^= 1
        with pytest.raises(PolicyError, match=r"p\.onnx: "):
            PolicyFile(bytes(changed), "p.onnx")
    for kept in (0, 1, 100, len(data) // 2, len(data) - 100):
        with pytest.raises(PolicyError, match=r"p\.onnx: "):
            PolicyFile(data[:kept], "p.onnx")


def with_metadata(data: bytes, **entries: str | None) -> bytes:
    model = onnx.load_from_string(data)
    meta = {entry.key: entry.value for entry in model.metadata_props} | entries | {"digest": None}
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {k: v for k, v in meta.items() if v is not None})
    return bytes(model.SerializeToString())


def test_policy_file_rewritten_without_digest_is_accepted(hybrid: tuple[Trained, bytes]) -> None:
    """If it left out the digest, which is of the old one."""
    _, data = hybrid
    model = onnx.load_from_string(data)
    model.producer_name = "another tool"
    changed = bytes(model.SerializeToString())
    with pytest.raises(PolicyError, match="not as it was exported"):
        PolicyFile(changed, "p.onnx")
    assert PolicyFile(with_metadata(changed), "p.onnx").updates == 12


def test_file_that_is_no_policy_is_refused(hybrid: tuple[Trained, bytes], tmp_path: Path) -> None:
    _, data = hybrid
    for entries, message in (
        ({"format": None}, "whose format is 'understudy policy'"),
        ({"format": "other"}, "whose format is 'understudy policy'"),
        ({"version": "2"}, "expected format version 1, got 2"),
        ({"game": "{"}, "its metadata is damaged"),
        ({"game": None}, "its metadata is damaged"),
        ({"frame_stack": "two"}, "its metadata is damaged"),
    ):
        with pytest.raises(PolicyError, match=message):
            PolicyFile(with_metadata(data, **entries), "p.onnx")
    with pytest.raises(PolicyError, match="cannot read it: No such file"):
        PolicyFile.load(tmp_path / "none.onnx")


def test_policy_without_onnxruntime_names_what_to_install(
    hybrid: tuple[Trained, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(PolicyError, match="with the extra export"):
        PolicyFile(hybrid[1], "p.onnx")


# From a run to a game.


def returns_of(network: QNetwork, env_id: str, episodes: int, seed: int) -> list[float]:
    """What the network plays, without anything of the export."""
    env = gymnasium.make(env_id)
    actions, out = action_space(env.action_space), []
    for i in range(episodes):
        obs, _ = env.reset(seed=seed + i)
        total, over = 0.0, False
        while not over:
            row = network.greedy(torch.from_numpy(np.asarray(obs, np.float32))[None])[0]
            obs, reward, terminated, truncated, _ = env.step(actions.to_env([int(row[0])]))
            total, over = total + float(reward), terminated or truncated
        out.append(total)
    env.close()
    return out


def played(spec: GameSpec, env_id: str, steps: int) -> StepBlock:
    """Random play, as steps."""
    env, block, i, stream = gymnasium.make(env_id), StepBlock.empty(spec, steps), 0, 0
    while i < steps:
        obs, _ = env.reset(seed=stream)
        env.action_space.seed(stream)
        seq, over = 0, False
        while not over and i < steps - 1:
            action = env.action_space.sample()
            block.obs[i], block.action[i], block.reward[i] = obs, action, 1.0
            obs, _, over, _, _ = env.step(action)
            block.stream[i], block.seq[i], block.actor[i], block.kind[i] = stream, seq, EXPERT, STEP
            block.status[i] = int(over)
            i, seq = i + 1, seq + 1
        block.obs[i], block.stream[i], block.seq[i], block.kind[i] = obs, stream, seq, FINAL
        i, stream = i + 1, stream + 1
    env.close()
    return block


@pytest.fixture(scope="module")
def cartpole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of CartPole that has learnt a little: 200 updates."""
    run = tmp_path_factory.mktemp("runs") / "cartpole"
    values = {"learner.hidden": [32, 32], "learner.batch_size": 64, "run.seed": 2}
    values |= {"learner.normalize_observations": True, "learner.learning_rate": 0.003}
    config = config_from(values)
    env = gymnasium.make("CartPole-v1")
    spec = msgspec.json.decode(msgspec.json.encode(client_gym.spec_of(env)), type=GameSpec)
    env.close()
    (run / "checkpoints").mkdir(parents=True)
    write_effective(config, run)
    (run / "game.json").write_bytes(msgspec.json.encode(spec))
    replay = Replay(spec, 5000, n_step=3, gamma=0.99, seed=0)
    block = played(spec, "CartPole-v1", 3000)
    replay.append(block)
    learner = Learner(
        spec, config.learner, AdvantageConfig(), ImitationConfig(), device="cpu", seed=1
    )
    learner.observe(block.obs)
    for number in (100, 200):
        while learner.updates < number:
            learner.step(replay.sample(64))
        checkpoint.save(
            run / f"checkpoints/update-{number:010d}.pt",
            {
                "spec": msgspec.json.encode(spec).decode(),
                "learner": learner.state_dict(),
                "frames": 3000,
                "version": 1,
            },
        )
    return run


def understudy(*words: str) -> tuple[int, str, str]:
    """Exit code, stdout, stderr of a command."""
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        code = cli.main(words)
    return code, out.getvalue(), errors.getvalue()


@pytest.fixture(scope="module")
def policy(cartpole: Path) -> Path:
    path = cartpole / "policy.onnx"
    code, said, errors = understudy("export", "--run", str(cartpole), "--onnx", str(path))
    assert (code, errors) == (0, "")
    assert f"{path}: CartPole-v1, update 200 of {cartpole}; compared on 256 observations" in said
    return path


def test_exported_policy_plays_as_the_network_does(cartpole: Path, policy: Path) -> None:
    network = export.load_trained(cartpole, None).network
    alone = returns_of(network, "CartPole-v1", 5, seed=70)
    code, said, errors = understudy(
        "play", "--policy", str(policy), "--env", "CartPole-v1", "--episodes", "5", "--seed", "70"
    )
    assert (code, errors) == (0, "")
    frames, mean = int(sum(alone)), np.mean(alone)
    assert f"5 episodes: {frames} frames, 0.0% expert, mean return {mean:.1f}" in said
    # A budget of frames ends the last episode early.
    code, said, _ = understudy(
        "play", "--policy", str(policy), "--env", "CartPole-v1", "--frames", "7", "--seed", "70"
    )
    assert (code, "1 episodes: 7 frames" in said) == (0, True)


def test_exported_policy_plays_without_torch(policy: Path) -> None:
    code = (
        "import sys; from server import cli; code = cli.main(sys.argv[1:]); "
        "assert 'torch' not in sys.modules and 'onnx' not in sys.modules; sys.exit(code)"
    )
    words = ["play", "--policy", str(policy), "--env", "CartPole-v1", "--episodes", "1"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 episodes: " in done.stdout


def test_play_with_policy_refuses_other_games_and_options(policy: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(policy.read_bytes()[:1000])
    for words, message in (
        (["--policy", str(policy), "--env", "Acrobot-v1"], "is a policy for 'CartPole-v1'"),
        (["--policy", str(damaged), "--env", "CartPole-v1"], "cannot be read"),
        (["--policy", str(policy), "--clients", "2"], "--clients is about games of a server"),
        (["--policy", str(policy), "--role", "eval"], "--role is about games of a server"),
        (["--policy", str(policy), "--connect", "a:1"], "--connect is about games of a server"),
        (["--policy", str(policy), "--eval-every", "9"], "--eval-every is about games of a"),
        (["--policy", str(policy), "--env", "NoSuchGame-v1"], "NoSuchGame"),
        (["--policy", str(policy), "--env", "Blackjack-v1"], "is a policy for 'CartPole-v1'"),
    ):
        code, _, errors = understudy("play", *words)
        assert (code, len(errors.splitlines())) == (1, 1), errors
        assert message in errors


def test_export_chooses_the_requested_checkpoint(cartpole: Path, tmp_path: Path) -> None:
    assert export.load_trained(cartpole, None).updates == 200
    assert export.load_trained(cartpole, "newest").updates == 200
    older = cartpole / "checkpoints/update-0000000100.pt"
    assert export.load_trained(cartpole, str(older)).updates == 100
    out = str(tmp_path / "p.onnx")
    for which, message in (
        ("best", "has no best checkpoint"),
        (str(tmp_path / "none.pt"), "found none"),
    ):
        words = ["--run", str(cartpole), "--onnx", out, "--checkpoint", which]
        code, _, errors = understudy("export", *words)
        assert (code, message in errors) == (1, True), errors
    # What has learnt nothing is written, and said.
    untrained = checkpoint.load(older, spec=msgspec.json.encode(game_of(cartpole)).decode())
    untrained["learner"]["updates"] = 0
    checkpoint.save(tmp_path / "untrained.pt", untrained)
    words = ["--run", str(cartpole), "--onnx", out, "--checkpoint", str(tmp_path / "untrained.pt")]
    code, _, errors = understudy("export", *words)
    assert (code, "this network has learnt nothing" in errors) == (0, True), errors
    best = cartpole / "checkpoints/best.pt"
    best.write_bytes(older.read_bytes())
    try:
        assert export.load_trained(cartpole, None).updates == 100
        assert export.load_trained(cartpole, "best").updates == 100
        assert export.load_trained(cartpole, "newest").updates == 200
    finally:
        best.unlink()


def test_export_check_includes_demonstrations(tmp_path: Path) -> None:
    known = trained("discrete")
    recorded = demonstrated(3, 20, spec=known.spec)
    recorded.rows.obs[:] = 1000 + np.arange(len(recorded.rows))[:, None]
    demonstrations.add(tmp_path, "demo", recorded)
    batches: list[npt.NDArray[Any]] = export.observations_for(known, tmp_path)
    obs = np.concatenate(batches)
    assert len(obs) == 256 + len(recorded.rows)
    assert np.count_nonzero(obs >= 1000) == len(recorded.rows) * 5


def test_export_writes_nothing_if_its_check_fails(
    cartpole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "p.onnx"

    def fails(*_: object) -> float:
        raise ExportError("q of the exported file differs")

    monkeypatch.setattr(export, "check", fails)
    code, _, errors = understudy("export", "--run", str(cartpole), "--onnx", str(out))
    assert (code, errors) == (1, "understudy export: q of the exported file differs\n")
    assert list(tmp_path.iterdir()) == []


def test_export_refuses_unsuitable_runs(
    cartpole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(run: Path) -> tuple[int, str]:
        code, _, errors = understudy("export", "--run", str(run), "--onnx", str(tmp_path / "p"))
        return code, errors

    assert "there is no such folder" in refused(tmp_path / "none")[1]
    run = tmp_path / "run"
    run.mkdir()
    text = (cartpole / "config.toml").read_text()
    (run / "config.toml").write_text(text)
    assert "has no game yet" in refused(run)[1]
    (run / "game.json").write_bytes((cartpole / "game.json").read_bytes())
    assert "found none; train first" in refused(run)[1]
    (run / "checkpoints").mkdir()
    data = (cartpole / "checkpoints/update-0000000200.pt").read_bytes()
    (run / "checkpoints/update-0000000200.pt").write_bytes(data)
    (run / "config.toml").write_text(text.replace("hidden = [\n    32,", "hidden = [\n    16,"))
    code, errors = refused(run)
    assert code == 1
    assert "--learner.hidden '[16, 32]'" in errors
    assert "--learner.hidden '[32, 32]'" in errors
    monkeypatch.setitem(sys.modules, "onnx", None)
    code, errors = refused(cartpole)
    assert (code, "install understudy with the extra export" in errors) == (1, True)
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize("spec", [SPEC, PIXELS_GAME], ids=["floats", "pixels"])
def test_exported_policy_stacks_frames_as_the_gateway_does(spec: GameSpec) -> None:
    """Over the beginnings of episodes: what the network was trained on, and nothing else."""
    there = FrameStacks(spec, 3, 1)
    out = np.empty((1, 3 * spec.observation_size), spec.observation_dtype)
    rows, stack = np.zeros(1, np.int64), None
    shape, dtype = spec.observations[0].shape, spec.observation_dtype
    seen = observation_space(gymnasium.spaces.Box(0, 100, shape, dtype.type))
    for tick in range(12):
        first = tick in (0, 7, 8)
        obs = np.full(spec.observations[0].shape, tick, spec.observation_dtype)
        there.add(rows, obs.reshape(1, -1), np.array([first]))
        there.take(rows, out)
        if stack is None or first:
            stack = Stack(spec, 3, seen, obs)
        else:
            stack.add(obs)
        assert stack.frames().shape == (1, 3 * spec.observation_size)
        assert stack.frames().dtype == spec.observation_dtype
        np.testing.assert_array_equal(stack.frames().reshape(1, -1), out)
    # Without stacking, an observation without sides, of another float type.
    seen = observation_space(gymnasium.spaces.Box(0, 100, (), np.float64))
    plain = Stack(GameSpec("g", Observation("float32", (1,)), (FIRE,)), 1, seen, np.float64(2.5))
    assert plain.frames().tolist() == [[2.5]]
    assert plain.frames().dtype == np.float32

"""A game with several observations: from the frames to files, to batches, and through a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agent import journal, recording
from agent.factory import make_replay
from agent.journal import Journal, Position
from agent.journal_joined import read_joined
from agent.learner import Learner
from agent.looks import looks
from agent.networks import QNetwork
from agent.policy import Policy
from agent.recording import Recording
from agent.replay import Replay
from config.models import AdvantageConfig, Config, LearnerConfig
from protocol.spaces import Continuous, Discrete, GameSpec, Observation
from server.ipc.step_ring import StepRing
from tests.support.frame_loop import World
from tests.support.learner import NO_CLONING, batch_of, spec_of
from tests.support.worlds import ListSink, assert_same_rows, joined

SPEC = GameSpec(
    "several",
    (
        Observation("uint8", (6, 5, 3), "camera", kind="picture"),
        Observation("float32", (2,), "speed"),
        Observation("int64", (1,), "place", kind="choice", n=9),
        Observation("bool", (3,), "keys"),
    ),
    (Discrete("move", 3),),
).checked()

EVERY_DTYPE = GameSpec(
    "dtypes",
    tuple(
        Observation(dtype, (2,), dtype)
        for dtype in ("float32", "uint8", "float16", "int32", "int64", "bool")
    ),
    (Discrete("move", 3),),
).checked()


def shown(number: int, spec: GameSpec = SPEC) -> Any:
    """What the frame of this number shows: a record whose every part tells it."""
    record = np.zeros(1, spec.observation_dtype)
    for part, each in zip(spec.parts(record[None]), spec.observations, strict=True):
        part[:] = number % (each.choices[0] if each.choices else 2 if each.dtype == "bool" else 200)
    return record[0]


def played(frames: int, spec: GameSpec = SPEC, ends: int = 7) -> ListSink:
    """Two games of one connection play so many frames; every `ends`th ends an episode."""
    world = World(spec, action=(1,))
    player, number = world.player(slots=2), 0
    for _ in range(frames):
        for slot in range(2):
            status = 1 if number % ends == ends - 1 else 0
            player.frame(shown(number, spec), reward=number, status=status, slot=slot)
            number += 1
        world.run()
        assert player.error is None
    player.leave()
    world.run()
    return world.sink


def block_of(frames: int, spec: GameSpec = SPEC) -> Any:
    return joined(played(frames, spec).blocks, spec)


@pytest.mark.parametrize("spec", [SPEC, EVERY_DTYPE])
def test_frames_of_several_observations_become_rows_in_order(spec: GameSpec) -> None:
    block = block_of(20, spec)
    steps = block.kind == 1
    # The reward of a step is the number of the frame that completed it, two games in turn.
    for row, reward in zip(block.obs[steps], block.reward[steps].tolist(), strict=True):
        assert row[0].tobytes() == shown(int(reward) - 2, spec).tobytes()


def test_frames_of_all_slots_at_once_are_stored_as_frames_of_each() -> None:
    world = World(SPEC, action=(1,))
    player = world.player(slots=3)
    for start in (0, 3, 6):
        player.frames([shown(start + i) for i in range(3)], [0.0] * 3, [0] * 3)
        world.run()
    assert player.error is None
    stored = np.concatenate([block.obs for block in world.sink.blocks])
    assert [row.tobytes() for row in stored] == [shown(i).tobytes() for i in range(6)]


def test_frame_with_a_wrong_part_ends_its_connection_alone() -> None:
    world = World(SPEC, action=(1,))
    good, wild, lost = (world.player() for _ in range(3))
    wrong, nan = shown(3).copy(), shown(3).copy()
    wrong["2"], nan["1"] = 9, np.nan
    good.frame(shown(0))
    wild.frame(wrong)
    lost.frame(nan)
    world.run()
    assert good.error is None
    assert wild.error is not None
    assert wild.error.code == "observation_out_of_range"
    assert "got 9 in element 0 of 'place'" in wild.error.message
    assert lost.error is not None
    assert lost.error.code == "observation_not_finite"


def test_network_is_asked_about_the_parts_of_the_frames() -> None:
    world = World(SPEC, action=(1,), frame_stack=3)
    player = world.player()
    for number in range(1, 5):
        player.frame(shown(number))
        world.run()
    (stack,) = world.policy.asked
    camera, speed, place, keys = SPEC.parts(stack[None] if stack.ndim == 1 else stack)
    assert camera[0, :, 0, 0, 0].tolist() == [2, 3, 4]
    assert speed[0, -1].tolist() == [4, 4]
    assert place[0, -1].tolist() == [4]
    assert keys[0, -1].tolist() == [False] * 3


@pytest.mark.parametrize("spec", [SPEC, EVERY_DTYPE])
def test_rows_pass_through_ring_journal_and_recording_unchanged(
    spec: GameSpec, tmp_path: Path
) -> None:
    block = block_of(12, spec)
    ring = StepRing.create(spec, 64)
    try:
        ring.write(block)
        read = ring.read(64)
        assert read is not None
        assert_same_rows(read, block)
        del read
    finally:
        ring.close()
        ring.unlink()
    writer = Journal(tmp_path / "rows", spec, 1000, Position())
    for start in range(0, len(block), 5):
        writer.append(block.rows(start, start + 5))
    writer.close()
    damages: list[Any] = []
    found = [each.rows for each in journal.read(tmp_path / "rows", spec, damages)]
    (whole,) = read_joined(tmp_path / "rows", spec, damages)
    assert not damages
    assert_same_rows(recording.joined(found, spec), block)
    assert_same_rows(whole.rows, block)
    path = tmp_path / "demo.npz"
    recording.write(path, Recording(spec, block, (1.0,)))
    assert recording.read(path).spec == spec
    assert_same_rows(recording.read(path).rows, block)
    with np.load(path, allow_pickle=False) as file:
        assert file["obs"]["0"].shape == (len(block), 1, *spec.observations[0].shape)


def test_journal_of_other_observations_is_refused(tmp_path: Path) -> None:
    writer = Journal(tmp_path, SPEC, 1000, Position())
    writer.append(block_of(4))
    writer.close()
    with pytest.raises(journal.JournalError, match="rows of another game"):
        list(journal.read(tmp_path, EVERY_DTYPE, []))


def test_replay_keeps_each_part_in_its_dtype_and_stacks_pictures_alone() -> None:
    config = Config.model_validate(
        {"replay": {"capacity_steps": 1000, "frame_stack": 3}, "learner": {"n_step": 2}}
    )
    replay = make_replay(config, SPEC, torch.device("cpu"))
    assert [(str(s.dtype), s.shape[1]) for s in replay._rows.obs] == [
        ("torch.uint8", 90), ("torch.float32", 2), ("torch.int64", 1), ("torch.bool", 3),
    ]  # fmt: skip
    for block in played(60).blocks:
        replay.append(block)
    replay.check_valid()
    batch = replay.sample(40)
    assert [tuple(part.shape) for part in batch.states] == [
        (40, 3, 6, 5, 3), (40, 2), (40, 1), (40, 3),
    ]  # fmt: skip
    # Which frame a window starts with its reward tells: that of the step is two frames on.
    for i, reward in enumerate(batch.rewards.tolist()):
        number = int(reward) - 2
        camera, speed, place, keys = (part[i] for part in batch.states)
        assert camera[-1].unique().tolist() == [number % 200]
        assert speed.tolist() == [number % 200] * 2
        assert (place.tolist(), keys.tolist()) == ([number % 9], [bool(number % 2)] * 3)
        before = camera[-2].unique().tolist()
        assert before in ([number % 200], [(number - 2) % 200])


class Weights:
    """A source of a network's own weights."""

    version = 1

    def __init__(self, network: QNetwork) -> None:
        self._vector = torch.nn.utils.parameters_to_vector(network.parameters()).detach().numpy()

    def fetch(self, out: Any) -> int:
        out[:] = self._vector
        return 1


@pytest.mark.parametrize("spec", [SPEC, EVERY_DTYPE])
@pytest.mark.parametrize("stack", [1, 3])
@pytest.mark.parametrize("normalize", [False, True])
def test_policy_of_rows_plays_as_network_of_batches(
    spec: GameSpec, stack: int, normalize: bool
) -> None:
    spec = GameSpec("aim", spec.observations, (Continuous("aim", -1, 1, 1),)).checked()
    settings = LearnerConfig(hidden=(16,), normalize_observations=normalize)
    torch.manual_seed(0)
    network = QNetwork(spec, settings, frame_stack=stack)
    policy = Policy(spec, settings, Weights(network), frame_stack=stack)
    policy.refresh()
    shows = looks(spec, settings, stack)
    rows = np.stack([[shown(i + k, spec) for k in range(stack)] for i in range(30)])
    parts = [
        torch.from_numpy(look.shaped(part))
        for look, part in zip(shows, spec.parts(rows), strict=True)
    ]
    expected = network.greedy(*parts).numpy()
    np.testing.assert_array_equal(policy.greedy(rows), expected)
    one_by_one = np.concatenate([policy.greedy(row[None]) for row in rows])
    np.testing.assert_allclose(one_by_one, expected, atol=1e-5)
    assert len(np.unique(expected)) > 15


@pytest.mark.parametrize("which", range(4))
def test_learner_finds_the_choice_that_one_of_the_observations_tells(which: int) -> None:
    """Every part is noise but one, and that one says which of two choices pays."""
    spec = GameSpec("tell", SPEC.observations, (Discrete("move", 2),)).checked()
    learner = Learner(
        spec, LearnerConfig(hidden=(32,), learning_rate=1e-2), AdvantageConfig(), NO_CLONING,
        device="cpu", seed=1,
    )  # fmt: skip
    rng = np.random.default_rng(which)

    def states(n: int) -> tuple[np.ndarray, tuple[torch.Tensor, ...]]:
        right = rng.integers(0, 2, n)
        telling = right if which > 0 else right * 120
        parts = []
        for i, each in enumerate(spec.observations):
            high = each.choices[0] if each.choices else 2 if each.dtype == "bool" else 100
            part = rng.integers(0, high, (n, *each.shape))
            if i == which:
                part = np.broadcast_to(telling.reshape(n, *[1] * len(each.shape)), part.shape)
            elif each.dtype == "float32":
                part = part / 100
            parts.append(torch.from_numpy(part.astype(each.dtype)))
        return right, tuple(parts)

    for i in range(50):
        right, parts = states(64)
        batch = batch_of(spec_of((Discrete("move", 2),)), 64, seed=i)
        columns = {name: getattr(batch, name) for name in batch.__slots__}
        paid = (batch.discrete[:, 0] == torch.from_numpy(right)).float()
        columns |= {"states": parts, "next_states": parts, "returns": paid}
        learner.step(type(batch)(**columns | {"discounts": torch.zeros(64)}))
    right, parts = states(200)
    played = learner.network.greedy(*parts)[:, 0].numpy()
    assert (played == right).mean() > 0.9
    learner.heads()
    assert set(learner.agreement())


def test_choices_that_are_many_pass_through_an_embedding() -> None:
    spec = GameSpec(
        "many", Observation("int32", (2,), "town", kind="choice", n=5000), (Discrete("move", 3),)
    ).checked()
    network = QNetwork(spec, LearnerConfig(hidden=(8,)))
    assert network.state_dict()["observation_0.embedding.weight"].shape == (10_000, 32)
    towns = torch.tensor([[0, 4999], [4999, 0], [7, 7], [0, 4999]], dtype=torch.int32)
    q = network(towns).q
    assert torch.equal(q[0], q[3])
    assert not torch.allclose(q[0], q[1])
    assert not torch.allclose(q[0], q[2])


@pytest.mark.parametrize(
    ("observation", "value", "expected"),
    [
        # Planes of 0 and 1 stay so; a picture without bounds of its own is one of 255 grays.
        (Observation("uint8", (16, 16, 12), "p", low=0, high=1), 1, 1.0),
        (Observation("uint8", (16, 16, 12), "p"), 255, 1.0),
        (Observation("float32", (16, 16, 3), "p", low=-1, high=1), 0.0, 0.5),
        (Observation("bool", (16, 16, 3), "p"), 1, 1.0),
        (Observation("int32", (16, 16, 3), "p", low=0, high=10), 5, 0.5),
        (Observation("float16", (3,), "p", low=0, high=10), 5, 5.0),
        (Observation("uint8", (3,), "p"), 51, 0.2),
        (Observation("uint8", (3,), "p", low=0, high=2), 1, 0.5),
    ],
)
def test_elements_are_scaled_by_their_bounds(
    observation: Observation, value: float, expected: float
) -> None:
    spec = GameSpec("g", observation, (Discrete("a", 2),)).checked()
    (look,) = looks(spec, LearnerConfig(), 1)
    part = torch.from_numpy(np.full((1, 4), value, spec.observation_dtype))
    assert look.scaled(part).tolist() == [[pytest.approx(expected)] * 4]


@pytest.mark.parametrize(
    ("observation", "stack", "says", "flattened"),
    [
        (Observation("uint8", (84, 80, 3), "eye"), 4,
         "eye uint8 [84, 80, 3]: picture, 84 high, 80 wide, channels 3, 4 frames, "
         "0 to 255 shown as 0 to 1", False),
        (Observation("float32", (20, 20, 3)), 1,
         "observation float32 [20, 20, 3]: 1200 numbers", True),
        (Observation("bool", (10, 10, 4), "board"), 1,
         "board bool [10, 10, 4]: 400 numbers", False),
        (Observation("int64", (2,), "at", kind="choices", n=(4, 9)), 1,
         "at int64 [2]: 2 of 4, 9 choices", False),
        (Observation("bool", (19, 19), "map"), 1,
         "map bool [19, 19]: picture, 19 high, 19 wide, gray", False),
    ],
)  # fmt: skip
def test_look_says_in_one_line_how_an_observation_is_seen(
    observation: Observation, stack: int, says: str, flattened: bool
) -> None:
    spec = GameSpec("g", observation, (Discrete("a", 2),)).checked()
    (look,) = looks(spec, LearnerConfig(), stack)
    assert str(look) == says
    assert look.is_flattened is flattened


def test_replay_without_stacks_for_each_observation_is_refused() -> None:
    with pytest.raises(ValueError, match="stacks: expected at least 1 for each observation"):
        Replay(SPEC, 10, n_step=1, gamma=0.9, stacks=[1])

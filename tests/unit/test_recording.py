"""Recordings are written whole, read back as they were, and never believed unseen."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent import recording
from agent.interventions import interventions
from agent.recorder import DISCARD, MARK, Recorder
from agent.recording import Recording, RecordingError, joined
from agent.replay import Replay
from agent.step import FINAL, STEP, StepBlock, stored_columns
from protocol.masks import packed
from protocol.spaces import Discrete, GameSpec, Observation
from tests.support.masked import MASKED, mask
from tests.support.worlds import DQN, EXPERT, PIXELS, SPEC, assert_same_rows

UNIT_WEIGHTS = (1.0,)

GOLDEN = Path(__file__).parents[1] / "golden" / "recording-1.npz"
"""`random_steps(seed=3)`, as version 1 was written."""


def rows_of(spec: GameSpec, *rows: tuple[int, int, int, int, float]) -> StepBlock:
    """Rows from (stream, seq, actor, status, reward); actor 0 is a final row."""
    block = StepBlock.empty(spec, len(rows))
    for i, (stream, seq, actor, status, reward) in enumerate(rows):
        block.stream[i], block.seq[i], block.actor[i] = stream, seq, actor
        block.status[i], block.reward[i] = status, reward
        block.kind[i] = STEP if actor else FINAL
        block.obs[i] = 10 * stream + seq
        if actor:
            block.action[i, 0] = seq % 4
    return block


def random_steps(spec: GameSpec = SPEC, n: int = 400, seed: int = 0) -> StepBlock:
    """Three streams, interleaved, with ends of both kinds, breaks, and both actors."""
    rng = np.random.default_rng(seed)
    rows, seq, alive = [], [0, 0, 0], [False] * 3
    while len(rows) < n:
        stream = int(rng.integers(3))
        if alive[stream] and rng.random() < 0.02:  # it was lost: the pending frame is the last
            rows.append((stream, seq[stream], 0, 0, 0.0))
            seq[stream], alive[stream] = seq[stream] + 7, False
            continue
        status = int(rng.choice([0, 0, 0, 0, 1, 2]))
        rows.append((stream, seq[stream], int(rng.integers(1, 3)), status, rng.standard_normal()))
        seq[stream], alive[stream] = seq[stream] + 1, status == 0
        if status:
            rows.append((stream, seq[stream], 0, 0, 0.0))
            seq[stream] += 1
    block = rows_of(spec, *rows)
    block.obs[:] = rng.integers(0, 200, block.obs.shape)
    return block


def reference_returns(block: StepBlock) -> list[float]:
    """Returns of complete episodes, written out."""
    sums: dict[int, float] = {}
    out = []
    for i in range(len(block)):
        stream = int(block.stream[i])
        if block.kind[i] == FINAL:
            sums.pop(stream, None)
            continue
        sums[stream] = sums.get(stream, 0.0) + float(block.reward[i])
        if block.status[i]:
            out.append(sums.pop(stream))
    return out


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "demo.npz"


@pytest.mark.parametrize("spec", [SPEC, PIXELS], ids=["floats", "pixels"])
def test_recording_written_then_read_is_equal(path: Path, spec: GameSpec) -> None:
    block = random_steps(spec)
    recording.write(path, Recording(spec, block, (0.5,)))
    found = recording.read(path, spec=spec)
    assert (found.spec, found.reward_weights) == (spec, (0.5,))
    assert_same_rows(found.rows, block)
    assert [p.name for p in path.parent.iterdir()] == ["demo.npz"]


def test_replay_fed_from_recording_gives_same_samples(path: Path) -> None:
    block = random_steps()
    recording.write(path, Recording(SPEC, block, UNIT_WEIGHTS))
    replays = []
    for rows in (block, recording.read(path).rows):
        replay = Replay(SPEC, 1000, n_step=3, gamma=0.9, seed=5)
        replay.append(rows)
        replay.check_valid()
        replays.append(replay.sample(500))
    first, second = replays
    assert first.returns.tolist() == second.returns.tolist()
    assert first.next_states[0].tolist() == second.next_states[0].tolist()
    assert len(set(first.horizons.tolist())) > 1


def test_recording_is_readable_by_numpy_without_pickle(path: Path) -> None:
    """NumPy alone, without pickle: this is what the documentation promises."""
    recording.write(path, Recording(SPEC, random_steps(), UNIT_WEIGHTS))
    with np.load(path, allow_pickle=False) as file:
        assert str(file["format"]) == "understudy recording"
        assert int(file["version"]) == 2
        assert '"test"' in str(file["spec"])
        assert set(file.files) == {"format", "version", "spec", "reward_weights"} | set(
            stored_columns(SPEC)
        )


def test_write_on_full_disk_leaves_no_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(file: Any, **_: Any) -> None:
        file.write(b"PK")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", half)
    with pytest.raises(OSError, match="No space"):
        recording.write(path, Recording(SPEC, random_steps(), UNIT_WEIGHTS))
    assert list(path.parent.iterdir()) == []


def test_empty_recording_written_then_read_is_empty(path: Path) -> None:
    recording.write(path, Recording(SPEC, StepBlock.empty(SPEC, 0), UNIT_WEIGHTS))
    found = recording.read(path)
    assert len(found.rows) == len(found.returns()) == 0
    assert len(found.of_expert().rows) == 0
    assert recording.summary(found) == "0 complete episodes, steps: 0 of expert"


# What cannot be used.


def test_read_missing_file_raises(path: Path) -> None:
    with pytest.raises(RecordingError, match=r"expected a recording at .*demo\.npz, found none"):
        recording.read(path)


def test_read_with_one_byte_changed_raises_or_gives_same_content(path: Path) -> None:
    """Wherever a byte is wrong: an error of one kind, or the very same content."""
    recording.write(path, Recording(SPEC, random_steps(n=12), UNIT_WEIGHTS))
    good, truth = path.read_bytes(), recording.read(path).digest
    refused = 0
    for place in range(0, len(good), 7):
        data = bytearray(good)
        data[place] ^= 0x55
        path.write_bytes(data)
        try:
            assert recording.read(path).digest == truth
        except RecordingError:
            refused += 1
    assert refused > len(good) / 7 / 2


@pytest.mark.parametrize("kept", [0, 1, 100, -1, -200])
def test_read_truncated_file_raises(path: Path, kept: int) -> None:
    recording.write(path, Recording(SPEC, random_steps(), UNIT_WEIGHTS))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(RecordingError, match=r"demo\.npz: expected a recording"):
        recording.read(path)


def test_read_file_of_other_format_raises(path: Path) -> None:
    path.write_text("name,reward\n")
    with pytest.raises(RecordingError, match="expected a recording"):
        recording.read(path)
    np.savez(path, seq=np.arange(3))
    with pytest.raises(RecordingError, match="format is 'understudy recording'"):
        recording.read(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("format", "understudy recording")
    with pytest.raises(RecordingError):
        recording.read(path)


def write_with_changed_entries(path: Path, **entries: Any) -> None:
    """A recording in which some entries are others, or missing (None)."""
    recording.write(path, Recording(SPEC, random_steps(n=40), UNIT_WEIGHTS))
    with np.load(path) as file:
        content = {name: file[name] for name in file.files} | entries
    np.savez(path, **{name: value for name, value in content.items() if value is not None})


def test_read_with_forged_array_shape_raises_before_allocating(path: Path) -> None:
    """The checksums come first: what an entry says of itself is not believed before."""
    recording.write(path, Recording(SPEC, random_steps(n=30_000), UNIT_WEIGHTS))
    with np.load(path) as file:
        np.savez(path, **dict(file))  # not compressed, so that the text can be found
    data = path.read_bytes()
    rows = len(recording.read(path).rows)
    old, new = f"'shape': ({rows},), }}             ".encode(), b"'shape': (40000000000000,), }"
    assert data.count(old) > 3
    path.write_bytes(data.replace(old, new.ljust(len(old))))
    with pytest.raises(RecordingError, match="cannot be read"):
        recording.read(path)


def test_read_object_array_raises_without_unpickling(path: Path) -> None:
    write_with_changed_entries(path, reward=np.array([print], dtype=object))
    with pytest.raises(RecordingError, match="expected numbers or text, got 'object'"):
        recording.read(path)


def test_read_other_format_version_raises(path: Path) -> None:
    write_with_changed_entries(path, version=np.array(3))
    with pytest.raises(RecordingError, match="expected format version 2 or earlier, got 3"):
        recording.read(path)


def test_recording_of_version_1_has_no_recommendations_and_its_old_digest() -> None:
    found = recording.read(GOLDEN)
    written = random_steps(seed=3)
    assert np.isnan(written.recommended).all()
    assert_same_rows(found.rows, written)
    # A run knows its demonstrations by it: they must not be there twice.
    assert found.digest.startswith("7e77e5906732")
    assert found.of_expert().steps(EXPERT) == found.steps(EXPERT) > 0


def test_recommendations_and_versions_are_read_back(path: Path) -> None:
    block = random_steps()
    block.recommended[::3] = [1, 0.5, -0.5]
    block.policy_version[:] = np.arange(len(block))
    made = Recording(SPEC, block, UNIT_WEIGHTS)
    assert made.digest != Recording(SPEC, random_steps(), UNIT_WEIGHTS).digest
    recording.write(path, made)
    assert_same_rows(recording.read(path).rows, block)
    theirs = made.of_expert().rows
    assert np.isnan(theirs.recommended[theirs.kind == FINAL]).all()


def test_read_recording_of_other_game_raises(path: Path) -> None:
    recording.write(path, Recording(SPEC, random_steps(), UNIT_WEIGHTS))
    with pytest.raises(
        RecordingError, match=r"expected a recording of 'pixels'.*got one of 'test'"
    ):
        recording.read(path, spec=PIXELS)


def test_read_invalid_column_or_spec_raises(path: Path) -> None:
    for name, value, message in (
        ("seq", None, "expected a column 'seq'"),
        ("seq", np.arange(40), "column 'seq'"),
        ("obs", np.zeros((3, 3), np.float32), "column 'obs'"),
        ("spec", np.array("{"), "demo.npz"),
        ("spec", np.array('{"game":"x","observation":["int8",[1]],"actions":[]}'), "dtype"),
        ("reward_weights", np.ones(2), "expected a weight for each"),
        ("reward_weights", np.array([np.nan]), "expected a weight for each"),
        ("reward_weights", np.array("one"), "demo.npz"),
    ):
        write_with_changed_entries(path, **{name: value})
        with pytest.raises(RecordingError, match=message):
            recording.read(path)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("obs", np.nan, "expected numbers from -1e"),
        ("obs", 2e9, "expected numbers from -1e"),
        ("reward", np.inf, "expected rewards"),
        ("action", np.nan, "expected an action for every step"),
        ("action", 4.0, r"head 'fire': expected a whole number 0\.0 to 3\.0, got 4\.0"),
        ("action", 0.5, "whole number"),
        ("recommended", 4.0, "expected whole recommendations"),
        ("actor", 3, "a step needs an actor"),
        ("actor", 0, "a step needs an actor"),
        ("status", 9, "expected the status"),
        ("kind", 0, "expected the kind"),
    ],
)
def test_write_and_read_invalid_rows_raise(
    path: Path, column: str, value: float, message: str
) -> None:
    block = random_steps(n=40)
    values = getattr(block, column)
    row = int(np.argmax(block.kind == STEP))
    values[(row, 0) if values.ndim > 1 else row] = value
    with pytest.raises(RecordingError, match=message):
        recording.write(path, Recording(SPEC, block, UNIT_WEIGHTS))
    assert not path.exists()
    write_with_changed_entries(path, **{column: values})
    with pytest.raises(RecordingError, match=message):
        recording.read(path)


# What is in it.


def test_returns_match_reference_over_complete_episodes() -> None:
    for seed in range(5):
        block = random_steps(seed=seed)
        expected = reference_returns(block)
        assert len(expected) > 20
        assert Recording(SPEC, block, UNIT_WEIGHTS).returns().tolist() == pytest.approx(expected)


def test_returns_leave_out_unfinished_episode() -> None:
    block = rows_of(SPEC, (1, 0, EXPERT, 0, 5.0), (2, 0, EXPERT, 1, 7.0), (2, 1, EXPERT, 0, 1.0))
    assert Recording(SPEC, block, UNIT_WEIGHTS).returns().tolist() == [7.0]


def test_summary_gives_episodes_steps_and_mean_return() -> None:
    block = rows_of(
        SPEC, (1, 0, EXPERT, 0, 5.0), (1, 1, DQN, 1, 7.0), (1, 2, 0, 0, 0.0), (1, 3, EXPERT, 2, 2.0)
    )
    assert recording.summary(Recording(SPEC, block, UNIT_WEIGHTS)) == (
        "2 complete episodes, steps: 1 of dqn, 2 of expert, mean return 7.0"
    )


def test_digest_changes_with_any_content(path: Path) -> None:
    first = Recording(SPEC, random_steps(), UNIT_WEIGHTS)
    recording.write(path, first)
    assert (
        recording.read(path).digest
        == first.digest
        == Recording(SPEC, random_steps(), UNIT_WEIGHTS).digest
    )
    others = [
        Recording(SPEC, random_steps(seed=1), UNIT_WEIGHTS),
        Recording(SPEC, random_steps(), (2.0,)),
        Recording(PIXELS, random_steps(PIXELS), UNIT_WEIGHTS),
    ]
    for name in stored_columns(SPEC):
        if name == "policy_version":  # which network watched is no content
            continue
        block = random_steps()
        block.recommended[3] = 0
        getattr(block, name)[3] += 1
        others.append(Recording(SPEC, block, UNIT_WEIGHTS))
    digests = {other.digest for other in others} | {first.digest}
    assert len(digests) == len(others) + 1


# The expert's part.


def test_of_expert_keeps_expert_steps_and_their_successors() -> None:
    block = rows_of(
        SPEC,
        (1, 0, EXPERT, 0, 1.0),
        (2, 0, DQN, 0, 2.0),
        (1, 1, EXPERT, 0, 3.0),
        (1, 2, DQN, 0, 4.0),  # where the expert's step led to: a final row
        (2, 1, DQN, 1, 5.0),
        (2, 2, 0, 0, 0.0),  # the end of another's episode
        (1, 3, DQN, 0, 6.0),
        (1, 4, EXPERT, 1, 7.0),
        (1, 5, 0, 0, 0.0),
        (1, 6, DQN, 0, 8.0),
        (1, 9, EXPERT, 0, 9.0),
        (1, 12, DQN, 0, 1.0),  # not where it led to: there is a gap
        (3, 0, EXPERT, 1, 1.0),
        (3, 1, DQN, 0, 1.0),  # the next episode
    )
    found = Recording(SPEC, block, UNIT_WEIGHTS).of_expert()
    rows = found.rows
    assert [(int(s), int(q)) for s, q in zip(rows.stream, rows.seq, strict=True)] == [
        (1, 0), (1, 1), (1, 2), (1, 4), (1, 5), (1, 9), (3, 0)
    ]  # fmt: skip
    assert rows.actor.tolist() == [2, 2, 0, 2, 0, 2, 2]
    assert rows.kind.tolist() == [1, 1, 2, 1, 2, 1, 1]
    assert rows.reward.tolist() == [1, 3, 0, 7, 0, 9, 1]
    assert rows.status.tolist() == [0, 0, 0, 1, 0, 0, 1]
    assert rows.obs[2].tolist() == [12, 12, 12]
    assert rows.action[2].tolist() == [0, 0, 0]
    assert block.kind[3] == STEP, "the source is left alone"


def test_of_expert_gives_same_n_step_windows_as_all_rows() -> None:
    """Every window that starts at a step of the expert is what it was among all rows."""
    for seed in range(3):
        block = random_steps(seed=seed)
        both = Replay(SPEC, 1000, n_step=3, gamma=0.9, seed=1)
        both.append(block)
        alone = Replay(SPEC, 1000, n_step=3, gamma=0.9, seed=1)
        alone.append(Recording(SPEC, block, UNIT_WEIGHTS).of_expert().rows)
        alone.check_valid()
        tables = []
        for replay in (both, alone):
            batch = replay.sample(4000)
            stream, seq = replay.identify(batch.indices)
            tables.append(
                {
                    (int(stream[i]), int(seq[i])): (
                        float(batch.returns[i]), float(batch.discounts[i]),
                        batch.next_states[0][i].tolist() if batch.discounts[i] else None,
                    )
                    for i in range(len(batch)) if batch.actors[i] == EXPERT
                }
            )  # fmt: skip
        assert len(tables[1]) > 100
        assert tables[0] == tables[1]


# Rewards.


def test_with_rewards_scales_and_clips_to_run_settings() -> None:
    block = rows_of(SPEC, (1, 0, EXPERT, 0, 3.0), (1, 1, EXPERT, 0, -8.0))
    first = Recording(SPEC, block, (0.5,))
    assert first.with_rewards((0.5,), None).rows.reward.tolist() == [3.0, -8.0]
    found = first.with_rewards((0.25,), 2.0)
    assert found.rows.reward.tolist() == [1.5, -2.0]
    assert found.reward_weights == (0.25,)
    assert block.reward.tolist() == [3.0, -8.0], "the source is left alone"


def test_with_rewards_in_other_proportions_raises() -> None:
    spec = GameSpec("two", Observation("float32", (1,)), (Discrete("a", 2),), ("speed", "fuel"))
    block = rows_of(spec, (1, 0, EXPERT, 0, 3.0))
    first = Recording(spec, block, (1.0, 0.5))
    assert first.with_rewards((2.0, 1.0), None).rows.reward.tolist() == [6.0]
    with pytest.raises(RecordingError, match=r"'speed': 1\.0, 'fuel': 0\.5.*only their sum"):
        first.with_rewards((1.0, 1.0), None)
    silent = Recording(spec, block, (0.0, 0.0))
    with pytest.raises(RecordingError, match="only their sum"):
        silent.with_rewards((1.0, 0.0), None)


def by_stream(block: StepBlock) -> StepBlock:
    order = np.argsort(block.stream, kind="stable")
    return StepBlock(*(getattr(block, name)[order] for name in StepBlock.__slots__))


@pytest.mark.parametrize("size", [1, 7, 100])
def test_recorder_keeps_copies_of_blocks(tmp_path: Path, size: int) -> None:
    """What it is shown lies in a ring, and will be overwritten."""
    block = random_steps()
    path = tmp_path / "demo.npz"
    recorder = Recorder(path, SPEC, UNIT_WEIGHTS)
    for start in range(0, len(block), size):
        part = StepBlock(
            *(getattr(block.rows(start, start + size), n).copy() for n in StepBlock.__slots__)
        )
        recorder.add(part)
        part.obs[:] = 0
        part.reward[:] = -1
    recorder.finish()
    with np.load(path) as file:
        assert str(file["format"]) == recording.FORMAT, "what NumPy alone can read"
    assert_same_rows(by_stream(recording.read(path).rows), by_stream(block))


def episodes(*lengths: int) -> list[StepBlock]:
    """Episodes of one stream, each with its final row."""
    found, seq = [], 0
    for number, length in enumerate(lengths):
        rows = [(1, seq + i, EXPERT, int(i == length - 1), float(number)) for i in range(length)]
        block = rows_of(SPEC, *rows, (1, seq + length, 0, 0, 0.0))
        block.kind[-1], block.action[-1] = FINAL, 0
        found.append(block)
        seq += length + 1
    return found


def test_recorder_has_each_episode_on_the_disk_when_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "demo.npz"
    recorder = Recorder(path, SPEC, UNIT_WEIGHTS)
    first, second, third = episodes(3, 2, 4)
    recorder.add(first.rows(0, 3))
    assert not path.exists(), "its last observation has not come"
    recorder.add(first.rows(3, 4))
    assert recording.read(path, spec=SPEC).returns().tolist() == [0.0]
    recorder.add(joined([second, third.rows(0, 2)], SPEC))
    assert recording.read(path).returns().tolist() == [0.0, 2.0]
    assert_same_rows(recording.read(path).rows, joined([first, second], SPEC))


@pytest.mark.parametrize("cut", [1, 10, 24, 25, 60])
def test_recording_that_was_killed_while_it_wrote_keeps_the_episodes_before(
    tmp_path: Path, cut: int
) -> None:
    path = tmp_path / "demo.npz"
    recorder = Recorder(path, SPEC, UNIT_WEIGHTS)
    for block in episodes(3, 2):
        recorder.add(block)
    whole = path.read_bytes()
    recorder.add(episodes(3, 2, 4)[2])
    path.write_bytes(path.read_bytes()[: len(whole) + cut])
    found = recording.read(path)
    assert found.returns().tolist() == [0.0, 2.0]
    assert found.incomplete == cut
    assert f"the last {cut} bytes are incomplete and were left out" in recording.summary(found)


def test_damaged_episode_of_a_recording_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "demo.npz"
    recorder = Recorder(path, SPEC, UNIT_WEIGHTS)
    ends = []
    for block in episodes(3, 2, 4):
        recorder.add(block)
        ends.append(path.stat().st_size)
    data = bytearray(path.read_bytes())
    data[ends[1] - 5] ^= 1
    path.write_bytes(data)
    found = recording.read(path)
    assert found.returns().tolist() == [0.0]
    assert found.incomplete == ends[2] - ends[0]
    path.write_bytes(data[: ends[0] - 1])
    with pytest.raises(RecordingError, match="no complete episode"):
        recording.read(path)


def test_recording_under_way_is_not_taken_for_its_last_episode(tmp_path: Path) -> None:
    """What knows .npz alone must refuse it: it looks for a directory at the end of a file."""
    path = tmp_path / "demo.npz"
    recorder = Recorder(path, SPEC, UNIT_WEIGHTS)
    for block in episodes(3, 2):
        recorder.add(block)
    assert not zipfile.is_zipfile(path)


def test_episode_that_cannot_be_written_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "demo.npz"
    recorder = Recorder(path, SPEC, UNIT_WEIGHTS)
    first, second, third = episodes(3, 2, 4)
    recorder.add(first)
    before = path.read_bytes()

    def half(file: int, data: memoryview) -> int:
        if len(data) < 20:
            raise OSError(28, "No space left on device")
        return write(file, data[:-10])

    write = os.write
    with monkeypatch.context() as full:
        full.setattr(os, "write", half)
        with pytest.raises(OSError, match="No space"):
            recorder.add(second)
    assert path.read_bytes() == before
    recorder.add(third)
    assert recording.read(path).returns().tolist() == [0.0, 2.0, 8.0]
    recorder.finish()
    assert recording.read(path).returns().tolist() == [0.0, 2.0, 8.0]


def masked_steps() -> StepBlock:
    """Three steps and a final row of a game with masks; what was done and recommended is legal."""
    block = StepBlock.empty(MASKED, 4)
    block.stream[:], block.seq[:] = 5, np.arange(4)
    block.kind[:], block.actor[:] = (STEP, STEP, STEP, FINAL), (1, 2, 1, 0)
    block.legal[:] = packed(np.stack([mask((0, 2), (1, 6))] * 4))
    block.action[:] = [[0, 0.5, 1], [2, 0.5, 6], [2, 0.5, 1], [0, 0, 0]]
    block.recommended[1] = [2, 0.5, 6]
    return block


def test_recording_of_masks_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "masked.npz"
    recording.write(path, Recording(MASKED, masked_steps(), UNIT_WEIGHTS))
    found = recording.read(path, spec=MASKED)
    assert_same_rows(found.rows, masked_steps())
    other = Recording(MASKED, masked_steps(), UNIT_WEIGHTS)
    assert other.digest == found.digest
    other.rows.legal[:] = 255
    assert other.digest != found.digest


@pytest.mark.parametrize(
    ("column", "words"), [("action", "the action taken"), ("recommended", "the recommendation")]
)
def test_recording_of_an_illegal_choice_is_not_written(
    tmp_path: Path, column: str, words: str
) -> None:
    block = masked_steps()
    getattr(block, column)[1] = [2, 0.5, 5]
    with pytest.raises(
        RecordingError, match=r"head 'column': expected .*\(1, 6\), got 5"
    ) as caught:
        recording.write(tmp_path / "masked.npz", Recording(MASKED, block, UNIT_WEIGHTS))
    assert words in str(caught.value)


def test_discarded_episode_is_not_recorded_and_marked_one_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "demo.npz"
    recorder = Recorder(path, SPEC, UNIT_WEIGHTS)
    first, second, third, fourth = episodes(3, 2, 4, 1)
    recorder.add(first.rows(0, 2))
    recorder.judge(1, DISCARD)
    recorder.add(first.rows(2, 4))
    assert not path.exists()
    recorder.add(second.rows(0, 1))
    recorder.judge(1, MARK)
    recorder.add(second.rows(1, 3))
    recorder.add(third)
    under_way = recording.read(path)
    recorder.judge(1, DISCARD)  # it is said of the episode in play, which is cut by the end
    recorder.add(fourth.rows(0, 1))
    recorder.finish()
    for found in (under_way, recording.read(path)):
        assert found.returns().tolist() == [2.0, 8.0]
        assert found.marked is not None
        assert found.marked.tolist() == [True] * 3 + [False] * 5
        assert_same_rows(found.of_marked().rows, second)
        assert "2 complete episodes, 1 of them marked" in recording.summary(found)


def test_recording_without_marks_has_no_such_entry(tmp_path: Path) -> None:
    """So that versions before can read it."""
    path = tmp_path / "demo.npz"
    recorder = Recorder(path, SPEC, UNIT_WEIGHTS)
    recorder.add(episodes(3)[0])
    recorder.finish()
    with np.load(path) as file:
        assert "marked" not in file.files
    assert len(recording.read(path).of_marked().rows) == 0


def test_recorder_of_discarded_episodes_alone_says_so(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "demo.npz", SPEC, UNIT_WEIGHTS)
    recorder.judge(1, DISCARD)
    recorder.add(episodes(3)[0])
    with pytest.raises(RecordingError, match="every episode was discarded"):
        recorder.finish()


@pytest.mark.parametrize("marked", [np.ones(3, np.bool_), np.ones(4, np.uint8)])
def test_recording_with_wrong_marks_is_refused(tmp_path: Path, marked: Any) -> None:
    path = tmp_path / "demo.npz"
    recording.write(path, Recording(SPEC, episodes(3)[0], UNIT_WEIGHTS))
    with np.load(path) as file:
        content = {name: file[name] for name in file.files}
    np.savez(path, **content, marked=marked)
    with pytest.raises(RecordingError, match="expected marked as bool"):
        recording.read(path)


def test_summary_tells_of_who_took_over() -> None:
    """Steps 1, 2 and 5 of the first episode are done by somebody else than the script; the last two
    have no recommendation at all."""
    block = joined(episodes(7, 2), SPEC)
    block.recommended[:] = block.action
    for i in (1, 2, 5):
        block.recommended[i, 0] = block.action[i, 0] + 1
    block.recommended[8:10] = np.nan
    assert interventions(block) == (0, 0), "of rows of version 1 nobody knows"
    block.policy_version[:] = 1
    found = Recording(SPEC, block, UNIT_WEIGHTS)
    assert interventions(block) == (3, 5)
    assert "9 of expert (5 by a person who took over, 3 times)" in recording.summary(found)

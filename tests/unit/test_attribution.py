from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.play import attribution
from server.play.attribution import Attribution, compare, load_dump, load_logs

Columns = dict[str, npt.NDArray[Any]]


def truths(*rows: tuple[int, int, int, int, float]) -> Columns:
    """(session, slot, seq, actor, action) of each answer."""
    session, slot, seq, actor, action = zip(*rows, strict=True) if rows else ((),) * 5
    return {
        "session": np.array(session, np.int64),
        "slot": np.array(slot, np.int64),
        "seq": np.array(seq, np.int64),
        "actor": np.array(actor, np.uint8),
        "action": np.array(action, np.float32).reshape(-1, 1).repeat(2, axis=1),
    }


def dump(*rows: tuple[int, int, int, int, float], prefix: str = "") -> Columns:
    """What the replay would hold of these."""
    columns = truths(*rows)
    return {
        f"{prefix}stream": columns["session"] << 16 | columns["slot"],
        f"{prefix}seq": columns["seq"].astype(np.uint32),
        f"{prefix}actor": columns["actor"],
        f"{prefix}action": columns["action"],
    }


# Two games on a connection and one on another; the second stream has a gap where an episode ended.
PLAYED = [
    (1, 0, 0, 1, 0.1),
    (1, 0, 1, 2, 0.2),
    (1, 0, 2, 1, 0.3),
    (1, 1, 0, 2, 0.4),
    (1, 1, 1, 2, 0.5),
    (1, 1, 3, 1, 0.6),
    (1, 1, 4, 1, 0.7),
    (9, 0, 0, 1, 0.8),
    (9, 0, 1, 2, 0.9),
]
PENDING = [PLAYED[2], PLAYED[6], PLAYED[8]]
STORED = [row for row in PLAYED if row not in PENDING]


def test_compare_matching_logs_and_replay_is_ok() -> None:
    found = compare(truths(*PLAYED), dump(*STORED))
    assert found == Attribution(compared=6, mismatches=0, missing=0, batch_compared=0)
    assert found.ok


def test_compare_pending_answers_stored_is_ok() -> None:
    """The game sent its next frame and was gone before the answer came."""
    found = compare(truths(*PLAYED), dump(*PLAYED))
    assert found == Attribution(compared=9, mismatches=0, missing=0, batch_compared=0)


def test_compare_shuffled_rows_is_ok() -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        shuffled = [PLAYED[i] for i in rng.permutation(len(PLAYED))]
        stored = [STORED[i] for i in rng.permutation(len(STORED))]
        assert compare(truths(*shuffled), dump(*stored)).ok


NAMES = ("session", "slot", "seq", "actor", "action")


def changed(row: tuple[int, int, int, int, float], **change: Any) -> Any:
    return tuple((dict(zip(NAMES, row, strict=True)) | change).values())


@pytest.mark.parametrize("i", range(len(STORED)))
@pytest.mark.parametrize("change", [{"actor": 3}, {"action": 0.25}])
def test_compare_wrong_actor_or_action_counts_mismatch(i: int, change: dict[str, Any]) -> None:
    stored = list(STORED)
    stored[i] = changed(stored[i], **change)
    found = compare(truths(*PLAYED), dump(*stored))
    assert (found.mismatches, found.missing, found.ok) == (1, 0, False)


def test_compare_one_wrong_action_component_counts_mismatch() -> None:
    stored = dump(*STORED)
    stored["action"][3, 1] += 0.001
    assert compare(truths(*PLAYED), stored).mismatches == 1


def test_compare_two_swapped_actors_counts_two_mismatches() -> None:
    stored = list(STORED)
    stored[0], stored[1] = changed(stored[0], actor=2), changed(stored[1], actor=1)
    assert compare(truths(*PLAYED), dump(*stored)).mismatches == 2


@pytest.mark.parametrize("i", range(len(STORED)))
def test_compare_missing_row_counts_missing(i: int) -> None:
    stored = STORED[:i] + STORED[i + 1 :]
    found = compare(truths(*PLAYED), dump(*stored))
    assert (found.mismatches, found.missing, found.ok) == (0, 1, False)


@pytest.mark.parametrize("i", range(len(STORED)))
def test_compare_duplicate_row_counts_mismatch(i: int) -> None:
    found = compare(truths(*PLAYED), dump(*STORED, STORED[i]))
    assert (found.mismatches, found.missing, found.ok) == (1, 0, False)


@pytest.mark.parametrize(
    "row", [(1, 1, 2, 1, 0.0), (1, 0, 77, 1, 0.0), (9, 1, 0, 1, 0.0), (0, 0, 0, 1, 0.0)]
)
def test_compare_row_absent_from_logs_counts_mismatch(
    row: tuple[int, int, int, int, float],
) -> None:
    found = compare(truths(*PLAYED), dump(*STORED, row))
    assert (found.mismatches, found.missing, found.ok) == (1, 0, False)


def test_compare_row_with_other_seq_counts_mismatch_and_missing() -> None:
    stored = [changed(STORED[0], seq=100), *STORED[1:]]
    found = compare(truths(*PLAYED), dump(*stored))
    assert (found.mismatches, found.missing) == (1, 1)


def test_compare_no_rows_is_not_ok() -> None:
    found = compare(truths(), dump())
    assert found == Attribution(compared=0, mismatches=0, missing=0, batch_compared=0)
    assert not found.ok


def test_compare_empty_logs_counts_all_rows_mismatched() -> None:
    assert compare(truths(), dump(*STORED)).mismatches == len(STORED)


def test_compare_empty_replay_counts_all_rows_missing() -> None:
    assert compare(truths(*PLAYED), dump()).missing == len(STORED)


# Episodes' ends: an answer without an action, actor 0.

ENDED = [
    (1, 0, 0, 1, 0.1),
    (1, 0, 1, 0, float("nan")),
    (1, 0, 2, 2, 0.2),
    (1, 0, 3, 0, float("nan")),
]


def test_compare_episode_end_is_not_expected_in_replay() -> None:
    found = compare(truths(*ENDED), dump(ENDED[0], ENDED[2]))
    assert found == Attribution(compared=2, mismatches=0, missing=0, batch_compared=0)


def test_compare_last_step_of_ended_episode_absent_counts_missing() -> None:
    """A frame followed it, so it was completed."""
    found = compare(truths(*ENDED), dump(ENDED[0]))
    assert (found.mismatches, found.missing) == (0, 1)


def test_compare_step_stored_at_episode_end_counts_mismatch() -> None:
    stored = [ENDED[0], (1, 0, 1, 1, 0.5), ENDED[2]]
    assert compare(truths(*ENDED), dump(*stored)).mismatches == 1


# Batches.


def with_batches(*rows: tuple[int, int, int, int, float]) -> Columns:
    return dump(*STORED) | dump(*rows, prefix="batch_")


def test_compare_batch_rows_repeated_and_incomplete_is_ok() -> None:
    found = compare(truths(*PLAYED), with_batches(STORED[0], STORED[0], STORED[4]))
    assert found == Attribution(compared=6, mismatches=0, missing=0, batch_compared=3)


@pytest.mark.parametrize("change", [{"actor": 3}, {"action": 0.25}, {"seq": 50}, {"session": 2}])
def test_compare_wrong_batch_row_counts_mismatch(change: dict[str, Any]) -> None:
    rows = [STORED[0], changed(STORED[3], **change)]
    found = compare(truths(*PLAYED), with_batches(*rows))
    assert (found.mismatches, found.missing, found.ok) == (1, 0, False)


def test_compare_permuted_batch_actors_counts_mismatches() -> None:
    columns = with_batches(*STORED)
    columns["batch_actor"] = np.roll(columns["batch_actor"], 1)
    assert compare(truths(*PLAYED), columns).mismatches > 0


def test_compare_empty_batch_columns_compares_none() -> None:
    columns = dump(*STORED) | {
        f"batch_{name}": np.empty(0) for name in ("stream", "seq", "actor", "action")
    }
    assert compare(truths(*PLAYED), columns).batch_compared == 0


# The search against a plain dictionary.


KEYS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30)), unique=True, max_size=60)


@given(known=KEYS, wanted=st.lists(st.tuples(st.integers(-1, 4), st.integers(0, 32)), max_size=40))
def test_places_equal_dictionary_lookup(
    known: list[tuple[int, int]], wanted: list[tuple[int, int]]
) -> None:
    ordered = sorted(known)
    stream, seq = (np.array([key[i] for key in ordered], np.int64) for i in (0, 1))
    keys = attribution._keys(stream, seq)
    stream, seq = (np.array([key[i] for key in wanted], np.int64) for i in (0, 1))
    found = attribution._places(keys, attribution._keys(stream, seq))
    where = {key: i for i, key in enumerate(ordered)}
    assert found.tolist() == [where.get(key, -1) for key in wanted]


# Files.


def test_load_logs_and_dump_saved_files_compare_ok(tmp_path: Path) -> None:
    for n, rows in enumerate((PLAYED[:4], [], PLAYED[4:])):
        np.savez(tmp_path / f"client-{n}.npz", allow_pickle=False, **truths(*rows))
    np.savez(tmp_path / "replay.npz", allow_pickle=False, **dump(*STORED))
    assert compare(load_logs(tmp_path), load_dump(tmp_path / "replay.npz")).ok


def test_load_logs_empty_directory_returns_empty_columns(tmp_path: Path) -> None:
    columns = load_logs(tmp_path)
    assert {name: len(column) for name, column in columns.items()} == dict.fromkeys(truths(), 0)
    assert not compare(columns, dump()).ok
    assert compare(columns, dump(*STORED)).mismatches == len(STORED)

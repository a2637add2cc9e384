"""Numbers of the game: what frames carry of them, and what that comes to over episodes."""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec
import numpy as np
import pytest

from protocol import codec
from protocol.errors import RemoteError
from protocol.messages import NOT_SENT, Frame, Frames
from protocol.numbers import MAX_NUMBERS, check_number_names, frame_numbers, frames_numbers
from server.gateway.episode_numbers import Episode, EpisodeNumbers

NAMES = ("coins", "height")


def packed(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.msgpack.encode(value))


def frame(metrics: Any = NOT_SENT, status: int = 0, slot: int = 0) -> Frame:
    raw = metrics if isinstance(metrics, msgspec.Raw) else packed(metrics)
    return Frame(slot, 0, memoryview(b""), 0.0, status, None, None, metrics=raw)


def frames(metrics: list[list[float]] | None, statuses: list[int]) -> Frames:
    raw = packed(None if metrics is None else np.array(metrics, "<f4").tobytes())
    empty = memoryview(b"")
    return Frames(0, empty, empty, memoryview(bytes(statuses)), None, None, metrics=raw)


def counted(slots: int = 1) -> tuple[EpisodeNumbers, deque[Episode]]:
    found: deque[Episode] = deque()
    return EpisodeNumbers(NAMES, slots, found), found


def test_mean_and_peak_are_over_the_frames_of_an_episode_that_tell_the_number() -> None:
    numbers, found = counted()
    for metrics in ([1, 5.0], [4, None], None, NOT_SENT, [1, -2.0]):
        numbers.frame(frame(metrics))
    numbers.frame(frame([2, 0.0], status=1))
    assert list(found) == [{"coins": (2.0, 4), "height": (1.0, 5.0)}]
    numbers.frame(frame([-3, None]))
    numbers.frame(frame(status=2))
    assert list(found)[1:] == [{"coins": (-3.0, -3)}], "the episode before is counted"
    numbers.frame(frame())
    numbers.frame(frame(status=1))
    assert len(found) == 2, "an episode that told nothing"


def test_slots_have_episodes_of_their_own() -> None:
    numbers, found = counted(2)
    nan = float("nan")
    numbers.frames(frames([[1, 2], [10, nan]], [0, 0]))
    numbers.frames(frames([[3, 4], [30, nan]], [0, 1]))
    assert list(found) == [{"coins": (20.0, 30.0)}]
    numbers.frames(frames(None, [1, 0]))
    assert list(found)[1:] == [{"coins": (2.0, 3.0), "height": (3.0, 4.0)}]


def test_episodes_of_evaluation_are_looked_at_and_not_kept() -> None:
    numbers = EpisodeNumbers(NAMES, 1, None)
    numbers.frame(frame([1, 2], status=1))
    with pytest.raises(RemoteError, match="expected 2 numbers"):
        numbers.frame(frame([1]))


@pytest.mark.parametrize(
    ("metrics", "code"),
    [
        ([1], "metrics_shape"),
        ([1, 2, 3], "metrics_shape"),
        ([1, float("nan")], "metric_not_finite"),
        ([float("-inf"), 1], "metric_not_finite"),
        ([1, "two"], "message_malformed"),
        ([1, True], "message_malformed"),
        ({"coins": 1}, "message_malformed"),
        (7, "message_malformed"),
    ],
)
def test_numbers_of_a_frame_that_do_not_fit_are_refused(metrics: Any, code: str) -> None:
    with pytest.raises(RemoteError) as refused:
        frame_numbers(packed(metrics), NAMES)
    assert refused.value.code == code


def test_numbers_of_frames_that_do_not_fit_are_refused() -> None:
    for value, code in (
        (bytes(12), "metrics_shape"),
        (np.array([1, 2, np.inf, 4], "<f4").tobytes(), "metric_not_finite"),
        ([1, 2, 3, 4], "message_malformed"),
    ):
        with pytest.raises(RemoteError) as refused:
            frames_numbers(packed(value), NAMES, 2)
        assert refused.value.code == code


def test_names_that_are_too_many_or_alike_are_refused() -> None:
    check_number_names(tuple(map(str, range(MAX_NUMBERS))))
    for names in (tuple(map(str, range(MAX_NUMBERS + 1))), ("a", "a"), ("",), ("x" * 65,)):
        with pytest.raises(RemoteError) as refused:
            check_number_names(names)
        assert refused.value.code == "bad_hello"


def test_what_is_not_sent_takes_no_byte_and_what_is_before_it_is_nil() -> None:
    plain, told = frame(), frame([1, 2.5])
    assert msgspec.msgpack.decode(codec.encode(plain)[4:]) == [2, 0, 0, b"", 0.0, 0, None, None]
    assert msgspec.msgpack.decode(codec.encode(told)[4:])[8:] == [None, [1, 2.5]]
    again = codec.decode_client(codec.encode(told)[4:])
    assert isinstance(again, Frame)
    assert frame_numbers(again.metrics, NAMES) == [1, 2.5]

"""What a frame holds, against the game's spec. The session checks when it may come.

Each function raises RemoteError; its message says what was expected and what came.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from protocol.actor import parse_actor
from protocol.errors import RemoteError
from protocol.masks import mask_bytes
from protocol.messages import RUNNING, TRUNCATED, Frame, Frames
from protocol.numbers import frame_numbers, frames_numbers
from protocol.observation_checks import MAX_VALUE
from protocol.spaces import GameSpec


def check_frame(
    frame: Frame, spec: GameSpec, *, first: bool, metrics: tuple[str, ...] = ()
) -> None:
    """A FRAME; `first` says that it begins an episode, `metrics` which numbers it has. Its actions
    are checked where they are turned into rows (`GameSpec.action_row`), its observation's values
    where a whole batch is."""
    if frame.obs.nbytes != spec.observation_bytes:
        raise _wrong_size(spec, 1, frame.obs.nbytes)
    reward = frame.reward
    if type(reward) is list:
        if len(reward) != len(spec.rewards):
            raise _wrong_rewards(spec, f"{len(reward)} numbers")
        for value in reward:
            if not -MAX_VALUE <= value <= MAX_VALUE:
                raise _not_finite(value)
    else:
        if len(spec.rewards) != 1:
            raise _wrong_rewards(spec, "one number")
        if not -MAX_VALUE <= reward <= MAX_VALUE:  # type: ignore[operator]
            raise _not_finite(reward)  # type: ignore[arg-type]
    if not RUNNING <= frame.status <= TRUNCATED:
        raise _wrong_status(frame.status)
    if spec.masks:
        mask_bytes(frame.legal, 1, spec)
    if metrics:
        frame_numbers(frame.metrics, metrics)
    if frame.took is not None:
        if first:
            raise _took_too_early(f"slot {frame.slot}")
        parse_actor(frame.took[1])


def check_frames(
    frames: Frames, spec: GameSpec, first: bytearray, metrics: tuple[str, ...] = ()
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """A FRAMES, actions included; `first` has a 1 for each slot that begins an episode. Returns
    which slots are running, and which have a recommendation, both [slots]."""
    slots = len(first)
    if frames.obs.nbytes != slots * spec.observation_bytes:
        raise _wrong_size(spec, slots, frames.obs.nbytes)
    wanted = 4 * slots * len(spec.rewards)
    if frames.rewards.nbytes != wanted:
        raise _wrong_rewards(spec, f"{frames.rewards.nbytes} bytes instead of {wanted}")
    rewards = np.frombuffer(frames.rewards, "<f4")
    good = np.abs(rewards) <= MAX_VALUE  # false for NaN
    if not good.all():
        first_bad = int(np.argmin(good))
        slot = first_bad // len(spec.rewards)
        raise _not_finite(float(rewards[first_bad])).in_slot(slot, slots)
    if frames.statuses.nbytes != slots:
        raise RemoteError(
            "unknown_status", f"expected {slots} statuses, got {frames.statuses.nbytes}"
        )
    statuses = np.frombuffer(frames.statuses, np.uint8)
    if statuses.max() > TRUNCATED:
        raise _wrong_status(int(statuses.max())).in_slot(int(np.argmax(statuses)), slots)
    if spec.masks:
        mask_bytes(frames.legal, slots, spec)
    if metrics:
        frames_numbers(frames.metrics, metrics, slots)
    running: npt.NDArray[np.bool_] = statuses == RUNNING
    recommended = np.zeros(slots, np.bool_)
    if frames.experts is not None:
        rows = _rows(frames.experts, slots, spec)
        _check_rows(rows, np.arange(slots), slots, spec)
        recommended = ~np.isnan(rows[:, 0])
    if frames.took is not None:
        _check_took(frames.took, spec, first)
    return running, recommended


def _check_took(took: tuple[memoryview, memoryview], spec: GameSpec, first: bytearray) -> None:
    slots = len(first)
    rows, actors = _rows(took[0], slots, spec), np.frombuffer(took[1], np.uint8)
    if len(actors) != slots:
        raise RemoteError("unknown_actor", f"expected {slots} actors, got {len(actors)}")
    given = actors != 0
    for actor in np.unique(actors[given]):
        try:
            parse_actor(int(actor))
        except RemoteError as error:
            raise error.in_slot(int(np.argmax(actors == actor)), slots) from None
    early = given & (np.frombuffer(first, np.uint8) != 0)
    if early.any():
        raise _took_too_early(f"slot {int(np.argmax(early))}")
    if np.isnan(rows[given]).any():
        bad = given & np.isnan(rows).any(axis=1)
        raise RemoteError(
            "action_out_of_range",
            "expected an action in `took` for every slot whose actor is not 0, got NaN",
        ).in_slot(int(np.argmax(bad)), slots)
    _check_rows(rows[given], np.flatnonzero(given), slots, spec)


def _check_rows(
    rows: npt.NDArray[np.float32], of: npt.NDArray[np.intp], slots: int, spec: GameSpec
) -> None:
    """Action rows `of` these slots. Errors: RemoteError, naming the slot."""
    try:
        spec.check_action_rows(rows)
    except RemoteError:
        for row, slot in zip(rows, of.tolist(), strict=True):
            try:
                spec.check_action_rows(row[None])
            except RemoteError as error:
                raise error.in_slot(slot, slots) from None
        raise


def _rows(data: memoryview, slots: int, spec: GameSpec) -> npt.NDArray[np.float32]:
    """Action rows that came as bytes. Errors: RemoteError `action_shape`."""
    wanted = 4 * slots * spec.action_width
    if data.nbytes != wanted:
        raise RemoteError(
            "action_shape",
            f"expected {slots} x {spec.action_width} float32 ({wanted} bytes), got {data.nbytes} "
            "bytes",
        )
    return np.frombuffer(data, "<f4").reshape(slots, spec.action_width)


def _wrong_size(spec: GameSpec, slots: int, nbytes: int) -> RemoteError:
    each = spec.describe_observations()
    count = f"{slots} x " if slots > 1 else ""
    return RemoteError(
        "observation_size",
        f"expected {count}{each} ({slots * spec.observation_bytes} bytes), got {nbytes} bytes; "
        "send the shape and dtype of HELLO, little-endian",
    )


def _wrong_rewards(spec: GameSpec, got: str) -> RemoteError:
    return RemoteError(
        "reward_shape",
        f"expected {len(spec.rewards)} rewards ({', '.join(spec.rewards)}), got {got}",
    )


def _not_finite(value: float) -> RemoteError:
    return RemoteError(
        "reward_not_finite",
        f"expected rewards from -{MAX_VALUE:g} to {MAX_VALUE:g}, got {value}; check what the game "
        "computes, or scale it",
    )


def _wrong_status(status: int) -> RemoteError:
    return RemoteError(
        "unknown_status",
        f"expected status 0 (running), 1 (terminated) or 2 (truncated), got {status}",
    )


def _took_too_early(what: str) -> RemoteError:
    return RemoteError(
        "took_on_first_frame",
        f"{what}: expected no `took` on the first frame of an episode, got one; it replaces the "
        "answer to the frame before",
    )


def no_advice() -> RemoteError:
    """The error of an episode in the role eval_expert in which nothing was recommended."""
    return RemoteError(
        "expert_missing",
        "the role eval_expert plays the expert alone: expected a recommendation in each episode, "
        "got an episode without any; send `expert` with the frames in which your expert knows what "
        "to do: between them its last action is repeated",
    )

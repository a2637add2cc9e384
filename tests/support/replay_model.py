"""A replay as plain as can be, to compare the real one with: a list of frames, and loops.

It knows nothing of links, rings or serial numbers: the successor of a row is looked for, and each
window is added up one reward at a time.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from agent.priority import EPSILON, LARGEST
from agent.replay import Batch, Replay
from agent.step import FINAL, STEP, StepBlock, stored_columns
from protocol.actor import ACTORS, NOBODY, Actor
from protocol.messages import RUNNING, TERMINATED, TRUNCATED
from protocol.spaces import Continuous, Discrete, GameSpec, Observation
from tests.support.tensors import DispatchMode

SPEC = GameSpec(
    "test",
    Observation("float32", (3, 2)),
    (Continuous("turn", -1.0, 1.0, 2), Discrete("fire", 4), Discrete("zap", 3)),
)
PIXELS = GameSpec("pixels", Observation("uint8", (4, 5)), (Discrete("button", 6),))

RUN, TERMINATE, TRUNCATE, TRUNCATE_BARE, DISCONNECT, GAP, VANISH = EVENTS = (
    "run",
    "terminate",
    "truncate",
    "truncate without a final row",
    "disconnect",
    "gap",
    "vanish",
)


@dataclass(frozen=True, eq=False)
class Row:
    stream: int
    seq: int
    actor: int
    kind: int
    status: int
    reward: float
    obs: np.ndarray
    action: np.ndarray
    recommended: np.ndarray
    policy_version: int


@dataclass
class Games:
    """Slots that play at random; each event makes the rows that a gateway would write."""

    spec: GameSpec = SPEC
    seed: int = 0
    made: int = 0
    streams: dict[int, int] = field(default_factory=dict)
    seqs: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.low, self.high = self.spec.low, self.spec.high
        self.choices = list(self.spec.discrete_columns)

    def play(self, slot: int, event: str, actor: Actor = Actor.DQN) -> list[Row]:
        stream = self.streams.setdefault(slot, slot)
        if event == VANISH:
            self._reconnect(slot)
            return []
        if event == GAP:
            self.seqs[stream] += 1
            return []
        if event == DISCONNECT:
            self._reconnect(slot)
            return [self._row(stream, NOBODY, FINAL, RUNNING)]
        statuses = {TERMINATE: TERMINATED, TRUNCATE: TRUNCATED, TRUNCATE_BARE: TRUNCATED}
        rows = [self._row(stream, actor, STEP, statuses.get(event, RUNNING))]
        if event in (TERMINATE, TRUNCATE):
            rows.append(self._row(stream, NOBODY, FINAL, RUNNING))
        return rows

    def play_at_random(self, rows: int, slots: int = 5, odds: float = 0.1) -> list[Row]:
        """About this many rows, in which each event but RUN happens every so often."""
        out: list[Row] = []
        while len(out) < rows:
            event = self.rng.choice(EVENTS[1:]) if self.rng.random() < odds else RUN
            slot = int(self.rng.integers(slots))
            # Runs of one actor, of random length.
            actor = Actor(1 + (self.seqs[self.streams.get(slot, slot)] // 3 + slot) % 2)
            out += self.play(slot, str(event), actor)
        return out

    def _reconnect(self, slot: int) -> None:
        self.streams[slot] += 1 << 16

    def _row(self, stream: int, actor: int, kind: int, status: int) -> Row:
        seq, size = self.seqs[stream], self.spec.observation_size
        self.seqs[stream] += 1
        self.made += 1
        obs = np.zeros(size, self.spec.observation_dtype)
        obs[:2] = divmod(self.made, 250)  # no two rows look alike
        step = kind == STEP
        action = self.rng.uniform(self.low, self.high).astype(np.float32)
        action[self.choices] = np.round(action[self.choices])
        reward = float(np.float32(self.rng.normal())) if step else 0.0
        recommended = self.low + self.high - action  # another action of this game
        if not step or self.made % 3 == 0:
            recommended[:] = np.nan
        version = self.made // 10 if step else 0
        action = action if step else action * 0
        return Row(stream, seq, actor, kind, status, reward, obs, action, recommended, version)


def block_of(rows: Sequence[Row], spec: GameSpec = SPEC) -> StepBlock:
    block = StepBlock.empty(spec, max(len(rows), 1)).rows(0, len(rows))
    if rows:
        for name in stored_columns(spec):
            getattr(block, name)[:] = [getattr(row, name) for row in rows]
    return block


def blocks_of(
    rows: Sequence[Row], sizes: Sequence[int], spec: GameSpec = SPEC
) -> Iterator[StepBlock]:
    """The rows cut into blocks of these sizes, over and over."""
    start = number = 0
    while start < len(rows):
        size = sizes[number % len(sizes)]
        yield block_of(rows[start : start + size], spec)
        start, number = start + size, number + 1


@functools.cache
def many_rows() -> list[Row]:
    """Twenty slots that play at random, for distributions: 1,500 rows."""
    return Games(seed=8).play_at_random(1500, slots=20, odds=0.15)


@dataclass(frozen=True)
class Window:
    returns: float
    horizon: int
    discount: float
    bootstrap: Row | None


class Model:
    """All rows ever appended, of which the newest `capacity` count; and, with an alpha, what
    priority each complete step has."""

    def __init__(self, capacity: int, alpha: float = 0.0) -> None:
        self.capacity = capacity
        self.alpha = alpha
        self.all: list[Row] = []
        self.newest: dict[int, Row] = {}
        self.later: dict[int, Row] = {}
        self.earlier: dict[int, Row] = {}
        self.priority: dict[int, float] = {}
        self.largest = 1.0
        self._complete: list[Row] = []
        self._alive: set[int] = set()

    def append(self, rows: Sequence[Row]) -> None:
        self.all += rows
        for row in rows:
            if (before := self.newest.get(row.stream)) is not None:
                self.later[id(before)], self.earlier[id(row)] = row, before
            self.newest[row.stream] = row
        self._complete = [
            row for row in self.steps if row.status == TERMINATED or self.successor(row) is not None
        ]
        self._alive = {id(row) for row in self.alive}
        for row in self.complete():
            self.priority.setdefault(id(row), self.largest)

    def update(self, places: Sequence[int], td_errors: Sequence[float]) -> None:
        for place, error in zip(places, td_errors, strict=True):
            if math.isfinite(error):
                priority = (min(abs(error) + EPSILON, LARGEST)) ** self.alpha
                self.priority[id(self.at_place(place))] = priority
                self.largest = max(self.largest, priority)

    def expected_rows(self, shares: Mapping[Actor, float], batch_size: int) -> dict[int, float]:
        """For each complete step, how many rows of a batch are it in the mean."""
        complete, left = self.complete(), batch_size
        expected = dict.fromkeys(map(id, complete), 0.0)

        def give(n: int, rows: list[Row]) -> None:
            total = math.fsum(self.priority[id(row)] for row in rows)
            for row in rows:
                expected[id(row)] += n * self.priority[id(row)] / total

        for who, share in shares.items():
            rows = [row for row in complete if row.actor == who]
            if rows:
                n = min(round(share * batch_size), left)
                give(n, rows)
                left -= n
        others = [row for row in complete if row.actor not in shares]
        give(left, others or complete)
        return expected

    def before(self, row: Row) -> Row | None:
        """The stored row that this one continues, in the same episode."""
        earlier = self.earlier.get(id(row))
        if earlier is None or id(earlier) not in self._alive or earlier.kind != STEP:
            return None
        return earlier if self.successor(earlier) is row else None

    def stack(self, row: Row, size: int) -> list[np.ndarray]:
        """The observations of a row and those before it, the oldest first."""
        frames = [row.obs]
        while len(frames) < size:
            row = self.before(row) or row
            frames.insert(0, row.obs)
        return frames

    @property
    def alive(self) -> list[Row]:
        return self.all[-self.capacity :]

    @property
    def steps(self) -> list[Row]:
        return [row for row in self.alive if row.kind == STEP]

    def at_place(self, place: int) -> Row:
        """The row that stands at this place of a ring."""
        serial = len(self.all) - 1 - (len(self.all) - 1 - place) % self.capacity
        return self.all[serial]

    def successor(self, row: Row) -> Row | None:
        following = self.later.get(id(row))
        if following is None or following.seq != row.seq + 1:
            return None
        return following if row.status == RUNNING or following.kind == FINAL else None

    def complete(self) -> list[Row]:
        return self._complete

    def window(self, first: Row, n_step: int, gamma: float, stop_at_actor_change: bool) -> Window:
        total, row = 0.0, first
        for k in range(n_step):
            if row.kind == FINAL or (stop_at_actor_change and row.actor != first.actor):
                return Window(total, k, gamma**k, row)
            following = self.successor(row)
            if row.status == TERMINATED:
                return Window(total + gamma**k * row.reward, k + 1, 0.0, None)
            if following is None:
                return Window(total, k, gamma**k, row)
            total += gamma**k * row.reward
            row = following
        return Window(total, n_step, gamma**n_step, row)


def append(replay: Replay, rows: Sequence[Row], sizes: Sequence[int]) -> None:
    for block in blocks_of(rows, sizes, replay.spec):
        replay.append(block)


def feed(replay: Replay, model: Model, rows: Sequence[Row], sizes: Sequence[int] = (7,)) -> None:
    append(replay, rows, sizes)
    model.append(rows)


def assert_alike(replay: Replay, model: Model, batch_size: int = 128) -> None:
    """The replay holds what the model holds, and samples what the model says; AssertionError."""
    replay.check_valid()
    steps, stored = model.steps, replay.rows()
    assert len(replay) == len(steps)
    assert stored.stream.tolist() == [row.stream for row in steps]
    assert stored.seq.tolist() == [row.seq for row in steps]
    assert stored.actor.tolist() == [row.actor for row in steps]
    if steps:
        assert np.array_equal(stored.action, [row.action for row in steps])
        recommended = [row.recommended for row in steps]
        np.testing.assert_array_equal(stored.recommended, recommended)
    assert stored.policy_version.tolist() == [row.policy_version for row in steps]
    counts, composition = Counter(row.actor for row in steps), replay.actor_composition()
    assert composition.total == len(steps)
    assert [composition.dqn, composition.expert] == [counts[actor] for actor in ACTORS]
    complete = model.complete()
    assert replay.can_sample == bool(complete)
    if replay._priorities is not None:
        assert_priorities(replay, model)
    if complete:
        for batch in replay.sample_several(batch_size, 2).split(batch_size):
            assert_batch(replay, model, batch.to("cpu"), batch_size)


def assert_priorities(replay: Replay, model: Model) -> None:
    """Each complete step has its priority, in the tree of its actor, and nothing else has one."""
    assert replay._priorities is not None
    found = replay._priorities._tree.leaves.view(len(ACTORS), -1).cpu().numpy()
    expected = np.zeros_like(found)
    complete = {id(row) for row in model.complete()}
    for place in range(min(model.capacity, len(model.all))):
        row = model.at_place(place)
        if id(row) in complete:
            expected[ACTORS.index(Actor(row.actor)), place] = model.priority[id(row)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def assert_batch(replay: Replay, model: Model, batch: Batch, batch_size: int) -> None:
    """What a batch holds is what the model says of the rows that it was drawn from."""
    spec, (stack,) = replay.spec, replay._rows._stacks
    (observation,) = spec.observations
    one = observation.shape if stack == 1 else (stack, *observation.shape)
    (states,), (next_states,) = batch.states, batch.next_states
    assert states.shape == next_states.shape == (batch_size, *one)
    if replay._priorities is None:
        assert batch.importance.tolist() == [1.0] * batch_size
    else:
        expected = model.expected_rows(replay.actor_share, batch_size)
        drawn = [expected[id(model.at_place(place))] for place in batch.indices.tolist()]
        weights = (min(drawn) / np.array(drawn)) ** replay.beta
        np.testing.assert_allclose(batch.importance.numpy(), weights, rtol=1e-4)
    complete = {id(row) for row in model.complete()}
    places = batch.indices.tolist()
    rows = [model.at_place(place) for place in places]
    for row in rows:
        assert id(row) in complete, f"sampled a step that is not complete: {row}"
    found: dict[int, Window] = {}
    for place, row in zip(places, rows, strict=True):
        if place not in found:
            found[place] = model.window(
                row, replay.n_step, replay.gamma, replay.stop_at_actor_change
            )
    windows = [found[place] for place in places]
    streams, seqs = replay.identify(batch.indices)
    assert np.array_equal(streams, [row.stream for row in rows])
    assert np.array_equal(seqs, [row.seq for row in rows])
    assert np.array_equal(_flat(states), [np.ravel(model.stack(row, stack)) for row in rows])
    actions = np.array([row.action for row in rows])
    assert np.array_equal(batch.discrete.numpy(), actions[:, list(spec.discrete_columns)])
    assert np.array_equal(batch.continuous.numpy(), actions[:, list(spec.continuous_columns)])
    np.testing.assert_array_equal(batch.recommended.numpy(), [row.recommended for row in rows])
    assert batch.actors.tolist() == [row.actor for row in rows]
    assert batch.rewards.tolist() == [np.float32(row.reward) for row in rows]
    assert batch.horizons.tolist() == [window.horizon for window in windows]
    assert min(window.horizon for window in windows) >= 1
    returns = [window.returns for window in windows]
    np.testing.assert_allclose(batch.returns.numpy(), returns, rtol=1e-5, atol=1e-6)
    discounts = [window.discount for window in windows]
    np.testing.assert_allclose(batch.discounts.numpy(), discounts, rtol=1e-6, atol=0)
    ahead = [i for i, window in enumerate(windows) if window.bootstrap is not None]
    frames = [np.ravel(model.stack(windows[i].bootstrap, stack)) for i in ahead]
    if ahead:
        assert np.array_equal(_flat(next_states)[ahead], frames)


def _flat(states: torch.Tensor) -> np.ndarray:
    """One row of numbers for each state."""
    return states.numpy().reshape(len(states), -1)


def modes() -> list[str]:
    """The ways to draw: on the cpu, as a device that is not waited for, and on cuda if it is."""
    return ["cpu", "no_wait", *(["cuda"] if torch.cuda.is_available() else [])]


def make(mode: str, capacity: int, spec: GameSpec = SPEC, **settings: object) -> Replay:
    given = {"n_step": 3, "gamma": 0.9, "seed": 5, **settings}
    device = "cuda" if mode == "cuda" else "cpu"
    replay = Replay(spec, capacity, device=device, **given)  # type: ignore[arg-type]
    if mode == "no_wait":
        replay.wait_for_nothing()
    return replay


class NoWaiting(DispatchMode):
    """Fails where a number is fetched from the device, or a shape depends on one."""

    FORBIDDEN = ("_local_scalar_dense", "nonzero", "unique", "masked_select", "item", "equal.")

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert not any(name in str(func) for name in self.FORBIDDEN), f"{func} waits for the device"
        # A mask as an index is a nonzero in disguise.
        for index in args[1] if "index" in str(func) and isinstance(args[1], list) else ():
            assert index is None or index.dtype != torch.bool, f"{func} waits for the device"
        self.operations += 1
        return func(*args, **(kwargs or {}))


def chi_square_fits(counts: np.ndarray, expected: np.ndarray | float) -> bool:
    """Whether counts are as scattered around `expected` as independent draws are, no less too.

    Within 5 standard deviations of the chi-square distribution's mean.
    """
    statistic, free = float(((counts - expected) ** 2 / expected).sum()), len(counts) - 1
    return abs(statistic - free) < 5 * math.sqrt(2 * free)

from __future__ import annotations

import gc
import tracemalloc
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.decision import ActingParams
from agent.replay import Replay
from agent.step import FINAL, STEP
from protocol.errors import RemoteError
from protocol.messages import Action, Actions
from protocol.spaces import Continuous, Discrete, GameSpec, Observation
from tests.support.frame_loop import (
    EXPERT_ACTION,
    EXPERT_ROW,
    POLICY_ACTION,
    FakePlayer,
    World,
    brief,
)
from tests.support.worlds import DQN, EXPERT, PIXELS, SPEC


def test_frame_is_answered_and_next_frame_stores_step() -> None:
    world = World()
    player = world.player()
    player.frame(obs=10, reward=99)
    world.run()
    assert player.last == Action(0, 0, [2, [0.25, -0.5]], DQN, 7, False)
    assert world.rows() == []
    player.frame(obs=20, reward=1.5)
    world.run()
    assert player.last == Action(0, 1, [2, [0.25, -0.5]], DQN, 7, False)
    assert world.rows() == [
        {
            "obs": [10.0] * 3,
            "action": list(POLICY_ACTION),
            "recommended": None,
            "reward": 1.5,
            "stream": player.streams[0],
            "seq": 0,
            "policy_version": 7,
            "actor": DQN,
            "kind": STEP,
            "status": 0,
        }
    ]
    assert player.released == [0, 0]
    assert world.frame_loop.stored == 1
    assert world.frame_loop.times.turns == 2


def test_frames_of_one_turn_share_one_policy_batch_in_order() -> None:
    world = World()
    players = [world.player() for _ in range(5)]
    for i, player in enumerate(players):
        player.frame(obs=i)
    world.run()
    assert list(world.policy.batches) == [5]
    assert [player.last.seq for player in players] == [0] * 5
    for i, player in enumerate(players):
        player.frame(obs=10 + i, reward=i)
    world.run()
    assert [brief(row) for row in world.rows()] == [
        ("step", player.streams[0], 0, i, i, 0) for i, player in enumerate(players)
    ]


def test_run_without_frames_does_nothing() -> None:
    world = World()
    world.run()
    world.player()
    world.run()
    assert (world.frame_loop.times.turns, world.rows(), list(world.policy.batches)) == (0, [], [])


@pytest.mark.parametrize("status", [1, 2])
def test_episode_end_stores_final_row_and_next_episode_is_independent(status: int) -> None:
    world = World()
    player = world.player()
    player.frame(obs=1)
    world.run()
    player.frame(obs=2, reward=5, status=status)
    world.run()
    assert player.last == Action(0, 1, None, 0, 7, False)
    stream = player.streams[0]
    ended = [("step", stream, 0, 1, 5, status), ("final", stream, 1, 2, 0, 0)]
    assert [brief(row) for row in world.rows()] == ended
    final = world.rows()[1]
    assert (final["actor"], final["action"]) == (0, [0, 0, 0])
    # The first frame of the next episode: its reward belongs to nothing.
    player.frame(obs=3, reward=1000)
    world.run()
    assert len(world.rows()) == 2
    player.frame(obs=4, reward=6)
    world.run()
    assert [brief(row) for row in world.rows()] == [*ended, ("step", stream, 2, 3, 6, 0)]
    assert [(e.episode_return, e.length, e.role) for e in world.episodes()] == [(5, 1, "train")]


@pytest.mark.parametrize("status", [1, 2])
def test_single_frame_episode_stores_nothing(status: int) -> None:
    world = World()
    player = world.player()
    player.frame(status=status, reward=3)
    world.run()
    assert player.last.actor == 0
    player.leave()
    world.run()
    assert world.rows() == []
    assert world.episodes() == []


def test_expert_ratio_one_expert_acts_where_it_recommends() -> None:
    world = World()
    world.params = ActingParams(expert_ratio=1.0, epsilon=0.0, noise=0.0)
    player, other = world.player(), world.player()
    player.frame(expert=EXPERT_ACTION)
    other.frame()
    world.run()
    assert player.last == Action(0, 0, EXPERT_ACTION, EXPERT, 7, False)
    assert other.last == Action(0, 0, [2, [0.25, -0.5]], DQN, 7, False)
    player.frame()
    other.frame()
    world.run()
    assert [(row["actor"], row["action"]) for row in world.rows()] == [
        (EXPERT, EXPERT_ROW),
        (DQN, list(POLICY_ACTION)),
    ]


def test_recommendation_does_not_leak_into_next_frame() -> None:
    world = World()
    world.params = ActingParams(expert_ratio=1.0, epsilon=0.0, noise=0.0)
    player = world.player()
    player.frame(expert=EXPERT_ACTION)
    world.run()
    player.frame()
    world.run()
    assert player.last.actor == DQN


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_recommendation_and_version_are_stored_whoever_acts(ratio: float) -> None:
    world = World()
    world.params = ActingParams(expert_ratio=ratio, epsilon=0.0, noise=0.0)
    player = world.player()
    for version, expert in ((7, EXPERT_ACTION), (9, None), (9, EXPERT_ACTION)):
        world.policy.version = version
        player.frame(expert=expert)
        world.run()
    player.frame(status=2, expert=EXPERT_ACTION, took=([3, [-1.0, 1.0]], DQN))
    world.run()
    assert [(row["recommended"], row["policy_version"]) for row in world.rows()] == [
        (EXPERT_ROW, 7),
        (None, 9),
        (EXPERT_ROW, 9),
        (None, 0),  # the last observation
    ]


def test_recommendations_of_frames_are_stored_and_nothing_else_of_rows_without() -> None:
    world = World()
    player = world.player(slots=2)
    for _ in range(2):
        player.frames([0, 0], [0, 0], [0, 0], experts=[[np.nan, 0.5, 0.5], EXPERT_ROW])
        world.run()
    assert [row["recommended"] for row in world.rows()] == [None, EXPERT_ROW]


def test_explored_flag_set_when_action_is_random() -> None:
    world = World()
    world.params = ActingParams(expert_ratio=0.0, epsilon=1.0, noise=0.0)
    player = world.player()
    seen = set()
    for _ in range(50):
        player.frame()
        world.run()
        assert player.last.explored is True
        assert player.last.actor == DQN
        seen.add(player.last.action[0])
    assert seen == {0, 1, 2, 3}


@pytest.mark.parametrize("actor", [DQN, EXPERT])
def test_took_replaces_stored_action_and_actor(actor: int) -> None:
    world = World()
    player = world.player()
    player.frame()
    world.run()
    player.frame(took=([3, [-1.0, 1.0]], actor))
    world.run()
    player.frame()
    world.run()
    assert [(row["actor"], row["action"]) for row in world.rows()] == [
        (actor, [3, -1, 1]),
        (DQN, list(POLICY_ACTION)),
    ]


def test_interventions_are_counted_in_training_with_the_frames_that_they_last() -> None:
    world = World()
    one, other, evaluated = world.player(), world.player(), world.player(role="eval")
    instead = [3, [-1.0, 1.0]]

    def turn(*took: tuple[int | None, int | None, int | None], status: int = 0) -> None:
        for actors in took:
            for player, actor in zip((one, other, evaluated), actors, strict=True):
                player.frame(status=status, took=None if actor is None else (instead, actor))
            world.run()

    takeovers = world.frame_loop.takeovers
    turn((None, None, None), (EXPERT, None, EXPERT), (EXPERT, DQN, EXPERT), (None, EXPERT, None))
    assert (takeovers.begun, takeovers.frames) == (2, 3)
    turn((None, EXPERT, None))
    assert (takeovers.begun, takeovers.frames) == (2, 4)
    # The end of an episode ends an intervention: nothing is replaced on a first frame.
    turn((None, EXPERT, None), status=1)
    turn((None, None, None), (None, EXPERT, None))
    assert (takeovers.begun, takeovers.frames) == (3, 6)


def test_took_with_episode_end_replaces_last_step() -> None:
    world = World()
    player = world.player()
    player.frame()
    world.run()
    player.frame(status=1, took=([3, [-1.0, 1.0]], EXPERT))
    world.run()
    assert [(row["kind"], row["actor"], row["action"]) for row in world.rows()] == [
        (STEP, EXPERT, [3, -1, 1]),
        (FINAL, 0, [0, 0, 0]),
    ]


@pytest.mark.parametrize("took", [([4, [0.0, 0.0]], EXPERT), ([0, [0.0, 2.0]], DQN), ([0], DQN)])
def test_took_outside_action_space_raises(took: Any) -> None:
    world = World()
    player, other = world.player(), world.player()
    for one in (player, other):
        one.frame()
    world.run()
    with pytest.raises(RemoteError, match=r"action_out_of_range|action_shape"):
        player.frame(took=took)
    other.frame(reward=2)
    world.run()
    assert [brief(row) for row in world.rows()] == [("step", other.streams[0], 0, 0, 2, 0)]


@pytest.mark.parametrize("expert", [[4, [0.0, 0.0]], [1.5, [0.0, 0.0]], [0, 0.5], [0, [0.0, -2.0]]])
def test_recommendation_outside_action_space_raises(expert: Any) -> None:
    world = World()
    player = world.player()
    with pytest.raises(RemoteError, match=r"action_out_of_range|action_shape"):
        player.frame(expert=expert)
    world.run()
    assert player.answers == []


@pytest.mark.parametrize("role", ["eval", "eval_expert"])
def test_evaluation_roles_store_no_rows_but_count_episodes(role: str) -> None:
    world = World()
    world.params = ActingParams(expert_ratio=0.5, epsilon=1.0, noise=0.5)
    player = world.player(role=role)
    expected = ([1, [0.5, 0.75]], EXPERT) if role == "eval_expert" else ([2, [0.25, -0.5]], DQN)
    for i in range(30):
        player.frame(reward=1, expert=EXPERT_ACTION, status=int(i % 10 == 9))
        world.run()
        if i % 10 == 9:
            assert (player.last.action, player.last.actor) == (None, 0)
        else:
            assert (player.last.action, player.last.actor) == expected
            assert player.last.explored is False
    player.leave()
    world.run()
    assert world.rows() == []
    assert world.frame_loop.stored == 0
    none = {"train": 0, "eval": 0, "eval_expert": 0, "play": 0}
    assert world.frame_loop.frames == none | {role: 30}
    assert [(e.role, e.episode_return, e.length) for e in world.episodes()] == [(role, 9, 9)] * 3


def test_consecutive_frames_of_client_are_answered_in_one_send() -> None:
    world = World()
    one, other = world.player(slots=4), world.player()
    for slot in (2, 0):
        one.frame(slot=slot)
    other.frame()
    for slot in (3, 1):
        one.frame(slot=slot)
    world.run()
    assert [answer.slot for answer in one.answers] == [2, 0, 3, 1]
    assert one.released == [2, 0, 3, 1]
    assert (one.sends, other.sends) == (2, 1)
    assert len(other.answers) == 1


def test_hundreds_of_connects_free_slots_and_memory_stays_bounded() -> None:
    world = World()
    stays = world.player()

    def connect(times: int) -> None:
        for i in range(times):
            player = world.player(slots=1 + i % 3)
            for _ in range(i % 3):
                player.frame()
                world.run()
            player.leave()
            world.run()
            world.sink.blocks.clear()
        world.frame_loop.times.new_interval()
        world.policy.batches.clear()

    connect(200)
    high_water = world.frame_loop.table.high_water
    grown = []
    tracemalloc.start()
    for _ in range(3):  # other threads of the process may take memory in one of them
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        connect(200)
        gc.collect()
        grown.append(tracemalloc.get_traced_memory()[0] - before)
    tracemalloc.stop()
    assert world.frame_loop.slots == 1
    assert world.frame_loop.table.high_water == high_water
    assert min(grown) < 2_000, f"{grown} bytes more after 200 further connects each"
    stays.frame()
    world.run()
    assert len(stays.answers) == 1


def test_client_reusing_row_inherits_no_state() -> None:
    world = World()
    first = world.player()
    for _ in range(3):
        first.frame(reward=1)
        world.run()
    first.leave()
    world.run()
    before = len(world.rows())
    second = world.player()
    assert second.rows.tolist() == first.rows.tolist()
    second.frame(reward=50)
    world.run()
    assert len(world.rows()) == before
    second.frame(reward=2, status=1)
    world.run()
    assert [brief(row) for row in world.rows()[before:]] == [
        ("step", second.streams[0], 0, 0, 2, 1),
        ("final", second.streams[0], 1, 0, 0, 0),
    ]
    assert world.episodes()[-1].episode_return == 2


# Segments and episodes.


def actors_of_answers(world: World, player: FakePlayer, statuses: list[int]) -> list[int]:
    """The tags of the answers to frames with these statuses."""
    for status in statuses:
        player.frame(status=status, expert=None if status else EXPERT_ACTION)
        world.run()
    return [answer.actor for answer in player.answers[-len(statuses) :]]


@pytest.mark.parametrize("unit", ["segment", "episode"])
def test_lead_is_kept_per_slot_until_segment_or_episode_end(unit: Any) -> None:
    """However often the ratio changes meanwhile, and whoever else plays."""
    world = World()
    player, other = world.player(), world.player()
    for expert in (True, False, True):
        world.params = ActingParams(float(expert), 0, 0, unit, 4)
        led = [EXPERT if expert else DQN]
        assert actors_of_answers(world, player, [0]) == led
        world.params = ActingParams(float(not expert), 0, 0, unit, 4)
        assert actors_of_answers(world, other, [0] * 4) == [DQN if expert else EXPERT] * 4
        assert actors_of_answers(world, player, [0, 0, 0]) == led * 3
        if unit == "segment":
            continue
        assert actors_of_answers(world, player, [0, 0]) == led * 2
        assert actors_of_answers(world, player, [1]) == [0]
        assert actors_of_answers(world, other, [2]) == [0]


def test_episode_end_ends_segment() -> None:
    world = World()
    player = world.player()
    world.params = ActingParams(1.0, 0, 0, "segment", 100)
    assert actors_of_answers(world, player, [0, 0, 1]) == [EXPERT, EXPERT, 0]
    world.params = ActingParams(0.0, 0, 0, "segment", 100)
    assert actors_of_answers(world, player, [0, 0]) == [DQN, DQN]


def test_client_reusing_row_does_not_continue_previous_segment() -> None:
    world = World()
    first = world.player()
    world.params = ActingParams(1.0, 0, 0, "episode")
    assert actors_of_answers(world, first, [0, 0]) == [EXPERT, EXPERT]
    first.leave()
    world.run()
    world.params = ActingParams(0.0, 0, 0, "episode")
    second = world.player()
    assert second.rows.tolist() == first.rows.tolist()
    assert actors_of_answers(world, second, [0]) == [DQN]


def test_evaluating_counts_the_slots_of_evaluation() -> None:
    world = World()
    world.player()
    assert world.frame_loop.evaluating == (0, 0)
    student, teacher = world.player(2, "eval"), world.player(1, "eval_expert")
    assert world.frame_loop.evaluating == (2, 1)
    student.leave()
    assert list(world.frame_loop.leaving) == [student], "until its last frames are told of"
    world.run()
    assert world.frame_loop.evaluating == (0, 1)
    teacher.leave()
    world.run()
    assert world.frame_loop.evaluating == (0, 0)
    assert list(world.frame_loop.leaving) == []


# FRAMES.


def test_frames_message_mixed_statuses_answers_and_stores_per_slot() -> None:
    world = World()
    world.params = ActingParams(expert_ratio=1.0, epsilon=0.0, noise=0.0)
    player = world.player(slots=3)
    nan = float("nan")
    player.frames([1, 2, 3], [0, 0, 0], [0, 0, 0], experts=[EXPERT_ROW, [nan, 0, 0], EXPERT_ROW])
    world.run()
    answer = player.last
    assert isinstance(answer, Actions)
    assert list(answer.actors) == [EXPERT, DQN, EXPERT]
    actions = np.frombuffer(answer.actions, np.float32).reshape(3, 3)
    assert actions.tolist() == [EXPERT_ROW, list(POLICY_ACTION), EXPERT_ROW]
    player.frames([4, 5, 6], [10, 20, 30], [0, 1, 2])
    world.run()
    answer = player.last
    assert (answer.seq, list(answer.actors), list(answer.explored)) == (1, [DQN, 0, 0], [0, 0, 0])
    actions = np.frombuffer(answer.actions, np.float32).reshape(3, 3)
    assert actions[0].tolist() == list(POLICY_ACTION)
    assert np.isnan(actions[1:]).all()
    a, b, c = player.streams
    assert [(*brief(row), row["actor"]) for row in world.rows()] == [
        ("step", a, 0, 1, 10, 0, EXPERT),
        ("step", b, 0, 2, 20, 1, DQN),
        ("step", c, 0, 3, 30, 2, EXPERT),
        ("final", b, 1, 5, 0, 0, 0),
        ("final", c, 1, 6, 0, 0, 0),
    ]
    assert player.released == [None, None]
    player.frames([7, 8, 9], [1, 2, 3], [0, 0, 0])
    world.run()
    assert [brief(row) for row in world.rows()[5:]] == [("step", a, 1, 4, 1, 0)]
    player.leave()
    world.run()
    assert [brief(row)[:4] for row in world.rows()[6:]] == [("final", a, 2, 7)]


def test_frames_message_took_applies_per_slot() -> None:
    world = World()
    player = world.player(slots=3)
    player.frames([1, 2, 3], [0, 0, 0], [0, 0, 0])
    world.run()
    instead = [[3, 1, -1], [0, 0, 0], [1, 0, 0.5]]
    player.frames([4, 5, 6], [0, 0, 0], [0, 0, 0], took=(instead, [EXPERT, 0, DQN]))
    world.run()
    assert [(row["actor"], row["action"]) for row in world.rows()] == [
        (EXPERT, [3, 1, -1]),
        (DQN, list(POLICY_ACTION)),
        (DQN, [1, 0, 0.5]),
    ]


def test_took_does_not_leak_into_next_frame() -> None:
    world = World()
    player = world.player(slots=1)
    player.frame()
    world.run()
    player.frame(took=([3, [1.0, 1.0]], EXPERT))
    world.run()
    player.frame()
    world.run()
    assert [row["actor"] for row in world.rows()] == [EXPERT, DQN]


# Any game at all against the rules of the wire.


class Model:
    """What the rules say of one slot: the rows that its frames must make."""

    def __init__(self, stream: int) -> None:
        self.stream = stream
        self.rows: list[tuple[Any, ...]] = []
        self.pending: tuple[int, float] | None = None
        self.stored = False

    def frame(self, seq: int, obs: float, reward: float, status: int) -> None:
        if self.pending is not None:
            self.rows.append(("step", self.stream, *self.pending, reward, status))
            self.stored = True
            if status:
                self.rows.append(("final", self.stream, seq, obs, 0, 0))
        self.pending = (seq, obs)
        if status:
            self.pending, self.stored = None, False

    def leave(self) -> None:
        if self.pending is not None and self.stored:
            self.rows.append(("final", self.stream, *self.pending, 0, 0))


ACTIONS = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(["frame", "frame", "end", "leave", "turn"])),
    max_size=60,
)


@given(actions=ACTIONS, rooms=st.lists(st.integers(0, 4), max_size=20), seed=st.integers(0, 99))
def test_random_play_stores_rows_equal_to_reference_model(
    actions: list[tuple[int, str]], rooms: list[int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    world = World(room=5)
    players = [world.player() for _ in range(4)]
    models = [Model(player.streams[0]) for player in players]
    done: list[Model] = []
    waits = [False] * 4
    supply = iter(rooms)

    def run() -> None:
        world.sink.free += next(supply, 50)
        world.frame_loop.flush()
        world.run()
        for i, player in enumerate(players):
            waits[i] = len(player.answers) < player.seqs[0]

    for who, action in actions:
        player, model = players[who], models[who]
        if action == "turn":
            run()
        elif action == "leave":
            player.leave()
            model.leave()
            done.append(model)
            players[who] = world.player()
            models[who] = Model(players[who].streams[0])
            waits[who] = False
        elif not waits[who]:
            obs, reward = float(rng.integers(1000)), float(rng.integers(100))
            status = int(rng.integers(1, 3)) if action == "end" else 0
            model.frame(player.seqs[0], obs, reward, status)
            player.frame(obs=obs, reward=reward, status=status)
            waits[who] = True
    world.sink.free = 10**6
    world.frame_loop.flush()
    run()
    by_stream: dict[int, list[tuple[Any, ...]]] = {}
    for row in world.rows():
        by_stream.setdefault(row["stream"], []).append(brief(row))
    expected = {model.stream: model.rows for model in [*done, *models] if model.rows}
    assert by_stream == expected
    assert world.frame_loop.stored == sum(
        row[0] == "step" for rows in expected.values() for row in rows
    )
    assert world.frame_loop.slots == 4


# Frame stacks.


def last_policy_stacks(world: World) -> list[list[float]]:
    """What the policy was asked about last: the first number of each frame of each stack."""
    size = world.spec.observation_size
    return [stack[::size].tolist() for stack in world.policy.asked]


def test_frame_stack_policy_sees_last_frames_of_episode() -> None:
    world = World(frame_stack=3)
    player, other = world.player(), world.player()
    seen = []
    for i, status in enumerate([0, 0, 0, 0, 1, 0, 0]):
        player.frame(obs=i, status=status)
        if i % 2:
            other.frame(obs=100 + i)
        world.run()
        if not status:  # the last frame of an episode has no action, so nothing is asked
            seen.append(last_policy_stacks(world))
    assert [stacks[0] for stacks in seen] == [
        [0, 0, 0],
        [0, 0, 1],
        [0, 1, 2],
        [1, 2, 3],
        [5, 5, 5],
        [5, 5, 6],
    ]
    assert [stacks[1] for stacks in seen if len(stacks) > 1] == [
        [101, 101, 101],
        [101, 101, 103],
        [101, 103, 105],
    ]
    # What is stored stays one frame.
    assert {len(row["obs"]) for row in world.rows()} == {SPEC.observation_size}
    assert [row["obs"][0] for row in world.rows() if row["stream"] == player.streams[0]] == [
        *range(5),
        5,
    ]


def test_frame_stack_client_reusing_row_sees_no_old_frames() -> None:
    world = World(frame_stack=2)
    first = world.player()
    for obs in (1, 2):
        first.frame(obs=obs)
        world.run()
    first.leave()
    world.run()
    second = world.player()
    assert second.rows.tolist() == first.rows.tolist()
    second.frame(obs=3)
    world.run()
    assert last_policy_stacks(world) == [[3, 3]]


def test_frame_stacks_grow_with_number_of_clients() -> None:
    world = World(frame_stack=2)
    players = [world.player() for _ in range(16)]
    for player in players:
        player.frame(obs=1)
    world.run()
    players += [world.player() for _ in range(100)]
    for n, player in enumerate(players):
        player.frame(obs=2 + n)
    world.run()
    assert last_policy_stacks(world) == [[1 if n < 16 else 2 + n, 2 + n] for n in range(116)]


@settings(max_examples=60)
@given(
    actions=st.lists(
        st.tuples(
            st.integers(0, 3), st.sampled_from(["frame", "frame", "frame", "end", "leave", "turn"])
        ),
        max_size=80,
    ),
    size=st.integers(2, 5),
    ratio=st.sampled_from([0.0, 0.5]),
)
def test_frame_stacks_of_policy_equal_those_of_replay(
    actions: list[tuple[int, str]], size: int, ratio: float
) -> None:
    """Stack by stack, whoever plays and however episodes and connections end."""
    world = World(PIXELS, action=(3,), frame_stack=size)
    world.params = ActingParams(expert_ratio=ratio, epsilon=0.0, noise=0.0)
    players = [world.player() for _ in range(4)]
    waits = [False] * 4
    frames: list[tuple[int, int]] = []  # which frame has the number that is its observation
    seen: dict[tuple[int, int], list[int]] = {}

    def run() -> None:
        world.policy.asked = np.empty((0, size * PIXELS.observation_size), np.uint8)
        world.run()
        waits[:] = [False] * 4
        for stack in last_policy_stacks(world):
            seen[frames[int(stack[-1])]] = [int(number) for number in stack]

    for who, action in actions:
        if action == "turn" or waits[who]:
            run()
        if action == "leave":
            players[who].leave()
            players[who], waits[who] = world.player(), False
        elif action != "turn":
            frames.append((players[who].streams[0], players[who].seqs[0]))
            status = 1 + who % 2 if action == "end" else 0
            players[who].frame(obs=len(frames) - 1, status=status, expert=[1])
            waits[who] = True
    run()
    for player in players:
        player.leave()
    world.run()

    replay = Replay(PIXELS, 1000, n_step=1, gamma=0.9, stacks=[size], seed=0)
    for block in world.sink.blocks:
        replay.append(block)
    if not replay.can_sample:
        return
    batch = replay.sample(300)
    streams, seqs = replay.identify(batch.indices)
    numbers = batch.states[0].flatten(2)[:, :, 0].tolist()
    taught = dict(zip(zip(streams.tolist(), seqs.tolist(), strict=True), numbers, strict=True))
    by_network = {frame for frame in taught if frame in seen}
    assert {frame: taught[frame] for frame in by_network} == {
        frame: seen[frame] for frame in by_network
    }
    if ratio == 0:
        assert by_network == taught.keys(), "a frame that the network was never asked about"


def test_mixed_head_order_answer_follows_declared_order() -> None:
    spec = GameSpec(
        "mixed",
        Observation("float32", (1,)),
        (Continuous("aim", 0.0, 1.0, 1), Discrete("fire", 3), Continuous("move", -1, 1, 2)),
    ).checked()
    world = World(spec, action=(0.5, 2, -1, 1))
    player = world.player()
    player.frame()
    world.run()
    assert player.last.action == [0.5, 2, [-1.0, 1.0]]
    raw = msgspec.msgpack.encode(player.last)
    assert msgspec.msgpack.decode(raw)[3] == [0.5, 2, [-1.0, 1.0]]

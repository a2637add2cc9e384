"""Parallel environments: their agents as the slots of a client."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest

from tests.support.parallel_games import Relay, ones
from understudy_client import Reconnected
from understudy_client.env_options import EnvOptions
from understudy_client.gym import Episode
from understudy_client.parallel import (
    is_parallel,
    make_parallel,
    parallel_masks,
    parallel_spec_of,
    play_parallel,
)
from understudy_client.spec import Discrete
from understudy_client.wire import Answer

RELAY = "tests.support.parallel_games:relay_v0"


class FakeClient:
    """Answers with the recommendation, or 0; loses the connection before frame `lost`."""

    def __init__(self, lost: int = -1, masks: bool = False) -> None:
        self.spec = SimpleNamespace(masks=masks)
        self.frames: list[tuple[Any, ...]] = []
        self.legal: list[Any] = []
        self.lost = lost

    def act(
        self,
        obs: Any,
        reward: float,
        status: int,
        *,
        slot: int,
        expert: Any = None,
        legal: Any = None,
    ) -> Answer:
        if len(self.frames) == self.lost:
            self.lost = -1
            raise Reconnected(2, "test")
        self.legal.append(legal)
        self.frames.append((slot, obs.tolist(), reward, status, expert))
        action = None if status else expert or [0]
        return Answer(slot, 0, action, 0 if status else 2 if expert else 1, 0, False)


def played(client: FakeClient, **options: Any) -> tuple[Relay, list[Episode]]:
    env, done = Relay(), []
    fake: Any = client
    play_parallel(env, fake, on_episode=done.append, **options)
    return env, done


def test_each_agent_is_a_stream_of_frames_in_its_slot() -> None:
    client = FakeClient()
    env, (episode,) = played(client, episodes=1, seed=5, expert=ones)
    assert env.seeds == [5]
    assert [frame for frame in client.frames if frame[0] == 0] == [
        (0, [0, 0], 0.0, 0, [1]),
        (0, [0, 1], 11.0, 0, [1]),
        (0, [0, 2], 12.0, 1, None),
    ]
    assert [frame for frame in client.frames if frame[0] == 1] == [
        (1, [1, 0], 0.0, 0, None),
        (1, [1, 1], 1.0, 0, None),
        (1, [1, 2], 2.0, 0, None),
        (1, [1, 3], 3.0, 0, None),
        (1, [1, 4], 4.0, 2, None),
    ]
    # The third comes later, and its first frame has no reward.
    assert [frame for frame in client.frames if frame[0] == 2] == [
        (2, [2, 1], 0.0, 0, [1]),
        (2, [2, 2], 12.0, 0, [1]),
        (2, [2, 3], 13.0, 0, [1]),
        (2, [2, 4], 14.0, 1, None),
    ]
    assert [list(actions) for actions in env.taken] == [
        ["a", "b"], ["a", "b", "c"], ["b", "c"], ["b", "c"],
    ]  # fmt: skip
    assert episode.length == 9
    assert episode.actors == {1: 4, 2: 5}
    assert episode.return_ == pytest.approx((23 + 10 + 39) / 3)
    assert not episode.terminated


def test_next_episode_begins_without_a_reward() -> None:
    client = FakeClient()
    env, done = played(client, episodes=2, seed=lambda i: 10 * i)
    assert env.seeds == [0, 10]
    assert len(done) == 2
    begun = [frame[2] for frame in client.frames if frame[1] in ([0, 0], [1, 0])]
    assert begun == [0.0] * 4


def test_budget_of_frames_truncates_all_agents() -> None:
    client = FakeClient()
    _, (episode,) = played(client, frames=5)
    assert episode.length == 5
    assert [(slot, status) for slot, _, _, status, _ in client.frames[-3:]] == [
        (0, 1),
        (1, 2),
        (2, 2),
    ]


def test_lost_connection_begins_the_episode_again() -> None:
    client = FakeClient(lost=3)
    env, done = played(client, episodes=1, seed=3)
    assert env.seeds == [3, 3]
    assert [episode.length for episode in done] == [9]


def test_stop_ends_play_between_two_steps() -> None:
    client = FakeClient()
    words = iter([False, True])
    _, done = played(client, stop=lambda: next(words))
    assert done == []
    assert len(client.frames) == 2


def test_mask_of_each_agent_is_told() -> None:
    class Masked(Relay):
        def _infos(self, agents: list[str]) -> dict[str, Any]:
            return {a: {"action_mask": np.array([1, a == "b"], np.int8)} for a in agents}

    assert not parallel_masks(Relay())
    assert parallel_masks(Masked())
    client = FakeClient(masks=True)
    fake: Any = client
    play_parallel(Masked(), fake, frames=4)
    told = {
        (frame[0], None if legal is None else tuple(legal.tolist()), frame[3])
        for frame, legal in zip(client.frames, client.legal, strict=True)
    }
    assert (0, (True, False), 0) in told
    assert (1, (True, True), 0) in told
    assert {legal for _, legal, status in told if status} == {None}


def test_agent_that_is_not_listed_is_refused() -> None:
    env: Any = Relay()
    env.possible_agents = ["a", "b"]
    fake: Any = FakeClient()
    with pytest.raises(ValueError, match="expected an agent of possible_agents, got 'c'"):
        play_parallel(env, fake, episodes=1)


def test_spec_is_that_of_every_agent_or_refused() -> None:
    spec = parallel_spec_of(Relay(), RELAY)
    assert (spec.game, spec.actions) == ("relay-v0", (Discrete("action", 2),))
    with pytest.raises(ValueError, match=r"action space: .* for all agents.*Discrete\(3\) of b"):
        parallel_spec_of(Relay(uneven=True), RELAY)


def test_gymnasiums_names_are_not_parallel() -> None:
    assert not is_parallel("CartPole-v1")
    assert not is_parallel("tests.support.spaced:Nested-v0")
    assert not is_parallel("no_such_module_here:relay_v0")


def test_missing_pettingzoo_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pettingzoo", None)
    with pytest.raises(gymnasium.error.DependencyNotInstalled, match="pip install pettingzoo"):
        is_parallel("pettingzoo:classic/rps_v2")


# With its package.


@pytest.fixture
def zoo() -> Any:
    return pytest.importorskip("pettingzoo", reason="needs the extra pettingzoo")


@pytest.mark.usefixtures("zoo")
def test_registered_environment_is_made_and_plays() -> None:
    assert is_parallel(RELAY)
    env = make_parallel(RELAY)
    fake: Any = FakeClient()
    play_parallel(env, fake, episodes=1)
    assert len(env.taken) == 4


@pytest.mark.usefixtures("zoo")
def test_agents_of_different_spaces_play_behind_a_wrapper() -> None:
    """The cure that the refusal names."""
    uneven = EnvOptions(args={"uneven": True})
    with pytest.raises(ValueError, match=r"pettingzoo\.utils\.BaseParallelWrapper"):
        parallel_spec_of(make_parallel(RELAY, uneven), RELAY)
    cured = make_parallel(
        RELAY, EnvOptions(args={"uneven": True}, wraps=("tests.support.parallel_games:same",))
    )
    assert parallel_spec_of(cured, RELAY).actions == (Discrete("action", 3),)
    fake: Any = FakeClient()
    play_parallel(cured, fake, episodes=1)
    assert len(fake.frames) == 12


@pytest.mark.usefixtures("zoo")
@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("pettingzoo:classic/no_such_v0", EnvOptions(), "not found"),
        (
            "pettingzoo:classic/tictactoe_v3",
            EnvOptions(),
            "agents take turns.*aec_to_parallel",
        ),
        (RELAY, EnvOptions(grayscale=True), "expected only --env-args and --wrap"),
        (RELAY, EnvOptions(wraps=("builtins:id",)), "returns a pettingzoo.ParallelEnv, got int"),
    ],
)
def test_what_cannot_be_made_parallel_is_refused(
    name: str, options: EnvOptions, message: str
) -> None:
    assert is_parallel(name)
    with pytest.raises(ValueError, match=message):
        make_parallel(name, options)


def test_environment_of_turns_that_may_be_at_once_plays_once_it_is_registered(zoo: Any) -> None:
    """The other cure."""
    pytest.importorskip("pygame", reason="needs the extra games")

    def at_once() -> Any:
        return zoo.utils.aec_to_parallel(zoo.make("aec", "classic/rps_v2", max_cycles=3))

    zoo.register("parallel", "rps_at_once-v0", entry_point=at_once)
    name = "tests.support.parallel_games:rps_at_once-v0"
    try:
        assert is_parallel(name)
        env = make_parallel(name)
    finally:
        del zoo.parallel_registry["rps_at_once-v0"]
    assert parallel_spec_of(env, name).actions == (Discrete("action", 3),)
    fake: Any = FakeClient()
    play_parallel(env, fake, episodes=1)
    assert {frame[0] for frame in fake.frames} == {0, 1}
    assert {frame[3] for frame in fake.frames} == {0, 2}

"""agent/evidence.py: returns of probes, added up from rows."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest

from agent.evidence import DQN_EPISODES, Evidence
from agent.probes import led_alone
from agent.step import FINAL, STEP, StepBlock
from config.models import ImitationConfig, Schedule
from protocol.actor import NOBODY, Actor
from protocol.spaces import Discrete, GameSpec, Observation

SPEC = GameSpec("g", Observation("float32", (1,)), (Discrete("a", 2),))
DQN, EXPERT = Actor.DQN, Actor.EXPERT


def streams_of(leader: int) -> Iterator[int]:
    """Streams whose first episode, from `seq` 0 on, is led so."""
    every = np.arange(1, 5000, dtype=np.int64) << 16
    leaders = led_alone(every, np.zeros(len(every), np.uint32))
    return iter(every[leaders == leader].tolist())


def episode(
    stream: int,
    actors: list[int],
    *,
    earned: float = 1.0,
    first: int = 0,
    recommended: float = 1.0,
    ends: bool = True,
) -> StepBlock:
    """Steps of one, each by one of `actors`; the last one ends it, and its final row follows."""
    n = len(actors)
    block = StepBlock.empty(SPEC, n + ends)
    block.kind[:n], block.actor[:n], block.reward[:n] = STEP, actors, earned / n
    block.recommended[:n] = recommended
    block.stream[:], block.seq[:] = stream, np.arange(first, first + n + ends)
    if ends:
        block.kind[n], block.status[n - 1] = FINAL, 1
    return block


def test_probes_are_counted_for_who_led_them() -> None:
    evidence = Evidence()
    evidence.add(episode(next(streams_of(DQN)), [DQN] * 3, earned=5.0))
    evidence.add(episode(next(streams_of(EXPERT)), [EXPERT] * 4, earned=7.0))
    assert list(evidence.dqn) == pytest.approx([5.0])
    assert list(evidence.expert) == pytest.approx([7.0])
    found = evidence.metrics(ImitationConfig(), 0)
    assert found["probe_return_dqn"] == pytest.approx(5.0)
    assert found["probe_return_expert"] == pytest.approx(7.0)


@pytest.mark.parametrize(
    ("leader", "actors", "recommended"),
    [
        (NOBODY, [DQN] * 3, 1.0),  # a short episode that one actor played by chance
        (NOBODY, [EXPERT] * 3, 1.0),
        (DQN, [DQN, EXPERT, DQN], 1.0),  # the game says that the expert acted
        (EXPERT, [EXPERT, DQN, EXPERT], 1.0),
        (DQN, [DQN] * 3, math.nan),  # nobody to compare with
    ],
)
def test_episodes_that_are_no_probe_or_not_played_as_one_do_not_count(
    leader: int, actors: list[int], recommended: float
) -> None:
    evidence = Evidence()
    evidence.add(episode(next(streams_of(leader)), actors, recommended=recommended))
    assert not evidence.dqn
    assert not evidence.expert


def test_expert_probe_counts_where_it_recommends_only_now_and_then() -> None:
    block = episode(next(streams_of(EXPERT)), [EXPERT, DQN, EXPERT])
    block.recommended[1] = math.nan
    evidence = Evidence()
    evidence.add(block)
    assert list(evidence.expert) == pytest.approx([1.0])


def test_broken_stream_is_no_episode() -> None:
    evidence = Evidence()
    whole = episode(next(streams_of(DQN)), [DQN] * 3)
    whole.status[:] = 0  # the game left: a final row, and no end
    evidence.add(whole)
    assert not evidence.dqn


def interleaved() -> StepBlock:
    """Episodes of several streams, two of each, row by row in turn."""
    leaders = [EXPERT, NOBODY, DQN, EXPERT, DQN, DQN, EXPERT, DQN]
    found = {leader: streams_of(leader) for leader in set(leaders)}
    blocks = []
    for k, actor in enumerate(leaders):
        stream = next(found[actor])
        actor = actor or DQN
        first = episode(stream, [actor] * (3 + k), earned=(1.0 if actor == EXPERT else 10.0) + k)
        again = episode(stream, [DQN] * 2, earned=20.0, first=len(first))
        blocks.append(StepBlock.joined([first, again]))
    n = max(map(len, blocks))
    rows = [b.rows(i, i + 1) for i in range(n) for b in blocks if i < len(b)]
    return StepBlock.joined(rows)


@pytest.mark.parametrize("size", [1, 2, 5, 100])
def test_evidence_is_the_same_however_rows_come(size: int) -> None:
    block, evidence, whole = interleaved(), Evidence(), Evidence()
    whole.add(block)
    for start in range(0, len(block), size):
        evidence.add(block.rows(start, min(start + size, len(block))))
    assert evidence.trust == whole.trust < 1.0
    assert whole.dqn[0] == pytest.approx(12.0)
    assert list(evidence.dqn) == pytest.approx(list(whole.dqn))
    assert list(evidence.expert) == pytest.approx(list(whole.expert))
    assert whole.expert[0] == pytest.approx(1.0)


def learnt(evidence: Evidence, episodes: int, earned: float) -> None:
    """So many probes of the network."""
    streams = streams_of(DQN)
    for _ in range(episodes):
        evidence.add(episode(next(streams), [DQN], earned=earned))


def test_weight_is_schedule_times_trust_of_chosen_evidence() -> None:
    evidence, streams = Evidence(), streams_of(EXPERT)
    evidence.evaluated = 0.25
    for _ in range(5):
        evidence.add(episode(next(streams), [EXPERT], earned=3.0))
    assert evidence.trust == 1.0
    learnt(evidence, 2 * DQN_EPISODES, 5.0)
    assert len(evidence.dqn) == DQN_EPISODES
    assert evidence.trust < 0.01
    schedule = Schedule(start=2.0, end=0.0, frames=100)
    weights = {
        decay: evidence.weight(ImitationConfig(expert=schedule, decay=decay), 50)
        for decay in ("schedule", "evaluation", "play")
    }
    assert weights == {
        "schedule": 1.0,
        "evaluation": 0.25,
        "play": pytest.approx(evidence.trust),
    }
    learnt(evidence, 20, 1.0)
    assert evidence.trust == 1.0, "it has fallen behind again"

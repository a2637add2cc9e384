"""Whole runs in one process."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from config.load import config_from
from config.models import Config
from lab.sync_trainer import EvaluationPoint, SyncTrainer, SyncTrainerOptions, evaluate_expert, run
from lab.vector_client import VectorClient
from protocol.actor import NOBODY
from protocol.messages import Actions
from understudy_client.experts import find, returns

LUNAR = "LunarLander-v3"


def config(seed: int = 3, **values: Any) -> Config:
    small = {"learner.hidden": (16,), "learner.batch_size": 32, "trainer.min_steps": 50}
    values = small | {"run.seed": seed, "trainer.device": "cpu"} | values
    return config_from(values, preset="demo")


def options(frames: int = 300, **changed: Any) -> SyncTrainerOptions:
    given: dict[str, Any] = {
        "env": LUNAR, "frames": frames, "clients": 3, "eval_every": 150, "eval_episodes": 2,
    }  # fmt: skip
    return SyncTrainerOptions(**(given | changed))


def outcome_text(found: list[EvaluationPoint]) -> str:
    """All but the time; as text, in which NaN equals NaN."""
    return repr([(e.frames, e.returns, sorted(e.metrics.items())) for e in found])


def test_run_with_same_seed_is_bit_identical() -> None:
    hybrid = options(env="LunarLanderHybrid-v3", weaken=0.3)
    first = outcome_text(run(config(), hybrid))
    assert outcome_text(run(config(), hybrid)) == first
    assert outcome_text(run(config(seed=4), hybrid)) != first


def test_run_evaluates_at_interval_and_at_end() -> None:
    seen: list[EvaluationPoint] = []
    found = run(config(), options(frames=350, final_episodes=3), seen.append)
    assert [e.frames for e in found] == [150, 300, 350]
    assert [len(e.returns) for e in found] == [2, 2, 3]
    assert seen == found
    for evaluation in found:
        exact = evaluation.metrics["frames"]
        assert evaluation.frames <= exact < evaluation.frames + 3
        assert evaluation.metrics["updates"] == int(exact - 50)  # one for each step beyond 50


def test_run_training_is_independent_of_evaluations() -> None:
    often = run(config(), options(eval_every=50, eval_episodes=1))
    once = run(config(), options(eval_every=300, eval_episodes=1))
    assert often[-1].returns == once[-1].returns


def test_evaluate_plays_network_alone_on_fixed_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.sync_trainer.EVAL_SLOTS", 2)  # so that a game plays several episodes
    with SyncTrainer(config(), options(eval_episodes=5)) as trainer:
        for _ in range(50):
            trainer.play()
            trainer.learn()
        stored = trainer.sink.stored, len(trainer.replay)

        def student(_env: Any, obs: Any) -> Any:
            return int(trainer.policy.greedy(np.asarray(obs, np.float32)[None])[0, 0])

        played = trainer.evaluate(5)
        assert (trainer.sink.stored, len(trainer.replay)) == stored
        assert trainer.evaluate(5) == played
        assert played == pytest.approx(returns(LUNAR, student, 5, 1_000_000))


def test_replay_rows_have_actor_tags_sent_to_games(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: dict[tuple[int, int], tuple[int, bytes]] = {}
    send = VectorClient.send

    def noted(self: VectorClient, data: bytes) -> None:
        send(self, data)
        answer = self.answer
        assert isinstance(answer, Actions)
        width = len(answer.actions) // len(answer.actors)
        for slot, actor in enumerate(answer.actors):
            if actor != NOBODY:
                action = answer.actions[slot * width : (slot + 1) * width]
                seen[1 << 16 | slot, answer.seq] = (actor, action)

    monkeypatch.setattr(VectorClient, "send", noted)
    with SyncTrainer(config(), options(env="LunarLanderHybrid-v3", weaken=0.3)) as trainer:
        while trainer.sink.stored < 1000:
            trainer.play()
            trainer.learn()
        rows = trainer.replay.rows()
    keys = zip(rows.stream.tolist(), rows.seq.tolist(), strict=True)
    kept = {
        key: (actor, action.tobytes())
        for key, actor, action in zip(keys, rows.actor.tolist(), rows.action, strict=True)
    }
    assert len(kept) == trainer.sink.stored
    assert kept.items() <= seen.items()
    assert len(seen) - len(kept) <= 3  # the frames that nothing completed yet
    assert set(rows.actor.tolist()) == {1, 2}


def test_play_uses_newest_weights_each_turn() -> None:
    with SyncTrainer(config(), options()) as trainer:
        while trainer.learner.updates < 50:
            before = trainer.learner.updates
            trainer.play()
            answer = trainer.players.answer
            assert answer is not None
            assert answer.policy_version == before + 1
            trainer.learn()


def test_episode_returns_equal_rewards_given_by_games() -> None:
    with SyncTrainer(config(), options(expert="none")) as trainer:
        while trainer.sink.stored < 1000:
            trainer.play()
        seen = sorted(episode.episode_return for episode in trainer.frame_loop.episodes.finished)
        given = sorted(total for game in trainer.players.games for total in game.returns)
        assert len(seen) > 3
        assert seen == pytest.approx(given, abs=1e-3)
        metrics = trainer._metrics()
        assert metrics["episode_return_mean"] == pytest.approx(np.mean(given), abs=1e-3)
        assert metrics["episodes"] == len(given)
        assert math.isnan(trainer._metrics()["reward_frame_mean_dqn"])  # nothing since then


@pytest.mark.parametrize(
    "changed",
    [
        {"replay.prioritized": True},
        {"replay.frame_stack": 3},
        {"expert.unit": "episode"},
        {"expert.decay": "evaluation"},
        {"learner.normalize_observations": True, "learner.value": "quantile"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_run_with_server_option_is_repeatable_and_differs(changed: dict[str, Any]) -> None:
    short = options(frames=150, eval_every=75, eval_episodes=1)
    first = outcome_text(run(config(**changed), short))
    assert outcome_text(run(config(**changed), short)) == first
    assert first != outcome_text(run(config(), short))


def test_evaluate_expert_plays_expert_alone_and_weakened() -> None:
    expert = find(LUNAR)
    assert expert is not None
    assert evaluate_expert(options(), 2) == returns(LUNAR, expert, 2, 1_000_000)
    weak = evaluate_expert(options(weaken=0.7), 2)
    assert weak == evaluate_expert(options(weaken=0.7), 2)
    assert sum(weak) < sum(returns(LUNAR, expert, 2, 1_000_000)) - 100


def test_run_without_expert_has_only_dqn_steps() -> None:
    with SyncTrainer(config(), options(expert="none")) as trainer:
        for _ in range(30):
            trainer.play()
        assert trainer.replay.actor_composition().frac_dqn == 1
    with pytest.raises(ValueError, match="no expert to evaluate"):
        evaluate_expert(options(expert="none"), 1)


def test_run_ends_at_time_limit() -> None:
    found = run(config(), options(frames=1_000_000, eval_every=1_000_000, seconds=0.5))
    assert len(found) == 1
    assert 0 < found[0].frames < 1_000_000


@pytest.mark.parametrize("wrong", ["frames", "clients", "eval_every", "eval_episodes"])
def test_run_with_option_zero_raises(wrong: str) -> None:
    with pytest.raises(ValueError, match=f"{wrong}: expected at least 1, got 0"):
        run(config(), options(**{wrong: 0}))

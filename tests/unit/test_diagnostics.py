"""Per-actor numbers against a plain computation, row by row."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from agent import diagnostics
from agent.diagnostics import METRICS, Diagnostics
from protocol.actor import ACTORS, Actor

CPU = torch.device("cpu")


def masks_of(actors: list[int]) -> Tensor:
    return (torch.tensor(actors)[:, None] == torch.tensor(ACTORS)).float()


def update(
    numbers: Diagnostics,
    step: int,
    actors: list[int],
    measured: list[list[float]],
    *,
    rewards: list[float] | None = None,
    weights: list[float] | None = None,
    grad_norm: float = 1.0,
    skipped: bool = False,
) -> None:
    n, of_rows = len(actors), torch.tensor([int(actor) for actor in actors])
    numbers.update(
        of_rows,
        torch.tensor(rewards or [0] * n, dtype=torch.float32),
        torch.tensor(weights or [1] * n, dtype=torch.float32),
        torch.tensor(measured, dtype=torch.float32),
        torch.tensor(grad_norm),
        torch.tensor(float(skipped)),
    )
    numbers.count(step, of_rows)


def test_metrics_equal_hand_computed_values() -> None:
    numbers = Diagnostics(CPU)
    # |TD error|, Q, losses of values, continuous heads, imitation
    rows = [[1, 10, 0.1, 0.01, 1], [2, 20, 0.2, 0.02, 2], [4, 40, 0.4, 0.04, 4]]
    update(numbers, 1, [1, 2, 1], rows, rewards=[5, 6, 7], weights=[1, 2, 3], grad_norm=3)
    update(numbers, 2, [2, 2, 2], [[6, 60, 0, 0, 0]] * 3, rewards=[2, 2, 2], grad_norm=5)
    found = numbers.fetch()
    assert found == pytest.approx(
        {
            "batch_frac_dqn": 2 / 6,
            "batch_n_dqn": 1.0,
            "batch_n_expert": 2.0,
            "td_err_mean_dqn": 2.5,
            "td_err_mean_expert": (2 + 18) / 4,
            "td_err_mean": 25 / 6,
            "q_mean_dqn": 25.0,
            "q_mean_expert": 50.0,
            "q_mean": 250 / 6,
            "reward_mean_dqn": 6.0,
            "reward_mean_expert": 3.0,
            "weight_mean_dqn": 2.0,
            "weight_mean_expert": 5 / 4,
            "weight_ess_dqn": 16 / (2 * 10),
            "weight_ess_expert": 25 / (4 * 7),
            "loss_td": 0.35,
            "loss_continuous": 0.035,
            "loss_imitation": 3.5,
            "loss": 3.885,
            "grad_norm": 4.0,
            "grad_norm_dqn": math.nan,
            "grad_norm_expert": math.nan,
            "grad_share_dqn": math.nan,
            "grad_share_expert": math.nan,
            "updates_skipped": 0.0,
            "updates_skipped_in_a_row": 0.0,
            "q_max": 60.0,
        },
        nan_ok=True,
    )
    assert set(found) == set(METRICS) - {"learning_rate"}


def test_swapped_actors_swap_per_actor_metrics() -> None:
    rows = [[1, 10, 0, 0, 0], [2, 20, 0, 0, 0], [4, 40, 0, 0, 0]]
    both: list[dict[str, float]] = []
    for actors in ([1, 2, 1], [2, 1, 2]):
        numbers = Diagnostics(CPU)
        update(numbers, 1, actors, rows, rewards=[1, 2, 9])
        both.append(numbers.fetch())
    for name in ("batch_n", "td_err_mean", "q_mean", "reward_mean"):
        assert both[0][f"{name}_dqn"] == both[1][f"{name}_expert"] != both[0][f"{name}_expert"]


def test_actor_absent_from_batch_has_nan_metrics() -> None:
    numbers = Diagnostics(CPU)
    numbers.actor_norms(masks_of([1, 1]), torch.tensor([2.0, 0.0]))
    update(numbers, 1, [1, 1], [[1, 1, 0, 0, 0]] * 2)
    found = numbers.fetch()
    for name in ("td_err_mean", "q_mean", "reward_mean", "weight_mean", "weight_ess", "grad_norm"):
        assert math.isnan(found[f"{name}_expert"]), name
        assert not math.isnan(found[f"{name}_dqn"]), name
    assert found["batch_n_expert"] == 0
    assert found["batch_frac_dqn"] == 1


def test_fetch_resets_interval_but_keeps_gradient_norms() -> None:
    numbers = Diagnostics(CPU)
    numbers.actor_norms(masks_of([1, 2]), torch.tensor([2.0, 3.0]))
    update(numbers, 1, [1, 2], [[100, 1, 0, 0, 0]] * 2)
    numbers.fetch()
    update(numbers, 2, [1, 2], [[1, 1, 0, 0, 0]] * 2)
    found = numbers.fetch()
    assert found["td_err_mean"] == 1
    # Measured now and then: the last one stands.
    assert found["grad_norm_expert"] == 3
    nothing = numbers.fetch()
    assert set(nothing) == set(METRICS) - {"learning_rate"}
    kept = ("grad_norm_dqn", "grad_norm_expert", "grad_share_dqn", "grad_share_expert")
    kept += ("updates_skipped", "updates_skipped_in_a_row")
    names = set(nothing) - set(kept)
    assert all(math.isnan(nothing[name]) for name in names)


def test_row_count_beyond_float32_precision_is_exact() -> None:
    """float32 would stop at 2^24."""
    numbers = Diagnostics(CPU)
    numbers._sums[0, 0] = 2.0**24
    update(numbers, 1, [1], [[0, 0, 0, 0, 0]])
    assert numbers.fetch()["batch_n_dqn"] == 2**24 + 1


def test_metrics_do_not_depend_on_how_many_updates_are_added_up_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    g, found = torch.Generator().manual_seed(1), []
    rows = torch.randn(9, 4, 5, generator=g).tolist()
    for together in (1, 4, 100):
        monkeypatch.setattr(diagnostics, "TOGETHER", together)
        numbers = Diagnostics(CPU)
        for i, measured in enumerate(rows):
            skipped = i in (0, 2, 3, 4, 7, 8)
            update(numbers, i, [1, 2, 2, 1], measured, rewards=[i, 1, 2, 3], skipped=skipped)
        found.append([numbers.skipped_in_a_row(), *numbers.fetch().values()])
    assert found[0][0] == 3
    assert found[1] == pytest.approx(found[0], nan_ok=True)
    assert found[2] == pytest.approx(found[0], nan_ok=True)


def test_batch_lines_report_actor_counts_every_100_steps() -> None:
    numbers = Diagnostics(CPU)
    actors = [Actor.DQN] * 6075 + [Actor.EXPERT] * 2117
    for step in (99, 150):
        update(numbers, step, [Actor.EXPERT] * 4, [[0, 0, 0, 0, 0]] * 4)
    update(numbers, 100, actors, [[0, 0, 0, 0, 0]] * 8192)
    numbers.fetch()
    update(numbers, 200, [Actor.EXPERT] * 4, [[0, 0, 0, 0, 0]] * 4)
    assert numbers.batch_lines() == [
        "[BATCH] Step 100: 6075 DQN (74.2%) / 2117 expert (25.8%)",
        "[BATCH] Step 200: 0 DQN (0.0%) / 4 expert (100.0%)",
    ]
    assert numbers.batch_lines() == []


def test_metrics_include_required_names() -> None:
    wanted = (
        "batch_frac_dqn batch_n_dqn batch_n_expert td_err_mean_dqn td_err_mean_expert "
        "reward_mean_dqn reward_mean_expert q_mean_dqn q_mean_expert grad_norm_dqn grad_norm_expert"
    )
    assert set(wanted.split()) <= set(METRICS)


@pytest.mark.promise("bad-update")
def test_skipped_updates_counted_in_total_and_consecutively() -> None:
    numbers = Diagnostics(CPU)

    def after(*skipped: bool) -> tuple[float, float]:
        for each in skipped:
            update(numbers, 1, [1], [[1, 1, 0, 0, 0]], skipped=each)
        found = numbers.fetch()
        return found["updates_skipped"], found["updates_skipped_in_a_row"]

    assert after(True, True, False, True) == (3, 2)
    # A row that goes on beyond a fetch is one row.
    assert after(True, True) == (5, 3)
    assert after(True, False, True) == (7, 4)
    assert after(False) == (7, 1)
    assert after(False) == (7, 0)
    assert after(True) == (8, 1)
    numbers.begin_anew()
    assert after(True) == (9, 1)


def test_q_max_is_largest_magnitude_since_last_fetch() -> None:
    numbers = Diagnostics(CPU)
    update(numbers, 1, [1, 2], [[0, -7, 0, 0, 0], [0, 3, 0, 0, 0]])
    update(numbers, 2, [1], [[0, 2, 0, 0, 0]])
    assert numbers.fetch()["q_max"] == 7
    update(numbers, 3, [1], [[0, 2, 0, 0, 0]])
    assert numbers.fetch()["q_max"] == 2


def test_forgotten_updates_leave_no_trace_in_metrics() -> None:
    numbers, other = Diagnostics(CPU), Diagnostics(CPU)
    for each in (numbers, other):
        update(each, 1, [1, 2], [[1, 2, 3, 4, 5]] * 2)
    numbers.add_up()
    nothing = torch.full((), math.nan)  # as a GPU leaves what was never computed
    numbers.update(
        torch.tensor([1]), nothing[None], nothing[None], nothing.expand(1, 5), nothing, nothing
    )
    numbers.forget_kept()
    assert numbers.skipped_in_a_row() == 0
    assert numbers.fetch() == pytest.approx(other.fetch(), nan_ok=True)

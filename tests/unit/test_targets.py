"""Targets against values computed by hand."""

from __future__ import annotations

import pytest
import torch

from agent.targets import (
    best_choices,
    bootstrapped_target,
    categorical_target,
    double_dqn,
    hard_update,
    soft_update,
    take_columns,
)


def test_double_dqn_selects_by_online_and_evaluates_by_target() -> None:
    q_t_selector = torch.tensor([[1.0, 3.0, 2.0], [5.0, 0.0, 4.0]])
    z_t_value = torch.tensor([[10.0, 20.0, 90.0], [30.0, 80.0, 70.0]])[..., None]
    found = double_dqn(z_t_value, q_t_selector, (3,), torch.tensor([0]))
    # Row 0 chooses 1, row 1 chooses 0. A plain maximum of the target network would give 90 and 80,
    # the online network's own values 3 and 5.
    assert found.tolist() == [[[20.0]], [[30.0]]]


def test_double_dqn_selects_per_branch() -> None:
    sizes, offsets = (2, 3), torch.tensor([0, 2])
    q_t_selector = torch.tensor([[0.0, 1.0, 9.0, 7.0, 8.0]])
    z_t_value = torch.tensor([[100.0, 4.0, 6.0, 50.0, 60.0]])[..., None]
    found = double_dqn(z_t_value, q_t_selector, sizes, offsets)
    assert found.tolist() == [[[4.0], [6.0]]]


def test_take_columns_gives_all_atoms_of_choice() -> None:
    z = torch.arange(24.0).view(2, 4, 3)
    found = take_columns(z, torch.tensor([[1, 3], [0, 2]]))
    assert found.tolist() == [[[3, 4, 5], [9, 10, 11]], [[12, 13, 14], [18, 19, 20]]]


@pytest.mark.parametrize("sizes", [(4,), (3, 3), (2, 5, 3)])
def test_best_choices_equal_argmax_of_each_head(sizes: tuple[int, ...]) -> None:
    q = torch.randn(50, sum(sizes), generator=torch.manual_seed(1))
    expected, start = [], 0
    for n in sizes:
        expected.append(q[:, start : start + n].argmax(1))
        start += n
    assert torch.equal(best_choices(q, sizes), torch.stack(expected, 1))
    # Columns of a wider tensor, as the network's last layer has them.
    wide = torch.cat((torch.full((50, 1), 99.0), q, torch.full((50, 2), 99.0)), 1)
    assert torch.equal(best_choices(wide[:, 1:-2], sizes), torch.stack(expected, 1))


def test_bootstrapped_target_is_return_plus_discounted_branch_mean() -> None:
    value_params_t = torch.tensor([[[4.0, 0.0], [6.0, 2.0]], [[50.0, 1.0], [70.0, 1.0]]])
    found = bootstrapped_target(
        torch.tensor([1.0, -100.0]), torch.tensor([0.1, 0.0]), value_params_t
    )
    # A terminal row has no future.
    assert found.flatten().tolist() == pytest.approx([1.5, 1.1, -100.0, -100.0])


def test_categorical_target_is_projected_onto_support() -> None:
    support = torch.linspace(-1.0, 1.0, 3)
    logits_t = torch.tensor([[[0.25, 0.5, 0.25]]]).log()
    found = categorical_target(
        torch.tensor([0.5]), torch.tensor([1.0]), logits_t, support, -1.0, 1.0
    )
    # -1 -> -0.5, half to -1 and half to 0; 0 -> 0.5; 1 -> 1.5, which counts for 1.
    assert found[0].tolist() == pytest.approx([0.125, 0.125 + 0.25, 0.25 + 0.25])


def test_soft_update_moves_target_by_tau() -> None:
    target, online = [torch.tensor([0.0, 8.0]), torch.tensor([1.0])], [torch.ones(2), torch.ones(1)]
    soft_update(target, online, 0.25)
    assert target[0].tolist() == [0.25, 6.25]
    assert target[1].tolist() == [1.0]
    assert online[0].tolist() == [1.0, 1.0]


def test_hard_update_copies_parameters() -> None:
    target, online = [torch.zeros(2)], [torch.tensor([3.0, 4.0])]
    hard_update(target, online)
    assert target[0].tolist() == [3.0, 4.0]
    online[0].zero_()
    assert target[0].tolist() == [3.0, 4.0]

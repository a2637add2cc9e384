"""Targets against values computed by hand."""

from __future__ import annotations

import pytest
import torch

from agent.targets import (
    best_choices,
    double_dqn_targets,
    hard_update,
    soft_update,
    value_targets,
)


def test_the_online_network_chooses_and_the_target_network_judges() -> None:
    q_t_selector = torch.tensor([[1.0, 3.0, 2.0], [5.0, 0.0, 4.0]])
    q_t_value = torch.tensor([[10.0, 20.0, 90.0], [30.0, 80.0, 70.0]])
    targets = double_dqn_targets(
        torch.tensor([1.0, 2.0]),
        torch.tensor([0.5, 0.9]),
        q_t_value,
        q_t_selector,
        (3,),
        torch.tensor([0]),
    )
    # Row 0 chooses 1: 1 + 0.5 x 20. Row 1 chooses 0: 2 + 0.9 x 30. A plain maximum of the target
    # network would give 46 and 74, the online network's own values 2.5 and 6.5.
    assert targets.tolist() == pytest.approx([11.0, 29.0])


def test_several_heads_share_the_mean_over_heads() -> None:
    sizes, offsets = (2, 3), torch.tensor([0, 2])
    q_t_selector = torch.tensor([[0.0, 1.0, 9.0, 7.0, 8.0]])
    q_t_value = torch.tensor([[100.0, 4.0, 6.0, 50.0, 60.0]])
    targets = double_dqn_targets(
        torch.tensor([1.0]), torch.tensor([0.1]), q_t_value, q_t_selector, sizes, offsets
    )
    assert targets.tolist() == pytest.approx([1 + 0.1 * (4 + 6) / 2])


def test_a_terminal_row_has_no_future() -> None:
    q = torch.tensor([[7.0, 8.0]])
    targets = double_dqn_targets(
        torch.tensor([-100.0]), torch.tensor([0.0]), q, q, (2,), torch.tensor([0])
    )
    assert targets.tolist() == [-100.0]


def test_discounts_are_those_of_the_batch() -> None:
    """gamma to the power of each row's own horizon, so nothing here knows gamma or n."""
    r_t, v_t = torch.zeros(3), torch.full((3,), 10.0)
    discount_t = torch.tensor([0.99**3, 0.99, 0.0])
    assert value_targets(r_t, discount_t, v_t).tolist() == pytest.approx([9.70299, 9.9, 0.0])


@pytest.mark.parametrize("sizes", [(4,), (3, 3), (2, 5, 3)])
def test_best_choices_are_those_of_each_head(sizes: tuple[int, ...]) -> None:
    q = torch.randn(50, sum(sizes), generator=torch.manual_seed(1))
    expected, start = [], 0
    for n in sizes:
        expected.append(q[:, start : start + n].argmax(1))
        start += n
    assert torch.equal(best_choices(q, sizes), torch.stack(expected, 1))
    # Columns of a wider tensor, as the network's last layer has them.
    wide = torch.cat((torch.full((50, 1), 99.0), q, torch.full((50, 2), 99.0)), 1)
    assert torch.equal(best_choices(wide[:, 1:-2], sizes), torch.stack(expected, 1))


def test_soft_update_goes_a_part_of_the_way() -> None:
    target, online = [torch.tensor([0.0, 8.0]), torch.tensor([1.0])], [torch.ones(2), torch.ones(1)]
    soft_update(target, online, 0.25)
    assert target[0].tolist() == [0.25, 6.25]
    assert target[1].tolist() == [1.0]
    assert online[0].tolist() == [1.0, 1.0]


def test_hard_update_copies() -> None:
    target, online = [torch.zeros(2)], [torch.tensor([3.0, 4.0])]
    hard_update(target, online)
    assert target[0].tolist() == [3.0, 4.0]
    online[0].zero_()
    assert target[0].tolist() == [3.0, 4.0]

from __future__ import annotations

import io
import math
from typing import Any

import pytest
from rich.console import Console

from server.tui.live_table import Screen, nodes_line, plain_line, table

ROW = {
    "frames": 12_034.0,
    "frames_per_s": 812.0,
    "eval_return_mean": 123.45,
    "eval_return_best": 150.0,
    "eval_frames": 10_000.0,
    "expert_return_mean": 229.1,
    "expert_ratio": 0.25,
    "reward_frame_mean_dqn": -0.5,
    "reward_frame_mean_expert": 0.75,
    "episodes": 31.0,
    "batch_frac_dqn": 0.6,
}


def rendered_lines(
    row: dict[str, float],
    width: int,
    *,
    paused: bool = False,
    warning: str = "",
    nodes: tuple[dict[str, Any], ...] = (),
) -> list[str]:
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True)
    screen = Screen(console, "title", frames=20_000)
    screen.paused = lambda: paused
    screen.warning = lambda: warning
    screen.nodes = lambda: nodes
    screen.note("playing")
    screen.hint("the keys")
    screen.say("a message")
    screen.show(row)
    console.print(screen._render())
    return console.export_text().splitlines()


@pytest.mark.parametrize("width", [80, 160])
def test_live_table_aligns_dqn_and_expert_columns(width: int) -> None:
    lines = rendered_lines(ROW, width)
    assert max(map(len, lines)) <= width
    (heading,) = (line for line in lines if " dqn " in line)
    (evaluation,) = (line for line in lines if " evaluation " in line and "best" not in line)
    (share,) = (line for line in lines if "share of batches" in line)
    (reward,) = (line for line in lines if "reward/frame" in line)
    for line, dqn, expert in (
        (evaluation, "123.5", "229.1"),
        (reward, "-0.500", "0.750"),
        (share, "60.0%", "40.0%"),
    ):
        text = line.replace("123.4", "123.5")
        # Each number ends where its heading does.
        assert text.index(dqn) + len(dqn) == heading.index("dqn") + len("dqn")
        assert text.index(expert) + len(expert) == heading.index("expert") + len("expert")
    assert any("best evaluation" in line and "150.0" in line for line in lines)
    assert any("evaluated at frame" in line and "10,000" in line for line in lines)
    # Frames go on with a resumed run, and these do not.
    assert any("training episodes since start " in line and " 31 " in line for line in lines)


def test_live_table_after_process_restarts_shows_their_sum() -> None:
    assert not any(
        "restarts" in line for line in rendered_lines(ROW | {"restarts_trainer": 0.0}, 80)
    )
    lines = rendered_lines(ROW | {"restarts_trainer": 1.0, "restarts_gateway": 2.0}, 80)
    assert [line.split()[1:3] for line in lines if "restarts" in line] == [["restarts", "3"]]


def test_live_table_when_paused_says_so_in_frame() -> None:
    assert " playing ─" in rendered_lines(ROW, 80)[-1]
    *lines, bottom = rendered_lines(ROW, 80, paused=True)
    assert " playing, training paused ─" in bottom
    assert [line.strip("│ ") for line in lines[-2:]] == ["a message", "the keys"]


def test_live_table_with_a_warning_has_it_in_one_line() -> None:
    lines = rendered_lines(ROW, 80, warning="warning: training is behind; " + "more " * 100)
    (line,) = (line for line in lines if "warning" in line)
    assert "warning: training is behind; more" in line
    assert len(lines) == len(rendered_lines(ROW, 80)) + 1


def test_live_table_with_large_numbers_fits_80_columns() -> None:
    row = ROW | {"eval_return_mean": -12_345.6, "expert_return_mean": 1_234_567.8}
    lines = rendered_lines(row, 80)
    assert any("-12,345.6" in line and "1,234,567.8" in line for line in lines)


def test_live_table_shows_unknown_values_as_dash() -> None:
    lines = rendered_lines({"frames": 5.0, "eval_return_mean": math.nan}, 80)
    (evaluation,) = (line for line in lines if " evaluation " in line and "best" not in line)
    assert evaluation.split(" evaluation ")[1].split() == ["–", "–", "│"]
    assert table({}).row_count == 1


def test_plain_line_shows_evaluation_of_dqn_and_expert() -> None:
    assert plain_line(ROW).replace("123.4", "123.5").endswith("evaluation dqn 123.5 expert 229.1")
    assert plain_line({}).endswith("evaluation dqn – expert –")


NODES: tuple[dict[str, Any], ...] = (
    {
        "name": "gateway node 0", "host": "a", "answers": False, "port": 1,
        "unacknowledged": 4096, "weights_age_s": None,
    },
    {"name": "learner 0", "host": "b", "answers": True},
)  # fmt: skip


def test_cluster_in_a_terminal_has_a_line_for_each_node_and_learner() -> None:
    lines = rendered_lines(ROW, 80, nodes=NODES)
    (node,) = (line for line in lines if "gateway node 0" in line)
    assert "a is away" in node
    assert "4,096" in node
    assert any("learner 0" in line and " b " in line for line in lines)
    assert not any("unacknowledged" in line for line in rendered_lines(ROW, 80))
    assert nodes_line(NODES) == (
        "gateway node 0 is away, unacknowledged 4,096, weights – s old  learner 0 answers"
    )

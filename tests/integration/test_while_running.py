"""What happens to a run while it runs: evaluations, the hand-over, changed settings. Two gateways,
a trainer, real sockets."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from agent import checkpoint
from config.load import ConfigError, config_of_run
from server import cli
from server.control.unix_socket import ask
from server.run import directory as run_directory
from tests.support.running import RawClient, Running
from tests.support.worlds import DQN, EXPERT

pytestmark = pytest.mark.timeout(120)

ADVICE = [3, [0.5, -0.5]]
NO_EXPLORATION = {"start": 0.0, "end": 0.0, "frames": 1}


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Running]:
    with Running(
        folder / "while-running",
        server__gateways=2,
        expert__ratio={"start": 1.0, "end": 1.0, "frames": 1},
        exploration__epsilon=NO_EXPLORATION,
        exploration__noise=NO_EXPLORATION,
        advantage__applies_to=["td"],
        advantage__signal="reward",
    ) as running:
        play(running, 100)
        yield running


def play(server: Running, frames: int) -> list[int]:
    """Play one episode that is cut off; who played its frames."""
    with RawClient(server.port, timeout_s=50.0) as client:
        client.welcome()
        return [client.frame(seq, reward=1.0, expert=ADVICE)[4] for seq in range(frames)]


def on_both_gateways(server: Running, stack: ExitStack, **more: Any) -> list[RawClient]:
    """A client of each: session numbers tell them apart."""
    found: dict[int, RawClient] = {}
    for _ in range(100):
        client = stack.enter_context(RawClient(server.port)).welcome(**more)
        found.setdefault(client.fields["session"] % 2, client)
        if len(found) == 2:
            return list(found.values())
    raise AssertionError("all connections went to one gateway")


def episode(client: RawClient, return_: float, seq: int = 0) -> int:
    """Play an episode of one step; the seq behind it."""
    client.frame(seq, expert=ADVICE)
    client.frame(seq + 1, reward=return_, status=1)
    return seq + 2


def evaluate(server: Running, student: list[float], teacher: list[float]) -> dict[str, Any]:
    """An evaluation with these returns, games of both roles on both gateways; its line."""
    before = len(lines(server))
    with ExitStack() as stack:
        clients = {
            role: on_both_gateways(server, stack, role=role) for role in ("eval", "eval_expert")
        }
        for role, returns in (("eval", student), ("eval_expert", teacher)):
            seqs = [0, 0]
            for i, each in enumerate(returns):
                seqs[i % 2] = episode(clients[role][i % 2], each, seqs[i % 2])
        assert len(lines(server)) == before, "it is not over while anybody plays"
    server.until(lambda: len(lines(server)) > before, "the evaluation is kept")
    (line,) = lines(server)[before:]
    return line


def lines(server: Running, name: str = "evaluations") -> list[dict[str, Any]]:
    path = server.folder.path / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def best_of(server: Running) -> Any:
    """What the best checkpoint scored."""
    path = checkpoint.best(server.folder.checkpoints)
    return None if path is None else checkpoint.load(path)["evaluation"]["mean"]


# Evaluations.


def test_evaluation_writes_a_line_metrics_and_a_checkpoint(server: Running) -> None:
    server.settle()
    row = server.row
    assert math.isnan(row["eval_return_mean"])
    assert math.isnan(row["expert_return_mean"])
    assert best_of(server) is None
    line = evaluate(server, [-100.0, -120.0, -80.0, -100.0], [200.0, 100.0])
    assert sorted(line["returns"]) == [-120.0, -100.0, -100.0, -80.0]
    assert (line["mean"], line["expert_mean"]) == (-100.0, 150.0)
    assert sorted(line["expert_returns"]) == [100.0, 200.0]
    assert line["frames"] == row["frames"] == 99
    assert 1 <= line["versions"][0] <= line["versions"][1]
    assert not line["partial"]
    server.until_row(
        eval_return_mean=-100.0,
        eval_episodes=4,
        eval_frames=99,
        eval_return_best=-100.0,
        expert_return_mean=150.0,
        expert_episodes=2,
    )
    server.until(lambda: best_of(server) == -100.0, "the best network is kept")
    assert server.row["frames"] == 99, "nothing of it is stored"
    assert "evaluation at frame 99: network -100.0 over 4 episodes, expert 150.0" in server.log()


def test_worse_evaluation_does_not_replace_the_best(server: Running) -> None:
    for mean, best in ((-40.0, -40.0), (-60.0, -40.0), (-50.0, -40.0), (-30.0, -30.0)):
        line = evaluate(server, [mean] * 4, [])
        assert line["expert_mean"] == 150.0, "the expert's is remembered"
        server.until_row(eval_return_mean=mean, eval_return_best=best)
        server.until(lambda best=best: best_of(server) == best, "the best is as it should be")


def test_aborted_evaluation_is_kept_with_its_reason_and_nothing_goes_by_it(server: Running) -> None:
    before, n = server.row["eval_return_mean"], len(lines(server))
    with RawClient(server.port) as client:
        client.welcome(role="eval", episodes=3)
        assert client.fields["episode_limit"] == [30_000, 600.0]
        client.frame(episode(client, 999.0))
        client.frame(3, reward=7.5)
    assert len(lines(server)) == n, "it may come back: it has not said BYE"
    server.until(lambda: len(lines(server)) > n, "it is kept", 40.0)
    line = lines(server)[-1]
    assert (line["partial"], line["returns"], line["cut"]) == (True, [999.0], [7.5])
    assert line["why"] == "2 of 3 announced episodes not played"
    assert server.supervisor.status.evaluations[-1]["text"].endswith(
        "network 999.0 over 1 episodes (not complete, so nothing goes by it: 2 of 3 announced "
        "episodes not played; cut at 7.5), expert 150.0"
    )
    server.wait_rows()
    assert server.row["eval_return_mean"] == before
    assert best_of(server) == -30.0


def test_smaller_evaluation_that_is_complete_is_the_best(server: Running) -> None:
    n = len(lines(server))
    with RawClient(server.port) as client:
        client.welcome(role="eval", episodes=1)
        episode(client, -20.0)
    server.until(lambda: len(lines(server)) > n, "it is kept")
    assert not lines(server)[-1]["partial"]
    server.until(lambda: best_of(server) == -20.0, "the best network is kept")
    server.until_row(eval_return_mean=-20.0, eval_episodes=1, eval_return_best=-20.0)


def test_episode_beyond_the_limit_is_cut_and_its_game_told(server: Running) -> None:
    change(server, {"evaluation.episode_frames": 10})
    n = len(lines(server))
    with RawClient(server.port) as client:
        client.welcome(role="eval", episodes=1)
        assert client.fields["episode_limit"] == [10, 600.0]
        for seq in range(12):
            client.frame(seq, reward=-1.0)
        code, message, retry = client.refusal()
    assert (code, retry) == ("episode_limit", True)
    assert "at most 10 frames" in message
    server.until(lambda: len(lines(server)) > n, "it is kept")
    line = lines(server)[-1]
    assert (line["returns"], line["mean"], line["cut"]) == ([], None, [-11.0])
    assert (line["partial"], line["why"]) == (True, "1 episodes cut by the limit")
    change(server, {"evaluation.episode_frames": 30_000})


def test_expert_that_recommends_now_and_then_is_measured(server: Running) -> None:
    n = len(lines(server))
    with RawClient(server.port) as client:
        client.welcome(role="eval_expert", episodes=1)
        actions = [
            client.frame(seq, reward=1.0, expert=ADVICE if seq == 1 else None)[3]
            for seq in range(4)
        ]
        assert actions == [[0, [0.0, 0.0]], ADVICE, ADVICE, ADVICE]
        client.frame(4, reward=1.0, status=1)
    server.until(lambda: len(lines(server)) > n, "it is kept")
    line = lines(server)[-1]
    assert (line["expert_returns"], line["expert_filled"]) == ([4.0], 0.75)
    assert "75.0% of its frames filled" in server.log()
    evaluate(server, [], [200.0, 100.0])  # as it was for the tests below


# The hand-over.


def test_handover_follows_the_students_evaluations(server: Running) -> None:
    """From -100, where the student began, to the expert's 150."""
    change(server, {"expert.decay": "evaluation", "expert.ratio.end": 0.0})
    for mean, ratio in ((-100.0, 1.0), (25.0, 0.5), (150.0, 0.0), (400.0, 0.0), (-37.5, 0.75)):
        evaluate(server, [mean] * 4, [])
        server.until(lambda r=ratio: server.wait_rows()["expert_ratio"] == r, "it hands over")
        if ratio in (0.0, 1.0):
            with ExitStack() as stack:
                for client in on_both_gateways(server, stack):
                    actors = {client.frame(seq, expert=ADVICE)[4] for seq in range(20)}
                    assert actors == {EXPERT if ratio else DQN}
    change(server, {"expert.decay": "schedule"})
    server.until(lambda: server.wait_rows()["expert_ratio"] == 0.0, "the schedule is over")


# Changes.


def change(server: Running, values: dict[str, Any]) -> list[str]:
    changes = server.do(lambda: server.supervisor.controller.change(values, "test"))
    return [str(each) for each in changes]


def of_run(server: Running) -> Any:
    """The configuration that `--resume` goes on with."""
    return config_of_run(server.folder.path)


def test_changed_setting_is_reported_recorded_and_applied(server: Running, capsys: Any) -> None:
    server.settle()
    frames = server.row["frames"]
    before = len(lines(server, "changes"))
    words = ["expert.ratio=0.0", "exploration.noise=0.25", "learner.learning_rate=1e-4"]
    code = cli.main(["set", "--run", str(server.folder.path), *words])
    out, errors = capsys.readouterr()
    assert (code, errors) == (0, "")
    assert out.splitlines() == [
        "exploration.noise.start: 0.0 -> 0.25",
        "exploration.noise.end: 0.0 -> 0.25",
        "learner.learning_rate: 0.0005 -> 0.0001",
    ] or out.splitlines()[0].startswith("expert.ratio.")
    kept = lines(server, "changes")[before:]
    assert {(each["key"], each["from"], each["to"]) for each in kept} >= {
        ("exploration.noise.start", 0.0, 0.25),
        ("learner.learning_rate", 5e-4, 1e-4),
    }
    assert {each["frames"] for each in kept} == {frames}
    assert "changed learner.learning_rate: 0.0005 -> 0.0001" in server.log()
    assert of_run(server).learner.learning_rate == 1e-4
    assert of_run(server).expert.ratio.end == 0.0
    server.until_row(learning_rate=1e-4)
    assert set(play(server, 30)) == {DQN}
    assert change(server, {"expert.ratio": 1.0}) == [
        "expert.ratio.start: 0.0 -> 1.0", "expert.ratio.end: 0.0 -> 1.0",
    ]  # fmt: skip
    with ExitStack() as stack:
        for client in on_both_gateways(server, stack):
            assert {client.frame(seq, expert=ADVICE)[4] for seq in range(20)} == {EXPERT}


def test_changed_units_are_recorded_and_applied(server: Running) -> None:
    change(server, {"expert.decay": "schedule", "imitation.decay": "schedule"})
    change(server, {"expert.ratio": 0.5, "expert.unit": "segment", "expert.segment_frames": 8})
    actors = play(server, 160)
    segments = [set(actors[start : start + 8]) for start in range(0, 160, 8)]
    assert all(len(segment) == 1 for segment in segments)
    assert len(set(actors)) == 2
    change(server, {"expert.unit": "episode"})
    episodes = [set(play(server, 10)) for _ in range(12)]
    assert all(len(each) == 1 for each in episodes)
    assert {actor for each in episodes for actor in each} == {DQN, EXPERT}
    change(server, {"expert.unit": "frame"})
    actors = play(server, 60)
    assert 10 < sum(a != b for a, b in pairwise(actors)) < 50


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["learner.gamma=0.9", "server.port=1"], "server.port: cannot be changed"),
        (["learner.gamma=0.9", "learner.n_step=0"], "expected a whole number of at least 1, got 0"),
        (["learner.gamma=0.9", "learner.nsteps=2"], "did you mean learner.n_step?"),
        (["learner.gamma"], "expected KEY=VALUE"),
        (["learner.gamma=0.9", "learner.batch_size=2000000000000"], "learner.batch_size: expected"),
    ],
)
def test_changes_are_applied_all_or_none(
    server: Running, capsys: Any, words: list[str], message: str
) -> None:
    before = server.supervisor.config, lines(server, "changes"), of_run(server)
    assert cli.main(["set", "--run", str(server.folder.path), *words]) == 2
    assert message in capsys.readouterr().err
    assert (server.supervisor.config, lines(server, "changes"), of_run(server)) == before


@pytest.mark.promise("change-unrecorded")
def test_change_that_cannot_be_recorded_is_not_made(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = server.supervisor.config, of_run(server)
    monkeypatch.setattr(run_directory, "append_lines", full)
    with pytest.raises(ConfigError, match="nothing was changed"):
        change(server, {"learner.gamma": 0.9})
    assert (server.supervisor.config, of_run(server)) == before


def test_change_to_the_same_value_is_not_recorded(server: Running, capsys: Any) -> None:
    before = lines(server, "changes")
    assert cli.main(["set", "--run", str(server.folder.path), "learner.gamma=0.99"]) == 0
    assert capsys.readouterr().out.startswith("nothing to change")
    assert lines(server, "changes") == before


def test_unknown_request_is_refused(server: Running) -> None:
    for request in ({"get": {}}, {"set": 1}, [], {"set": {}, "more": 1}):
        assert "expected" in ask(server.folder.path, request)["error"]
    assert ask(server.folder.path, {"set": {}}) == {"changes": []}


def test_set_without_server_says_so(tmp_path: Path, capsys: Any) -> None:
    assert cli.main(["set", "--run", str(tmp_path), "learner.gamma=0.9"]) == 1
    assert f"no server is running for {tmp_path}" in capsys.readouterr().err


def test_unwise_settings_cause_a_warning(server: Running) -> None:
    """From the start, and when it is set; `applies_to` was td from the start here."""

    def warned() -> tuple[int, list[str]]:
        """Lines about it in the log, and what holds, in a row that came after all this."""
        row = server.wait_rows()
        shown = [each["id"] for each in server.supervisor.status.state()["warnings"]]
        assert row["warnings"] == len(shown)
        return server.log().count("known to stop learning"), shown

    said, shown = warned()
    assert said >= 1, "once, and again after a minute: the tests before take as long as they do"
    assert shown == ["weights_on_td"]
    change(server, {"advantage.mode": "off"})
    change(server, {"learner.gamma": 0.98})
    assert warned() == (said, [])
    change(server, {"advantage.mode": "per_actor"})
    assert warned() == (said + 1, ["weights_on_td"])
    change(server, {"learner.gamma": 0.97})
    assert warned() == (said + 1, ["weights_on_td"])


# Going on.


def test_resumed_run_remembers_settings_evaluations_and_best(tmp_path: Path) -> None:
    """Its settings, its evaluations, how far the expert has handed over, and its best network."""
    path = tmp_path / "run"
    with Running(path) as first:
        play(first, 50)
        evaluate(first, [0.0] * 4, [100.0] * 4)
        evaluate(first, [75.0] * 4, [])
        first.until(lambda: best_of(first) == 75.0, "the best network is kept")
        change(first, {"expert.ratio": 1.0, "expert.decay": "evaluation"})
        change(first, {"expert.ratio.end": 0.0, "learner.n_step": 7})
    (path / "evaluations.jsonl").write_text(
        (path / "evaluations.jsonl").read_text() + '{"time": 1.5, "fra'
    )
    kept = config_of_run(path)
    assert (kept.learner.n_step, kept.expert.decay) == (7, "evaluation")
    changed = {"expert__ratio": kept.expert.ratio.model_dump(), "expert__decay": kept.expert.decay}
    with Running(path, resume=True, **changed) as second:
        second.until(lambda: second.supervisor.frames == 49, "the trainer has read it", 50.0)
        second.until_row(eval_return_mean=75.0, eval_return_best=75.0, expert_return_mean=100.0)
        second.until_row(expert_ratio=0.25)
        assert "evaluations.jsonl, line 3:" in second.log()
        assert change(second, {"learner.n_step": 8}) == ["learner.n_step: 3 -> 8"]
        assert lines(second, "changes")[-1]["frames"] == 49
        (path / "evaluations.jsonl").write_text(
            "".join((path / "evaluations.jsonl").read_text().splitlines(keepends=True)[:2])
            + '{"half a line'
        )
        with second.folder.evaluations.open("rb") as file:
            assert not file.read().endswith(b"\n")
        clients = [RawClient(second.port).welcome(role="eval") for _ in range(2)]
        for client in clients:
            episode(client, 60.0, episode(client, 60.0))
            client.close()
        second.until_row(eval_return_mean=60.0, eval_return_best=75.0, expert_ratio=0.4)
        assert best_of(second) == 75.0
        # On a line of its own, behind what was left of the last one.
        last = second.folder.evaluations.read_text().splitlines()[-1]
        assert json.loads(last)["mean"] == 60.0

"""A start on a cluster: what actors are told first, and what is refused in words."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from config.load import ConfigError, config_from
from server.commands import cluster as command
from server.run.directory import RunDirectory
from server.trainer.task import Task
from tests.support.without_ray import RayError, played_ray
from tests.support.worlds import SPEC

TWO = [
    {"NodeManagerAddress": f"10.0.0.{n}", "Alive": True, "Resources": {"CPU": 4.0}} for n in (1, 2)
]


@pytest.fixture
def played() -> Iterator[tuple[Any, Any]]:
    with played_ray() as found:
        yield found


@pytest.mark.usefixtures("played")
def test_actors_are_told_of_the_run_by_its_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their working directory is another one."""
    monkeypatch.chdir(tmp_path)
    config = config_from({"run.dir": "runs/first"})
    folder = RunDirectory.open(config, resume=False)
    processes = importlib.import_module("server.cluster.processes")
    made = processes.ClusterProcesses(
        MagicMock(), config, folder, Task(), MagicMock(), lambda _: None
    )
    setup = made._setup(0, 0)[0]
    folder.close()
    assert setup.folder == str(tmp_path / "runs" / "first")


class Played:
    """A cluster of two machines, and a server whose Ray asks for a token."""

    def __init__(self, ray: Any, actors: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RAY_AUTH_MODE", "token")
        self.ray, self.monkeypatch = ray, monkeypatch
        ray.nodes.return_value = TWO
        ray.wait.side_effect = lambda asked, **_: (asked, [])
        ray.get.side_effect = lambda asked, **_: self.answers(asked)
        self.tokens = [("10.0.0.1", True), ("10.0.0.2", True)]
        self.cluster = actors.Cluster("auto")

    def answers(self, asked: Any) -> Any:
        return self.tokens if isinstance(asked, list) else None

    def place(self) -> None:
        self.cluster.place(config_from({}), "run")

    def measure(self) -> None:
        self.cluster.measure(config_from({"cluster.learners": 2}), SPEC)


@pytest.fixture
def cluster(played: Any, monkeypatch: pytest.MonkeyPatch) -> Played:
    return Played(*played, monkeypatch)


@pytest.mark.parametrize("use", [Played.place, Played.measure])
def test_cluster_that_strangers_may_use_is_refused_for_serving_and_for_measuring(
    cluster: Played, use: Any
) -> None:
    cluster.tokens[1] = "10.0.0.2", False
    with pytest.raises(ConfigError, match=r"no token at 10\.0\.0\.2:"):
        use(cluster)
    cluster.monkeypatch.delenv("RAY_AUTH_MODE")
    made = cluster.ray.remote.call_count
    with pytest.raises(ConfigError, match="no token at this server:"):
        use(cluster)
    assert cluster.ray.remote.call_count == made, "nothing is made there"


def test_node_that_cannot_start_an_actor_is_a_refusal_in_words(
    cluster: Played,
) -> None:
    def fail(asked: Any) -> Any:
        if isinstance(asked, list):
            raise RayError("The actor died\n  trace\nModuleNotFoundError: No module named 'server'")

    cluster.answers = fail  # type: ignore[method-assign]
    with pytest.raises(ConfigError, match="No module named 'server'; install the same versions"):
        cluster.place()


def test_node_that_does_not_say_whether_it_asks_for_a_token_is_waited_for_and_refused(
    cluster: Played,
) -> None:
    cluster.ray.wait.side_effect = lambda asked, **_: (asked[:1], asked[1:])
    with pytest.raises(ConfigError, match=r"within cluster.start_timeout_s = \d+ s, 1 did not"):
        cluster.place()


def test_cluster_whose_nodes_all_ask_for_a_token_is_used(cluster: Played) -> None:
    cluster.place()


def test_measuring_is_told_that_a_cluster_without_a_token_is_meant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measured = MagicMock()
    monkeypatch.setattr("server.cluster.start.measure_learners", measured)
    monkeypatch.setattr(command, "config_of_run", lambda _: config_from({}))
    monkeypatch.setattr(command, "game_of", lambda _: SPEC)
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    for more in ([], ["--cluster.insecure"]):
        command._measured(parser.parse_args(["measure", "--run", "r", *more]))
    first, second = (call.args[1].cluster.insecure for call in measured.call_args_list)
    assert (first, second) == (False, True)

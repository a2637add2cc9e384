"""The server on a Ray cluster: gateways and learners on its nodes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from lab.ray_nodes import ADDRESS, BIN, RayNodes
from tests.support.ray_cluster import ray_cluster
from tests.support.run_folders import make_run

pytestmark = pytest.mark.timeout(900)


GIVEN_UP = "cut a link for 20 s"
"""Longer than Ray waits for a node of this cluster."""

LOSSES = ["kill a gateway", "stop a learner", GIVEN_UP, "lose a node", "kill the head"]
"""The driver is killed with the head."""

NO_LOSSES = ["cut a link for 5 s", "drain a node"]
"""Nobody dies."""


NOTHING = {
    "mismatches": 0,
    "holes": 0,
    "doubled": 0,
    "missing": 0,
    "said_in_flight": 0,
    "unfinished": 0,
    "damages": 0,
    "restarts": 0,
}
"""Is wrong, lost, or was started again."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayNodes]:
    with ray_cluster() as running:
        yield running


def audited(cluster: RayNodes, **asked: Any) -> dict[str, Any]:
    """What an audit on the cluster found."""
    text = cluster.run(
        sys.executable, "-m", "tests.support.cluster_audit", ADDRESS, json.dumps(asked),
        timeout_s=400.0,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(text.strip().splitlines()[-1])
    return found


def survived(cluster: RayNodes, events: Sequence[str]) -> dict[str, Any]:
    """What was found after these incidents, one after the other."""
    text = cluster.run(
        sys.executable, "-m", "server", "chaos", "--cluster", ADDRESS, "--minutes", "0.01",
        "--players", "2", "--events", ",".join(events), "--json", timeout_s=800.0,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(text.strip().splitlines()[-1])
    assert found["by_event"] == dict.fromkeys(events, 1)
    assert found["steps"] > 100
    return found


@pytest.mark.promise("cluster-tags", "cluster-kill-learner")
def test_learner_of_two_is_killed_and_every_row_is_there_once(cluster: RayNodes) -> None:
    found = audited(cluster, steps=800, nodes=2, learners=2, kill={"0.3": "ShardActor"})
    assert found["killed"] == ["ShardActor"]
    assert (found["mismatches"], found["missing"], found["doubled"]) == (0, 0, 0)
    assert found["compared"] >= 800
    assert found["batch_compared"] > 0, "they have learnt"


@pytest.mark.promise("cluster-kill-node")
def test_gateway_node_is_killed_and_what_is_missing_was_counted(cluster: RayNodes) -> None:
    found = audited(cluster, steps=800, nodes=1, learners=1, kill={"0.3": "NodeActor"})
    assert found["killed"] == ["NodeActor"]
    assert (found["mismatches"], found["doubled"]) == (0, 0)
    assert found["compared"] >= 800 - found["lost"]
    assert found["missing"] <= found["lost"]


@pytest.mark.promise(
    "cluster-kill-gateway", "cluster-hang", "cluster-lose-node", "cluster-kill-driver",
    "cluster-kill-head", "cluster-link-down", "cluster-chaos",
)  # fmt: skip
def test_processes_and_nodes_are_lost_and_every_step_is_accounted_for(cluster: RayNodes) -> None:
    found = survived(cluster, LOSSES)
    assert (found["mismatches"], found["holes"], found["doubled"]) == (0, 0, 0)
    assert found["missing"] <= found["said_in_flight"]
    assert found["unfinished"] > 0, "games were in play when all was killed"


@pytest.mark.promise("cluster-link", "cluster-drain")
def test_link_that_is_cut_and_node_that_is_drained_lose_nothing_at_all(cluster: RayNodes) -> None:
    found = survived(cluster, NO_LOSSES)
    assert {name: found[name] for name in NOTHING} == NOTHING


def test_cluster_without_room_is_refused_with_what_there_is(
    cluster: RayNodes, tmp_path: Path
) -> None:
    with pytest.raises(subprocess.CalledProcessError) as error:
        cluster.run(
            str(BIN / "understudy"), "serve", "--cluster", ADDRESS, "--cluster.gateways", "9",
            "--cluster.start_timeout_s", "3", "--run", str(tmp_path / "run"), "--port", "0",
        )  # fmt: skip
    assert error.value.returncode == 75
    assert "cluster.gateways: expected a cluster with room for 9 times 1 CPU" in error.value.output


def test_measure_says_whether_a_second_learner_pays_with_learners_on_both_nodes(
    cluster: RayNodes, tmp_path: Path
) -> None:
    settings = {"learner__hidden": [16], "learner__batch_size": 32, "trainer__device": "cpu"}
    run = make_run(tmp_path / "run", [], **settings)
    text = cluster.run(
        str(BIN / "understudy"), "cluster", "measure", "--cluster", ADDRESS, "--run", str(run),
        "--json",
    )  # fmt: skip
    found = json.loads(text.strip().splitlines()[-1])
    assert len(set(found["hosts"])) == 2
    assert found["pays"] == (found["costs"]["shared_s"] < found["costs"]["alone_s"])
    assert found["costs"]["rows"] == 32
    assert "an update of 32 rows takes" in found["sentence"]


def test_address_without_a_cluster_is_refused(tmp_path: Path) -> None:
    if find_spec("ray") is None:
        pytest.skip("install the extra cluster")
    command = (str(BIN / "understudy"), "serve", "--cluster", "127.0.0.1:1")
    run = ("--run", str(tmp_path / "run"))
    found = subprocess.run([*command, *run], capture_output=True, text=True)
    assert found.returncode == 75
    assert "expected a running Ray cluster, got none" in found.stderr


def test_actors_import_no_torch() -> None:
    if find_spec("ray") is None:
        pytest.skip("install the extra cluster")
    code = "import sys, server.cluster.actors; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_server_of_one_machine_needs_no_ray() -> None:
    code = (
        "import sys; sys.modules['ray'] = None\n"
        "import server.cli, server.commands.serve, server.supervisor.session, config.models\n"
        "assert 'server.cluster.actors' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

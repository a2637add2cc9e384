"""What an actor that was killed has left on its machine goes with its run's next start there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TypeVar

import pytest

from config.models import Config
from protocol.spaces import Discrete, GameSpec, Observation
from server.cluster import actor_folders, gateway_node, host
from server.cluster.actor_folders import folders, own_folder, remove_earlier
from server.cluster.crash_counters import read_left
from server.cluster.gateway_node import GatewayNode
from server.cluster.host import ProcessHost
from server.cluster.learner_shard import LearnerShard
from server.cluster.messages import Answered, Decide, Elsewhere, Setup, Start
from server.ipc import inflight, shared_memory
from server.ipc.step_ring import StepRing

SPEC = GameSpec("g", Observation("float32", (3,)), (Discrete("a", 2),))

SERVER = Config().server.model_copy(update={"ring_steps": 64})
Actor = TypeVar("Actor", bound=ProcessHost)

CONFIG = Config().model_copy(update={"server": SERVER})


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where folders are; in the end, what is left there goes."""
    monkeypatch.setattr(host.fork_server, "prepare", lambda: None)
    monkeypatch.setattr(actor_folders.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(gateway_node, "listen", lambda config: [None] * config.server.gateways)
    monkeypatch.setattr(GatewayNode, "stop_listening", lambda _: None)
    yield tmp_path
    for each in tmp_path.iterdir():
        shared_memory.remove_left(each)


def setup(launch: int) -> Setup:
    return Setup(CONFIG, "/run", launch)


def node(launch: int, number: int = 0) -> GatewayNode:
    return _with_game(GatewayNode(number, (number,), lambda _: None, lambda *_: None), launch)  # type: ignore[arg-type,return-value]


def learner(launch: int) -> LearnerShard:
    return _with_game(LearnerShard(0, (0, 1)), launch)


def _with_game(actor: Actor, launch: int) -> Actor:
    actor.setup = setup(launch)
    for order in (actor.setup, Decide(SPEC)):
        actor.carry_out(order)
    return actor


def killed(rings: Sequence[StepRing]) -> None:
    """The actor of these rings is: their names stay."""
    for ring in rings:
        resource_tracker.unregister(f"/{ring.name}", "shared_memory")
        ring.close()


def shared(folder: Path) -> list[Path]:
    """The shared memory that a folder names and that is there."""
    names = (folder / shared_memory.FILE).read_text().split()[1:]
    return [each for name in names if (each := Path("/dev/shm", name.lstrip("/"))).exists()]


def test_actor_that_ends_in_order_leaves_nothing(machine: Path) -> None:
    actors = [node(1), learner(1)]
    there = [file for folder in machine.iterdir() for file in shared(folder)]
    assert (len(list(machine.iterdir())), len(there)) == (2, 3)
    for actor in actors:
        actor.close()
    assert list(machine.iterdir()) == []
    assert not any(file.exists() for file in there)


def test_node_with_something_in_flight_leaves_it_to_the_next_start(machine: Path) -> None:
    ended = node(1)
    inflight.cells(own_folder("node", 0, setup(1)) / inflight.FILE, 0)[:] = 2, 1
    ended.close()
    (left,) = machine.iterdir()
    assert read_left(left) == {0: Answered(1, 0, 2, 1, 0)}


def test_what_killed_actors_of_earlier_starts_left_goes_once_it_is_counted(machine: Path) -> None:
    for actor in (node(1), node(1, number=5)):
        killed(list(actor._rings.values()))
    inbox = learner(1)._inbox
    assert inbox is not None
    killed(inbox.rings)
    of_node, of_other, of_learner = sorted(
        machine.iterdir(), key=lambda each: "learner" in each.name
    )
    files = [file for each in (of_node, of_other, of_learner) for file in shared(each)]
    assert len(files) == 4
    again = learner(2)
    assert not of_learner.exists()
    now = node(2)
    assert of_node.exists(), "the run has not begun: it may be asked again"
    assert of_other.exists()
    assert len(now._left) == 2
    now.carry_out(Elsewhere(0))
    assert [each for each in (of_node, of_other) if each.exists()] == []
    assert not any(file.exists() for file in files)
    assert {each.name.split("-")[3] for each in machine.iterdir()} == {"2"}, "those that run"
    now.close()
    again.close()
    assert list(machine.iterdir()) == []


def test_folders_that_an_actor_looks_through_are_of_its_run_alone(machine: Path) -> None:
    runs = ["/a/b", "/a-b", "/x/a/b", "/0/a/b", "/a/[b]", "/a/*"]
    made = {
        run: [own_folder("node", number, Setup(CONFIG, run, 3)) for number in (0, 1)]
        for run in runs
    }
    for run in runs:
        assert folders("node", Setup(CONFIG, run, 4)) == made[run]
        assert folders("learner", Setup(CONFIG, run, 4)) == []
    assert own_folder("node", 1, Setup(CONFIG, "/a/c/../b/", 3)) == made["/a/b"][1]
    remove_earlier("node", Setup(CONFIG, "/a/b", 3))
    assert len(list(machine.iterdir())) == 2 * len(runs), "of this start"
    remove_earlier("node", Setup(CONFIG, "/a/b", 4))
    assert len(list(machine.iterdir())) == 2 * len(runs) - 2


def test_node_notes_which_process_counts_before_it_starts() -> None:
    actor = node(1)
    own = own_folder("node", 0, setup(1))
    assert read_left(own) == {0: Answered(1, 0, 0, 0, 0)}
    inflight.cells(own / inflight.FILE, 0)[:] = 53, 4
    actor.started(Start("gateway-0", 2, CONFIG))
    assert read_left(own) == {0: Answered(1, 0, 0, 0, 2)}, "none of its ring, and none open"
    actor.close()

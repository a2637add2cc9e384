"""Which worker runs which tests, with workers that only note what they are sent."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.scheduler import SideBySide, tell_alone


class Worker:
    """What a scheduler knows of a process of pytest-xdist."""

    def __init__(self) -> None:
        self.sent: list[int] = []
        self.shutting_down = False
        self.gateway = SimpleNamespace(id="worker")

    def send_runtest_some(self, indices: list[int]) -> None:
        self.sent += indices

    def shutdown(self) -> None:
        self.shutting_down = True


def scheduled(tests: list[str], alone: list[str], workers: int) -> tuple[Any, list[Worker]]:
    """A scheduler that has just distributed these tests."""
    stored: dict[str, Any] = {}
    config: Any = SimpleNamespace(
        cache=SimpleNamespace(set=stored.__setitem__, get=stored.get),
        getvalue=lambda _name: [f"{workers}*popen"],
        option=SimpleNamespace(loadscopereorder=False),
    )
    tell_alone(config, alone)
    scheduler: Any = SideBySide(config)
    nodes = [Worker() for _ in range(workers)]
    for node in nodes:
        scheduler.add_node(node)
        scheduler.add_node_collection(node, tests)
    scheduler.schedule()
    return scheduler, nodes


def play_to_the_end(scheduler: Any, nodes: list[Worker]) -> list[list[int]]:
    """Have the workers run what they are sent, in turns; per round, what ran beside each other."""
    done = {id(node): 0 for node in nodes}
    living, rounds = list(nodes), []
    while living:
        before = len(living), sum(done.values())
        running = []
        for node in list(living):
            at = done[id(node)]
            if at + 1 < len(node.sent) or (node.shutting_down and at < len(node.sent)):
                running.append(node.sent[at])
                done[id(node)] += 1
                scheduler.mark_test_complete(node, node.sent[at])
            elif node.shutting_down:
                living.remove(node)
                if node in scheduler.nodes:
                    assert scheduler.remove_node(node) is None
        rounds.append(running)
        assert before != (len(living), sum(done.values())), "the workers wait for each other"
    return rounds


def test_tests_of_one_file_run_on_one_worker() -> None:
    tests = [f"tests/e2e/test_{file}.py::test_{i}" for file in "abc" for i in range(4)]
    scheduler, nodes = scheduled(tests, [], 2)
    play_to_the_end(scheduler, nodes)
    assert sorted(nodes[0].sent + nodes[1].sent) == list(range(12))
    for start in (0, 4, 8):
        assert sum({*range(start, start + 4)} <= set(node.sent) for node in nodes) == 1


def test_unit_tests_of_one_file_run_on_all_workers() -> None:
    tests = [f"tests/unit/test_a.py::test_{i}" for i in range(8)]
    scheduler, nodes = scheduled(tests, [], 2)
    play_to_the_end(scheduler, nodes)
    assert [len(node.sent) for node in nodes] == [4, 4]


def test_tests_marked_alone_run_last_and_beside_nothing() -> None:
    tests = [f"tests/e2e/test_{file}.py::test_{i}" for file in "abc" for i in range(3)]
    for alone in ([0, 4], [8], list(range(9))):
        for workers in (1, 2, 3, 4):
            scheduler, nodes = scheduled(tests, [tests[i] for i in alone], workers)
            rounds = play_to_the_end(scheduler, nodes)
            ran = [index for running in rounds for index in running]
            assert sorted(ran) == list(range(9))
            assert set(ran[len(ran) - len(alone) :]) == set(alone)
            assert all(len(running) == 1 for running in rounds if set(running) & set(alone))


def test_unit_test_that_fails_does_not_run_again(request: pytest.FixtureRequest) -> None:
    """It waits for nobody: where it fails, something is broken."""
    assert request.node.get_closest_marker("flaky") is None

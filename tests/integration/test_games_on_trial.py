"""Games that the arithmetic lets through, and that the trainer then cannot begin."""

from __future__ import annotations

import multiprocessing
import resource
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent import game_memory
from config.load import ConfigError, config_from
from config.passing import LATER, exit_code
from protocol.spaces import GameSpec, Observation
from server.ipc.heartbeat import Heartbeat
from server.ipc.messages import GameDecided, ProcessFailed
from server.ipc.shared_memory import FILE
from server.supervisor.session import running
from server.supervisor.supervisor import Supervisor
from server.trainer import device_memory
from server.trainer import process as trainer_process
from server.trainer.task import Task
from tests.support import failing_trainer
from tests.support.folders import begun
from tests.support.photograph import differences, photograph
from tests.support.processes import living_memory
from tests.support.running import RawClient, Running, hello_fields
from tests.support.trainer import config_with
from tests.support.worlds import SPEC

pytestmark = [pytest.mark.timeout(180), pytest.mark.promise("game-on-trial")]


def game(name: str) -> GameSpec:
    return msgspec.structs.replace(SPEC, game=name).checked()


def refusal(server: Running, name: str) -> tuple[str, str, bool]:
    """What a client is told that comes with a game of this name."""
    with RawClient(server.port, timeout_s=90) as client:
        client.send([1, hello_fields(game(name))])
        return client.refusal()


def test_trainer_that_fails_before_it_is_ready_refuses_that_game_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.supervisor.entry_points.trainer", failing_trainer.main)
    # More than one loss of the trainer would end this server.
    with Running(tmp_path / "run", supervision__max_restarts=0) as server:

        def expect(name: str, code: str, *said: str) -> None:
            rings: list[str] = []
            server.supervisor._processes.trainer.send = spied(rings, server)  # type: ignore[method-assign]
            got, text, retry = refusal(server, name)
            assert (got, retry) == (code, code == "too_many_attempts"), text
            assert all(each in text for each in said), text
            assert not living_memory([*rings, *(f"{ring}_weights" for ring in rings)])
            assert server.error is None
            assert not (server.folder.path / "game.json").exists()
            assert not (server.folder.path / FILE).exists()
            assert not list(server.folder.path.glob("replay/*.rows"))

        memory = "server has memory for", "operator may lower", "give the server more memory"
        expect("memory", "bad_hello", "Unable to allocate 15 GiB", *memory)
        expect("killed", "bad_hello", "killed by SIGKILL", *memory)
        # The same one is not tried again; one that nobody has seen is not tried just now.
        expect("memory", "bad_hello", "found out before", *memory)
        expect("bus", "bad_hello", "killed by SIGBUS", *memory)
        expect("test", "too_many_attempts", "tries no other one for", "retry then")
        server.supervisor._game._trials._failed.clear()
        expect("disk", "too_many_attempts", "retry later")
        expect("broken", "bad_hello", "server's log says why")
        assert server.row["restarts_trainer"] == 0
        with RawClient(server.port, timeout_s=90).welcome() as client:
            client.frame(0)
            client.frame(1)
            server.until(lambda: server.folder.game() == SPEC, "the game is written down")
        assert server.settle()["steps_stored"] == 1
        events = (server.folder.path / "events.jsonl").read_text()
        assert events.count('"game_refused"') == 5
        assert events.count('"process_started", "process": "trainer"') == 1 + 5


def test_game_that_the_process_limits_leave_no_memory_for_is_refused(tmp_path: Path) -> None:
    """As with ulimit -v. The arithmetic knows nothing of this one, which the trainer alone has."""
    spec = GameSpec("large", Observation("float32", (4000,)), SPEC.actions).checked()
    # Training begins with so many steps, so they are kept whatever is free.
    steps = {"trainer__min_steps": 600_000, "replay__capacity_steps": 600_000}
    with Running(tmp_path / "run", server__max_game_bytes=2**40, **steps) as server:
        limit = 8 * 2**30
        resource.prlimit(server.pid("trainer"), resource.RLIMIT_AS, (limit, limit))
        with RawClient(server.port, timeout_s=90) as client:
            client.send([1, hello_fields(spec)])
            code, text, retry = client.refusal()
        assert (code, retry) == ("bad_hello", False)
        assert "Unable to allocate 8.94 GiB" in text
        steps = "is that of replay.capacity_steps and trainer.min_steps (600,000)"
        assert f"{steps}, which the server's operator may lower" in text
        assert server.folder.game() is None
        with RawClient(server.port, timeout_s=90).welcome() as client:
            client.frame(0)
            server.until(lambda: server.folder.game() == SPEC, "the game is written down")
        server.settle()


def spied(rings: list[str], server: Running) -> Any:
    """`Child.send`, which notes the rings of the game that is decided."""
    trainer = server.supervisor._processes.trainer

    def send(message: Any) -> None:
        if isinstance(message, GameDecided):
            rings.extend(message.rings)
        type(trainer).send(trainer, message)

    return send


@pytest.mark.parametrize("way", failing_trainer.WAYS)
def test_trainer_says_whether_memory_or_the_system_was_the_cause(way: str) -> None:
    error = failing_trainer.WAYS[way]
    if isinstance(error, Exception):
        expected = {"disk": "system", "broken": ""}.get(way, "memory")
        assert trainer_process._cause(error) == expected
        assert trainer_process._short(error)


def poll_for_ever(supervisor: Supervisor) -> None:
    while True:
        supervisor.poll()


@pytest.mark.promise("refused-start")
def test_resumed_run_without_memory_for_its_game_says_what_to_lower(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the operator's game: the start is refused, and the folder stays as it was."""
    monkeypatch.setattr("server.supervisor.entry_points.trainer", failing_trainer.main)
    config = config_with(run__dir=str(tmp_path / "run"), server__port=0, server__http_port=None)
    folder = begun(config)
    folder.keep_game(game("torch"))
    folder.close()
    before = photograph(tmp_path)
    with running(config, Task(resume=True)) as supervisor, pytest.raises(ConfigError) as error:
        poll_for_ever(supervisor)
    assert differences(before, photograph(tmp_path)) == []
    assert exit_code(error.value) == LATER, "there may be memory later"
    assert "can't allocate memory: 8000 bytes)" in str(error.value)
    assert "is that of replay.capacity_steps, which the server's operator may lower" in str(
        error.value
    )


# Devices.


@pytest.mark.parametrize(
    ("trains", "stores", "setting"),
    [("cpu", "cuda:0", "replay.capacity_steps"), ("cuda:0", "cpu", "learner.hidden"),
     ("cuda:0", "cuda:0", "replay.capacity_steps"), ("cuda:0", "cuda:1", "learner.hidden")],
)  # fmt: skip
def test_game_beyond_a_devices_memory_is_refused_before_any_is_taken(
    trains: str, stores: str, setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(game_memory, "device_name", lambda name, _field: name)
    config = config_from({"trainer.device": trains, "replay.device": stores})
    spec = GameSpec("large", Observation("float32", (60_000,)), SPEC.actions).checked()
    needed = game_memory.device_bytes(spec, config)
    assert set(needed) == {trains, stores} - {"cpu"}
    device = trains if setting == "learner.hidden" else stores
    total = sum(needed[device].values())

    def memory_of(name: str) -> tuple[int, int]:
        return (total - 1, 2**40) if name == device else (2**50, 2**50)

    with pytest.raises(MemoryError) as error:
        device_memory.check(spec, config, memory_of)
    assert f"on {device}" in str(error.value)
    assert f"is that of {setting}: lower it" in str(error.value)
    device_memory.check(spec, config, lambda _: (2**50, 2**50))


def test_gateways_take_memory_of_their_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """They open when the trainer has what it needs, which must leave them some."""
    monkeypatch.setattr(game_memory, "device_name", lambda name, _field: name)
    config = config_from({"trainer.device": "cpu", "server.device": "cuda:0", "server.gateways": 2})
    (parts,) = game_memory.device_bytes(SPEC, config).values()
    assert list(parts) == ["server.gateways"]
    assert parts["server.gateways"] > 2**29


def test_game_without_a_cuda_device_asks_none_for_its_memory() -> None:
    def memory_of(device: str) -> tuple[int, int]:
        raise AssertionError(device)

    device_memory.check(SPEC, config_with(trainer__device="cpu"), memory_of)


def test_trainer_asks_the_devices_before_it_takes_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_memory, "device_bytes", lambda *_: {"cuda:7": {"x": 2}})
    monkeypatch.setattr(device_memory.check, "__defaults__", (lambda _: (1, 1),))
    monkeypatch.setattr(trainer_process, "Trainer", None)
    ours, theirs = multiprocessing.Pipe()
    theirs.send(GameDecided(SPEC, ()))
    monkeypatch.setattr(trainer_process, "log_to_pipe", lambda *_: None)
    monkeypatch.setattr(trainer_process.signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit):
        trainer_process.main(config_with(trainer__nice=0), ours, Heartbeat(), tmp_path, Task())
    failed = theirs.recv()
    assert isinstance(failed, ProcessFailed)
    assert failed.cause == "memory"
    assert "expected at most 1 bytes on cuda:7" in failed.text

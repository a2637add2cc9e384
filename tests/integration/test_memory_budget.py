"""What clients can make the server hold, bounded in total."""

from __future__ import annotations

import contextlib
import mmap
import resource
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent import game_memory
from agent.game_memory import fitted, step_bytes
from agent.looks import looks
from agent.memory_limits import memory_bytes
from config.load import config_from
from config.models import Config
from protocol.spaces import Continuous, Discrete, GameSpec, Observation
from server.gateway.slot_memory import slot_bytes
from server.supervisor.memory_budget import game_bytes, refusal
from server.trainer.first_words import say_capacity, say_looks
from tests.support.dotted import dotted
from tests.support.frame_loop import World
from tests.support.running import Bystander, RawClient, Running, hello_fields
from tests.support.worlds import PIXELS, SPEC


def config_with(**changes: Any) -> Config:
    return config_from(dotted(changes))


# Games.

PONG = GameSpec("pong", Observation("uint8", (210, 160, 3)), (Discrete("a", 6),)).checked()


def spec_of(size: int = 3, choices: int = 4, heads: int = 1, columns: int = 1) -> GameSpec:
    actions: list[Any] = [Discrete(f"d{i}", choices) for i in range(heads)]
    actions.append(Continuous("c", -1, 1, columns))
    return GameSpec("g", Observation("float32", (size,)), tuple(actions)).checked()


@pytest.mark.parametrize(
    ("spec", "setting"),
    [
        (spec_of(size=10_000_000), "server.ring_steps"),
        (spec_of(choices=2**24, heads=63), "learner.hidden"),
    ],
)
def test_game_over_the_memory_budget_is_refused_naming_the_largest_part(
    spec: GameSpec, setting: str
) -> None:
    config = config_with(server__max_game_bytes=2**33)
    text = refusal(spec, config)
    assert text is not None
    assert "expected a game that takes at most 8,192 MiB here" in text
    assert f"is that of {setting}, which the server's operator may lower" in text


def test_games_of_usual_size_fit_the_memory_budget() -> None:
    config = config_with(server__max_game_bytes=2**34)
    for spec in (SPEC, PIXELS, spec_of(size=195)):
        assert refusal(spec, config) is None
    pong = GameSpec("pong", Observation("uint8", (84, 84)), (Discrete("a", 6),)).checked()
    assert refusal(pong, config) is None


def test_replay_keeps_what_fits_into_its_share_of_free_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def steps(free: int, spec: GameSpec = PONG, **settings: Any) -> int:
        monkeypatch.setattr(game_memory, "free_bytes", lambda: free)
        return fitted(spec, config_with(**settings)).replay.capacity_steps

    # 210 x 160 pixels in color take 95 GiB for a million steps.
    each = step_bytes(PONG, config_with())
    assert 100_800 < each < 100_900
    assert steps(2**40, server__max_game_bytes=2**40) == 1_000_000
    assert steps(2**34) == 2**33 // each
    assert steps(2**34, replay__memory_share=0.25) == 2**32 // each
    assert steps(2**34, replay__capacity_steps=5000) == 5000
    assert steps(2**34, SPEC) == 1_000_000
    # Training begins with at least these; whether there is memory for them is asked elsewhere.
    assert steps(0) == config_with().trainer.min_steps
    # What the operator allows, less what all the rest takes.
    less = steps(2**40, server__max_game_bytes=2**33, server__ring_steps=1024)
    assert 0.8 * 2**33 // each < less < 2**33 // each
    assert refusal(PONG, config_with(server__max_game_bytes=2**33)) is None


def test_replay_on_a_device_keeps_what_fits_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(game_memory, "device_name", lambda name, _field: name)
    config = config_with(replay__device="cuda:1", trainer__device="cpu")
    asked: list[str] = []

    def memory_of(device: str) -> tuple[int, int]:
        asked.append(device)
        return 2**33, 2**34

    found = fitted(PONG, config, memory_of)
    assert found.replay.capacity_steps == 2**32 // step_bytes(PONG, config)
    assert asked == ["cuda:1"]
    assert fitted(PONG, config) == config


def test_trainer_says_what_it_sees_and_how_many_steps_it_keeps(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    table = Observation("float32", (4, 20, 20), "table")
    spec = GameSpec("g", (PONG.observations[0], table), PONG.actions)
    asked = config_with()
    say_looks(looks(spec, asked.learner, 1))
    say_capacity(PONG, asked, config_with(replay__capacity_steps=80_000))
    pong, seen, warned, keeps = [record.getMessage() for record in caplog.records]
    assert pong == (
        "sees observation uint8 [210, 160, 3]: picture, 210 high, 160 wide, channels 3, "
        "0 to 255 shown as 0 to 1"
    )
    assert seen == "sees table float32 [4, 20, 20]: 1600 numbers"
    assert "observation table has 3 sides and goes to plain layers" in warned
    assert keeps.startswith("the replay keeps 80,000 steps of 98 KiB, what fits into 0.5 of the")
    caplog.clear()
    say_capacity(PONG, asked, asked)
    assert caplog.messages == ["the replay keeps 1,000,000 steps of 98 KiB"]


def test_memory_of_a_game_grows_with_the_settings() -> None:
    less = game_bytes(SPEC, config_with())
    more = game_bytes(
        SPEC,
        config_with(
            server__ring_steps=32_768, replay__capacity_steps=2_000_000, learner__hidden=[1024]
        ),
    )
    for name in ("server.ring_steps", "replay.capacity_steps"):
        assert more[name] == pytest.approx(2 * less[name], rel=0.01)


def test_memory_budget_without_limit_is_the_machines() -> None:
    huge = spec_of(size=memory_bytes() // 4)
    assert refusal(huge, config_with()) is not None


def test_single_slot_over_the_limit_is_refused() -> None:
    spec = spec_of(size=50_000)
    config = config_with(server__max_slot_bytes=2**20, replay__capacity_steps=2000)
    text = refusal(spec, config)
    assert text is not None
    assert "for each slot" in text
    assert "server.max_slot_bytes" in text


# Slots.


@pytest.mark.promise("slots-over-memory")
def test_slots_over_the_memory_limit_are_refused(tmp_path: Path) -> None:
    most = 2**17 // slot_bytes(SPEC)
    with Running(tmp_path / "run", server__max_slot_bytes=2**17) as server:
        first = Bystander(server.port)
        try:
            with first.undisturbed(), RawClient(server.port, 60) as client:
                client.send([1, hello_fields(slots=most + 1)])
                code, text, retry = client.refusal()
                assert (code, retry) == ("bad_hello", False)
                assert f"expected at most {most - 1}, got {most + 1}" in text
                assert "raise server.max_slot_bytes" in text
            with RawClient(server.port, 60) as client:
                client.welcome(slots=most - 1)
                with RawClient(server.port, 60) as other:
                    other.send([1, hello_fields()])
                    code, text, retry = other.refusal()
                assert (code, retry) == ("too_many_clients", True)
                assert "retry later" in text
                client.frame(0, slot=most - 2)
            deadline = time.monotonic() + 60
            while True:  # the memory is there again once they have gone
                with RawClient(server.port, 60) as client:
                    client.send([1, hello_fields(slots=most - 1)])
                    if client.recv()[0] == 11:
                        break
                assert time.monotonic() < deadline
        finally:
            first.stop()
        server.settle()


@pytest.mark.promise("memory-returned")
def test_gateway_memory_shrinks_after_games_leave() -> None:
    world = World(frame_stack=3)
    stays = world.player()
    stays.frame(1.0)
    world.run()
    crowd = [world.player(slots=500) for _ in range(4)]
    for player in crowd:
        player.frames([1.0] * 500, [0.0] * 500, [0] * 500)
    world.run()
    turn = world.frame_loop
    held = [turn.table, turn._batch, turn._stacks]
    pending_steps = turn._steps._pending_steps._block
    assert turn.table.high_water == 2001
    assert turn._batch.obs[1999].any()
    for player in crowd:
        player.leave()
    world.run()
    assert turn.table.high_water == 1
    # What was given back is zero again: nobody has written there since.
    for holder in held:
        assert holder is not None
        for name, array in vars(holder).items():
            if isinstance(array, np.ndarray) and array.size and name != "_order":
                # A page is kept whole.
                beyond = 1 + mmap.PAGESIZE // (array.nbytes // len(array))
                assert not array[beyond:].any(), (type(holder).__name__, name)
    assert not pending_steps.stream.any()
    # Who stayed plays on, and what was played before is completed.
    stays.frame(2.0, reward=5.0)
    world.run()
    (step,) = [row for row in world.rows() if row["stream"] == stays.streams[0]]
    assert (step["obs"][0], step["reward"]) == (1.0, 5.0)
    again = world.player(slots=100)
    again.frames([3.0] * 100, [0.0] * 100, [0] * 100)
    world.run()
    assert len(again.answers) == 1


# File descriptors.


@pytest.mark.timeout(180)
@pytest.mark.promise("out-of-descriptors")
def test_gateway_out_of_file_descriptors_keeps_serving(tmp_path: Path) -> None:
    with Running(tmp_path / "run") as server:
        game = Bystander(server.port)
        pid = server.pid("gateway-0")
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        used = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 10, before[1]))
        try:
            with game.undisturbed(), contextlib.ExitStack() as many:
                for _ in range(40):
                    sock = many.enter_context(socket.socket())
                    sock.connect(("127.0.0.1", server.port))  # the system accepts more than we do
                time.sleep(0.5)
                with game.undisturbed():
                    assert server.pid("gateway-0") == pid
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
            with RawClient(server.port, 60) as client:
                client.welcome().frame(0)
        finally:
            game.stop()
        assert server.error is None
        server.settle()

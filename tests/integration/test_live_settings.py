"""Each live setting is changed in a running server, and the process that it is for uses it.

That a process uses a setting shows in what it reads (`tests.support.settings_spy`): it must read
the new value from the configuration that it was sent. What the metrics show, they must show.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from config.fields import all_settings, flat
from server.supervisor import entry_points
from tests.support import settings_spy
from tests.support.running import Bystander, Running
from tests.support.settings_spy import GATEWAY, REPLAY, TRAINER
from tests.support.tempest_client import TempestClient

pytestmark = pytest.mark.timeout(180)

# One after the other: a value that makes another setting count comes before that one, and one that
# takes a setting out of use behind it.
VALUES: list[tuple[str, str, Any]] = [
    (GATEWAY, "expert.ratio.start", 0.75),
    (GATEWAY, "expert.ratio.end", 0.25),
    (GATEWAY, "expert.ratio.hold", 2_000_000),
    (GATEWAY, "expert.ratio.frames", 3_000_000),
    (GATEWAY, "expert.unit", "segment"),
    (GATEWAY, "expert.segment_frames", 7),
    (GATEWAY, "expert.plugin", "tests.support.failing_expert:act"),
    (GATEWAY, "expert.decay", "evaluation"),
    (GATEWAY, "exploration.epsilon.start", 0.75),
    (GATEWAY, "exploration.epsilon.end", 0.25),
    (GATEWAY, "exploration.epsilon.hold", 2_000_000),
    (GATEWAY, "exploration.epsilon.frames", 3_000_000),
    (GATEWAY, "exploration.noise.start", 0.75),
    (GATEWAY, "exploration.noise.end", 0.25),
    (GATEWAY, "exploration.noise.hold", 2_000_000),
    (GATEWAY, "exploration.noise.frames", 3_000_000),
    (GATEWAY, "reward.clip", 0.5),
    (TRAINER, "trainer.replay_ratio", 2.0),
    (TRAINER, "trainer.max_lag_updates", 30),
    (TRAINER, "checkpoint.every_s", 0.25),
    (TRAINER, "checkpoint.keep", 2),
    (TRAINER, "checkpoint.keep_every_updates", 1_000_000),
    (TRAINER, "learner.batch_size", 24),
    (GATEWAY, "evaluation.episode_frames", 12_345),
    (GATEWAY, "evaluation.episode_s", 123.5),
    (REPLAY, "learner.n_step", 5),
    (REPLAY, "learner.gamma", 0.875),
    (TRAINER, "learner.learning_rate", 0.0625),
    (TRAINER, "learner.target_tau", 0.25),
    (TRAINER, "imitation.expert.start", 0.75),
    (TRAINER, "imitation.expert.end", 0.25),
    (TRAINER, "imitation.expert.hold", 2_000_000),
    (TRAINER, "imitation.expert.frames", 3_000_000),
    (TRAINER, "imitation.decay", "schedule"),
    (TRAINER, "imitation.rows", "expert"),
    (TRAINER, "imitation.margin", 0.5),
    (TRAINER, "imitation.loss", "cross_entropy"),
    (TRAINER, "imitation.temperature", 2.0),
    (TRAINER, "imitation.taken", 0.5),
    (TRAINER, "advantage.signal", "return"),
    (TRAINER, "advantage.mode", "global"),
    (TRAINER, "advantage.beta", 0.75),
    (TRAINER, "advantage.clip", 2.0),
    (TRAINER, "advantage.weight_min", 0.25),
    (TRAINER, "advantage.weight_max", 50.0),
    (TRAINER, "advantage.normalize", True),
    (TRAINER, "advantage.applies_to", ["continuous", "td"]),
    (TRAINER, "advantage.actor_factor", {"dqn": 0.5}),
]  # fmt: skip

OLDER_CLIENTS: list[tuple[str, str, Any]] = [
    (GATEWAY, "tempest.zap_gate.start", 0.75),
    (GATEWAY, "tempest.zap_gate.end", 0.25),
    (GATEWAY, "tempest.zap_gate.hold", 2_000_000),
    (GATEWAY, "tempest.zap_gate.frames", 3_000_000),
]  # fmt: skip

SHOWN = {
    "expert.ratio.start": ("expert_ratio", 0.75),
    "exploration.epsilon.start": ("epsilon", 0.75),
    "learner.learning_rate": ("learning_rate", 0.0625),
}
"""Key -> a metric, and what it shows then. Schedules are held at their start by `HELD`."""

HELD = {"start": 0.5, "end": 0.05, "frames": 1_000_000, "hold": 1_000_000}


@pytest.fixture
def spied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of what processes that are started from now on read."""
    path = tmp_path / "reads"
    monkeypatch.setenv(settings_spy.FILE, str(path))
    monkeypatch.setattr(entry_points, "gateway", settings_spy.gateway_main)
    monkeypatch.setattr(entry_points, "trainer", settings_spy.trainer_main)
    return path


def unread(
    server: Running, spied: Path, values: list[tuple[str, str, Any]], play: Callable[[], None]
) -> list[str]:
    """Change these settings; those of which the process has not read the new value in time."""
    missed = []
    for process, key, value in values:
        before = flat(server.supervisor.config)[key]
        answer = server.do(partial(server.supervisor.controller.change, {key: value}, "test"))
        new = flat(server.supervisor.config)[key]
        assert ([change.key for change in answer], new == before) == ([key], False)
        read = (process, key, repr(new))
        try:
            server.until(lambda r=read: play() or r in settings_spy.reads(spied), key, 10.0)
        except AssertionError:
            missed.append(f"{key} in the {process}")
        if key in SHOWN:
            name, shown = SHOWN[key]
            server.until_row(**{name: shown})
    return missed


def test_values_cover_every_live_setting() -> None:
    live = [key for key, setting in all_settings().items() if setting.live]
    assert sorted(key for _, key, _ in VALUES + OLDER_CLIENTS) == sorted(live)


def test_changed_live_settings_are_used_by_their_process(tmp_path: Path, spied: Path) -> None:
    with Running(
        tmp_path / "run",
        expert__ratio=HELD,
        exploration__epsilon=HELD,
        exploration__noise=HELD,
        imitation__expert=HELD,
    ) as server:
        game = Bystander(server.port)
        try:
            server.until(lambda: server.row.get("updates", 0) > 0, "it learns", 50.0)
            assert unread(server, spied, VALUES, lambda: None) == []
        finally:
            game.stop()
    assert len(set(settings_spy.reads(spied))) > len(VALUES)


def test_changed_live_settings_of_older_clients_are_used(tmp_path: Path, spied: Path) -> None:
    older = {"tempest__port": 0, "tempest__zap_gate": HELD, "tempest__random_zaps": 1.0}
    with Running(tmp_path / "run", **older) as server:
        port = server.supervisor.tempest_port
        assert port is not None
        with TempestClient(port) as client:

            def play() -> None:
                assert client.frame([0.0] * 3) is not None

            play()  # the server is up
            assert unread(server, spied, OLDER_CLIENTS, play) == []

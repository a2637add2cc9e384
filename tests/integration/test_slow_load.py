"""A run that takes long to be loaded: it is not ready meanwhile, and it is not taken for hung."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from config.load import config_of_run
from server.run.directory import game_of
from server.run.events import read_events
from tests.support import slow_loading_trainer
from tests.support.running import RawClient, Running

GOLDEN = Path(__file__).parents[1] / "golden" / "run-before-11"


@pytest.mark.timeout(180)
@pytest.mark.usefixtures("no_leaks")
@pytest.mark.promise("ready-when-loaded")
@pytest.mark.promise("slow-load")
def test_run_that_loads_longer_than_the_hang_timeout_is_loaded_and_then_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its 300 rows take more than three seconds, and a process may be silent for two."""
    monkeypatch.setattr("server.supervisor.entry_points.trainer", slow_loading_trainer.main)
    run = tmp_path / "run"
    shutil.copytree(GOLDEN, run)
    config = config_of_run(run)
    hangs = config.supervision.model_copy(update={"hang_timeout_s": 2.0})
    config = config.model_copy(update={"supervision": hangs})
    spec = game_of(run)
    assert spec is not None
    with Running(run, resume=True, config=config) as server:
        supervisor = server.supervisor
        said: list[Any] = []

        def look() -> bool:
            said.append(supervisor.status.unready)
            return supervisor.status.ready

        assert supervisor.status.unready == "the run is being loaded"
        server.until(lambda: "rows of the replay" in supervisor.status.unready, "it reads", 60.0)
        server.until(look, "it is ready", 60.0)
        assert "the run is being loaded: 250 rows of the replay are read" in said
        assert supervisor.status.problem == ""
        client = RawClient(server.port, timeout_s=60.0)
        client.welcome(spec)
        # On a busy machine a gateway may be silent for longer, too.
        server.until(lambda: supervisor.status.unready == "", "all processes report", 60.0)
        server.until_row(30.0, buffer_total=288)
        assert server.row["restarts_trainer"] == 0
        names = [each["event"] for each in read_events(run)]
        assert names[-4:] == ["starting", "process_started", "process_started", "ready"]
        assert "the run is loaded: games can play" in server.log()
        client.sock.close()

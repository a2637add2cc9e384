"""A clock that jumps, forwards and back, under a server that plays."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.files import written_whole
from server.control.unix_socket import ask
from tests.support.running import client_for
from tests.support.serve import SMALL
from understudy_client import Client

pytestmark = pytest.mark.timeout(240)

CLOCK = Path(__file__).parents[1] / "support/clock"

DAY_S = 86_400


def play_until(client: Client, condition: Callable[[], Any], what: str) -> None:
    """Play on until this is true. A connection that is cut is an error (Reconnected)."""
    deadline = time.monotonic() + 60.0
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        client.act(np.ones(3), 1.0)
        time.sleep(0.001)


@pytest.mark.promise("clock-jump")
def test_clock_jump_is_logged_and_changes_nothing_else(
    serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, clock, config = tmp_path / "run", tmp_path / "clock", tmp_path / "small.toml"
    config.write_text(SMALL)

    def set_clock(seconds: int) -> None:
        with written_whole(clock) as file:
            file.write(str(seconds).encode())

    def rows() -> list[dict[str, Any]]:
        """All rows of metrics that are complete."""
        path = run / "metrics.jsonl"
        lines = path.read_text().split("\n")[:-1] if path.exists() else []
        return [json.loads(line) for line in lines]

    def jumps() -> list[str]:
        lines = (run / "understudy.log").read_text().splitlines()
        return [line for line in lines if "clock jumped by" in line]

    def asked_to_evaluate() -> int:
        """Have the games evaluate; the number by which they know that they have not yet."""
        before = client.settings.get("understudy.evaluate", 0)
        assert ask(run, {"evaluate": True})["ok"]
        play_until(
            client, lambda: client.settings.get("understudy.evaluate", 0) > before, "it is asked"
        )
        return int(client.settings["understudy.evaluate"])

    set_clock(0)
    paths = [str(CLOCK), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.setenv("CLOCK_FILE", str(clock))
    server = serve(
        "--config", str(config), "--run", str(run), "--server.http_port", "none",
        "--supervision.hang_timeout_s", "20", "--checkpoint.every_s", "1000", typed=True,
    )  # fmt: skip
    with client_for(server.port, timeout_s=60.0, evaluates=True) as client:
        session = client.session
        play_until(client, lambda: len(rows()) > 2 and rows()[-1].get("updates"), "it learns")
        asked_to_evaluate()
        for number, offset in enumerate((DAY_S, -DAY_S), 1):
            set_clock(offset)
            play_until(client, lambda n=number: len(jumps()) == n, "the jump is said")
            updates, n = rows()[-1]["updates"], len(rows())
            play_until(
                client,
                lambda u=updates, n=n: len(rows()) > n + 2 and rows()[-1]["updates"] > u,
                "it learns on",
            )
            asked_to_evaluate()
        assert client.session == session
    # A game that waits for training is not read from: its end is not seen at once.
    deadline = time.monotonic() + 60.0
    while rows()[-1]["clients"]:
        assert time.monotonic() < deadline, "waited in vain until the game's end is seen"
        time.sleep(0.01)
    server.stop()
    assert server.finish() == (0, "")
    forwards, back = jumps()
    assert f"the machine's clock jumped by +{DAY_S} s" in forwards
    assert f"the machine's clock jumped by -{2 * DAY_S} s" in back
    found = rows()
    times = [row["time"] for row in found]
    assert max(times) - min(times) > DAY_S, "the clock has jumped"
    rates = ("frames_per_s", "answers_per_s", "updates_per_s")
    assert min(row.get(name, 0) for row in found for name in rates) >= 0
    last = found[-1]
    assert last["restarts_gateway"] == last["restarts_trainer"] == last["errors"] == 0
    assert last["transitions_dropped"] == 0

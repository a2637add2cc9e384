"""A game with several observations against a server: played, learnt from, resumed, exported."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.support.running import RawClient, Running
from understudy_client import Client, Discrete, Observation, ServerError

SEEN = [
    Observation("uint8", (6, 6, 12), "camera", "picture", 0, 1),
    Observation("float32", (2,), "speed"),
    Observation("int64", (1,), "place", kind="choice", n=9),
]


def connect(server: Running, **changes: object) -> Client:
    options = {"client": "c/1", "game": "rover", "observation": SEEN, "slots": 2}
    options["actions"] = [Discrete("move", 3)]
    return Client.connect("127.0.0.1", server.port, **options | changes)  # type: ignore[arg-type]


def shown(number: int, slots: int = 2) -> dict[str, np.ndarray]:
    return {
        "camera": np.full((slots, 6, 6, 12), number % 2, np.uint8),
        "speed": np.full((slots, 2), number / 100, np.float32),
        "place": np.full((slots, 1), number % 9),
    }


def play(client: Client, frames: int) -> None:
    for number in range(frames):
        status = 1 if number % 20 == 19 else 0
        answers = client.act_all(shown(number), [1.0, 0.0], [status] * 2)
        assert answers.actions.shape == (2, 1)
    client.act_all(shown(0), [0.0, 0.0], [1, 1])


def refuses_a_choice_that_there_is_not(server: Running) -> None:
    """The project's client would not send it. Who plays beside it plays on."""
    code = "observation_out_of_range"
    declared = msgspec.to_builtins(SEEN)
    others = bytes(6 * 6 * 12 + 2 * 4)
    with connect(server) as beside, RawClient(server.port) as wild:
        beside.act_all(shown(0), [0, 0], [0, 0])
        wild.welcome(game="rover", observation=declared, actions=[["discrete", "move", 3]])
        assert wild.frame(0, others + np.int64(8).tobytes())[0] == 12
        wild.send([2, 0, 1, others + np.int64(9).tobytes(), 0.0, 0, None, None])
        got, message, _ = wild.refusal()
        assert (got, "expected choices from 0 to 8, got 9" in message) == (code, True), message
        beside.act_all(shown(1), [0, 0], [0, 0])
    server.until(lambda: server.row[f"errors_{code}"] == 1, "it is counted")
    server.until(lambda: f"{code}: " in server.log(), "it is in the log")


def test_game_of_several_observations_is_learnt_from_and_goes_on(tmp_path: Path) -> None:
    with Running(tmp_path / "run") as server:
        with connect(server) as client:
            play(client, 150)
            with pytest.raises(ValueError, match="obs 'place': expected choices that count from 0"):
                client.act_all(shown(0) | {"place": np.full((2, 1), 9)}, [0, 0], [0, 0])
            with pytest.raises(ValueError, match="expected a mapping with camera, speed, place"):
                client.act_all({"camera": 0}, [0, 0], [0, 0])
        with connect(server, slots=1) as client:
            one = {name: part[0] for name, part in shown(3, 1).items()}
            assert client.act(one).action is not None
        refuses_a_choice_that_there_is_not(server)
        with pytest.raises(ServerError, match=r"observation is .*, this run's is"):
            connect(server, observation=[*SEEN[:2], Observation("int64", (1,), "place")])
        server.until(lambda: server.row["updates"] > 10, "it learns", 60)
        assert "sees camera uint8 [6, 6, 12]: picture, 6 high, 6 wide, channels 12" in server.log()
        assert "sees place int64 [1]: 1 of 9 choices" in server.log()
        assert "the replay keeps 100,000 steps" in server.log()
    with Running(tmp_path / "run", resume=True) as server:
        with connect(server) as client:
            play(client, 5)
        server.until(lambda: server.row["buffer_total"] > 288, "the rows are there again", 60)

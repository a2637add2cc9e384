"""An expert of the server's own: asked where nobody else recommends anything, and harmless."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.decision import ActingParams
from protocol.messages import Frame
from protocol.spaces import Discrete, GameSpec, Observation
from protocol.tempest import HEADER, LEVELS, tempest_spec
from server.gateway.expert_plugin import ExpertPlugin, Situation, find
from server.gateway.tempest import TempestContext
from server.gateway.tempest_expert import knob, nearest_level, recommend
from server.ipc.messages import FinishedEpisode
from tests.support.frame_loop import EXPERT_ACTION, World
from tests.support.worlds import DQN, EXPERT, SPEC

ADVICE = [3.0, -0.25, 0.75]


class Expert:
    """A plugin that notes what it is asked, and says what it is told to."""

    def __init__(self, row: list[float] | None = None) -> None:
        self.row = ADVICE if row is None else row
        self.obs: list[Any] = []
        self.situations: list[Situation] = []
        self.error: Exception | None = None

    def __call__(self, obs: Any, situation: Situation) -> Any:
        self.obs.append(obs.copy())
        self.situations.append(situation)
        obs[:] = 99.0  # what it does to its arrays is its own affair
        if self.error:
            raise self.error
        return [self.row] * len(obs)


def advised(expert: Any, ratio: float = 1.0) -> World:
    world = World()
    world.params = ActingParams(expert_ratio=ratio, epsilon=0.0, noise=0.0)
    world.frame_loop.expert = ExpertPlugin("test:expert", expert, SPEC)
    return world


def test_plugin_recommends_for_frames_without_a_recommendation() -> None:
    expert = Expert()
    world = advised(expert)
    one, two, three = world.player(), world.player(), world.player()
    one.frame(obs=0.25)
    two.frame(obs=0.5, expert=EXPERT_ACTION)
    three.frame(obs=0.75)
    world.frame_loop.run()
    (obs,), (situation,) = expert.obs, expert.situations
    assert obs.tolist() == [[0.25] * 3, [0.75] * 3], "all of a turn at once"
    assert situation.spec is SPEC
    assert situation.streams.tolist() == [one.streams[0], three.streams[0]]
    assert situation.first.tolist() == [True, True]
    assert situation.fields == {}
    assert [player.last.actor for player in (one, two, three)] == [EXPERT] * 3
    assert one.last.action == [3, [-0.25, 0.75]]
    assert two.last.action == EXPERT_ACTION
    one.frame(obs=0.3)
    world.frame_loop.run()
    assert expert.situations[-1].first.tolist() == [False]
    (row,) = world.sink.rows()
    assert (row["actor"], row["action"], row["obs"]) == (EXPERT, ADVICE, [0.25] * 3)


def test_plugin_is_called_once_for_all_slots_of_a_turn() -> None:
    expert = Expert()
    world = advised(expert)
    player = world.player(slots=3)
    player.frames([0.1, 0.2, 0.3], [0.0] * 3, [0, 0, 0])
    world.frame_loop.run()
    assert len(expert.obs) == 1
    assert player.last.actors == bytes([EXPERT] * 3)


class Older(TempestContext):
    """A context with this header, and without a connection."""

    def __init__(self, header: bytes) -> None:
        self.header = header

    def encode(self, _action: Any, _actor: int, _explored: bool) -> bytes:
        return b""


def test_plugin_gets_headers_only_with_the_frames_they_came_with() -> None:
    """Clients of the protocol have none, also where older ones had sent theirs before."""
    expert = Expert()
    world = advised(expert)
    single, many = world.player(), world.player(slots=2)
    header = np.zeros(1, HEADER)
    header["target"], header["level"] = 7, 9
    data = memoryview(np.zeros(3, np.float32).tobytes())
    frame = Frame(0, 0, data, 0.0, 0, None, None)
    world.frame_loop.add_frame(single, frame, Older(header.tobytes()))
    world.frame_loop.run()
    (situation,) = expert.situations
    assert tuple(situation.fields) == HEADER.names
    assert (situation.fields["target"][0], situation.fields["level"][0]) == (7, 9)
    many.frames([0.5, 0.5], [0.0, 0.0], [0, 0])
    single.frame()
    world.frame_loop.run()
    assert [(len(s.streams), dict(s.fields)) for s in expert.situations[1:]] == [(3, {})]


def test_plugin_advice_is_followed_at_the_expert_ratio() -> None:
    world = advised(Expert(), ratio=0.0)
    player = world.player()
    player.frame()
    world.frame_loop.run()
    assert player.last.actor == DQN


def test_plugin_is_not_called_for_frames_the_expert_cannot_act_in() -> None:
    """About the last frame of an episode, and where the network alone plays."""
    expert = Expert()
    world = advised(expert)
    world.player(role="eval").frame()
    player = world.player()
    player.frame(status=1)
    world.frame_loop.run()
    assert expert.obs == []


def test_network_plays_where_the_plugin_has_no_advice() -> None:
    world = advised(Expert([np.nan, 0.0, 0.0]))
    player = world.player()
    player.frame()
    world.frame_loop.run()
    assert player.last.actor == DQN
    assert world.frame_loop.expert is not None
    assert world.frame_loop.expert.failures == 0


def test_eval_expert_role_can_use_the_plugin() -> None:
    world = advised(Expert(), ratio=0.0)
    player = world.player(role="eval_expert")
    player.frame()
    world.frame_loop.run()
    assert player.last.actor == EXPERT
    assert player.last.action == [3, [-0.25, 0.75]]


def test_eval_expert_role_ends_when_the_plugin_has_no_advice_in_an_episode() -> None:
    """The network must not be measured in its name."""
    expert = Expert()
    world = advised(expert)
    alone, other = world.player(role="eval_expert"), world.player()
    expert.error = RuntimeError("lost its head")
    for status in (0, 0, 1):
        alone.frame(status=status)
        other.frame(status=status)
        world.frame_loop.run()
    assert alone.error is not None
    assert alone.error.code == "expert_missing"
    assert [answer.actor for answer in alone.answers] == [EXPERT, EXPERT]
    assert [answer.actor for answer in other.answers] == [DQN, DQN, 0]
    assert world.episodes() == [FinishedEpisode("train", 0.0, 2, other.streams[0] >> 16)]


def test_eval_expert_role_repeats_the_last_advice_where_there_is_none() -> None:
    """Nor is it where the plugin is switched off in the middle of an episode."""
    expert = Expert([np.nan, 0.0, 0.0])
    world = advised(expert)
    alone = world.player(role="eval_expert")
    alone.frame()
    world.frame_loop.run()
    expert.row = ADVICE
    alone.frame()
    world.frame_loop.run()
    world.frame_loop.expert = None
    for status in (0, 0, 1):
        alone.frame(status=status)
        world.frame_loop.run()
    assert alone.error is None
    actions = [answer.action for answer in alone.answers]
    assert actions == [[0, [0.0, 0.0]], *[[3, [-0.25, 0.75]]] * 3, None]
    assert [answer.actor for answer in alone.answers] == [EXPERT] * 4 + [0]
    (episode,) = world.episodes()
    assert (episode.length, episode.filled, episode.cut) == (4, 3, "")
    # The next episode begins anew: what was advised in the one before is not repeated.
    alone.frame()
    world.frame_loop.run()
    assert alone.last.action == [0, [0.0, 0.0]]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ([3.0, 0.0], "shape"),
        ([4.0, 0.0, 0.0], "head 'fire'"),
        ([1.5, 0.0, 0.0], "whole number"),
        ([0.0, 0.0, 1.25], "head 'aim'"),
        ([0.0, np.nan, 0.0], "NaN further on"),
        ([np.inf, 0.0, 0.0], "head 'fire'"),
        (["left", 0.0, 0.0], "could not convert"),
    ],
)
def test_plugin_advice_that_is_no_action_is_not_played(
    row: list[Any], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    world = advised(Expert(row))
    player = world.player()
    player.frame()
    world.frame_loop.run()
    assert player.last.actor == DQN
    assert world.frame_loop.expert is not None
    assert world.frame_loop.expert.failures == 1
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "test:expert" in record.getMessage()
    assert words in record.getMessage()


def test_failing_plugin_is_counted_found_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    expert = Expert()
    expert.error = KeyError("nobody")
    world = advised(expert)
    player, plugin = world.player(), world.frame_loop.expert
    assert plugin is not None
    for _ in range(3):
        player.frame()
        world.frame_loop.run()
        assert player.last.actor == DQN
    (record,) = caplog.records
    assert "KeyError('nobody')" in record.getMessage()
    assert record.exc_info is not None, "with the place where it failed"
    (found,) = plugin.take_findings()
    assert "KeyError('nobody')" in found.text
    assert "failure 3" in found.text
    assert plugin.take_findings() == []
    expert.error = TypeError("else")
    player.frame()
    world.frame_loop.run()
    assert len(caplog.records) == 2, "another kind of failure is news"
    expert.error = None
    player.frame()
    world.frame_loop.run()
    assert player.last.actor == EXPERT, "it is asked again"


def test_plugin_example_of_the_documentation_works() -> None:
    text = (Path(__file__).parents[2] / "docs/experts.md").read_text()
    code: dict[str, Any] = {}
    exec(text.split("```python\n")[1].split("```")[0], code)
    spec = GameSpec("reach", Observation("float32", (2,)), (Discrete("move", 3),)).checked()
    expert = ExpertPlugin("my_expert:walk", code["walk"], spec)
    obs = np.array([[0.0, 0.5], [0.5, 0.52], [0.5, -0.5]], np.float32)
    rows = expert.ask(obs, np.arange(3), np.zeros(3, np.bool_), {})
    assert expert.failures == 0
    assert rows.tolist() == [[2.0], [1.0], [0.0]]


def test_plugin_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "an_expert_of_mine.py").write_text("def act(obs, situation): return obs\n")
    (tmp_path / "a_broken_one.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["/nowhere"])
    assert find("server.gateway.tempest_expert:recommend") is recommend
    assert find("an_expert_of_mine:act").__name__ == "act"
    for name, words in {
        "no_such_module:act": "ModuleNotFoundError",
        "an_expert_of_mine:play": "has no attribute 'play'",
        "an_expert_of_mine:__name__": "expected a function, got str",
        "a_broken_one:act": "ZeroDivisionError",
    }.items():
        with pytest.raises(ValueError, match=words) as caught:
            find(name)
        assert name in str(caught.value)


# The one for Tempest


@pytest.mark.parametrize(
    ("target", "player", "is_open", "turn"),
    [
        (3, 3, False, 0.0),
        (4, 3, False, -0.35),
        (2, 3, False, 0.35),
        (15, 0, False, 0.35),
        (0, 15, False, -0.35),
        (15, 0, True, -0.9),
        (0, 15, True, 0.9),
        (11, 0, True, -0.85),
        (8, 0, False, -0.7),
        (0, 8, False, -0.7),
        (9, 0, False, 0.65),
        (8, 0, True, -0.7),
        (0, 8, True, 0.7),
        (-1, 5, False, 0.0),
        (-32768, 5, True, 0.0),
        (19, 3, False, 0.0),
    ],
)
def test_tempest_knob_turns_towards_the_target(
    target: int, player: int, turn: float, *, is_open: bool
) -> None:
    found = knob(np.array([target], ">i2"), np.array([player], "u1"), np.array([is_open]))
    assert found.dtype == np.float32
    assert found.tolist() == pytest.approx([turn])


def test_tempest_nearest_level_is_chosen() -> None:
    turns = np.array([0.0, 0.9, -0.9, 0.35, -0.3, 0.06, -0.03, 0.2], np.float32)
    chosen = nearest_level(turns).tolist()
    assert [LEVELS[choice] for choice in chosen] == [0, 12, -12, 12, -9, 1, -1, 6]


def test_tempest_expert_without_header_has_no_advice() -> None:
    spec = tempest_spec(2, "continuous")
    nothing = np.zeros(3)
    rows = recommend(np.zeros((3, 2)), Situation(spec, nothing.astype(int), nothing > 0, {}))
    assert rows.shape == (3, 2)
    assert np.isnan(rows).all()

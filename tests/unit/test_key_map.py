"""What keys and gamepads do: chords, sticks, the file and what is wrong in one, derived keys."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from server.play.person import key_map
from server.play.person.default_keys import default_keys
from server.play.person.key_map import Binding, KeyMap, KeyMapError
from understudy_client.spec import Continuous, Discrete

MOVE = (Discrete("action", 6),)
CAR = (Continuous("steer", -1.0, 1.0, 1), Continuous("pedals", 0.0, 1.0, 2), Discrete("horn", 2))


def keys(*bindings: tuple[str, dict[int, Any]], heads: Any = MOVE, idle: Any = (0,)) -> KeyMap:
    made = [Binding(frozenset(names.split("&")), parts) for names, parts in bindings]
    return KeyMap(heads, tuple(made), idle)


def test_chord_wins_over_its_keys_and_newest_key_over_others() -> None:
    given = keys(("up", {0: 1}), ("right", {0: 2}), ("up&right", {0: 5}))
    assert given.action([], {}) == [0]
    assert given.action(["up"], {}) == [1]
    assert given.action(["up", "right"], {}) == [5]
    apart = keys(("up", {0: 1}), ("right", {0: 2}))
    assert apart.action(["right", "up"], {}) == [1]
    assert apart.action(["up", "right"], {}) == [2]


def test_game_that_waits_has_no_action_until_a_key_that_plays_is_held() -> None:
    given = keys(("left", {0: 0}), ("right", {0: 1}), idle=None)
    assert given.action([], {}) is None
    assert given.action(["tab"], {}) is None
    assert given.action(["tab", "left"], {}) == [0]
    assert given.touched(["right"], {})
    assert not given.touched(["tab"], {})


def test_keys_of_numbers_add_up_within_the_bounds_beside_other_heads() -> None:
    given = keys(
        ("left", {0: -1.0}), ("right", {0: 1.0}), ("space", {2: 1}),
        ("up", {1: [1.0, 0.0]}), ("down", {1: [0.0, 1.0]}),
        ("axis 0", {0: 1.0}), ("f", {0: 1.0}),
        heads=CAR, idle=(0.25, [0.0, 0.0], 0),
    )  # fmt: skip
    assert given.action([], {}) == [0.25, [0.0, 0.0], 0]
    assert given.action(["left", "right"], {}) == [0.0, [0.0, 0.0], 0]
    assert given.action(["right", "f"], {}) == [1.0, [0.0, 0.0], 0]
    assert given.action(["up", "down", "space"], {}) == [0.25, [1.0, 1.0], 1]
    chord = keys(("left", {0: -1.0}), ("up", {2: 1}), ("left&up", {0: 0.5}), heads=CAR, idle=None)
    assert chord.action(["left", "up"], {}) == [0.5, [0.0, 0.0], 0], "in place of its keys"
    assert given.action([], {"axis 0": -0.4}) == [-0.4, [0.0, 0.0], 0]
    assert given.action(["up"], {"axis 0": -0.4}) == [-0.4, [1.0, 0.0], 0]


@pytest.mark.parametrize(
    ("heads", "given"),
    [
        (MOVE, keys(("up", {0: 1}), ("up&right", {0: 5}), ("axis 1 -", {0: 1}))),
        (MOVE, keys(("\\", {0: 1}), ("[4]", {0: 2}), ("hat up&button 2", {0: 3}), idle=None)),
        (CAR, keys(("a", {1: [1.0, 0.0], 2: 1}), heads=CAR, idle=(0.0, [0.0, 0.0], 0))),
    ],
)
def test_map_that_is_written_reads_as_it_was(tmp_path: Path, heads: Any, given: KeyMap) -> None:
    file = tmp_path / "keys.toml"
    key_map.write(file, given, "Game-v0")
    assert key_map.read(file, heads) == given
    with pytest.raises(KeyMapError, match="exists; name a new file"):
        key_map.write(file, given, "Game-v0")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[keys]\nlef = {action = 1}", "got 'lef'; did you mean 'left'?"),
        ("[keys]\nleft = {action = 6}", "0 to 5, got 6 .*this game has action: 0 to 5"),
        ("[keys]\nleft = {move = 1}", r"expected a head of this game \(action\), got 'move'"),
        ("[keys]\nleft = 1", "left: expected an action such as"),
        ("idle = 'never'\n[keys]\nleft = {action = 1}", 'idle: expected "wait" or an action'),
        ("[kees]\nleft = {action = 1}", "got 'kees'; did you mean 'keys'?"),
        ("idle = 'wait'", r"expected a table \[keys\]"),
        ("[keys]\ntab = {action = 1}", "take_over: 'tab' plays already"),
        ("[keys]\nleft = {action = 1}\n[commands]\npuse = 'f1'", "did you mean 'pause'?"),
        ("[keys]\nf1 = {action = 1}\n[commands]\nend = ['f1', 'f2']", "end: 'f1' plays already"),
        ("[keys", "expected a file in TOML"),
    ],
)
def test_wrong_map_is_refused_with_its_cure(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(text)
    with pytest.raises(KeyMapError, match=said) as found:
        key_map.read(file, MOVE)
    assert str(file) in str(found.value)


def test_commands_that_a_file_does_not_name_leave_their_buttons_to_what_plays(
    tmp_path: Path,
) -> None:
    file = tmp_path / "keys.toml"
    file.write_text('[keys]\n"button 1" = {action = 1}\n')
    assert key_map.read(file, MOVE).commands["discard"] == ("backspace",)


def test_missing_file_of_keys_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyMapError, match=r"cannot read .*nowhere\.toml: No such file"):
        key_map.read(tmp_path / "nowhere.toml", MOVE)


def test_choices_without_a_key_are_listed() -> None:
    assert keys(("up", {0: 1}), ("down", {0: 4})).unreachable == ["action 2, 3, 5"]
    assert keys(("up", {0: 1}), idle=None).unreachable == ["action 0, 2, 3, 4, 5"]
    assert keys(("a", {0: 1.0}), heads=CAR, idle=None).unreachable == ["pedals", "horn 1"]


def env(name: str | None = None, **more: Any) -> Any:
    game = SimpleNamespace(spec=SimpleNamespace(id=name) if name else None, **more)
    game.unwrapped = game
    return game


def test_keys_of_known_games_are_the_usual_ones() -> None:
    lander = default_keys(env("LunarLander-v3"), [Discrete("action", 4)])
    assert lander.action(["up"], {}) == [2]
    assert lander.action(["axis 0 -"], {}) == lander.action(["left"], {}) == [1]
    taxi = default_keys(env("Taxi-v4"), [Discrete("action", 6)])
    assert taxi.idle is None
    assert taxi.unreachable == []


def test_keys_are_derived_from_what_actions_are_called() -> None:
    meanings = ["NOOP", "FIRE", "RIGHT", "UPRIGHTFIRE", "SPIN"]
    atari = default_keys(
        env(
            "Game-v5",
            get_action_meanings=lambda: meanings,
            get_keys_to_action=lambda: {("e",): 0, (ord("d"),): 2},
        ),
        [Discrete("action", 5)],
    )
    assert atari.idle == (0,)
    assert atari.action(["space"], {}) == [1]
    assert atari.action(["up", "right", "space"], {}) == [3]
    assert atari.action(["d"], {}) == [2]
    assert atari.unreachable == ["action 4"]
    inner = SimpleNamespace(env=SimpleNamespace(action_map=["n", "l", "u", "r", "d", "f"]))
    minatar = default_keys(env("M-v1", game=inner, action_set=[0, 1, 3]), [Discrete("action", 3)])
    assert minatar.idle == (0,)
    assert minatar.action(["right"], {}) == [2]


def test_keys_of_unknown_games_are_arrows_space_and_letters() -> None:
    plain = default_keys(env(), [Discrete("action", 6)])
    assert plain.idle is None
    assert [plain.action([k], {}) for k in ("left", "space", "z")] == [[0], [4], [5]]
    car = default_keys(env(), CAR)
    assert car.action(["left", "up", "space"], {}) == [-1.0, [1.0, 0.0], 1]
    assert car.unreachable == []

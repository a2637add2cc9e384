"""Environments made by their names, what is put around them, and the cures that refusals name."""

from __future__ import annotations

import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import RescaleAction, TransformAction, TransformObservation

from lab.vector_client import game_spec
from tests.support.spaced import LOOSE, NESTED, Spaced
from understudy_client import minigrid, pictures
from understudy_client.env_options import EnvOptions
from understudy_client.environments import make
from understudy_client.gym import spec_of
from understudy_client.observation_spaces import observation_space
from understudy_client.observations import Packer
from understudy_client.spaces import action_space
from understudy_client.spec import Continuous, Discrete
from understudy_client.wrappers import only_numbers


def plays(env: gymnasium.Env[Any, Any]) -> None:
    """A few frames through both conversions."""
    seen, actions = observation_space(env.observation_space), action_space(env.action_space)
    obs, _ = env.reset(seed=1)
    env.action_space.seed(1)
    for _ in range(3):
        Packer(seen.observations).pack(seen.to_wire(obs))
        parts = actions.to_wire(env.action_space.sample())
        obs, *_ = env.step(actions.to_env(parts))


@pytest.fixture
def registered() -> Any:
    gymnasium.register("Spaced-v0", entry_point=Spaced)
    yield "Spaced-v0"
    del gymnasium.registry["Spaced-v0"]


# Names and arguments.


@pytest.mark.parametrize(
    ("name", "observation"),
    [
        ("Taxi-v4", "observation int32 [1] (choice, n 500)"),
        ("FrozenLake-v1", "observation uint8 [1] (choice, n 16)"),
        (
            "Blackjack-v1",
            "0 uint8 [1] (choice, n 32), 1 uint8 [1] (choice, n 11), 2 uint8 [1] (choice, n 2)",
        ),
        ("MountainCarContinuous-v0", "float32 [2]"),
        ("Pendulum-v1", "float32 [3]"),
        (
            "MiniGrid-Empty-8x8-v0",
            "direction uint8 [1] (choice, n 4), image uint8 [7, 7, 3] (0 to 10)",
        ),
    ],
)
def test_environment_plays_by_its_name(name: str, observation: str) -> None:
    if name.startswith("Mini"):
        pytest.importorskip("minigrid", reason="needs the extra games")
    env = make(name)
    spec = game_spec(env)
    assert (spec.game, spec.describe_observations()) == (name, observation)
    plays(env)
    env.close()


def test_nested_spaces_play() -> None:
    env = make(NESTED)
    assert [head.name for head in spec_of(env).actions] == [
        "move.0", "move.1", "keys[0]", "keys[1]", "gears[0]", "gears[1]", "level[0]",
    ]  # fmt: skip
    plays(env)


def test_minigrid_mission_that_differs_is_a_choice() -> None:
    pytest.importorskip("minigrid", reason="needs the extra games")
    env = make("MiniGrid-GoToDoor-5x5-v0")
    space: Any = env.observation_space
    assert space["mission"] == spaces.Discrete(6)
    numbers = {int(env.reset(seed=seed)[0]["mission"]) for seed in range(12)}
    assert len(numbers) > 2
    assert numbers <= set(range(6))
    # The codes of things go up to what the space says.
    codes = np.stack([env.reset(seed=seed)[0]["image"] for seed in range(12)])
    assert codes.max() <= space["image"].high.max() == minigrid.LARGEST_CODE
    env.close()


def test_sentence_of_babyai_is_refused_and_the_cure_plays() -> None:
    pytest.importorskip("minigrid", reason="needs the extra games")
    env = make("BabyAI-GoToLocal-v0")
    with pytest.raises(TypeError, match=r"'mission': .* understudy_client\.wrappers:only_numbers"):
        spec_of(env)
    env.close()
    cured = make(
        "BabyAI-GoToLocal-v0", EnvOptions(wraps=("understudy_client.wrappers:only_numbers",))
    )
    plays(cured)
    cured.close()


def test_missing_minigrid_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "minigrid", None)
    with pytest.raises(gymnasium.error.DependencyNotInstalled, match="pip install minigrid"):
        make("MiniGrid-Empty-8x8-v0")


def test_unknown_namespace_says_to_name_the_module() -> None:
    with pytest.raises(gymnasium.error.NamespaceNotFound, match="--env MODULE:NoSuch/Game-v0"):
        make("NoSuch/Game-v0")


def test_arguments_reach_the_environment_and_wrong_ones_are_named(registered: str) -> None:
    env = make(registered, EnvOptions(args={"size": 5}))
    assert env.observation_space.shape == (5,)
    with pytest.raises(ValueError, match=r"expected arguments that Spaced-v0 takes, got sise: "):
        make(registered, EnvOptions(args={"sise": 5}))


# What is put around them.


def test_wraps_are_called_in_their_order(
    registered: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gym_own_wraps.py").write_text(
        "from gymnasium import spaces\n"
        "from gymnasium.wrappers import TransformObservation\n"
        "def double(env):\n"
        "    n = 2 * env.observation_space.shape[0]\n"
        "    return TransformObservation(env, lambda o: [*o, *o], spaces.Box(0, 1, (n,)))\n"
        "def plus(env):\n"
        "    n = 1 + env.observation_space.shape[0]\n"
        "    return TransformObservation(env, lambda o: [*o, 1], spaces.Box(0, 1, (n,)))\n"
        "def nothing(env):\n"
        "    pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for wraps, size in (("double", "plus"), 5), (("plus", "double"), 6):
        names = tuple(f"gym_own_wraps:{name}" for name in wraps)
        env = make(registered, EnvOptions(wraps=names))
        assert env.observation_space.shape == (size,)
        plays(env)
    for name, message in (
        ("gym_own_wraps:nothing", "returns a gymnasium.Env, got NoneType"),
        ("gym_own_wraps:no_such", "wrap 'gym_own_wraps:no_such': module .* no attribute"),
        ("no_such_module_here:f", "wrap 'no_such_module_here:f': No module named"),
        ("plain", "wrap 'plain': expected module:function"),
    ):
        with pytest.raises(ValueError, match=message):
            make(registered, EnvOptions(wraps=(name,)))


def test_wrapper_class_of_gymnasium_is_taken(registered: str) -> None:
    env = make(registered, EnvOptions(wraps=("gymnasium.wrappers:FlattenObservation",)))
    assert isinstance(env, gymnasium.wrappers.FlattenObservation)


def test_stated_bounds_make_an_unbounded_action_playable() -> None:
    with pytest.raises(ValueError, match="--action-bounds LOW,HIGH"):
        spec_of(make(LOOSE))
    env = make(LOOSE, EnvOptions(action_bounds=(-3, 3)))
    assert spec_of(env).actions == (Continuous("action", -3.0, 3.0, 2),)
    plays(env)


# Cures that refusals name.


def test_parts_without_numbers_are_left_out_by_only_numbers() -> None:
    graph = spaces.Graph(spaces.Discrete(2), None)
    space = spaces.Dict(
        OrderedDict(
            said=spaces.Text(5),
            places=spaces.Sequence(spaces.Discrete(3)),
            inner=spaces.Tuple([graph, spaces.Discrete(3)]),
            speed=spaces.Box(0, 1, (2,)),
        )
    )
    env = only_numbers(Spaced(space))
    assert env.observation_space == spaces.Dict(
        OrderedDict(
            inner=spaces.Dict({1: spaces.Discrete(3)}),  # type: ignore[dict-item]
            speed=spaces.Box(0, 1, (2,)),
        )
    )
    plays(env)
    with pytest.raises(ValueError, match=r"got Text.*TransformObservation"):
        only_numbers(Spaced(spaces.Text(5)))


@pytest.mark.parametrize(
    ("space", "numbers"),
    [
        (spaces.Text(5, charset="ab"), lambda text: [text.count("a"), text.count("b")]),
        (
            spaces.Graph(spaces.Box(0, 1, (2,)), None),
            lambda graph: np.asarray(graph.nodes).mean(axis=0),
        ),
        (spaces.Sequence(spaces.Discrete(2)), lambda items: [len(items), sum(items)]),
    ],
)
def test_what_is_no_number_plays_as_numbers_of_ones_own(
    space: spaces.Space[Any], numbers: Any
) -> None:
    with pytest.raises(TypeError, match=r"gymnasium\.wrappers\.TransformObservation"):
        observation_space(space)
    env = TransformObservation(Spaced(space), numbers, spaces.Box(0, 100, (2,)))
    plays(env)


def test_action_that_is_no_number_plays_as_a_choice() -> None:
    words = ["go", "stay"]
    env = Spaced(done=spaces.Text(5))
    with pytest.raises(TypeError, match=r"gymnasium\.wrappers\.TransformAction"):
        spec_of(env)
    cured = TransformAction(env, lambda i: words[int(i)], spaces.Discrete(2))
    plays(cured)
    assert env.action in words


def test_more_heads_than_there_may_be_become_one() -> None:
    low = np.zeros(70, np.float32)
    env = Spaced(done=spaces.Box(low, np.arange(1, 71, dtype=np.float32)))
    with pytest.raises(ValueError, match="RescaleAction"):
        spec_of(env)
    cured = RescaleAction(env, -1, 1)
    assert spec_of(cured).actions == (Continuous("action", -1.0, 1.0, 70),)
    plays(cured)
    flags = Spaced(done=spaces.MultiBinary(70))
    with pytest.raises(ValueError, match="TransformAction"):
        spec_of(flags)
    plays(TransformAction(flags, lambda a: (a > 0.5).astype(np.int8), spaces.Box(0.0, 1.0, (70,))))


# Pictures.


def colours(shape: tuple[int, ...], dtype: Any, high: float) -> Any:
    return spaces.Box(0, high, shape, dtype)


@pytest.mark.parametrize(
    ("space", "after"),
    [
        (colours((30, 40, 3), np.uint8, 255), colours((20, 10), np.uint8, 255)),
        (colours((3, 30, 40), np.uint8, 255), colours((20, 10), np.uint8, 255)),
        (colours((30, 40, 3), np.float32, 1), colours((20, 10), np.float32, 1)),
        (colours((30, 40, 12), np.uint8, 255), colours((20, 10, 4), np.uint8, 255)),
        (colours((12, 30, 40), np.uint8, 255), colours((4, 20, 10), np.uint8, 255)),
        (colours((30, 40, 5), np.int64, 9), colours((20, 10, 5), np.int64, 9)),
        (colours((30, 40), np.bool_, 1), colours((20, 10), np.bool_, 1)),
        (colours((2, 30, 40, 3), np.uint8, 255), colours((2, 20, 10), np.uint8, 255)),
        (colours((30, 40, 4), np.uint8, 255), colours((20, 10), np.uint8, 255)),
    ],
)
def test_picture_of_any_kind_is_made_small_and_gray(space: Any, after: Any) -> None:
    pytest.importorskip("cv2", reason="needs the extra atari")
    env = pictures.resized(Spaced(space), (10, 20), grayscale=True)
    assert env.observation_space == after
    env.observation_space.seed(1)
    obs, _ = env.reset(seed=1)
    assert after.contains(obs)


def test_pictures_in_a_dict_are_resized_and_the_rest_stays() -> None:
    pytest.importorskip("cv2", reason="needs the extra atari")
    space = spaces.Dict(
        OrderedDict(
            speed=spaces.Box(-1, 1, (2,)),
            eyes=spaces.Tuple([colours((16, 16, 3), np.uint8, 255), spaces.Discrete(3)]),
        )
    )
    env = pictures.resized(Spaced(space), (8, 8), grayscale=False)
    found: Any = env.observation_space
    assert found["eyes"][0] == colours((8, 8, 3), np.uint8, 255)
    assert (found["speed"], found["eyes"][1]) == (space["speed"], spaces.Discrete(3))
    obs, _ = env.reset(seed=1)
    assert found.contains(obs)


def test_gray_of_a_colour_is_as_bright_as_gymnasiums() -> None:
    picture = np.zeros((8, 9, 3), np.uint8)
    picture[0, 0], picture[0, 1], picture[0, 2] = (200, 0, 0), (0, 200, 0), (255, 255, 255)
    space = colours((8, 9, 3), np.uint8, 255)
    env: Any = pictures.resized(Spaced(space), None, grayscale=True)
    theirs: Any = gymnasium.wrappers.GrayscaleObservation(Spaced(space))
    mine, other = env.func(picture), theirs.func(picture)
    assert mine.shape == other.shape == (8, 9)
    assert np.abs(mine.astype(int) - other.astype(int)).max() <= 1
    assert mine[0, :3].tolist() == [42, 143, 255]


def test_game_without_a_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="leave --resize and --grayscale out"):
        pictures.resized(Spaced(), None, grayscale=True)


def test_resize_without_opencv_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(
        gymnasium.error.DependencyNotInstalled,
        match="--resize needs the package opencv-python-headless",
    ):
        pictures.resized(Spaced(colours((9, 9), np.uint8, 255)), (8, 8), grayscale=False)


def test_bound_choices_keep_their_names() -> None:
    assert spec_of(Spaced(done=spaces.MultiBinary(2))).actions == (
        Discrete("action[0]", 2),
        Discrete("action[1]", 2),
    )

"""The options that say what an environment is made of."""

from __future__ import annotations

import argparse

import pytest

from server.play.env_options import add_env_options, env_options, given_env_options
from understudy_client.env_options import PLAIN, EnvOptions


def read(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_env_options(parser)
    return parser.parse_args(words)


def test_without_options_nothing_is_put_around() -> None:
    assert env_options(read()) == PLAIN
    assert given_env_options(read()) == []


def test_all_options_arrive() -> None:
    args = read(
        "--env-args", "size=8", "is_slippery=false", "--env-args", "map_name=8x8", "--atari",
        "--wrap", "a:f", "--wrap", "b:g", "--resize", "84x64", "--grayscale",
        "--action-bounds=-1,2.5",
    )  # fmt: skip
    assert env_options(args) == EnvOptions(
        args={"size": 8, "is_slippery": False, "map_name": "8x8"},
        atari=True,
        wraps=("a:f", "b:g"),
        resize=(84, 64),
        grayscale=True,
        action_bounds=(-1.0, 2.5),
    )
    assert given_env_options(args) == [
        "--env-args", "--atari", "--wrap", "--resize", "--grayscale", "--action-bounds",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-0.5", -0.5),
        ("1e-3", 0.001),
        ("True", True),
        ("none", None),
        ("[1, 2]", [1, 2]),
        ("{'a': 1}", {"a": 1}),
        ("rgb_array", "rgb_array"),
        ("'8'", "8"),
        ("a=b", "a=b"),
        ("", ""),
    ],
)
def test_value_of_an_argument_has_its_type(text: str, value: object) -> None:
    found = env_options(read("--env-args", f"key={text}")).args["key"]
    assert found == value
    assert type(found) is type(value)


def test_former_name_of_atari_still_works() -> None:
    assert env_options(read("--preprocess", "atari")).atari


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--env-args", "size"), "expected KEY=VALUE, as size=8, got 'size'"),
        (("--env-args", "=8"), "expected KEY=VALUE"),
        (("--resize", "84"), "expected WIDTHxHEIGHT, as 84x84, got '84'"),
        (("--resize", "0x84"), "expected WIDTHxHEIGHT"),
        (("--action-bounds", "1"), "expected LOW,HIGH"),
        (("--action-bounds", "2,1"), "expected LOW,HIGH"),
        (("--action-bounds", "0,inf"), "expected LOW,HIGH"),
        (("--preprocess", "other"), "expected atari"),
    ],
)
def test_wrong_option_says_what_was_expected(
    words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        read(*words)
    assert message in capsys.readouterr().err

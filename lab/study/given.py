"""What a command line says of a game, its expert and settings, checked before anything is played:
for `understudy study --env` and `understudy tune`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from config import renamed
from config.fields import all_settings, nearest
from config.load import ConfigError
from lab.study.design import ELSEWHERE, NO_EXPERT
from lab.vector_client import Game
from protocol.spaces import GameSpec
from understudy_client.environments import make
from understudy_client.experts import find


def checked_game(env_id: str, name: str | None, option: str) -> tuple[GameSpec, str | None]:
    """The game's spec, and the expert as a scene has it, NO_EXPERT where there is none, after one
    has been asked for an action. `option`: what named it. Errors: ConfigError."""
    try:
        expert = find(env_id, name)
    except ValueError as error:
        raise ConfigError(f"{option}: {error}; or none for no expert") from error
    expected = f"--env: expected a Gymnasium environment that can be played, got {env_id!r}"
    try:
        env = make(env_id)
    except Exception as error:  # whatever an environment does when it is made
        raise ConfigError(
            f"{expected}: {type(error).__name__}: {error}; name one as ID or module:ID (a "
            "game that connects over TCP cannot be played by this command: docs/tuning.md has more)"
        ) from error
    try:
        game = Game(env, expert, seed=0)
        spec = game.spec
        if expert is None:
            return spec, NO_EXPERT
        try:
            action = game.recommend()
            if action is not None:
                spec.check_action_rows(np.array([spec.action_row(action)], np.float32))
        except Exception as error:
            raise ConfigError(
                f"{option}: expected a function (env, observation) -> an action of "
                f"{env.action_space}, got {type(error).__name__} from "
                f"{name or 'the known expert'}: {error}"
            ) from error
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{expected}: {error}") from error
    finally:
        env.close()
    return spec, name


def check_weaken(share: float, env_id: str, expert: str | None) -> None:
    """Errors: ConfigError where a share of nobody's actions is to be random. `expert`: as
    `checked_game` says."""
    if share and expert == NO_EXPERT:
        raise ConfigError(
            f"--weaken: expected an expert to weaken, and {env_id} has none; name one with "
            "--expert MODULE:FUNCTION, or leave --weaken out"
        )


def parts(text: str) -> Iterator[str]:
    """The text between commas that stand inside no brackets and no quotes."""
    if not text.strip():
        return
    depth, quoted, begin = 0, False, 0
    for at, sign in enumerate(text):
        if sign == '"':
            quoted = not quoted
        elif not quoted and sign in "[{":
            depth += 1
        elif not quoted and sign in "]}":
            depth -= 1
        elif sign == "," and not quoted and depth == 0:
            yield text[begin:at]
            begin = at + 1
    yield text[begin:]


def keys_of(name: str, where: str) -> list[str]:
    """The settings that a name stands for: a schedule's name (`expert.ratio`) for its start and its
    end. `where`: what named it. Errors: ConfigError."""
    known = all_settings()
    if hint := renamed.hint(name):
        raise ConfigError(f"{where}: {hint}; rename it")
    keys = [name] if name in known else [f"{name}.start", f"{name}.end"]
    if any(key not in known for key in keys):
        meant = nearest(name, known)
        said = f" (did you mean {meant}?)" if meant else ""
        raise ConfigError(
            f"{where}: {name}: there is no such setting{said}; `understudy config show` lists them"
        )
    if (group := name.partition(".")[0]) in ELSEWHERE:
        raise ConfigError(
            f"{where}: {name}: expected a setting that learning depends on; runs in lock step do "
            f"not read {group}.*: leave it out"
        )
    return keys

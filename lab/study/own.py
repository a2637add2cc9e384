"""A comparison of one's own, as a command line describes it: variants on any game with any expert.

--env ENV --expert MODULE:FUNCTION --variant NAME:KEY=VALUE[,KEY=VALUE...] --variant ...
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from config import renamed
from config.fields import all_settings, nearest
from config.load import ConfigError, config_from
from config.options import given
from lab.study.checks import Better
from lab.study.comparisons.shared import ACTORS, RETURN
from lab.study.design import ELSEWHERE, NO_EXPERT, Comparison, Scene
from lab.vector_client import Game, game_spec
from understudy_client.experts import find, make

OWN = "own"
"""Its name."""

AS_GIVEN = "as-given"
"""The only variant where none is named: the settings that the command line gives."""

EXPERT_KEY = "expert"
"""What a variant sets like a setting: its teacher."""

_FORM = "NAME:KEY=VALUE[,KEY=VALUE...]"


def own_comparison(
    env: str,
    *,
    base: Mapping[str, Any],
    variants: Sequence[str] = (),
    expert: str | None = None,
    weaken: float = 0.0,
    frames: int,
    eval_every: int,
    seeds: int,
) -> Comparison:
    """The comparison of variants, each told as `--variant` takes it, of the settings in `base`.

    The environment is made, and each expert asked for an action, so that what is wrong is said
    before anything is played. Errors: ConfigError that names the option, what was expected, and
    what came.
    """
    if not 0 <= weaken <= 1:
        raise ConfigError(f"--weaken: expected a number from 0 to 1, got {weaken:g}")
    # As a server's plugin: the usual path first, then where the command was started.
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    told = parse_variants(variants)
    experts = {name: teacher for name, (_, teacher) in told.items() if teacher is not None}
    scene_expert = _checked(env, expert, "--expert")
    for name, teacher in experts.items():
        _checked(env, teacher, f"--variant {name}: {EXPERT_KEY}")
    if weaken and scene_expert == NO_EXPERT:
        raise ConfigError(
            f"--weaken: expected an expert to weaken, and {env} has none; name one with --expert "
            "MODULE:FUNCTION, or leave --weaken out"
        )
    settings = {name: {**base, **values} for name, (values, _) in told.items()}
    for name, values in settings.items():
        config_from(values, source=f"--variant {name}" if variants else "study")
    slug = re.sub(r"[^\w.+-]+", "-", env)
    first, *others = settings
    return Comparison(
        OWN,
        f"{env}: {', '.join(settings)}" if variants else f"{env}, as given",
        "",
        scenes=(Scene(slug, env, env, weaken=weaken, expert=scene_expert),),
        variants=settings,
        experts=experts,
        frames=frames,
        eval_every=eval_every,
        seeds=seeds,
        checks=tuple(Better(slug, name, first) for name in others),
        pictures=(RETURN, ACTORS),
    )


def parse_variants(words: Sequence[str]) -> dict[str, tuple[dict[str, Any], str | None]]:
    """The settings and the teacher (None: that of the game) of each variant, by name. Without any:
    AS_GIVEN. Errors: ConfigError."""
    found: dict[str, tuple[dict[str, Any], str | None]] = {}
    for word in words:
        name, _, text = word.partition(":")
        name = name.strip()
        if not re.fullmatch(r"[\w.+-]+( [\w.+-]+)*", name):
            raise ConfigError(
                f"--variant: expected {_FORM}, with a name of letters, digits, spaces and .+-_, "
                f"got {word!r}"
            )
        if name in found:
            raise ConfigError(f"--variant {name}: there are two of this name; rename one")
        found[name] = _values(name, text)
    return found or {AS_GIVEN: ({}, None)}


def own_command(args: argparse.Namespace) -> str:
    """The command line that makes the comparison again."""
    words = ["understudy", "study", "--env", args.env]
    words += ["--expert", args.expert] if args.expert else []
    words += ["--weaken", f"{args.weaken:g}"] if args.weaken else []
    for variant in args.variant:
        words += ["--variant", variant]
    words += ["--frames", str(args.frames), "--eval-every", str(args.eval_every)]
    words += ["--seeds", str(args.seeds)] if args.seeds else []
    told = given(args)
    for option, value in (
        ("--preset", told.preset),
        ("--config", told.file),
        ("--resume", told.resume),
    ):
        words += [option, str(value)] if value else []
    for key, option in told.settings.given_as.items():
        setting = all_settings()[key]
        words.append(option)
        words += [] if setting.kind is bool else [setting.show(told.settings.values[key])]
    return shlex.join(words)


def _values(name: str, text: str) -> tuple[dict[str, Any], str | None]:
    """What stands behind a variant's name."""
    where = f"--variant {name}"
    values: dict[str, Any] = {}
    expert = None
    for word in _parts(text):
        key, equals, value = (part.strip() for part in word.partition("="))
        if not (key and equals and value):
            raise ConfigError(f"{where}: expected {_FORM}, got {word!r}")
        if key == EXPERT_KEY:
            keys = [key]
            expert = value
        else:
            keys = _keys(key, where)
        for each in keys:
            if each in values:
                raise ConfigError(f"{where}: {each}: set twice; leave one of them out")
            values[each] = value if key == EXPERT_KEY else all_settings()[each].read(value)
    values.pop(EXPERT_KEY, None)
    return values, expert


def _parts(text: str) -> Iterator[str]:
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


def _keys(name: str, where: str) -> list[str]:
    """The settings that a name stands for: a schedule's name (`expert.ratio`) for its start and its
    end. Errors: ConfigError."""
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
    if name.partition(".")[0] in ELSEWHERE:
        raise ConfigError(
            f"{where}: {name}: expected a setting that learning depends on; runs of a study do not "
            f"read {name.partition('.')[0]}.*: leave it out"
        )
    return keys


def _checked(env_id: str, name: str | None, option: str) -> str | None:
    """The expert as a scene has it, NO_EXPERT where there is none, after it has been asked for an
    action in the environment. Errors: ConfigError."""
    try:
        expert = find(env_id, name)
    except ValueError as error:
        raise ConfigError(f"{option}: {error}; expected MODULE:FUNCTION or none") from error
    try:
        env = make(env_id)
        spec = game_spec(env)
    except (gymnasium.error.Error, ImportError, TypeError, ValueError) as error:
        raise ConfigError(
            f"--env: expected a Gymnasium environment that can be played, got {env_id!r}: {error}"
        ) from error
    try:
        if expert is None:
            return NO_EXPERT
        action = Game(env, expert, seed=0).recommend()
        if action is not None:
            spec.check_action_rows(np.array([spec.action_row(action)], np.float32))
    except Exception as error:
        raise ConfigError(
            f"{option}: expected a function (env, observation) -> an action of {env.action_space}, "
            f"got {type(error).__name__} from {name or 'the known expert'}: {error}"
        ) from error
    finally:
        env.close()
    return name

"""A comparison of one's own, as a command line describes it: variants on any game with any expert.

--env ENV --expert MODULE:FUNCTION --variant NAME:KEY=VALUE[,KEY=VALUE...] --variant ...
"""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from config.fields import all_settings
from config.load import ConfigError, config_from
from config.options import given
from lab.study.checks import Better
from lab.study.comparisons.shared import ACTORS, RETURN
from lab.study.design import Comparison, Scene
from lab.study.given import check_weaken, checked_game, keys_of, parts
from server.arguments import look_here

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
    look_here()
    told = parse_variants(variants)
    experts = {name: teacher for name, (_, teacher) in told.items() if teacher is not None}
    _, scene_expert = checked_game(env, expert, "--expert")
    for name, teacher in experts.items():
        checked_game(env, teacher, f"--variant {name}: {EXPERT_KEY}")
    check_weaken(weaken, env, scene_expert)
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
    for word in parts(text):
        key, equals, value = (each.strip() for each in word.partition("="))
        if not (key and equals and value):
            raise ConfigError(f"{where}: expected {_FORM}, got {word!r}")
        if key == EXPERT_KEY:
            keys = [key]
            expert = value
        else:
            keys = keys_of(key, where)
        for each in keys:
            if each in values:
                raise ConfigError(f"{where}: {each}: set twice; leave one of them out")
            values[each] = value if key == EXPERT_KEY else all_settings()[each].read(value)
    values.pop(EXPERT_KEY, None)
    return values, expert

"""Gymnasium's environments by their names, with what is asked for put around them.

The packages that register environments when they are imported are imported where a name is one of
theirs.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import gymnasium
from gymnasium.wrappers import TransformAction

from understudy_client import atari, minatar, minigrid, pictures
from understudy_client.env_options import PLAIN, EnvOptions
from understudy_client.spaces import bounded

OWN = {
    "CatchPixels-v0": "understudy_client.catch",
    "LunarLanderHybrid-v3": "understudy_client.lunar",
    "PongRam-v0": "understudy_client.pong",
}
"""Environments of this package, and the modules that register them."""

Env = gymnasium.Env[Any, Any]


def make(env_id: str, options: EnvOptions = PLAIN) -> Env:
    """An environment by its name: `gymnasium.make`, which also knows those of this package, ALE,
    MinAtar and MiniGrid without further imports. Errors: ValueError; those of Gymnasium and of the
    environment."""
    env = _made(env_id, options)
    for name in options.wraps:
        env = _wrapped(env, name)
    if options.resize is not None or options.grayscale:
        env = pictures.resized(env, options.resize, grayscale=options.grayscale)
    if options.action_bounds is not None:
        space = bounded(env.action_space, *options.action_bounds)
        env = TransformAction(env, lambda action: action, space)
    return env


def _made(env_id: str, options: EnvOptions) -> Env:
    args: dict[str, Any] = dict(options.args)
    if env_id in OWN:
        importlib.import_module(OWN[env_id])
    try:
        if options.atari:
            return atari.preprocessed(env_id, **args)
        if env_id.startswith(minatar.NAMESPACE):
            return minatar.made(env_id, **args)
        if env_id.startswith(minigrid.NAMES):
            return minigrid.made(env_id, **args)
        if env_id.startswith(atari.NAMESPACE):
            atari.register()
        return gymnasium.make(env_id, **args)
    except gymnasium.error.NamespaceNotFound as error:
        raise gymnasium.error.NamespaceNotFound(
            f"{error} Name the module that registers it: --env MODULE:{env_id}"
        ) from error
    except TypeError as error:
        if args and "argument" in str(error):
            raise ValueError(
                f"expected arguments that {env_id} takes, got {', '.join(args)}: {error}"
            ) from error
        raise


def _wrapped(env: Env, name: str) -> Env:
    try:
        function = named(name)
    except ValueError as error:
        raise ValueError(f"wrap {error}") from error
    wrapped = function(env)
    if not isinstance(wrapped, gymnasium.Env):
        raise ValueError(
            f"wrap {name!r}: expected a function that is given the environment and returns a "
            f"gymnasium.Env, got {type(wrapped).__name__} from it"
        )
    return wrapped


def named(name: str) -> Callable[..., Any]:
    """The function of this name, `module:function`. Errors: ValueError, saying what could not be
    found."""
    module, colon, function = name.partition(":")
    if not (module and colon and function):
        raise ValueError(f"{name!r}: expected module:function")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{name!r}: {error}") from error
    if not callable(found):
        raise ValueError(f"{name!r}: expected a function, got {type(found).__name__}")
    callable_: Callable[..., Any] = found
    return callable_

"""An expert of the server's own (`expert.plugin`), for frames that come without a recommendation.

It is a function, named as `module:function`:

    def expert(obs, situation):
        return rows

`obs` [n, ...] are the newest observations of n games (of a game with several an array for each, by
its name), `situation` is what else is known of them,
`rows` [n, action_width] what each should do: a column for each discrete head, `size` columns for
each continuous one; NaN first where the expert has no advice. docs/experts.md has an example.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.finding import Finding
from config.load import ConfigError
from config.models import Config
from protocol.errors import RemoteError
from protocol.masks import are_legal, illegal
from protocol.spaces import GameSpec
from server.arguments import look_here

log = logging.getLogger("expert")


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known of n frames beside their observations. Not to be changed, and not to be kept:
    the arrays are used again for the next frames."""

    spec: GameSpec
    streams: npt.NDArray[np.int64]
    """Which game each frame is of, [n]: a number of its own for each slot of each connection, so
    that an expert can remember something for a game."""
    first: npt.NDArray[np.bool_]
    """Which frames begin an episode, [n]."""
    fields: Mapping[str, npt.NDArray[Any]]
    """What the clients sent beside the observations, an array [n] for each name. Empty for clients
    of the protocol, which send nothing else; the header's fields for older ones
    (protocol.tempest.HEADER). Clients of both kinds are asked about apart."""
    legal: npt.NDArray[np.bool_] | None = None
    """Which choices are legal in each frame, [n, choices of all discrete heads in their order];
    None for a game that does not say."""


Function = Callable[[Any, Situation], Any]


def find(name: str) -> Function:
    """The function of this name, `module:function`. The current folder is looked in last.

    Errors: ValueError that says what could not be found, or why it could not be imported.
    """
    module, _, function = name.partition(":")
    look_here()
    try:
        found = getattr(importlib.import_module(module), function)
    except Exception as error:  # whatever a module does when it is imported
        raise ValueError(f"expert.plugin {name!r}: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise ValueError(f"expert.plugin {name!r}: expected a function, got {type(found).__name__}")
    expert: Function = found
    return expert


def check(config: Config) -> None:
    """Errors: ConfigError where the expert that is named cannot be imported."""
    if config.expert.plugin is not None:
        try:
            find(config.expert.plugin)
        except ValueError as error:
            raise ConfigError(f"{error}; correct it, or leave expert.plugin out") from None


class ExpertPlugin:
    """Asks the function, and lets nothing through that is no advice for this game."""

    def __init__(self, name: str, function: Function, spec: GameSpec) -> None:
        self.name = name
        self.failures = 0
        """How often it raised something, or gave what is no advice."""
        self._function = function
        self._spec = spec
        self._kinds: set[type[Exception]] = set()
        """Of failures that are in the log, with the place where it failed."""
        self._found: Finding | None = None

    @staticmethod
    def load(name: str | None, spec: GameSpec) -> ExpertPlugin | None:
        """The expert of this name; None where there is no name. Errors: ValueError, like `find`."""
        return None if name is None else ExpertPlugin(name, find(name), spec)

    def ask(
        self,
        obs: npt.NDArray[Any],
        streams: npt.NDArray[np.int64],
        first: npt.NDArray[np.bool_],
        fields: Mapping[str, npt.NDArray[Any]],
        legal: npt.NDArray[np.bool_] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Advice for n frames, float32 [n, action_width], NaN where there is none. `obs` are rows
        [n, observation_size]. A failure is logged and counted, and there is no advice."""
        spec, n = self._spec, len(obs)
        try:
            shown = {
                each.name: part[:, 0]
                for each, part in zip(spec.observations, spec.parts(obs), strict=True)
            }
            given = self._function(
                shown if len(shown) > 1 else shown[spec.observations[0].name],
                Situation(spec, streams, first, fields, legal),
            )
            rows = np.asarray(given, np.float32)
            if rows.shape != (n, spec.action_width):
                raise ValueError(
                    f"expected {n} action rows of {spec.action_width} numbers, got an array of "
                    f"shape {list(rows.shape)}"
                )
            _check(spec, rows, legal)
        except Exception as error:
            self._failed(error)
            return np.full((n, spec.action_width), np.nan, np.float32)
        return np.where(np.isnan(rows[:, :1]), np.float32(np.nan), rows)

    def _failed(self, error: Exception) -> None:
        self.failures += 1
        what = error.message if isinstance(error, RemoteError) else repr(error)
        text = f"expert.plugin {self.name}: {what}; the network plays these frames"
        self._found = Finding(
            "expert_fails", f"{text} (failure {self.failures})", "correct the function"
        )
        if type(error) not in self._kinds:  # once: it is asked every turn
            self._kinds.add(type(error))
            told = isinstance(error, ValueError | RemoteError)
            log.error("%s", text, exc_info=None if told else error)

    def take_findings(self) -> list[Finding]:
        """The newest failure since the last call."""
        found, self._found = self._found, None
        return [found] if found else []


def _check(
    spec: GameSpec, rows: npt.NDArray[np.float32], legal: npt.NDArray[np.bool_] | None
) -> None:
    """Errors: ValueError, RemoteError for numbers that are no action."""
    given = rows[~np.isnan(rows[:, 0])]
    if np.isnan(given).any():
        raise ValueError("expected whole action rows, or NaN first for none; got NaN further on")
    spec.check_action_rows(given)
    if legal is not None:
        masks = legal[~np.isnan(rows[:, 0])]
        allowed = are_legal(given, masks, spec)
        if not allowed.all():
            row, head = np.argwhere(~allowed)[0].tolist()
            raise illegal("what the expert recommends", given[row], masks[row], head, spec)

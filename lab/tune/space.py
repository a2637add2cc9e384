"""The space that a search draws from: which settings, and which values of each.

learner.learning_rate=1e-4..2e-3:log    a range of numbers, here drawn by their logarithm
learner.batch_size=64,128,256           values
imitation.expert=0.1..3                 a schedule: its start and its end alike
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from config.fields import Setting, all_settings
from config.load import ConfigError, config_from
from lab.study.given import keys_of, parts
from protocol.spaces import GameSpec

FORMS = "KEY=LOW..HIGH, KEY=LOW..HIGH:log or KEY=VALUE,VALUE,..."

UNREAD = (
    "replay.device", "trainer.device", "trainer.max_lag_updates", "trainer.nice",
    "trainer.publish_every_s", "trainer.threads",
)  # fmt: skip
"""Settings that the trials' outcome does not depend on, beside the groups of ELSEWHERE."""

SEARCH = "--search"

_LOG, _RANGE = ":log", ".."


@dataclass(frozen=True)
class SearchRange:
    """All numbers from `low` to `high`, both included; whole ones where both are int."""

    name: str
    low: int | float
    high: int | float
    log: bool = False

    def holds(self, value: Any) -> bool:
        """Whether a value of the setting can be drawn."""
        return isinstance(value, int | float) and self.low <= value <= self.high

    def ends(self) -> tuple[Any, ...]:
        """The values that must be valid for all to be."""
        return self.low, self.high

    def __str__(self) -> str:
        return f"{self.name}={self.low}{_RANGE}{self.high}{_LOG if self.log else ''}"


@dataclass(frozen=True)
class SearchChoices:
    """These values, in no order."""

    name: str
    texts: tuple[str, ...]
    """As a shell would give them; so Optuna can keep them, whatever the setting's type is."""

    def value(self, text: str) -> Any:
        """The value of the setting that a text stands for."""
        return all_settings()[keys_of(self.name, SEARCH)[0]].read(text)

    def text(self, value: Any) -> str | None:
        """The text of a value, where it can be drawn."""
        plain = all_settings()[keys_of(self.name, SEARCH)[0]].plain(value)
        return next((text for text in self.texts if self.value(text) == plain), None)

    def ends(self) -> tuple[Any, ...]:
        """The values that must be valid."""
        return tuple(map(self.value, self.texts))

    def __str__(self) -> str:
        return f"{self.name}={','.join(self.texts)}"


Dimension = SearchRange | SearchChoices


def parse_space(words: Sequence[str], base: Mapping[str, Any]) -> tuple[Dimension, ...]:
    """The dimensions that `--search` names, each checked against its setting beside the others of
    `base`. Errors: ConfigError that says what was expected, what came, and what to do."""
    found = tuple(map(_dimension, words))
    taken: set[str] = set()
    for dimension in found:
        for key in keys_of(dimension.name, SEARCH):
            if key in taken:
                raise ConfigError(f"--search: {key} is searched twice; leave one of them out")
            taken.add(key)
        for value in dimension.ends():
            values = dict.fromkeys(keys_of(dimension.name, SEARCH), value)
            config_from({**base, **values}, source=f"--search {dimension}")
    return found


def default_space(spec: GameSpec, *, taught: bool, given: Sequence[str]) -> tuple[str, ...]:
    """What is searched where nothing else is asked for, as `--search` takes it. `taught`: the game
    has an expert. `given`: keys that the caller has set, which are left as they are."""
    words = [
        "learner.learning_rate=1e-4..2e-3:log",
        "learner.batch_size=64,128,256,512",
        "learner.hidden=none,[128,128],[256,256],[512,512,256]",
        "learner.n_step=1..8",
        "learner.gamma=0.97,0.98,0.99,0.995,0.998",
        "learner.target_tau=0.002..0.02:log",
        "trainer.replay_ratio=0.1..1:log",
    ]
    if spec.discrete:
        words.append("exploration.epsilon.start=0.05..0.4")
    if spec.continuous:
        words.append("exploration.noise.start=0.05..0.4")
    if taught:
        words += ["expert.ratio.start=0.1..0.9", "imitation.rows=expert,recommended"]
        if spec.discrete:
            words.append("imitation.margin=0.1..3:log")
    return tuple(word for word in words if word.partition("=")[0] not in given)


def _dimension(word: str) -> Dimension:
    name, equals, text = (part.strip() for part in word.partition("="))
    if not (name and equals and text):
        raise ConfigError(f"--search: expected {FORMS}, got {word!r}")
    keys = keys_of(name, SEARCH)
    if name in UNREAD:
        raise ConfigError(
            f"--search: {name}: expected a setting that learning depends on; runs in lock step do "
            "not read this one: leave it out"
        )
    setting = all_settings()[keys[0]]
    if _RANGE in text and setting.kind in (int, float):
        return _range(name, setting, text)
    if text.endswith(_LOG):
        raise ConfigError(f"--search {name}: expected {FORMS}, got {text!r}")
    texts = tuple(part.strip() for part in parts(text))
    found = SearchChoices(name, texts)
    values = list(map(found.value, texts))
    if len(values) < 2 or "" in texts or any(v in values[:n] for n, v in enumerate(values)):
        raise ConfigError(
            f"--search {name}: expected at least two different values, or LOW..HIGH, got {text!r}"
        )
    return found


def _range(name: str, setting: Setting, text: str) -> SearchRange:
    log = text.endswith(_LOG)
    ends = [setting.read(part.strip()) for part in text.removesuffix(_LOG).split(_RANGE)]
    kind = "whole numbers" if setting.kind is int else "numbers"
    numbers = [end for end in ends if isinstance(end, int | float) and math.isfinite(end)]
    if len(ends) != 2 or numbers != ends or ends[0] >= ends[1] or (log and ends[0] <= 0):
        above = ", the first one above 0" if log else ""
        raise ConfigError(
            f"--search {name}: expected LOW..HIGH of two {kind}, the smaller one first{above}, "
            f"got {text!r}"
        )
    low, high = numbers
    return SearchRange(name, low, high, log)

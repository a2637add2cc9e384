"""Settings that have another name today: the one table of old and new names.

The `config.toml` of an older run is read with it (`current`), so that the run resumes. Where
a person gives an old name, it is refused with the new one (`hint`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KEYS = {
    "health.then": "health.on_divergence",
    "health.lower_rate": "health.lr_factor",
    "health.go_back_most": "health.max_rollbacks",
    "health.skips_in_a_row": "health.max_consecutive_skips",
    "supervision.restarts": "supervision.max_restarts",
    "supervision.within_s": "supervision.window_s",
    "supervision.pause_s": "supervision.backoff_s",
    "supervision.hang_s": "supervision.hang_timeout_s",
    "replay.prioritised": "replay.prioritized",
    "learner.normalise_observations": "learner.normalize_observations",
    "advantage.normalise": "advantage.normalize",
}
"""Old key -> key."""

VALUES = {
    "health.on_divergence": {"go_back": "rollback"},
}
"""Key -> old value -> value, for the keys above whose values changed with them."""


def current(old_key: str, value: Any) -> tuple[str, Any]:
    """Key and value of today, of those that an older version wrote. Errors: KeyError for a key that
    has never had another name."""
    key = KEYS[old_key]
    # Only text is looked up: a damaged file may hold a list or a table here.
    return key, VALUES.get(key, {}).get(value, value) if isinstance(value, str) else value


def hint(name: str) -> str | None:
    """What a person is told who gives a setting under its old name: "health.then is now
    health.on_divergence". None for any other name."""
    return f"{name} is now {KEYS[name]}" if name in KEYS else None


def with_old_names(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration as tables of fields, with the names that settings had at first: for a digest
    that must stay what it was. `tree` may lack groups."""
    old = {group: dict(fields) for group, fields in tree.items()}
    for old_key, key in KEYS.items():
        group, name = key.split(".")
        if name not in old.get(group, {}):
            continue
        value = old[group].pop(name)
        back = {now: before for before, now in VALUES.get(key, {}).items()}
        old[group][old_key.split(".")[1]] = back.get(value, value)
    return old

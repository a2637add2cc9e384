"""The settings that shape a network: a checkpoint has them, and a network of others cannot go on
from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from config.models import LearnerConfig

NAMES = (
    "hidden",
    "value",
    "atoms",
    "value_min",
    "value_max",
    "continuous",
    "bins",
    "trunk",
    "normalize_observations",
    "memory",
    "memory_units",
)
"""Of `learner`; `replay.frame_stack` is one too."""


def network_settings(
    learner: LearnerConfig, hidden: Sequence[int], frame_stack: int
) -> dict[str, Any]:
    """The settings that a network is made with, by key, as plain values. `hidden`: the layers that
    it has (agent.looks.hidden_layers)."""
    found = {f"learner.{name}": getattr(learner, name) for name in NAMES}
    found["learner.hidden"] = list(hidden)
    return found | {"replay.frame_stack": frame_stack}


def settings_of(state: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the network in a learner's state; of an older state, which does not have
    them, those that the shapes of its tensors tell."""
    if "settings" in state:
        return {"learner.memory": "none", **state["settings"]}  # which older ones do not tell
    tensors: Mapping[str, Tensor] = state["network"]
    layers = sorted(
        (int(name.split(".")[1]), tensor.shape[0])
        for name, tensor in tensors.items()
        if name.startswith("trunk.") and name.endswith(".weight")
    )
    return {
        "learner.hidden": [width for _, width in layers],
        "learner.normalize_observations": "obs_mean" in tensors,
    }


def mismatch(saved: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """What to say of a checkpoint whose network is another than the one that is asked for: which
    settings differ, and what to do."""
    keys = [key for key, value in saved.items() if key in asked and asked[key] != value]
    if not keys:
        return (
            "it is of a network of another shape; resume with the settings that it was saved with "
            "(learner.hidden, learner.value, replay.frame_stack and others), or start a new run "
            "without --resume"
        )
    differ = "; ".join(f"{k} is {_text(asked[k])}, and was {_text(saved[k])} there" for k in keys)
    as_saved = " ".join(_option(key, saved[key]) for key in keys)
    as_asked = " ".join(_option(key, asked[key]) for key in keys)
    return (
        f"it is of a network with other settings: {differ}. To continue this run, leave out what "
        f"changes them, or resume with {as_saved}. For a network with {as_asked}, start a new run "
        "without --resume"
    )


def _text(value: Any) -> str:
    """A value as TOML and the command line have it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"[{', '.join(map(str, value))}]" if _is_list(value) else str(value)


def _option(key: str, value: Any) -> str:
    """A setting as the command line has it."""
    if isinstance(value, bool):
        return f"--{key}" if value else f"--no-{key}"
    return f"--{key} '{_text(value)}'" if _is_list(value) else f"--{key} {_text(value)}"


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)

"""In what a game differs from the one that a run trains on, or is for, in words. Pure."""

from __future__ import annotations

from protocol.spaces import GameSpec, describe_head


def difference(spec: GameSpec, run: GameSpec) -> str:
    """The parts of `spec` that are not as those of `run`. Another game by its name differs in that:
    the rest is no news then."""
    if spec.game != run.game:
        return f"the game is {spec.game!r}, this run's is {run.game!r}"
    found = []
    if len(spec.observations) != len(run.observations):
        found.append(
            f"the observations are {len(spec.observations)}, this run's {len(run.observations)}"
        )
    for ours, theirs in zip(spec.observations, run.observations, strict=False):
        if ours != theirs:
            found.append(f"the observation is {ours.describe()}, this run's is {theirs.describe()}")
            break  # the first says enough
    if len(spec.actions) != len(run.actions):
        found.append(f"the action heads are {len(spec.actions)}, this run's {len(run.actions)}")
    for number, (head, other) in enumerate(zip(spec.actions, run.actions, strict=False)):
        if head != other:
            found.append(
                f"action head {number} is {describe_head(head)}, this run's is "
                f"{describe_head(other)}"
            )
            break  # the first says enough
    if spec.rewards != run.rewards:
        found.append(f"the rewards are {_names(spec)}, this run's are {_names(run)}")
    if spec.masks != run.masks:
        has, has_not = ("it says", "does not") if spec.masks else ("it does not say", "does")
        found.append(f"{has} which actions are legal (masks), this run's game {has_not}")
    return "; ".join(found)


def refusal(spec: GameSpec, run: GameSpec) -> str:
    """The message for a game that is not the run's."""
    cure = "start a run of its own for it"
    if spec.game == run.game:
        cure = f"make them the same, or {cure}"
    return (
        f"{difference(spec, run)}; expected this run's game, {run.describe()}; got "
        f"{spec.describe()}; {cure}"
    )


def other_game(spec: GameSpec, wanted: str) -> str | None:
    """The message for a game that is not of the name that the run is for; None for one that is."""
    if spec.game == wanted:
        return None
    return (
        f"the game is {spec.game!r}, this run is for {wanted!r} (run.game); start a run of its own "
        f"for it, or set run.game to {spec.game!r}"
    )


def _names(spec: GameSpec) -> str:
    return ", ".join(spec.rewards)

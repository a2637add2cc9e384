"""Minari's datasets as recordings: every step the expert's, every episode a stream of its own.

Minari keeps what was played in Gymnasium environments, in the units of their spaces. Only datasets
that are on this machine are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from agent.npz import memory_budget
from agent.recording import Recording, RecordingError, joined
from agent.step import FINAL, STEP, StepBlock
from protocol.actor import Actor
from protocol.errors import RemoteError
from protocol.messages import TERMINATED, TRUNCATED
from protocol.spaces import GameSpec
from server.play.extras import how_to_install
from understudy_client import spec as client_spec
from understudy_client.observation_spaces import ObservationSpace, observation_space
from understudy_client.observations import Observation
from understudy_client.spaces import ActionSpace, action_space, bounded

Bounds = tuple[float, float]
"""Of continuous actions where the dataset's space has none."""


def read(dataset_id: str, spec: GameSpec | None, bounds: Bounds | None = None) -> Recording:
    """A dataset of this machine; of the game `spec`, where there is one. Errors: RecordingError."""
    try:
        import minari
    except ImportError as error:
        raise RecordingError(
            f"minari:{dataset_id}: datasets of Minari are read with its package, which cannot be "
            f"imported ({error}); {how_to_install('minari')}"
        ) from error
    try:
        dataset = minari.load_dataset(dataset_id, download=False)
        return converted(dataset, spec, bounds)
    except FileNotFoundError as error:
        raise RecordingError(
            f"minari:{dataset_id}: expected a dataset on this machine, found none ({error}); "
            f"fetch it with Minari's own command: minari download {dataset_id}"
        ) from error
    except RecordingError:
        raise
    except SpaceError as error:
        raise RecordingError(f"minari:{dataset_id}: {error}") from error
    # What reads HDF5 raises what it comes upon: there is no class in common.
    except Exception as error:
        raise RecordingError(
            f"minari:{dataset_id}: expected a dataset that can be read, got {error!r}; fetch it "
            "again with `minari download`"
        ) from error


def converted(dataset: Any, spec: GameSpec | None, bounds: Bounds | None = None) -> Recording:
    """A `minari.MinariDataset` as a recording.

    Errors: SpaceError for spaces that a game cannot have, ValueError for episodes that go on after
    their end; RecordingError for another game than `spec`.
    """
    seen, actions = _spaces(dataset, bounds)
    game = dataset.env_spec.id if dataset.env_spec is not None else None
    if game is None:  # the dataset does not know: it is what the run says, if the spaces agree
        game = spec.game if spec is not None else dataset.id
    found = _spec(game, seen.observations, actions)
    if spec is not None and found != spec:
        raise RecordingError(
            f"minari:{dataset.id}: expected a dataset of {spec.describe()}, got one of "
            f"{found.describe()}"
        )
    taken, left = int(dataset.total_steps) * StepBlock.nbytes(found, 1024) // 1024, memory_budget()
    if taken > left:
        raise RecordingError(
            f"minari:{dataset.id}: expected at most {left:,} bytes, what there is memory for, got "
            f"{taken:,}; import a smaller dataset"
        )
    blocks = [
        _block(found, seen, actions, episode, number)
        for number, episode in enumerate(dataset.iterate_episodes())
    ]
    return Recording(found, joined(blocks, found), (1.0,) * len(found.rewards))


class SpaceError(ValueError):
    """Spaces that a game cannot have."""


def _spaces(dataset: Any, bounds: Bounds | None) -> tuple[ObservationSpace, ActionSpace]:
    """Both spaces of a dataset. Errors: SpaceError."""
    space = dataset.action_space
    try:
        actions = action_space(space if bounds is None else bounded(space, *bounds))
        return observation_space(dataset.observation_space), actions
    except (TypeError, ValueError) as error:
        raise SpaceError(str(error)) from error


def _spec(game: str, seen: Sequence[Observation], actions: ActionSpace) -> GameSpec:
    wire = msgspec.json.encode(client_spec.GameSpec(game, seen, actions.heads))
    try:
        return msgspec.json.decode(wire, type=GameSpec).checked()
    except RemoteError as error:
        raise ValueError(error.message) from None


def _block(
    spec: GameSpec, seen: ObservationSpace, actions: ActionSpace, episode: Any, number: int
) -> StepBlock:
    """An episode of T steps: T rows, and a final one with the last observation."""
    steps = len(episode)
    ended = np.asarray(episode.terminations, bool) | np.asarray(episode.truncations, bool)
    if not steps or ended[:-1].any():
        raise ValueError(
            f"episode {episode.id}: expected steps and one end behind them, got {steps} steps and "
            f"{int(ended.sum())} ends"
        )
    block = StepBlock.empty(spec, steps + 1)
    for i in range(steps + 1):
        block.obs[i] = spec.row(seen.to_wire(_at(episode.observations, i)))
    block.stream[:] = number
    block.seq[:] = np.arange(steps + 1)
    for i in range(steps):
        block.action[i] = client_spec.action_row(actions.to_wire(_at(episode.actions, i)))
    block.reward[:steps] = episode.rewards
    block.actor[:steps] = Actor.EXPERT
    block.kind[:steps], block.kind[steps] = STEP, FINAL
    # An episode that just stops was cut off.
    block.status[steps - 1] = TERMINATED if episode.terminations[-1] else TRUNCATED
    return block


def _at(values: Any, i: int) -> Any:
    """The i-th of actions or observations, which Minari keeps as one array for each leaf of their
    space."""
    if isinstance(values, dict):
        return {key: _at(part, i) for key, part in values.items()}
    if isinstance(values, tuple):
        return tuple(_at(part, i) for part in values)
    return values[i]

"""Which choices are legal, as environments say it: by a method `action_masks`, or by a mask in
`info` or in the observation, called `action_mask`.

The method is that of sb3-contrib: a bool for each choice of each discrete head, one head behind the
other; whichever wrapper has it. A mask of a space is what `space.sample(mask)` takes: of a Discrete
an array with an element for each choice, of a MultiDiscrete such an array for each entry (or all of
them in one), of a MultiBinary an array of 0, 1 and 2 (either), of a Dict or Tuple one of masks.
None says that all is legal. In the observation (as PettingZoo has it) a mask stands beside
`observation`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from understudy_client.checks import shown
from understudy_client.observation_spaces import MASK, ObservationSpace, observation_space
from understudy_client.spaces import ActionSpace, action_space, told
from understudy_client.spec import Discrete, Part

METHOD = "action_masks"

EITHER = 2
"""In the mask of a MultiBinary."""

Flags = npt.NDArray[np.bool_]


class Masks:
    """Where the masks of a game are, and what they say."""

    def __init__(
        self,
        space: spaces.Space[Any],
        actions: ActionSpace,
        seen: ObservationSpace,
        method: Callable[[], Any] | None = None,
    ) -> None:
        """method: says what is legal now; without one, the first observation shows where the masks
        are."""
        self._space, self._seen, self._method = space, seen, method
        self._actions, self._heads = actions, actions.heads

    @property
    def declared(self) -> bool:
        """It is known without a look at the first observation that there are masks."""
        return self._method is not None

    def are_there(self, info: Mapping[str, Any]) -> bool:
        """Whether the game has any; `info`: what came with its first observation."""
        return self.declared or (
            (self._seen.has_mask or MASK in info)
            and any(isinstance(head, Discrete) for head in self._heads)
        )

    def legal(self, obs: Any, info: Mapping[str, Any]) -> Flags:
        """What is legal now, for `Client.act`. Errors: ValueError."""
        if self._method is not None:
            found = self._method()
            parts = found if isinstance(found, list | tuple) else [found]
            return np.concatenate([np.ravel(part) for part in parts]).astype(np.bool_)
        return legal_choices(self._space, obs[MASK] if self._seen.has_mask else info.get(MASK))

    def allows(self, legal: Flags, action: Sequence[Part]) -> bool:
        """Whether an action of the wire is legal."""
        start = 0
        for head, part in zip(self._heads, action, strict=True):
            if isinstance(head, Discrete):
                if not legal[start + int(part)]:  # type: ignore[arg-type]
                    return False
                start += head.n
        return True

    def made_legal(self, legal: Flags, action: Any, rng: np.random.Generator) -> Any:
        """An action of the environment whose choices are legal: of one that is not, a random legal
        one is taken instead."""
        parts, start = list(self._actions.to_wire(action)), 0
        for i, head in enumerate(self._heads):
            if isinstance(head, Discrete):
                allowed = np.flatnonzero(legal[start : start + head.n])
                if parts[i] not in allowed and len(allowed):
                    parts[i] = int(rng.choice(allowed))
                start += head.n
        return self._actions.to_env(parts)


def masks_of(env: gymnasium.Env[Any, Any]) -> Masks:
    """The masks of an environment of Gymnasium, if there are any (`Masks.are_there`). Errors:
    TypeError, ValueError for one that cannot be played."""
    done = env.action_space
    method = env.get_wrapper_attr(METHOD) if env.has_wrapper_attr(METHOD) else None
    return Masks(done, action_space(done), observation_space(env.observation_space), method)


def legal_choices(space: spaces.Space[Any], mask: Any) -> Flags:
    """A bool for each choice of each discrete head of an action space, as `Client.act` takes it in
    `legal`. Errors: ValueError."""
    try:
        return np.concatenate(list(_flags(space, mask)))
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise ValueError(
            f"{MASK}: expected a mask as {told(space)} takes it in sample(), got {shown(mask)}"
        ) from error


def _flags(space: spaces.Space[Any], mask: Any) -> Iterator[Flags]:
    """For each discrete head of the space, in their order."""
    match space:
        case spaces.Dict():
            for key, each in space.spaces.items():
                yield from _flags(each, None if mask is None else mask.get(key))
        case spaces.Tuple():
            masks = [None] * len(space.spaces) if mask is None else mask
            for each, part in zip(space.spaces, masks, strict=True):
                yield from _flags(each, part)
        case spaces.Discrete():
            yield from _of_sizes([int(space.n)], [mask])
        case spaces.MultiDiscrete():
            sizes = space.nvec.ravel().tolist()
            yield from _of_sizes(sizes, _entries(mask, sizes, len(space.shape)))
        case spaces.MultiBinary():
            wanted = np.full(space.shape, EITHER) if mask is None else np.asarray(mask)
            for value in wanted.reshape(space.shape).ravel().tolist():
                yield np.array([value in (0, EITHER), value in (1, EITHER)])
        case _:
            if mask is not None:
                raise ValueError("no choices")
            heads = [] if _has_no_choice(space) else action_space(space).heads
            sizes = [head.n for head in heads if isinstance(head, Discrete)]
            yield from _of_sizes(sizes, [None] * len(sizes))


def _of_sizes(sizes: list[int], masks: list[Any]) -> Iterator[Flags]:
    for n, mask in zip(sizes, masks, strict=True):
        if n < 2:  # it has no head
            continue
        flags = np.ones(n, np.bool_) if mask is None else np.asarray(mask)
        if flags.shape != (n,) or flags.dtype.kind not in "biu":
            raise ValueError(f"expected {n} flags, got {shown(mask)}")
        yield flags != 0


def _entries(mask: Any, sizes: list[int], sides: int) -> list[Any]:
    """The masks of the entries of a MultiDiscrete, which nest as its sides do."""
    if mask is None:
        return [None] * len(sizes)
    if isinstance(mask, np.ndarray) and mask.shape == (sum(sizes),) and len(sizes) > 1:
        return np.split(mask, np.cumsum(sizes)[:-1])
    masks = list(mask)
    for _ in range(sides - 1):
        masks = [each for part in masks for each in part]
    return masks


def _has_no_choice(space: spaces.Space[Any]) -> bool:
    return isinstance(space, spaces.Box) and bool((space.low == space.high).all())

"""Settings `reward.*`: how the components of a reward become one number."""

from __future__ import annotations

from typing import Annotated

from config.settings.base import Finite, OrNone, Positive, Section


class RewardConfig(Section):
    """How the components of a reward become the number that is learnt from."""

    weights: dict[str, Finite] = {}
    """Weight of each reward component by its name; 1 for one that is not named."""
    clip: Annotated[Positive | None, OrNone] = None
    """The weighted sum is clipped to [-clip, clip]. none: as it is."""

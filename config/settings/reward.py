"""Settings `reward.*`: how the components of a reward become one number."""

from __future__ import annotations

from typing import Annotated

from config.settings.base import Finite, Live, OrNone, Positive, Section


class RewardConfig(Section):
    """How the components of a reward become one number."""

    weights: dict[str, Finite] = {}
    """Weight of each reward component by name; 1 for one that is not listed."""
    clip: Annotated[Positive | None, OrNone, Live()] = None
    """The weighted sum is clipped to [-clip, clip]. none: no clipping. A change holds for new
    steps."""

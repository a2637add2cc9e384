"""Settings `evaluation.*`: how long an episode of evaluation may be."""

from __future__ import annotations

from typing import Annotated

from config.settings.base import Frames, Live, Seconds, Section


class EvaluationConfig(Section):
    """How long an episode of evaluation may be. One that goes on is cut, and nothing goes by it."""

    # 108,000 frames of an Atari game, half an hour, are the longest episode by convention
    # (Machado et al. 2018, arXiv:1709.06009): 27,000 actions, as one stands for four frames.
    episode_frames: Annotated[Frames, Live()] = 30_000
    """Frames of an episode of evaluation, at most."""
    # That convention's half hour takes 9 minutes at 50 actions a second.
    episode_s: Annotated[Seconds, Live()] = 600.0
    """Time of an episode of evaluation, at most; so long may a game also do nothing between two
    episodes. The clock stops while the server makes games wait."""

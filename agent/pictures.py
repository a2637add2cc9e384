"""Which observations are pictures where nothing says so."""

from __future__ import annotations

from protocol.observations import COLORS, Observation, height_and_width

SMALLEST_UNSAID = 16
"""Height and width that an observation has at least to be taken for a picture. On a smaller board
every place means something else, and plain layers learn it sooner: MinAtar's Breakout, 10 x 10, to
45 of its teacher's 84 in 10,000 frames, where small convolutions came to 7 to 13."""

SMALLEST_SHORT = 8
"""Height and width of a picture that is declared as dtype and shape alone, at least."""


def is_picture(observation: Observation) -> bool:
    """Whether an observation is a picture: one that says so (`kind`), or, where it says nothing, of

    - uint8 or bool, two to four sides;
    - any other dtype, three or four sides, and with bounds: numbers that have none are no pixels;
    - in both cases, at least SMALLEST_UNSAID high and wide.

    One declared as dtype and shape alone is one only if it is uint8, has two sides, or three with
    at most COLORS colors, and is at least SMALLEST_SHORT high and wide.
    """
    if observation.kind is not None:
        return observation.kind == "picture"
    shape = observation.shape
    if not 2 <= len(shape) <= 4:
        return False
    smallest = min(height_and_width(observation))
    if observation.is_short:
        few = len(shape) == 2 or (len(shape) == 3 and min(shape[0], shape[2]) <= COLORS)
        return observation.dtype == "uint8" and few and smallest >= SMALLEST_SHORT
    if observation.dtype in ("uint8", "bool"):
        return smallest >= SMALLEST_UNSAID
    return len(shape) > 2 and observation.low is not None and smallest >= SMALLEST_UNSAID

"""The comparisons that `understudy study` knows, as data, by theme."""

from lab.study.comparisons.games import NEVER_WORSE, PIXELS
from lab.study.comparisons.learning import PONG, UNITS, VALUES
from lab.study.comparisons.teachers import (
    HYBRID_TEACHER,
    HYBRID_WEAK,
    TEACHER,
    WEAK_TEACHER,
    WEAKER_TEACHER,
)
from lab.study.comparisons.weights import SIGNALLED, TODAY, WEIGHTING

COMPARISONS = (
    NEVER_WORSE,
    TEACHER,
    WEAK_TEACHER,
    WEAKER_TEACHER,
    HYBRID_TEACHER,
    HYBRID_WEAK,
    WEIGHTING,
    SIGNALLED,
    TODAY,
    UNITS,
    VALUES,
    PONG,
    PIXELS,
)
"""All comparisons, in the order of the page."""

"""How a number of several learners becomes one: what a Metric declares."""

from __future__ import annotations

from typing import Literal

Merge = Literal["first", "sum", "weighted", "largest"]

FIRST: Merge = "first"
"""Of several learners' numbers the first one's: that of all, or the same at all."""

SUM: Merge = "sum"

WEIGHTED: Merge = "weighted"
"""Their mean, by the rows of their batches: of the actor, where the metric has one."""

LARGEST: Merge = "largest"

"""What the supervisor says to the other processes about the expert's part in play and learning."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ExpertRatio:
    """The supervisor to a gateway: the share that the expert plays where evaluations decide."""

    ratio: float
    trust: float = 1.0
    """In the expert, by play (agent.evidence): what lowers its share where play decides."""


@dataclass(frozen=True)
class Trusted:
    """The supervisor to the trainer: how much the expert is to be trusted by evaluations, 0 to 1
    (agent.trust)."""

    trust: float

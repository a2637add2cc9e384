"""Settings `imitation.*`: learning from what was done, beside what it earned."""

from __future__ import annotations

from typing import Annotated, Literal

from config.settings.base import Live, NotNegative, Positive, Schedule, Section


class ImitationConfig(Section):
    """Learning what to do from what was done, beside what it earned."""

    expert: Annotated[Schedule, Live()] = Schedule(start=1.0, end=1.0, frames=100_000)
    """Weight of cloning: the network is to choose what the expert chose, on the expert's rows."""
    loss: Annotated[Literal["margin", "cross_entropy"], Live()] = "margin"
    """Of cloning on discrete heads: a margin that Q of the expert's choice must keep above the
    others, or cross entropy of the choices, with Q over the temperature as logits."""
    margin: Annotated[Positive, Live()] = 0.8
    """With loss margin: how far Q of the expert's choice must be above the others."""
    temperature: Annotated[Positive, Live()] = 1.0
    """With loss cross_entropy: the difference in Q that makes one choice e times as likely."""
    taken: Annotated[NotNegative, Live()] = 0.0
    """Weight of imitating the actions taken on discrete heads, on all rows, by advantage weight
    where advantage.applies_to has imitation."""

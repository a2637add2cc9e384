"""Settings `imitation.*`: learning from what was done, beside what it earned."""

from __future__ import annotations

from typing import Annotated, Literal

from config.settings.base import Live, NotNegative, Positive, Schedule, Section


class ImitationConfig(Section):
    """Losses that imitate actions, in addition to learning from rewards."""

    expert: Annotated[Schedule, Live()] = Schedule(start=1.0, end=1.0, frames=100_000)
    """Weight of behavior cloning: on the steps of imitation.rows, the network learns to choose the
    expert's action."""
    decay: Annotated[Literal["schedule", "evaluation", "play"], Live()] = "play"
    """What lowers the weight further: nothing (schedule), or the student's getting as good as the
    expert, by evaluations, or by episodes of training that each of them plays alone (play)."""
    rows: Annotated[Literal["expert", "recommended"], Live()] = "recommended"
    """Steps that are cloned: those that the expert played, or also all others for which it
    recommended an action: then towards the recommendation."""
    loss: Annotated[Literal["margin", "cross_entropy"], Live()] = "margin"
    """Cloning loss of discrete heads: a margin by which Q of the expert's choice must exceed the
    others, or cross entropy with Q / temperature as logits."""
    margin: Annotated[Positive, Live()] = 1.5
    """With loss margin: by how much Q of the expert's choice must exceed the others, in units of
    normalized values (whose targets have a standard deviation of 10), if they are."""
    temperature: Annotated[Positive, Live()] = 1.0
    """With loss cross_entropy: the difference in Q that makes a choice e times as likely."""
    taken: Annotated[NotNegative, Live()] = 0.0
    """Weight of imitating the actions taken on discrete heads, on all steps; weighted by advantage
    if advantage.applies_to has imitation."""

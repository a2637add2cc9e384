"""Weights that take their time to come from the device, and nobody who waits for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from server.trainer.weight_publisher import WeightPublisher


class Coming:
    """A network on its way."""

    def __init__(self, vector: torch.Tensor) -> None:
        self._vector = vector
        self.arrived = False
        self.waited = False

    def wait(self) -> torch.Tensor:
        self.waited = True
        return self._vector


class FakeLearner:
    def __init__(self) -> None:
        self.updates = 0
        self.coming: list[Coming] = []

    def policy_on_its_way(self) -> Coming:
        self.coming.append(Coming(torch.full((2,), float(self.updates))))
        return self.coming[-1]


class FakeSlot:
    def __init__(self) -> None:
        self.version = 0
        self.published: list[float] = []

    def publish(self, vector: np.ndarray[Any, Any], version: int) -> None:
        self.published.append(float(vector[0]))
        self.version = version


def publisher() -> tuple[WeightPublisher, FakeLearner, FakeSlot]:
    slot, learner = FakeSlot(), FakeLearner()
    return WeightPublisher(slot, learner), learner, slot  # type: ignore[arg-type]


def test_first_weights_are_waited_for() -> None:
    _, learner, slot = publisher()
    assert slot.published == [0.0]
    assert learner.coming[0].waited


def test_weights_on_their_way_are_published_when_they_have_come() -> None:
    weights, learner, slot = publisher()
    learner.updates = 5
    weights.publish_if_due(0.0)
    learner.updates = 6
    weights.publish_if_due(0.0)
    (_, coming) = learner.coming
    assert not coming.waited, "nobody waits"
    assert slot.published == [0.0]
    coming.arrived = True
    weights.publish_if_due(0.0)
    assert slot.published == [0.0, 5.0]
    assert len(learner.coming) == 2, "one at a time"
    weights.publish_if_due(0.0)
    assert len(learner.coming) == 3, "those of since then"


def test_weights_that_are_asked_for_now_take_the_place_of_those_on_their_way() -> None:
    weights, learner, slot = publisher()
    learner.updates = 5
    weights.publish_if_due(0.0)
    learner.updates = 6
    weights.publish_if_changed(0.0)
    assert slot.published == [0.0, 6.0]
    learner.coming[1].arrived = True
    weights.publish_if_due(0.0)
    weights.publish_if_changed(0.0)
    assert slot.published == [0.0, 6.0], "older ones do not follow newer ones"
    assert len(learner.coming) == 3


def test_weights_on_their_way_count_as_a_change_for_who_wants_all_of_it() -> None:
    weights, learner, slot = publisher()
    learner.updates = 5
    weights.publish_if_due(0.0)
    weights.publish_if_changed(0.0)
    assert slot.published == [0.0, 5.0]


def test_weights_that_are_not_finite_are_kept_back() -> None:
    weights, learner, slot = publisher()
    learner.updates = 5
    weights.publish_if_due(0.0)
    learner.coming[1]._vector[0] = torch.nan
    learner.coming[1].arrived = True
    weights.publish_if_due(0.0)
    assert slot.published == [0.0]

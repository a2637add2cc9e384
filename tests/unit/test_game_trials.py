from __future__ import annotations

import msgspec

from server.supervisor.game_trials import FAILURES, REMEMBERED_S, WINDOW_S, GameTrials
from tests.support.worlds import SPEC

OTHER = msgspec.structs.replace(SPEC, game="other").checked()


def test_game_that_could_not_be_begun_is_refused_for_a_while() -> None:
    trials = GameTrials()
    assert trials.refusal(SPEC, 0.0) is None
    trials.remember(SPEC, "no memory", 100.0)
    assert trials.refusal(SPEC, 100.0) == "no memory (found out before; it is tried again in 300 s)"
    assert trials.refusal(msgspec.structs.replace(SPEC), 100.0 + REMEMBERED_S - 1) is not None
    assert trials.refusal(OTHER, 100.0) is None
    assert trials.refusal(SPEC, 100.0 + REMEMBERED_S) is None
    assert not trials._refused, "and forgotten"


def test_tries_that_fail_are_limited_in_a_window() -> None:
    trials = GameTrials()
    for now in range(FAILURES):
        assert trials.wait_s(float(now)) == 0
        trials.failed(float(now))
    assert trials.wait_s(FAILURES - 1.0) == WINDOW_S - FAILURES + 1
    assert trials.wait_s(WINDOW_S - 0.5) == 1
    assert trials.wait_s(WINDOW_S) == 0
    trials.failed(WINDOW_S)
    assert trials.wait_s(WINDOW_S) == 1, "the second of the first ones counts still"

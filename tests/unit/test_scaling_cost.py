from __future__ import annotations

from dataclasses import replace

from server.cluster.scaling_cost import Costs

PAYS = Costs(0.045, 0.0271, 0.0031, 0.0019, 0.0002, 500_000, 768, 2)


def test_second_learner_pays_where_a_shared_update_takes_less_time() -> None:
    assert PAYS.pays
    assert PAYS.sentence() == (
        "A second learner pays: an update of 768 rows takes 45.0 ms on one, and 27.1 ms on 2, of "
        "which the sum of 0.50 million gradients is 3.1 ms (1.9 ms in bfloat16)."
    )


def test_second_learner_does_not_pay_where_a_shared_update_takes_as_long() -> None:
    found = replace(PAYS, shared_s=PAYS.alone_s, learners=3)
    assert not found.pays
    assert found.sentence().startswith("Having 3 learners does not pay: ")

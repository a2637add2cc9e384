"""Each alert of deploy/prometheus fires for one course of a server's numbers, and not for another.

promtool plays the numbers to the rules. The names and labels of the numbers are those that the
server gives: a rule that joins two of them with different labels never fires.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.exposed import ANY, exposed
from tests.support.needs import needs

RULES = Path(__file__).parents[2] / "deploy/prometheus/alerts.yml"
SERVER = {"instance": "understudy:8080", "job": "understudy"}
"""What Prometheus adds to each series."""

Course = dict[str, str]
"""Series, without `understudy_` and the server's labels, to its values: one a minute from minute 0
in promtool's notation (`0+5x60`: 0, 5, 10, ...)."""


def steady(value: str) -> str:
    """The same for two hours."""
    return f"{value}+0x120"


RISES, JUMPS = "0+5x120", "0+0x9 3+0x110"
"""A counter that goes on rising, and one that rose once, in minute 10."""

NANS = " ".join(["NaN"] * 120)


@dataclass(frozen=True)
class Case:
    """When an alert fires, and when not."""

    fires: list[Course]
    """In minute `at`, for each of these."""
    silent: list[Course]
    """All the time, for each of these."""
    labels: dict[str, str] = field(default_factory=dict)
    """Of the alert, beside the server's and the severity."""
    at: int = 12


def lost(name: str) -> Case:
    """What is counted when a gateway dies, or before Prometheus first looks."""
    begun = {"started_time": steady("0")}  # the time of day begins at 0 here
    early = Case([{name: steady("7")} | begun], [])
    return Case(
        [{name: JUMPS} | begun, *early.fires],
        # Lost long ago, and nothing lost.
        [{name: "7+0x120", "started_time": "-7200+0x120"}, {name: steady("0")} | begun],
    )


CASES: dict[str, Case] = {
    "UnderstudyDown": Case([{"up": steady("0")}], [{"up": steady("1")}]),
    "UnderstudyUnhealthy": Case([{"healthy": steady("0")}], [{"healthy": steady("1")}]),
    "UnderstudyRestarts": Case(
        [{'restarts_by_process_total{process="trainer"}': JUMPS}],
        [{'restarts_by_process_total{process="trainer"}': steady("3")}],
        labels={"process": "trainer"},
    ),
    "UnderstudyNobodyPlays": Case(
        [{"slots": steady("0"), "frames": steady("9")}],
        # Games play; nobody has played yet.
        [{"slots": steady("1"), "frames": "9+9x120"}, {"slots": steady("0"), "frames": "0+0x120"}],
    ),
    "UnderstudyGamesStandStill": Case(
        [
            {"slots": steady("4"), "answers_per_s": steady("0")},
            {
                "slots": steady("5"), "answers_per_s": steady("20"), "slots_training": steady("4"),
                "frames_per_s": steady("0"), "ring_fill": steady("0.01"),
            },
        ],
        [
            {"slots": steady("4"), "answers_per_s": steady("20")},
            # They wait while others evaluate; they play.
            {
                "slots": steady("5"), "answers_per_s": steady("20"), "slots_training": steady("4"),
                "frames_per_s": steady("0"), "ring_fill": steady("0"),
            },
            {
                "slots": steady("4"), "answers_per_s": steady("20"), "slots_training": steady("4"),
                "frames_per_s": steady("20"), "ring_fill": steady("0.9"),
            },
            {"slots": steady("0"), "answers_per_s": steady("0")},
        ],
    ),
    "UnderstudyNoReport": Case(
        [{'report_age_s_by_process{process="trainer"}': "31+60x120", "degraded": steady("1")}],
        [
            {'report_age_s_by_process{process="trainer"}': steady("2"), "degraded": steady("1")},
            # Reports are an hour apart, as configured.
            {'report_age_s_by_process{process="trainer"}': steady("3000"), "degraded": steady("0")},
        ],
        labels={"process": "trainer"},
    ),
    "UnderstudyGamesRefused": Case(
        [{'errors_by_code_total{code="bad_token"}': JUMPS}],
        [{'errors_by_code_total{code="idle_timeout"}': RISES}],
        labels={"code": "bad_token"},
    ),
    "UnderstudyAnswersSlow": Case(
        [{
            'turn_seconds_bucket{le="0.05"}': "0+90x120",
            'turn_seconds_bucket{le="0.1"}': "0+100x120",
            'turn_seconds_bucket{le="+Inf"}': "0+100x120",
        }],
        [{
            'turn_seconds_bucket{le="0.05"}': "0+100x120",
            'turn_seconds_bucket{le="0.1"}': "0+100x120",
            'turn_seconds_bucket{le="+Inf"}': "0+100x120",
        }],
    ),
    "UnderstudyRingFull": Case(
        [
            {"stalls_total": RISES, "updates_due": steady("0")},
            {"stalls_total": RISES, "updates_due": steady("5000")},
            {"stalls_total": steady("1"), "updates_due": "0+0x120", "ring_fill": steady("1")},
        ],
        [{"stalls_total": "0+1x120", "updates_due": steady("0"), "ring_fill": steady("0.3")}],
    ),
    "UnderstudyStepsLost": Case(
        lost("transitions_dropped_total").fires + lost("steps_lost_total").fires,
        lost("transitions_dropped_total").silent + lost("steps_lost_total").silent,
    ),
    "UnderstudyFramesLost": lost("frames_lost_total"),
    "UnderstudyRowsUnkept": Case(
        [{"rows_unkept_total": JUMPS}], [{"rows_unkept_total": steady("512")}]
    ),
    "UnderstudyStepsStuck": Case(
        [{"steps_in_flight": steady("64"), "slots": steady("0")}],
        [
            {"steps_in_flight": steady("64"), "slots": steady("8")},
            {"steps_in_flight": "64 0+0x120", "slots": steady("0")},
        ],
    ),
    "UnderstudyLearnsNothing": Case(
        [{"updates_per_s": steady("0"), "paused": steady("0"), "updates_due": RISES}],
        [
            {"updates_per_s": steady("0"), "paused": steady("1"), "updates_due": RISES},
            {"updates_per_s": steady("0"), "paused": steady("0"), "updates_due": steady("0")},
            {"updates_per_s": steady("90"), "paused": steady("0"), "updates_due": RISES},
        ],
    ),
    "UnderstudyTrainingBehind": Case(
        [{'warning_holds{id="training_behind"}': steady("1")}],
        [
            {'warning_holds{id="training_behind"}': "1+0x2 _x110"},
            {'warning_holds{id="few_rows_dqn"}': steady("1")},
        ],
        labels={"id": "training_behind"},
    ),
    "UnderstudyLossNotANumber": Case(
        [{"loss": NANS, "grad_norm": steady("1")}, {"loss": steady("1"), "grad_norm": NANS}],
        [{"loss": "NaN 1+0x120", "grad_norm": steady("1")}],
    ),
    "UnderstudyUpdatesSkipped": Case(
        [{"updates_skipped_total": JUMPS}], [{"updates_skipped_total": steady("2")}]
    ),
    "UnderstudyRollback": Case([{"rollbacks_total": JUMPS}], [{"rollbacks_total": steady("1")}]),
    "UnderstudyValuesDrift": Case([{"values_drift": "1+0x120"}], [{"values_drift": "0+0x120"}]),
    "UnderstudyHeadDead": Case([{"heads_dead": steady("1")}], [{"heads_dead": "1x3 0+0x110"}]),
    "UnderstudyWarns": Case(
        [{'warning_holds{id="few_rows_dqn"}': steady("1")}],
        [{'warning_holds{id="few_rows_dqn"}': "1+0x9 _x110"}],
        labels={"id": "few_rows_dqn"},
        at=20,
    ),
    "UnderstudyCannotWrite": Case(
        [{"checkpoints_failed_total": JUMPS}, {"writes_failed_total": JUMPS}],
        [{"checkpoints_failed_total": steady("1"), "writes_failed_total": steady("9")}],
    ),
    "UnderstudyDiskFillsUp": Case(
        [{"disk_free_bytes": "1000000000+0x120"}, {"disk_free_bytes": "50000000000-50000000x120"}],
        [{"disk_free_bytes": "50000000000-1000000x120"}],
        at=60,
    ),
    "UnderstudyOneActorMovesAll": Case(
        [{
            'grad_share_by_actor{actor="expert"}': steady("0.99"),
            'grad_share_by_actor{actor="dqn"}': steady("0.01"),
            "expert_ratio": steady("0.2"),
        }],
        [
            # It plays most; nobody moves all; the network does, which is what is wanted.
            {'grad_share_by_actor{actor="expert"}': steady("0.99"), "expert_ratio": steady("0.8")},
            {'grad_share_by_actor{actor="expert"}': steady("0.90"), "expert_ratio": steady("0.2")},
            {'grad_share_by_actor{actor="dqn"}': steady("0.99"), "expert_ratio": steady("0.2")},
        ],
        labels={"actor": "expert"},
        at=40,
    ),
    "UnderstudyForgets": Case(
        [
            {"eval_return_mean": steady("20"), "eval_return_best": steady("200")},
            {"eval_return_mean": steady("-40"), "eval_return_best": steady("-20")},
        ],
        [{"eval_return_mean": steady("150"), "eval_return_best": steady("200")}],
        at=40,
    ),
    "UnderstudyPaused": Case([{"paused": steady("1")}], [{"paused": "1+0x50 0+0x69"}], at=70),
}  # fmt: skip


def rules() -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def series(name: str) -> str:
    """As Prometheus stores it, where the server gives it with exactly these labels."""
    bare = name.partition("{")[0]
    labels = dict(re.findall(r'(\w+)="([^"]*)"', name))
    full = bare if bare == "up" else f"understudy_{bare}"
    if full != "up":
        given = exposed()[full]
        assert given.keys() == labels.keys(), f"{full} has the labels {sorted(given)}"
        for label, value in labels.items():
            assert value in given[label] or given[label] == {ANY}, f"{full} has no {label} {value}"
    every = ",".join(f'{label}="{value}"' for label, value in (labels | SERVER).items())
    return f"{full}{{{every}}}"


def expected(alert: str, labels: dict[str, str]) -> dict[str, Any]:
    """The alert as it fires, its texts filled in."""
    rule = rules()[alert]

    def filled(text: str) -> str:
        return re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda found: labels[found[1]], text)

    return {
        "exp_labels": rule["labels"] | labels,
        "exp_annotations": {name: filled(text) for name, text in rule["annotations"].items()},
    }


def promtool(tests: list[dict[str, Any]], folder: Path) -> str:
    """What promtool says of them; empty where all hold."""
    file = folder / "cases.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "tests": tests}))
    ran = subprocess.run(
        ["promtool", "test", "rules", str(file)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return "" if ran.returncode == 0 else ran.stdout + ran.stderr


def played(course: Course, checks: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "interval": "1m",
        "input_series": [
            {"series": series(name), "values": values} for name, values in course.items()
        ],
        "alert_rule_test": checks,
    }


def test_every_alert_has_a_case() -> None:
    assert rules().keys() == CASES.keys()


@needs("promtool")
@pytest.mark.parametrize("alert", CASES)
def test_alert_fires_when_it_must(alert: str, tmp_path: Path) -> None:
    case = CASES[alert]
    wanted = [expected(alert, SERVER | case.labels)]
    checks = [{"eval_time": f"{case.at}m", "alertname": alert, "exp_alerts": wanted}]
    assert not promtool([played(course, checks) for course in case.fires], tmp_path)


@needs("promtool")
@pytest.mark.parametrize("alert", CASES)
def test_alert_is_silent_when_it_must_be(alert: str, tmp_path: Path) -> None:
    checks = [
        {"eval_time": f"{minute}m", "alertname": alert, "exp_alerts": []}
        for minute in range(1, 120, 3)
    ]
    assert not promtool([played(course, checks) for course in CASES[alert].silent], tmp_path)

"""The files for operators' own tools name only what there is."""

from __future__ import annotations

import configparser
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from protocol.errors import CODES
from tests.support.exposed import exposed
from tests.support.needs import needs

DEPLOY = Path(__file__).parents[2] / "deploy"

FINDERS = (DEPLOY.parent / "server/monitor/watches.py").read_text()
"""Where warnings that alerts ask for are found, by their ids."""


def check(expression: str) -> int:
    """Every metric that it names exists, with the labels and values it asks for; how many."""
    known = exposed()
    names = re.findall(r"\bunderstudy_\w+", expression)
    for name in names:
        assert name in known, f"there is no metric {name}: {expression}"
    for name, inside in re.findall(r"\b(understudy_\w+)\{([^}]*)\}", expression):
        for label, operator, text in re.findall(r'(\w+)(=~|=)"([^"]*)"', inside):
            if label in ("instance", "job"):
                continue
            if name == "understudy_warning_holds" and label == "id":
                assert f'"{text}"' in FINDERS, f"nothing finds {text}"
                continue
            assert label in known[name], f"{name} has no label {label}"
            for value in text.split("|") if operator == "=~" else [text]:
                assert value in known[name][label], f"{name} has no {label} {value}"
    for name in re.findall(r"\b(?:increase|rate)\((understudy_\w+)", expression):
        assert name.endswith(("_total", "_bucket", "_count", "_sum")), f"{name} is no counter"
    return len(names)


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    dashboard = json.loads((DEPLOY / "grafana" / "understudy.json").read_text())
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_alert_rules_use_existing_metrics(rule: dict[str, Any]) -> None:
    assert check(rule["expr"]) or rule["alert"] == "UnderstudyDown"
    assert rule["annotations"]["summary"]
    assert rule["labels"]["severity"] in ("info", "warning", "critical")
    for code in re.findall(r'code=~"([^"]*)"', rule["expr"]):
        assert set(code.split("|")) <= set(CODES)


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_dashboard_panels_use_existing_metrics(panel: dict[str, Any]) -> None:
    assert panel["targets"]
    for target in panel["targets"]:
        assert check(target["expr"]) == 1
        # Of any server, and the label by which lines are told apart exists.
        assert 'instance=~"$instance"' in target["expr"]
        name = re.findall(r"\bunderstudy_\w+", target["expr"])[0]
        for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
            assert label in exposed()[name]


def test_metric_check_detects_unknown_metrics() -> None:
    with pytest.raises(AssertionError, match="no metric"):
        check("understudy_nothing > 1")
    with pytest.raises(AssertionError, match="no label"):
        check('understudy_frames{actor="dqn"}')
    with pytest.raises(AssertionError, match="no actor"):
        check('understudy_q_mean_by_actor{actor="nobody"}')
    with pytest.raises(AssertionError, match="no counter"):
        check("increase(understudy_updates[5m])")


def test_dashboard_panels_do_not_overlap_and_have_unique_ids() -> None:
    seen: set[tuple[int, int]] = set()
    dashboard = json.loads((DEPLOY / "grafana" / "understudy.json").read_text())
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & seen, panel["title"]
        seen |= cells


def test_dashboard_actors_differ_by_more_than_color() -> None:
    for panel in panels():
        if any("actor" in target["legendFormat"] for target in panel["targets"]):
            overrides = json.dumps(panel["fieldConfig"]["overrides"])
            assert "custom.lineStyle" in overrides, panel["title"]


# The service.


def unit() -> dict[str, dict[str, str]]:
    """Its sections; a unit is an INI file in which no key stands twice (Environment could)."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[method-assign,assignment]
    parser.read_string((DEPLOY / "understudy.service").read_text())
    return {name: dict(parser[name]) for name in parser.sections()}


def test_systemd_unit_restarts_after_temporary_errors_only() -> None:
    service = unit()["Service"]
    assert service["Restart"] == "on-failure"
    assert service["RestartPreventExitStatus"] == "2", "a wrong configuration"
    # All are told, and nobody is killed before an orderly end, which takes 10 s.
    assert service["KillMode"] == "control-group"
    assert int(service["TimeoutStopSec"]) > 10
    assert unit()["Install"]["WantedBy"] == "multi-user.target"


@pytest.mark.promise("hang-supervisor")
def test_systemd_unit_restarts_a_hanging_service() -> None:
    service = unit()["Service"]
    # What it is told: tests/e2e/test_sd_notify.py. A server may stand still for seconds where
    # files or shared memory are slow.
    assert service["Type"] == "notify"
    assert int(service["WatchdogSec"]) >= 60
    assert service["WatchdogSignal"] == "SIGKILL", "a core dump would have the tokens"


def test_systemd_unit_resumes_its_run() -> None:
    program, command, option, run = unit()["Service"]["ExecStart"].split()
    assert program.removeprefix("/opt/understudy/") == "scripts/container-entry"
    assert (DEPLOY.parent / "scripts/container-entry").is_file()
    assert (command, option) == ("serve", "--run")
    # It may write there and nowhere else.
    assert Path(run).parent == Path("/var/lib") / unit()["Service"]["StateDirectory"]


def test_systemd_unit_drops_unneeded_privileges() -> None:
    service = unit()["Service"]
    assert service["User"] == "understudy"
    assert service["ProtectSystem"] == "strict"
    assert service["CapabilityBoundingSet"] == ""
    assert service["UMask"] == "0077"
    for name in ("NoNewPrivileges", "ProtectHome", "PrivateTmp", "ProtectKernelModules"):
        assert service[name] == "yes", name


@needs("systemd-analyze")
def test_systemd_analyze_accepts_the_unit(tmp_path: Path) -> None:
    """With programs that there are: those of the unit are on another machine."""
    text = (DEPLOY / "understudy.service").read_text()
    for change in ("", "Restrat=always"):
        copy = tmp_path / "understudy.service"
        command = re.compile("^ExecStart=.*$", re.MULTILINE)
        copy.write_text(command.sub(f"ExecStart=/bin/true\n{change}", text))
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", str(copy)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        complaints = [line for line in done.stderr.splitlines() if "understudy.service" in line]
        assert bool(complaints) == bool(change), done.stderr

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
from starlette.applications import Starlette

from config.load import load
from protocol.errors import CODES
from server.web.names import KnownNamesOnly
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
            if label in ("instance", "job") or text.startswith("$"):
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
        names = re.findall(r"\bunderstudy_\w+", target["expr"])
        assert check(target["expr"]) == len(names)
        # Of any server, and the labels by which lines are told apart exist.
        assert 'instance=~"$instance"' in target["expr"]
        assert names[-1] == "understudy_run_info"
        legend = re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])
        if panel["type"] != "table":
            assert len(names) == 2
            assert legend[:2] == ["name", "instance"]
        for label in legend[2:]:
            assert label in exposed()[names[0]]


@needs("promtool")
def test_dashboard_panels_tell_two_runs_apart(tmp_path: Path) -> None:
    """Of two servers each panel has lines for both, and for the chosen one alone."""
    series = []
    for run, instance in (("first", "a:8080"), ("second", "b:8080")):
        for name, labels in exposed().items():
            values = {label: sorted(each)[-1] for label, each in labels.items()}
            values |= {"instance": instance, "job": "understudy"}
            if "name" in values:
                values["name"] = run
            inside = ",".join(f'{label}="{value}"' for label, value in values.items())
            series.append({"series": f"{name}{{{inside}}}", "values": "1+1x30"})
    checks = []
    for panel in panels():
        for target in panel["targets"]:
            for run, many in ((".*", 2), ("second", 1)):
                expression = target["expr"].replace("$instance", ".*").replace("$run", run)
                expression = expression.replace("$__rate_interval", "5m")
                wanted = [{"labels": "{}", "value": many}]
                expression = f"count(count by (name) ({expression}))"
                checks.append({"expr": expression, "eval_time": "20m", "exp_samples": wanted})
    tests = [{"interval": "1m", "input_series": series, "promql_expr_test": checks}]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"tests": tests}))
    ran = subprocess.run(
        ["promtool", "test", "rules", str(file)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr


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


def test_server_of_the_compose_file_answers_to_the_names_that_prometheus_asks() -> None:
    scrapes = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    (job,) = (one for one in scrapes["scrape_configs"] if one["job_name"] == "understudy")
    targets = [target for each in job["static_configs"] for target in each["targets"]]
    services = yaml.safe_load((DEPLOY.parent / "docker-compose.yml").read_text())["services"]
    for name in ("server", "server-cpu"):
        environ = services[name]["environment"]
        http = load(environ={key: str(value) for key, value in environ.items()}).config.server
        answered = KnownNamesOnly(Starlette(), http.http_names)
        assert targets
        assert all(answered.answers_to(target) for target in targets)
        assert not answered.answers_to("evil.example")


def test_grafana_answers_to_one_name() -> None:
    services = yaml.safe_load((DEPLOY.parent / "docker-compose.yml").read_text())["services"]
    environ = services["grafana"]["environment"]
    assert (environ["GF_SERVER_ENFORCE_DOMAIN"], environ["GF_SERVER_DOMAIN"]) == (
        "true", "localhost",
    )  # fmt: skip


# The service.


UNITS = ("understudy.service", "understudy@.service")


def unit(name: str = UNITS[0]) -> dict[str, dict[str, str]]:
    """Its sections; of a key that stands twice, the last value."""
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[method-assign,assignment]
    parser.read_string((DEPLOY / name).read_text())
    return {name: dict(parser[name]) for name in parser.sections()}


def test_systemd_unit_restarts_after_temporary_errors_only() -> None:
    service = unit()["Service"]
    assert service["Restart"] == "on-failure"
    assert service["RestartPreventExitStatus"] == "2", "a wrong configuration"
    # All are told, and nobody is killed before an orderly end, which takes 10 s.
    assert service["KillMode"] == "control-group"
    assert int(service["TimeoutStopSec"]) > 10
    assert unit()["Install"]["WantedBy"] == "multi-user.target"
    # systemd would stop all where one process runs out of memory: a game's proposal would do.
    assert service["OOMPolicy"] == "continue"


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


def test_template_unit_is_the_unit_with_a_folder_and_settings_for_each_run() -> None:
    one, many = (
        [line for line in (DEPLOY / name).read_text().splitlines() if not line.startswith("#")]
        for name in UNITS
    )
    assert [line for line in many if line not in one] == [
        "Description=understudy, a training server for game AI: the run %i",
        "StateDirectory=understudy/%i",
        "WorkingDirectory=/var/lib/understudy/%i",
        "EnvironmentFile=/etc/understudy/%i.environment",
        "ExecStart=/opt/understudy/scripts/container-entry serve --run /var/lib/understudy/%i",
    ]
    assert len(many) == len(one) + 1, "its own settings, after those for all, must be there"
    shared = many.index("EnvironmentFile=-/etc/understudy/environment")
    assert many[shared + 1] == "EnvironmentFile=/etc/understudy/%i.environment"


@needs("systemd-analyze")
@pytest.mark.parametrize("name", UNITS)
def test_systemd_analyze_accepts_the_unit(name: str, tmp_path: Path) -> None:
    """With programs that there are: those of the unit are on another machine."""
    text = (DEPLOY / name).read_text()
    for change in ("", "Restrat=always"):
        copy = tmp_path / name
        command = re.compile("^ExecStart=.*$", re.MULTILINE)
        copy.write_text(command.sub(f"ExecStart=/bin/true\n{change}", text))
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", str(copy)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        complaints = [line for line in done.stderr.splitlines() if "understudy" in line]
        assert bool(complaints) == bool(change), done.stderr

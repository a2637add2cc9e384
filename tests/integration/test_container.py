"""The container files against what exists: no engine builds the image here, so each line of them
that names something is compared with that. `scripts/check-container` runs the Dockerfile's steps.

Every check of `scripts.container` is seen to complain of a file that is wrong in its way."""

from __future__ import annotations

import json
import os
import re
import shlex
import ssl
import subprocess
import sys
import tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml

from config.fields import all_settings
from config.load import ConfigError, load
from config.models import Config
from config.options import given, parse
from config.secrets import with_secrets
from scripts.container import compose as composing
from scripts.container.checks import compose_problems, dockerfile_problems, pinned, problems
from scripts.container.dockerfile import (
    DockerfileError,
    Instruction,
    Stage,
    expand,
    ignored,
    instructions,
    stages,
)
from server.cli import COMMANDS, parser_for
from server.supervisor import exposure
from tests.support.certificates import make, needs_openssl
from tests.support.needs import needs

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = (ROOT / "docker-compose.yml").read_text()
IGNORE = (ROOT / ".dockerignore").read_text()
ENTRY = ROOT / "scripts/container-entry"
HEALTH = ROOT / "scripts/container-health"

BUILD, FINAL = stages(DOCKERFILE)
compose = composing.read(COMPOSE)
SERVERS = {name: composing.services(compose)[name] for name in ("server", "server-cpu")}


def only(stage: Stage, name: str) -> Instruction:
    (one,) = stage.all_of(name)
    return one


# How the files are read.


def test_dockerfile_parser_reads_continued_lines_comments_and_flags() -> None:
    text = "# a\nFROM x AS y\nRUN --mount=type=cache,target=/c one \\\n"
    text += "    # not this\n    two\n\nCOPY a b/\n"
    assert instructions(text) == [
        Instruction("FROM", "x AS y", {}, 2),
        Instruction("RUN", "one two", {"mount": "type=cache,target=/c"}, 3),
        Instruction("COPY", "a b/", {}, 7),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FROM x\nONBUILD RUN y", "line 2: ONBUILD is not known"),
        ("RUN y", "line 1: expected FROM before RUN"),
        ("FROM x y", "line 1: expected FROM image"),
    ],
)
def test_dockerfile_parser_refuses_unknown_syntax(text: str, message: str) -> None:
    with pytest.raises(DockerfileError, match=message):
        stages(text)


def test_dockerfile_variables_are_substituted() -> None:
    values = {"A": "1", "E": ""}
    assert expand("$A ${A} ${B} ${B:-2} ${E:-3} $A/x", values) == "1 1  2 3 1/x"
    assert [stage.base for stage in stages("ARG A=x:1\nFROM $A AS b\nFROM ${A}", {"A": "y:2"})] == [
        "y:2",
        "y:2",
    ]


def test_dockerignore_patterns_select_the_context() -> None:
    patterns = "# all\n*\n!agent\n**/__pycache__\n"
    assert ignored("x", patterns)
    assert not ignored("agent/learner.py", patterns)
    assert ignored("agent/__pycache__/learner.pyc", patterns)


def test_compose_durations_and_sizes_are_parsed() -> None:
    assert [composing.seconds(text) for text in ("30s", "1m30s", "500ms")] == [30, 90, 0.5]
    assert [composing.size_bytes(text) for text in ("1gb", "64m", "7")] == [1 << 30, 64 << 20, 7]
    for wrong in ("", "30", "1s and"):
        with pytest.raises(ValueError):
            composing.seconds(wrong)


# All checks pass, and each can fail.


def test_container_files_have_no_findings() -> None:
    assert problems(ROOT) == []


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("python:3.11-slim-bookworm", "python", "expected a tag with a version"),
        ("python:3.11-slim-bookworm", "python:latest", "expected a tag with a version"),
        ("COPY config config", "COPY confg config", "COPY confg: there is no such file"),
        ("COPY config config", "COPY tests config", "COPY tests: .dockerignore keeps it out"),
        ("--from=build", "--from=bild", "no stage before has that name"),
        ("USER understudy\n", "", "expected USER in the last stage"),
        ("USER understudy\n", "USER root\n", "expected USER in the last stage"),
        ("USER understudy\n", "USER understudy\nRUN true\n", "expected USER behind the last RUN"),
        ("HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD", "CMD",
         "expected HEALTHCHECK"),
        ('ENTRYPOINT ["container-entry"]', "ENTRYPOINT container-entry", "expected ENTRYPOINT"),
        ("EXPOSE", "RUN pip install pip\nEXPOSE", "the image installs with pip"),
        ("EXPOSE", "ENV UNDERSTUDY_SERVER__TOKEN=x\nEXPOSE", "TOKEN: a secret would be kept"),
        ("EXPOSE", "ARG PASSWORD\nEXPOSE", "PASSWORD: a secret would be kept"),
        ("ENV UNDERSTUDY_SERVER__HOST", "ENV UNDERSTUDY_SERVER__HOTS", "there is no such setting"),
        ("FROM", "FORM", "FORM is not known"),
    ],
)  # fmt: skip
def test_faulty_dockerfile_is_reported(old: str, new: str, complaint: str) -> None:
    assert old in DOCKERFILE
    found = dockerfile_problems(DOCKERFILE.replace(old, new), ROOT)
    assert any(complaint in line for line in found), found


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("prom/prometheus:v3.13.5", "prom/prometheus", "expected a tag with a version"),
        ("grafana/grafana:13.2.3", "grafana/grafana:latest", "expected a tag with a version"),
        ("context: clients/mame", "context: clients/mome", "there is no"),
        ("TORCH_INDEX:", "TORCH_INDX:", "has no ARG TORCH_INDX"),
        ("127.0.0.1:8080:8080", "127.0.0.1:8081:8081", "does not EXPOSE it"),
        ("127.0.0.1:8080:8080", "8080:8080", "expected 127.0.0.1 before it"),
        ("127.0.0.1:3000:3000", "3000:3000", "expected 127.0.0.1 before it"),
        ("SERVER__TOKEN_FILE: /run", "SERVER__TOKN_FILE: /run", "there is no such setting"),
        ("TOKEN_FILE: /run/secrets/game_token", "TOKEN: word", "a secret belongs into a file"),
        ("/run/secrets/control_token", "/run/secrets/other", "is not given that secret"),
        ("[game_token, control_token]", "[game_token, other]", "secret other is not declared"),
        ("file: ./secrets/game_token", "file: ./game_token", "expected a file in ./secrets/"),
        ("- runs:/runs", "- rans:/runs", "volume rans is not declared"),
        ("./deploy/prometheus:", "./deploy/prometeus:", "there is no such file"),
        ("/etc/prometheus:ro", "/etc/prometheus", "expected :ro"),
        ("cap_drop: [ALL]", "cap_drop: [CHOWN]", "expected cap_drop: [ALL]"),
        ("no-new-privileges:true", "seccomp:unconfined", "expected no-new-privileges"),
    ],
)  # fmt: skip
def test_faulty_compose_file_is_reported(old: str, new: str, complaint: str) -> None:
    assert old in COMPOSE
    found = compose_problems(composing.read(COMPOSE.replace(old, new)), ROOT)
    assert any(complaint in line for line in found), found


def test_build_context_with_secrets_is_reported(tmp_path: Path) -> None:
    (tmp_path / ".dockerignore").write_text(".git\n")
    found = dockerfile_problems('FROM x:1\nUSER y\nENTRYPOINT ["z"]\n', tmp_path)
    assert "Dockerfile: .dockerignore lets secrets/game_token into the context" in found
    assert not any(".git/config" in line for line in found)


def test_pinned_versions_are_recognized() -> None:
    assert all(pinned(name) for name in ("a:1", "a/b:v1.2", "debian:bookworm-slim"))
    assert not any(pinned(name) for name in ("a", "a:latest", "", ":1", "host:5000/a"))


def test_check_script_prints_findings() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "scripts.container", "--static"], cwd=ROOT,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, "the files: nothing to complain of\n")


# The Dockerfile.


def copies() -> set[str]:
    """What is copied from the context."""
    found = [one for stage in (BUILD, FINAL) for one in stage.all_of("COPY") if not one.flags]
    return {source for one in found for source in one.words()[:-1]}


def test_dockerfile_copies_everything_the_distributions_contain() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    packages, included = set(wheel["packages"]), set(wheel["force-include"])
    files = {project["project"]["readme"], *project["project"]["license-files"]}
    files = {name for name in files if name.split("/")[0] not in packages}
    assert copies() >= packages | files | {"pyproject.toml", "constraints.txt",
        "requirements.lock", "scripts/packages/lockfile.py", "clients/python",
        *included}  # fmt: skip


def test_build_context_holds_only_what_is_copied() -> None:
    for path in ("tests/conftest.py", ".venv/bin/python", ".git/config", "runs/x/run.json",
                 "server/__pycache__/cli.pyc", "clients/python/x.egg-info", ".env",
                 "secrets/game_token", "site/index.html"):  # fmt: skip
        assert ignored(path, IGNORE), path
    for path in ("server/cli.py", "clients/python/pyproject.toml", "config/presets/demo.toml"):
        assert not ignored(path, IGNORE), path


def installs() -> list[str]:
    return [one.text for one in BUILD.all_of("RUN") if "pip" in one.text.split()]


def test_image_installs_the_pinned_versions() -> None:
    torch, locked, rest = installs()
    # torch by the line of constraints.txt, from the index of the build argument if there is one.
    (pattern,) = re.findall(r"\$\(grep '(.*?)' constraints\.txt\)", torch)
    pins = (ROOT / "constraints.txt").read_text()
    assert len(re.findall(pattern, pins, re.MULTILINE)) == 1
    assert '${TORCH_INDEX:+--index-url "$TORCH_INDEX"}' in torch
    assert "--no-deps" in torch
    # All else by hash, and what builds the project beside the image's environment.
    assert locked.count("pip ") == locked.count("--require-hashes --no-deps") == 2
    assert "lockfile.py server websocket > server.txt" in locked
    assert "--target tools --requirement build.txt" in locked
    assert {"./clients/python", ".", "--no-build-isolation"} <= set(rest.split())
    folder = only(BUILD, "WORKDIR").text
    assert f"PYTHONPATH={folder}/tools" in rest
    assert BUILD.environment()["PIP_CONSTRAINT"] == f"{folder}/constraints.txt"


def test_final_image_copies_only_the_installation_and_two_scripts() -> None:
    """What a stage builds with stays there: the last one takes over a folder and two scripts."""
    taken, scripts = FINAL.all_of("COPY")
    assert (taken.flags, taken.words()) == ({"from": BUILD.name}, ["/opt/understudy"] * 2)
    assert all(f"--python {taken.words()[0]} " in install for install in installs())
    assert "--without-pip" in BUILD.all_of("RUN")[0].text
    assert FINAL.environment()["PATH"].startswith(f"{taken.words()[0]}/bin:")
    assert scripts.words() == ["scripts/container-entry", "scripts/container-health",
                               "/usr/local/bin/"]  # fmt: skip
    for script in (ENTRY, HEALTH):
        assert os.access(script, os.X_OK)


def test_image_is_built_for_gpu_unless_a_build_argument_says_cpu() -> None:
    assert [one.text for one in BUILD.all_of("ARG")] == ["TORCH_INDEX="]
    assert BUILD.base == FINAL.base
    version = re.match(r"python:3\.(\d+)-slim", FINAL.base)
    assert version
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    low, high = re.findall(r"3\.(\d+)", project["project"]["requires-python"])
    assert int(low) <= int(version[1]) < int(high)


def test_build_argument_becomes_an_option_only_if_set() -> None:
    shell = installs()[0].replace("pip --python", "printf '%s\\n'", 1)
    for index, expected in (("", []), ("an index", ["--index-url", "an index"])):
        ran = subprocess.run(
            ["/bin/sh", "-c", shell], cwd=ROOT, env={**os.environ, "TORCH_INDEX": index},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        words = ran.stdout.splitlines()
        assert words[:3] == ["/opt/understudy", "install", "--no-deps"]
        assert words[3:-1] == expected
        assert words[-1].startswith("torch==")


def test_container_files_name_no_host() -> None:
    for text in (DOCKERFILE, COMPOSE, IGNORE, ENTRY.read_text(), HEALTH.read_text(),
                 (ROOT / "clients/mame/Dockerfile").read_text()):  # fmt: skip
        assert set(re.findall(r"://([^/\s:\"]+)", text)) <= {"127.0.0.1"}
        assert not re.search(r"\b[\w-]+\.(?:org|io|com|dev|net)\b", text)


def test_container_runs_without_privileges() -> None:
    user, (created,) = only(FINAL, "USER").text, FINAL.all_of("RUN")
    assert shlex.split(created.text.split("&&")[0])[-1] == user
    assert f"install -d -o {user} {only(FINAL, 'VOLUME').text}" in created.text


def test_image_commands_import_no_game_packages() -> None:
    """What the image does not install is not imported by its commands."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert not any("gymnasium" in name for name in project["dependencies"])
    block = "import sys; sys.modules |= dict.fromkeys(['gymnasium', 'Box2D', 'pytest', 'yaml']);"
    code = (
        f"{block} import server.cli; server.cli.parser_for('serve'); import server.trainer.process"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


# What is started.


def command() -> list[str]:
    return only(FINAL, "CMD").words()


def check_command(words: list[str], environment: dict[str, str]) -> Config:
    """The configuration that a command of the container starts with."""
    assert words[0] in COMMANDS
    return load(given(parse(parser_for(words[0]), words[1:])), environment).config


def settings() -> dict[str, str]:
    """What the image sets of the server."""
    known = {setting.variable for setting in all_settings().values()}
    return {name: value for name, value in FINAL.environment().items() if name in known}


def test_container_command_is_a_valid_serve_command() -> None:
    config = check_command(command(), settings())
    assert only(FINAL, "EXPOSE").words() == [str(config.server.port), str(config.server.http_port)]
    assert config.server.port == Config().server.port
    assert config.server.host == config.server.http_host == "0.0.0.0"
    assert config.run.dir is not None
    assert str(config.run.dir).startswith(only(FINAL, "VOLUME").text + "/")
    assert only(FINAL, "WORKDIR").text == only(FINAL, "VOLUME").text
    assert only(FINAL, "ENTRYPOINT").words() == [ENTRY.name]


def entered(script: Path, folder: Path, *words: str, **environment: str) -> list[str]:
    """What an entry starts, with understudy replaced by something that prints its words."""
    fake = folder / "understudy"
    fake.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    fake.chmod(0o755)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(
        [script, *words], env={**os.environ, "PATH": path, **environment}, cwd=folder,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return ran.stdout.splitlines()


def test_entrypoint_starts_or_resumes_the_run(tmp_path: Path) -> None:
    run = tmp_path / "a run"
    words = ["serve", "--run", str(run), "--reward.weights", "{score = 0.01}", "--no-train"]
    assert entered(ENTRY, tmp_path, *words) == words
    run.mkdir()
    assert entered(ENTRY, tmp_path, *words) == words  # a folder is no run yet
    (run / "run.json").write_text("{}")
    resumed = [word.replace("--run", "--resume") for word in words]
    assert entered(ENTRY, tmp_path, *words) == resumed
    parse(parser_for("serve"), resumed[1:])


def test_entrypoint_passes_other_commands_through(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    for words in ([], ["config", "show"], ["serve", "--run"], ["serve", "--resume", "x"]):
        # Nothing to print is one empty line.
        assert entered(ENTRY, tmp_path, *words) == (words or [""])


def test_games_entrypoint_reads_the_token_from_its_file(tmp_path: Path) -> None:
    entry = tmp_path / "container-entry"
    text = (ROOT / "clients/mame/container-entry").read_text()
    fake = tmp_path / "mame"
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "${UNDERSTUDY_TOKEN-none}" "$@"\n')
    fake.chmod(0o755)
    assert text.count("/usr/games/mame") == 1
    entry.write_text(text.replace("/usr/games/mame", str(fake)))
    entry.chmod(0o755)
    (tmp_path / "token").write_text("a word\n")
    file = {"UNDERSTUDY_TOKEN_FILE": str(tmp_path / "token")}
    token, *words = entered(entry, tmp_path, "breakout", "-seconds_to_run", "9", **file)
    assert token == "a word"
    assert words[0] == "breakout"
    assert words[-4:] == ["-autoboot_script", "/opt/understudy/breakout.lua",
                          "-seconds_to_run", "9"]  # fmt: skip
    assert entered(entry, tmp_path, "breakout")[0] == "none"


class Answer(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/healthz" else 404)
        self.end_headers()
        self.wfile.write(b'{"what": "it"}')

    def log_message(self, *_: object) -> None:
        pass


def checked_health(port: int, **variables: str) -> tuple[int, str]:
    # A proxy that is not there must not be asked.
    environment = {**os.environ, "UNDERSTUDY_SERVER__HTTP_PORT": str(port),
                   "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9",
                   **variables}  # fmt: skip
    ran = subprocess.run(
        [sys.executable, HEALTH], env=environment, capture_output=True, text=True, check=False
    )
    assert ran.stderr == ""
    return ran.returncode, ran.stdout


def test_health_check_follows_the_servers_answer() -> None:
    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            assert checked_health(server.server_port) == (0, '{"what": "it"}\n')
            Answer.status = 503
            code, text = checked_health(server.server_port)
            assert code == 1
            assert text.startswith('unhealthy: 503 {"what": "it"}')
        finally:
            Answer.status = 200
            server.shutdown()
            thread.join()
    code, text = checked_health(server.server_port)
    assert code == 1
    assert "nothing answers" in text


@needs_openssl
def test_health_check_uses_https_with_a_certificate(tmp_path: Path) -> None:
    pair = make(tmp_path, of="DNS:training.example")  # not what the container calls itself
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            there = {"UNDERSTUDY_SERVER__TLS_CERT": str(pair.cert)}
            assert checked_health(server.server_port, **there) == (0, '{"what": "it"}\n')
        finally:
            server.shutdown()
            thread.join()


# The compose file.


def test_compose_defines_the_documented_services() -> None:
    profiles = {n: s.get("profiles") for n, s in composing.services(compose).items()}
    assert profiles == {
        "server": None,  # the one that `up` starts
        "server-cpu": ["cpu"],
        "prometheus": ["monitoring"],
        "alertmanager": ["monitoring"],
        "grafana": ["monitoring"],
        "mame": ["mame"],
    }


def test_compose_servers_differ_only_in_the_gpu() -> None:
    gpu, cpu = SERVERS["server"], SERVERS["server-cpu"]
    (device,) = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
    assert "deploy" not in cpu
    assert gpu["image"] != cpu["image"]
    apart = {"deploy", "profiles", "image", "build"}
    shared = [{k: v for k, v in one.items() if k not in apart} for one in (gpu, cpu)]
    assert shared[0] == shared[1]
    assert "TORCH_INDEX" in cpu["build"]["args"]
    assert "args" not in gpu["build"]


@pytest.mark.parametrize("name", SERVERS)
def test_compose_servers_use_the_images_command(name: str, tmp_path: Path) -> None:
    service = SERVERS[name]
    variables = composing.environment(service)
    # Secrets that the check can read.
    for variable, place in variables.items():
        if not variable.endswith("_FILE"):
            continue
        file = tmp_path / Path(place).name
        file.write_text(f"the word of {file.name}\n")
        variables[variable] = str(file)
    config = check_command(service["command"], settings() | variables)
    assert config.server.token_file is not None
    assert config.server.control_token_file is not None
    assert config.server.token_file != config.server.control_token_file
    exposure.check(with_secrets(config))  # it listens on every interface, and has a token
    assert config.run.dir == Path(command()[-1])
    ports = composing.published(service)
    assert ports == [("", config.server.port, config.server.port),
                     ("127.0.0.1", config.server.http_port, config.server.http_port)]  # fmt: skip
    assert composing.mounts(service) == [("runs", only(FINAL, "VOLUME").text, False)]
    assert service["restart"] == "unless-stopped"
    assert service["read_only"] is True


def test_image_command_without_token_is_refused() -> None:
    config = check_command(command(), settings())
    with pytest.raises(ConfigError, match=r"server\.host: 0\.0\.0\.0"):
        exposure.check(with_secrets(config))


def test_compose_services_reach_either_server() -> None:
    for service in SERVERS.values():
        assert service["networks"]["default"]["aliases"] == ["understudy"]
    mame = composing.environment(composing.services(compose)["mame"])
    assert mame["UNDERSTUDY_HOST"] == "understudy"
    prometheus = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    (job,) = prometheus["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"understudy:{Config().server.http_port}"]}]


def test_compose_allows_the_stop_time_and_shared_memory() -> None:
    from agent.step import StepBlock
    from protocol.spaces import Discrete, GameSpec, Observation
    from server.supervisor.supervisor import STOP_S

    pictures = GameSpec("pong", Observation("uint8", (84, 84, 4)), (Discrete("act", 18),))
    needed = StepBlock.nbytes(pictures, Config().server.ring_steps)
    for service in SERVERS.values():
        assert composing.seconds(service["stop_grace_period"]) > 2 * STOP_S
        assert composing.size_bytes(service["shm_size"]) > 2 * needed


# Prometheus and Grafana.


def mounted(service: str, place: str) -> Path:
    """The project's file that a container has at a place."""
    for source, target, _ in composing.mounts(composing.services(compose)[service]):
        if place == target or place.startswith(f"{target}/"):
            return ROOT / (source + place.removeprefix(target))
    raise AssertionError(f"nothing is mounted at {place}")


def test_prometheus_service_mounts_its_files() -> None:
    words = composing.services(compose)["prometheus"]["command"]
    (place,) = [w.partition("=")[2] for w in words if w.startswith("--config.file=")]
    config = yaml.safe_load(mounted("prometheus", place).read_text())
    for rules in config["rule_files"]:
        assert (ROOT / "deploy/prometheus" / rules).is_file()
    # What the alerts ask for is what this job's name and the server's metrics give.
    assert 'job="understudy"' in (ROOT / "deploy/prometheus/alerts.yml").read_text()
    assert [job["job_name"] for job in config["scrape_configs"]] == ["understudy"]


@pytest.mark.parametrize("name", composing.services(compose))
def test_compose_limits_the_log_of_every_container(name: str) -> None:
    log = composing.services(compose)[name]["logging"]
    assert log["driver"] == "json-file"
    size = composing.size_bytes(log["options"]["max-size"])
    assert size * int(log["options"]["max-file"]) == 64 << 20
    assert "64 MB for each container" in (ROOT / "docs/operating.md").read_text()


@needs("promtool")
def test_promtool_accepts_the_prometheus_files() -> None:
    config = ROOT / "deploy/prometheus/prometheus.yml"
    ran = subprocess.run(
        ["promtool", "check", "config", config], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_grafana_dashboard_uses_existing_metrics() -> None:
    folder = "/etc/grafana/provisioning"
    (source,) = yaml.safe_load(
        mounted("grafana", f"{folder}/datasources/prometheus.yml").read_text()
    )["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert source["isDefault"] is True
    (provider,) = yaml.safe_load(
        mounted("grafana", f"{folder}/dashboards/understudy.yml").read_text()
    )["providers"]
    dashboard = json.loads(
        mounted("grafana", f"{provider['options']['path']}/understudy.json").read_text()
    )
    variables = composing.environment(composing.services(compose)["grafana"])
    assert variables["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == (
        f"{provider['options']['path']}/understudy.json"
    )
    # Its panels ask a data source of this type, which is the only one there is.
    asked: set[str] = set()

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            if isinstance(found := value.get("datasource"), dict):
                asked.add(found["type"])
            for one in value.values():
                walk(one)
        elif isinstance(value, list):
            for one in value:
                walk(one)

    walk(dashboard["panels"])
    assert asked == {source["type"]}


# What the documents say of it.


def test_documents_name_existing_services_and_files() -> None:
    text = (ROOT / "docs/operating.md").read_text() + (ROOT / "README.md").read_text()
    named: set[str] = set()
    profiles: set[str] = set()
    for words in re.findall(r"docker compose ([^`\n#]+)", text):
        named |= set(words.split()) & set(composing.services(compose))
        profiles |= set(re.findall(r"--profile (\w+)", words))
        left = re.sub(r"--profile \w+|--build|\bup\b", "", words).split()
        assert set(left) <= set(composing.services(compose)), words
    assert named >= {"server", "server-cpu", "prometheus", "grafana", "mame"}
    assert profiles == {"monitoring", "mame"}
    arguments = re.findall(r"^ARG (\w+)", DOCKERFILE, re.MULTILINE)
    assert set(re.findall(r"--build-arg (\w+)=", text)) <= set(arguments)
    assert "understudy " + " ".join(command()) in text
    for secret in compose["secrets"].values():
        assert f"> {secret['file'].removeprefix('./')}\n" in text

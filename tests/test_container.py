"""The container files against what exists: no engine builds the image here, so each line of them
that names something is compared with that."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from config.fields import leaves
from config.load import environment_layer, load
from config.models import Config
from config.options import given, parse
from server.cli import COMMANDS, parser_for

ROOT = Path(__file__).parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = (ROOT / "docker-compose.yml").read_text()
IGNORE = (ROOT / ".dockerignore").read_text()
ENTRY = ROOT / "scripts/container-entry"

Instruction = tuple[str, str]


def instructions(text: str) -> list[Instruction]:
    """The instructions of a Dockerfile: name in capitals, and what follows on one line."""
    joined = re.sub(r"\s*\\\n\s*", " ", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE))
    found = []
    for line in joined.splitlines():
        if line.strip():
            name, _, rest = line.strip().partition(" ")
            found.append((name.upper(), rest.strip()))
    return found


def all_of(name: str, text: str = DOCKERFILE) -> list[str]:
    return [rest for found, rest in instructions(text) if found == name]


def only(name: str) -> str:
    (rest,) = all_of(name)
    return rest


def copies(text: str = DOCKERFILE) -> list[str]:
    """What is copied from the context."""
    return [source for rest in all_of("COPY", text) for source in rest.split()[:-1]]


def ignored(path: str, patterns: str = IGNORE) -> bool:
    """Whether .dockerignore keeps a path out of the context: the last line that fits decides."""
    parts = path.split("/")
    out = False
    for line in patterns.splitlines():
        pattern = line.removeprefix("!")
        if line.startswith("#") or not line:
            continue
        if pattern.startswith("**/"):  # at any depth
            fits = any(fnmatch(part, pattern[3:]) for part in parts)
        else:  # what lies below fits too
            fits = any(fnmatch("/".join(parts[: n + 1]), pattern) for n in range(len(parts)))
        if fits:
            out = not line.startswith("!")
    return out


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    content = yaml.safe_load(COMPOSE)
    assert isinstance(content, dict)
    return content


def services(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found = compose["services"]
    assert isinstance(found, dict)
    return found


# The Dockerfile.


def test_the_instructions_are_known_and_in_order() -> None:
    names = [name for name, _ in instructions(DOCKERFILE)]
    known = {"ARG", "FROM", "RUN", "WORKDIR", "COPY", "ENV", "EXPOSE", "VOLUME", "USER"}
    assert set(names) == known | {"ENTRYPOINT", "CMD"}
    assert names[:2] == ["ARG", "FROM"]
    assert names[-2:] == ["ENTRYPOINT", "CMD"]


def test_instructions_are_read_over_lines_and_comments() -> None:
    text = "# a\nFROM x\nRUN one \\\n    # not this\n    two\n\nCOPY a b/\n"
    assert instructions(text) == [("FROM", "x"), ("RUN", "one two"), ("COPY", "a b/")]


def test_what_is_copied_exists_and_is_in_the_context() -> None:
    assert len(copies()) >= 9
    for source in copies():
        assert (ROOT / source).exists(), f"COPY {source}: there is no such file"
        assert not ignored(source), f"COPY {source}: .dockerignore keeps it out"


def test_all_that_the_distributions_hold_is_copied() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    files = {project["project"]["readme"], *project["project"]["license-files"]}
    assert set(copies()) >= packages | files | {"pyproject.toml", "constraints.txt"}
    assert "clients/python" in copies()


def test_the_context_holds_nothing_else() -> None:
    for path in ("tests/test_container.py", ".venv/bin/python", ".git/config", "runs/x/run.json",
                 "server/__pycache__/cli.pyc", "clients/python/x.egg-info", ".env"):  # fmt: skip
        assert ignored(path), path
    for path in ("server/cli.py", "clients/python/pyproject.toml", "config/presets/demo.toml"):
        assert not ignored(path), path


def test_the_versions_are_the_pinned_ones() -> None:
    installs = [run for run in all_of("RUN") if "pip install" in run]
    torch, rest = installs
    # torch by the line of constraints.txt, from the index of the build argument if there is one.
    (pattern,) = re.findall(r"\$\(grep '(.*?)' constraints\.txt\)", torch)
    pins = (ROOT / "constraints.txt").read_text()
    assert len(re.findall(pattern, pins, re.MULTILINE)) == 1
    assert '${TORCH_INDEX:+--index-url "$TORCH_INDEX"}' in torch
    assert "--no-deps" in torch
    assert "--constraint constraints.txt" in rest
    assert {"./clients/python", "."} <= set(rest.split())


def test_gpu_is_the_default_and_cpu_a_build_argument() -> None:
    assert all_of("ARG") == ["BASE=python:3.11-slim", "TORCH_INDEX="]
    version = re.search(r"python:(3\.\d+)", all_of("ARG")[0])
    assert version
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    low, high = re.findall(r"3\.(\d+)", project["project"]["requires-python"])
    assert int(low) <= int(version[1].split(".")[1]) < int(high)


def test_the_build_argument_is_an_option_only_if_it_is_set() -> None:
    (torch, _) = [run for run in all_of("RUN") if "pip install" in run]
    shell = torch.replace("pip install", "printf '%s\\n'", 1)
    for index, expected in (("", []), ("an index", ["--index-url", "an index"])):
        ran = subprocess.run(
            ["/bin/sh", "-c", shell], cwd=ROOT, env={**os.environ, "TORCH_INDEX": index},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        words = ran.stdout.splitlines()
        assert words[:2] == ["--no-cache-dir", "--no-deps"]
        assert words[2:-1] == expected
        assert words[-1].startswith("torch==")


def test_no_host_is_named() -> None:
    for text in (DOCKERFILE, COMPOSE, IGNORE, ENTRY.read_text()):
        assert "://" not in text
        assert not re.search(r"\b[\w-]+\.(?:org|io|com|dev|net)\b", text)


def test_the_server_runs_without_privileges() -> None:
    user = only("USER")
    names = [name for name, _ in instructions(DOCKERFILE)]
    assert user not in ("root", "0")
    assert names.index("USER") > max(i for i, name in enumerate(names) if name == "RUN")
    created = next(run for run in all_of("RUN") if "useradd" in run)
    assert shlex.split(created.split("&&")[0])[-1] == user
    assert f"install -d -o {user} {only('VOLUME')}" in created


def test_the_image_does_without_games() -> None:
    """What the image does not install is not imported by its commands."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert not any("gymnasium" in name for name in project["dependencies"])
    block = "import sys; sys.modules |= dict.fromkeys(['gymnasium', 'Box2D', 'pytest', 'yaml']);"
    code = f"{block} import server.cli; server.cli.parser_for('serve'); import server.trainer"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


# What is started.


def command() -> list[str]:
    words = json.loads(only("CMD"))
    assert isinstance(words, list)
    return words


def check_command(words: list[str], environment: dict[str, str]) -> Config:
    """The configuration that a command of the container starts with."""
    assert words[0] in COMMANDS
    return load(given(parse(parser_for(words[0]), words[1:])), environment).config


def image_environment() -> dict[str, str]:
    return dict(rest.split("=", 1) for rest in all_of("ENV"))


def test_the_command_is_one_that_the_server_knows() -> None:
    config = check_command(command(), image_environment())
    assert only("EXPOSE") == str(config.server.port) == str(Config().server.port)
    assert config.server.host == "0.0.0.0"
    assert config.run.dir is not None
    assert str(config.run.dir).startswith(only("VOLUME") + "/")
    assert all_of("WORKDIR")[-1] == only("VOLUME")


def test_the_entry_is_installed_and_can_be_executed() -> None:
    (name,) = json.loads(only("ENTRYPOINT"))
    source, folder = next(rest.split() for rest in all_of("COPY") if name in rest)
    assert (ROOT / source, folder) == (ENTRY, "/usr/local/bin/")
    assert os.access(ENTRY, os.X_OK)


def entered(folder: Path, *words: str) -> list[str]:
    """What the entry has understudy do."""
    fake = folder / "understudy"
    fake.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    fake.chmod(0o755)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(
        [ENTRY, *words], env={**os.environ, "PATH": path}, cwd=folder,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return ran.stdout.splitlines()


def test_the_entry_starts_a_run_or_goes_on_with_it(tmp_path: Path) -> None:
    run = tmp_path / "a run"
    words = ["serve", "--run", str(run), "--reward.weights", "{score = 0.01}", "--no-train"]
    assert entered(tmp_path, *words) == words
    run.mkdir()
    assert entered(tmp_path, *words) == words  # a folder is no run yet
    (run / "run.json").write_text("{}")
    resumed = [word.replace("--run", "--resume") for word in words]
    assert entered(tmp_path, *words) == resumed
    parse(parser_for("serve"), resumed[1:])


def test_the_entry_leaves_all_else_alone(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    for words in ([], ["config", "show"], ["serve", "--run"], ["serve", "--resume", "x"]):
        # Nothing to print is one empty line.
        assert entered(tmp_path, *words) == (words or [""])


# The compose file.


def test_the_services_differ_in_the_gpu_alone(compose: dict[str, Any]) -> None:
    gpu, cpu = services(compose)["server"], services(compose)["server-cpu"]
    assert services(compose).keys() == {"server", "server-cpu"}
    (device,) = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
    assert "deploy" not in cpu
    assert "profiles" not in gpu  # the one that `up` starts
    assert cpu["profiles"] == ["cpu"]
    assert gpu["image"] != cpu["image"]
    apart = {"deploy", "profiles", "image", "build"}
    shared = [{k: v for k, v in one.items() if k not in apart} for one in (gpu, cpu)]
    assert shared[0] == shared[1]


def test_each_service_is_built_from_the_dockerfile(compose: dict[str, Any]) -> None:
    arguments = {argument.partition("=")[0] for argument in all_of("ARG")}
    for service in services(compose).values():
        assert service["build"]["context"] == "."
        assert set(service["build"].get("args", {})) <= arguments
    assert "TORCH_INDEX" in services(compose)["server-cpu"]["build"]["args"]


def test_each_service_starts_the_server_as_the_image_does(compose: dict[str, Any]) -> None:
    for service in services(compose).values():
        variables = dict.fromkeys(service["environment"], "secret")
        config = check_command(service["command"], image_environment() | variables)
        assert config.server.token is not None
        assert config.run.dir == Path(command()[-1])
        assert service["ports"] == [f"{config.server.port}:{only('EXPOSE')}"]
        assert service["volumes"] == [f"runs:{only('VOLUME')}"]
        assert service["restart"] == "unless-stopped"
    assert "runs" in compose["volumes"]


def test_every_variable_is_a_setting(compose: dict[str, Any]) -> None:
    known = {leaf.variable for leaf in leaves().values()}
    for service in services(compose).values():
        assert set(service["environment"]) <= known
    assert set(image_environment()) <= known
    assert set(re.findall(r"UNDERSTUDY_\w+", DOCKERFILE + COMPOSE)) <= known
    environment_layer(image_environment())


def test_a_token_must_be_chosen(compose: dict[str, Any]) -> None:
    for service in services(compose).values():
        token = service["environment"]["UNDERSTUDY_SERVER__TOKEN"]
        assert re.fullmatch(r"\$\{UNDERSTUDY_SERVER__TOKEN:\?.+\}", token)


def test_there_is_time_for_a_stop_and_memory_for_the_rings(compose: dict[str, Any]) -> None:
    from agent.step import StepBlock
    from protocol.spaces import Discrete, GameSpec, Observation
    from server.supervisor import STOP_S

    pictures = GameSpec("pong", Observation("uint8", (84, 84, 4)), (Discrete("act", 18),))
    needed = StepBlock.nbytes(pictures, Config().server.ring_steps)
    for service in services(compose).values():
        assert int(service["stop_grace_period"].removesuffix("s")) > 2 * STOP_S
        assert int(service["shm_size"].removesuffix("gb")) << 30 > 2 * needed


# What the README says of it.


def test_the_readme_uses_what_there_is(compose: dict[str, Any]) -> None:
    text = (ROOT / "README.md").read_text()
    started = re.findall(r"docker compose up --build (\S+)", text)
    assert set(started) == set(services(compose))
    given_to_build = re.findall(r"--build-arg (\w+)=", text)
    assert set(given_to_build) <= {argument.partition("=")[0] for argument in all_of("ARG")}
    assert "understudy " + " ".join(command()) in text

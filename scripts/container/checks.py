"""What can be said of the container files by reading them. Each function returns what is wrong."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from config.fields import all_settings
from config.load import ConfigError, environment_layer
from scripts.container import compose as composing
from scripts.container.compose import Service
from scripts.container.dockerfile import DockerfileError, Stage, argument, ignored, stages

SECRET = re.compile(r"TOKEN|PASSWORD|PASSWD|SECRET|CREDENTIAL|(^|_)KEY", re.IGNORECASE)
SECRETS_FOLDER = "/run/secrets/"
PREFIX = "UNDERSTUDY_SERVER__"


def problems(root: Path) -> list[str]:
    """All that is wrong with the container files of the repository at `root`."""
    compose_file = root / "docker-compose.yml"
    try:
        compose = composing.read(compose_file.read_text())
    except ValueError as error:
        return [f"{compose_file.name}: {error}"]
    found = compose_problems(compose, root)
    dockerfiles = {dockerfile_of(service, root) for service in composing.services(compose).values()}
    for path in sorted(path for path in dockerfiles if path is not None and path.exists()):
        found += dockerfile_problems(path.read_text(), path.parent, str(path.relative_to(root)))
    return found


def dockerfile_of(service: Service, root: Path) -> Path | None:
    """The Dockerfile that a service is built from; None where its image is somebody else's."""
    build = service.get("build")
    if build is None:
        return None
    return (root / str(build["context"]) / str(build.get("dockerfile", "Dockerfile"))).resolve()


# The Dockerfile.


def dockerfile_problems(text: str, context: Path, name: str = "Dockerfile") -> list[str]:
    """What is wrong with a Dockerfile whose context is this folder."""
    try:
        found = stages(text)
    except (DockerfileError, ValueError) as error:
        return [f"{name}: {error}"]
    if not found:
        return [f"{name}: expected FROM"]
    ignore = context / ".dockerignore"
    patterns = ignore.read_text() if ignore.exists() else ""
    wrong = [line for stage in found for line in _bases(stage, found)]
    for number, stage in enumerate(found):
        wrong += _copies(stage, {one.name for one in found[:number]}, context, patterns)
        wrong += _no_secrets(stage)
    wrong += _final(found[-1])
    for path in (
        ".env",
        "secrets/game_token",
        ".git/config",
        ".venv/bin/python",
        "runs/x/run.json",
    ):
        if not ignored(path, patterns):
            wrong.append(f".dockerignore lets {path} into the context")
    return [f"{name}: {line}" for line in wrong]


def pinned(image: str) -> bool:
    """Whether an image is named with a tag that says a version."""
    name, mark, tag = image.rpartition(":")
    return bool(mark and name and re.search(r"\d|bookworm", tag)) and "/" not in tag


def _bases(stage: Stage, found: list[Stage]) -> list[str]:
    if stage.base in {one.name for one in found} or pinned(stage.base):
        return []
    return [f"FROM {stage.base}: expected a tag with a version"]


def _copies(stage: Stage, before: set[str | None], context: Path, patterns: str) -> list[str]:
    wrong = []
    for one in stage.all_of("COPY"):
        *sources, _ = one.words()
        origin = one.flags.get("from")
        if origin is not None:
            if origin not in before:
                wrong.append(
                    f"line {one.line}: COPY --from={origin}: no stage before has that name"
                )
            continue
        for source in sources:
            if not (context / source).exists():
                wrong.append(f"line {one.line}: COPY {source}: there is no such file")
            elif source != "." and ignored(source, patterns):
                wrong.append(f"line {one.line}: COPY {source}: .dockerignore keeps it out")
            elif SECRET.search(source) or (source == "." and "*" not in patterns.splitlines()):
                wrong.append(f"line {one.line}: COPY {source}: a secret may come with it")
    return wrong


def _no_secrets(stage: Stage) -> list[str]:
    names = [*stage.environment(), *(argument(one)[0] for one in stage.all_of("ARG"))]
    return [
        f"{name}: a secret would be kept in the image; mount a file"
        for name in names
        if SECRET.search(name) and not name.endswith("_FILE")
    ]


def _final(stage: Stage) -> list[str]:
    """The stage that becomes the image."""
    wrong = []
    names = [one.name for one in stage.instructions]
    user = stage.last("USER")
    if user is None or user.text.split(":")[0] in ("root", "0"):
        wrong.append("expected USER in the last stage, and not root")
    elif "RUN" in names and names.index("USER") < max(i for i, n in enumerate(names) if n == "RUN"):
        wrong.append("expected USER behind the last RUN")
    # What listens can be asked how it is; a game that ends is started again.
    for name in ("HEALTHCHECK", "ENTRYPOINT") if stage.last("EXPOSE") else ("ENTRYPOINT",):
        one = stage.last(name)
        words = one.text.removeprefix("CMD ") if one else ""
        if not words.startswith("["):
            wrong.append(f"expected {name} in the last stage, as a list of words")
    wrong += [
        f"line {one.line}: the image installs with {match[0]}; do that in a stage before"
        for one in stage.all_of("RUN")
        if (match := re.search(r"\b(pip|gcc|make|git|curl|wget)\b", one.text))
    ]
    return wrong + unknown_settings(stage.environment(), "ENV")


def unknown_settings(variables: Mapping[str, str], where: str) -> list[str]:
    """Variables that look like settings of the server and are none, or have values of none."""
    ours = {name: value for name, value in variables.items() if name.startswith(PREFIX)}
    known = {setting.variable for setting in all_settings().values()}
    wrong = [f"{where} {name}: there is no such setting" for name in ours if name not in known]
    try:
        environment_layer({name: value for name, value in ours.items() if name in known})
    except ConfigError as error:
        wrong.append(f"{where}: {error}")
    return wrong


# The compose file.


def compose_problems(compose: Mapping[str, Any], root: Path) -> list[str]:
    """What is wrong with the compose file at `root`."""
    wrong = []
    for name, service in composing.services(compose).items():
        lines = [
            *_image(service, root),
            *_secrets(service, compose),
            *_volumes(service, compose, root),
        ]
        lines += unknown_settings(composing.environment(service), "environment")
        lines += _confined(service)
        wrong += [f"{name}: {line}" for line in lines]
    for name, secret in compose.get("secrets", {}).items():
        wrong += [f"secret {name}: {line}" for line in _secret_file(secret, root)]
    return [f"docker-compose.yml: {line}" for line in wrong]


def _image(service: Service, root: Path) -> list[str]:
    path = dockerfile_of(service, root)
    if path is None:
        image = str(service.get("image", ""))
        return [] if pinned(image) else [f"image {image!r}: expected a tag with a version"]
    if not path.is_file():
        return [f"build: there is no {path}"]
    found = stages(path.read_text())
    build = service["build"]
    wrong = []
    if (target := build.get("target")) and target not in {stage.name for stage in found}:
        wrong.append(f"build: {path.name} has no stage {target!r}")
    text = path.read_text()
    known = set(re.findall(r"^ARG (\w+)", text, re.MULTILINE))
    wrong += [f"build: {path.name} has no ARG {arg}" for arg in set(build.get("args", {})) - known]
    exposed = {int(port) for one in found[-1].all_of("EXPOSE") for port in one.words()}
    wrong += [
        f"port {inside}: {path.name} does not EXPOSE it"
        for _, _, inside in composing.published(service)
        if inside not in exposed
    ]
    return wrong


def _secrets(service: Service, compose: Mapping[str, Any]) -> list[str]:
    given = set(service.get("secrets", []))
    wrong = [f"secret {name} is not declared" for name in given - set(compose.get("secrets", {}))]
    for name, value in composing.environment(service).items():
        if name.endswith("_FILE"):
            if value.removeprefix(SECRETS_FOLDER) not in given:
                wrong.append(f"{name}={value}: the service is not given that secret")
        elif SECRET.search(name) and value.lower() != "true":
            wrong.append(f"{name}: a secret belongs into a file, see `secrets`")
    return wrong


def _secret_file(secret: Mapping[str, Any], root: Path) -> list[str]:
    path = str(secret.get("file", ""))
    if not path.startswith("./secrets/"):
        return [f"expected a file in ./secrets/, got {path!r}"]
    if "/secrets/" not in (root / ".gitignore").read_text().splitlines():
        return ["expected /secrets/ in .gitignore"]
    return []


def _volumes(service: Service, compose: Mapping[str, Any], root: Path) -> list[str]:
    wrong = []
    for source, target, read_only in composing.mounts(service):
        if source.startswith("."):
            if not (root / source).exists():
                wrong.append(f"volume {source}: there is no such file")
            if not read_only:
                wrong.append(
                    f"volume {source}:{target}: expected :ro, for it is a file of the project"
                )
        elif source not in compose.get("volumes", {}):
            wrong.append(f"volume {source} is not declared")
    return wrong


def _confined(service: Service) -> list[str]:
    wrong = []
    if service.get("cap_drop") != ["ALL"] or service.get("privileged"):
        wrong.append("expected cap_drop: [ALL]")
    if "no-new-privileges:true" not in service.get("security_opt", []):
        wrong.append("expected no-new-privileges")
    for address, outside, _ in composing.published(service):
        # What games use has a token. The rest is shown to whoever reaches it.
        if address != "127.0.0.1" and outside != 7777:
            wrong.append(f"port {outside}: expected 127.0.0.1 before it; it asks for no token")
    return wrong

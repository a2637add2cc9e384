"""The files that start a cluster in containers: by schemas, and by our own commands."""

from __future__ import annotations

import copy
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from config.load import load
from config.options import given
from scripts.container.dockerfile import stages
from scripts.packages.lockfile import LOCK, parse
from server import cli

jsonschema = pytest.importorskip("jsonschema", reason="install the extra dev")
kubernetes = pytest.importorskip("kubernetes_validate", reason="install the extra dev")

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "tests/support/kuberay.schema.json").read_text())
KUBERNETES = "1.34.0"
COMPOSE = yaml.safe_load((ROOT / "deploy/cluster/compose.yml").read_text())
DOCUMENTS = list(yaml.safe_load_all((ROOT / "deploy/kuberay/understudy.yaml").read_text()))
(RAY,) = (each for each in DOCUMENTS if each["kind"] == "RayCluster")


def pods(cluster: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, str]]]:
    """The templates of a RayCluster's pods, and how Ray is started in each."""
    spec = cluster["spec"]
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        yield group["template"], group["rayStartParams"]


def check(document: dict[str, Any]) -> None:
    """Errors: ValidationError of jsonschema, or of kubernetes_validate."""
    if document["kind"] != "RayCluster":
        kubernetes.validate(document, KUBERNETES, strict=True)
        return
    jsonschema.validate(document, SCHEMA)
    for template, _ in pods(document):
        named = {"name": "pod"} | template.get("metadata", {})
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": named, "spec": template["spec"]}
        kubernetes.validate(pod, KUBERNETES, strict=True)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda each: each["kind"])
def test_kuberay_files_are_what_the_schemas_ask_for(document: dict[str, Any]) -> None:
    check(document)


def test_schemas_refuse_fields_that_there_are_not() -> None:
    for change in (
        lambda it: it["spec"].update(rayversion="2.60.0"),
        lambda it: it["spec"]["headGroupSpec"]["rayStartParams"].update(num=4),
        lambda it: it["spec"]["workerGroupSpecs"][0].update(maxReplicas="8"),
        lambda it: it["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0].update(port=1),
    ):
        changed = copy.deepcopy(RAY)
        change(changed)
        with pytest.raises(Exception, match=r"rayversion|4|'8'|port"):
            check(changed)


def containers() -> Iterator[dict[str, Any]]:
    for template, _ in pods(RAY):
        yield from template["spec"]["containers"]


def test_kuberay_pods_ask_for_the_token_and_share_the_runs() -> None:
    for container in containers():
        variables = {each["name"]: each for each in container["env"]}
        assert variables["RAY_AUTH_MODE"]["value"] == "token"
        secret = variables["RAY_AUTH_TOKEN"]["valueFrom"]["secretKeyRef"]
        assert secret == {"name": "understudy", "key": "ray_token"}
        mounts = {each["mountPath"]: each["name"] for each in container["volumeMounts"]}
        assert mounts == {"/runs": "runs", "/dev/shm": "shared-memory", "/tmp": "ray"}
    for template, _ in pods(RAY):
        volumes = {each["name"]: each for each in template["spec"]["volumes"]}
        assert volumes["runs"]["persistentVolumeClaim"]["claimName"] == "understudy-runs"
        assert volumes["shared-memory"]["emptyDir"]["medium"] == "Memory"


def test_services_and_policy_choose_the_pods_that_there_are() -> None:
    names = {each["kind"]: each for each in DOCUMENTS if each["kind"] != "Service"}
    labels = [template["metadata"]["labels"] for template, _ in pods(RAY)]
    policy = names["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"]
    assert all(policy.items() <= each.items() for each in labels)
    ports = {p["name"]: p["containerPort"] for each in containers() for p in each["ports"]}
    for service in (each for each in DOCUMENTS if each["kind"] == "Service"):
        chosen = {k: v for k, v in service["spec"]["selector"].items() if "ray.io" not in k}
        assert all(chosen.items() <= each.items() for each in labels)
        for port in service["spec"]["ports"]:
            assert ports[port["targetPort"]] == port["port"]


def serve(words: list[str], environ: dict[str, str]) -> Any:
    """The configuration that a container's `serve` would have. Errors: SystemExit, ConfigError."""
    assert words[0] == "serve"
    args = cli.parser_for("serve").parse_args(words[1:])
    return args, load(given(args), environ).config


def test_kuberay_server_starts_with_what_there_is() -> None:
    (server,) = (each for each in containers() if each["name"] == "server")
    assert server["command"] == ["container-entry"]
    args, config = serve(server["args"], {})
    spec = RAY["spec"]
    assert args.cluster == "auto"
    assert config.cluster.gateways == 1 + sum(g["replicas"] for g in spec["workerGroupSpecs"])
    assert config.server.http_names == ("understudy-http",)
    assert any(each["metadata"]["name"] == "understudy-http" for each in DOCUMENTS)
    # As container-entry looks for it: a container that is started again goes on with the run.
    assert server["args"][server["args"].index("--run") + 1].startswith("/runs/")


def test_compose_nodes_ask_for_the_token_and_share_the_runs() -> None:
    for name, service in COMPOSE["services"].items():
        assert set(service["secrets"]) <= set(COMPOSE["secrets"]), name
        environ = service["environment"]
        assert environ["RAY_AUTH_TOKEN_PATH"] == "/run/secrets/ray_token"
        assert "runs:/runs" in service["volumes"]
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
    first, second = COMPOSE["services"]["first"], COMPOSE["services"]["second"]
    words = first["command"]
    environ = {k: v for k, v in first["environment"].items() if not k.endswith("TOKEN_FILE")}
    args, config = serve(words, environ)
    assert (args.cluster, config.cluster.gateways) == ("auto", len(COMPOSE["services"]))
    assert words[words.index("--run") + 1].startswith("/runs/")
    assert {first["ports"][0], second["ports"][0]} == {"7777:7777", "7778:7777"}


def test_image_of_nodes_has_ray_from_the_lock_and_asks_for_the_token() -> None:
    (stage,) = stages((ROOT / "deploy/cluster/Dockerfile").read_text())
    assert stage.environment()["RAY_AUTH_MODE"] == "token"
    assert stage.all_of("USER")[-1].text == "understudy"
    (run,) = stage.all_of("RUN")
    assert "lockfile.py cluster > cluster.txt" in run.text
    assert "--require-hashes --no-deps" in run.text
    locked = {each.name: each for each in parse(LOCK.read_text()) if "cluster" in each.parts}
    assert locked["ray"].version == RAY["spec"]["rayVersion"]
    assert not any(each.lower() == "gymnasium" for each in locked)


def test_ray_is_started_with_options_that_it_has() -> None:
    scripts = pytest.importorskip("ray.scripts.scripts", reason="install the extra cluster")
    known = {option for each in scripts.start.params for option in each.opts}
    shell = shlex.split(COMPOSE["services"]["first"]["entrypoint"][2])
    asked = {word.partition("=")[0] for word in shell if word.startswith("--")}
    asked |= {w.partition("=")[0] for w in COMPOSE["services"]["second"]["command"]}
    asked |= {f"--{name}" for _, params in pods(RAY) for name in params}
    assert asked
    assert asked <= known

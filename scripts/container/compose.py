"""The compose file, as far as this project uses it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

Service = dict[str, Any]

_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::-(?P<default>[^}]*))?\}")


def read(text: str, variables: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The file with `${NAME:-default}` filled in. Errors: ValueError for what is not one."""
    given = variables or {}
    content = yaml.safe_load(
        _VARIABLE.sub(lambda match: given.get(match["name"], match["default"] or ""), text)
    )
    if not (isinstance(content, dict) and isinstance(content.get("services"), dict)):
        raise ValueError("expected a table with services")
    return content


def services(compose: Mapping[str, Any]) -> dict[str, Service]:
    found: dict[str, Service] = compose["services"]
    return found


def environment(service: Service) -> dict[str, str]:
    """The variables of a service; a list of NAME=VALUE and a table mean the same."""
    given = service.get("environment", {})
    pairs = [one.partition("=")[::2] for one in given] if isinstance(given, list) else given.items()
    return {name: str(value) for name, value in pairs}


def mounts(service: Service) -> list[tuple[str, str, bool]]:
    """(source, place in the container, whether it is read only) of each volume."""
    found = []
    for entry in service.get("volumes", []):
        source, target, *mode = str(entry).split(":")
        found.append((source, target, mode == ["ro"]))
    return found


def published(service: Service) -> list[tuple[str, int, int]]:
    """(address or "", port outside, port inside) of each port."""
    found = []
    for entry in service.get("ports", []):
        *address, outside, inside = str(entry).split(":")
        found.append((":".join(address), int(outside), int(inside)))
    return found


def size_bytes(text: str) -> int:
    """`1gb`, `64m` as bytes."""
    match = re.fullmatch(r"(\d+)\s*([kmg]?)b?", text.lower())
    if not match:
        raise ValueError(f"expected a size such as 1gb, got {text!r}")
    return int(match[1]) << {"": 0, "k": 10, "m": 20, "g": 30}[match[2]]


def seconds(text: str) -> float:
    """`30s`, `1m`, `1m30s`, `500ms` as seconds."""
    parts = re.findall(r"(\d+)(ms|s|m|h)", text)
    if not parts or "".join(a + b for a, b in parts) != text:
        raise ValueError(f"expected a time such as 30s, got {text!r}")
    return float(sum(int(n) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[unit] for n, unit in parts))

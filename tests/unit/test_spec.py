"""protocol/SPEC.md says what the code does."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from protocol import errors, framing, messages, session, spaces, spec_checks
from protocol.errors import CODES
from protocol.messages import CLIENT_TYPES, SERVER_TYPES
from protocol.spaces import DTYPES

ROOT = Path(__file__).parents[2]
SPEC = (ROOT / "protocol/SPEC.md").read_text()
VECTORS = {v["name"]: v for v in json.loads((ROOT / "tests/golden/wire.json").read_text())["valid"]}
EXAMPLES = dict(re.findall(r"^```hex (.+?)\n(.+?)^```", SPEC, re.M | re.S))


def section(title: str) -> str:
    """The text under a heading, down to the next one of its level or above."""
    match = re.search(rf"^(#+) {re.escape(title)}$", SPEC, re.M)
    assert match, f"no section {title!r}"
    rest = SPEC[match.end() :]
    end = re.search(rf"^#{{1,{len(match[1])}}} ", rest, re.M)
    return rest[: end.start()] if end else rest


def table(title: str) -> list[list[str]]:
    """The cells of the rows of a section's table, without its two lines of heading."""
    lines = [line for line in section(title).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_spec_document_diagram_equals_session_diagram() -> None:
    [drawn] = re.findall(r"^```mermaid\n(.+?)\n```", SPEC, re.M | re.S)
    assert drawn == session.diagram(), "paste the output of python -m protocol.session"


def test_spec_document_error_table_lists_every_code_in_order() -> None:
    rows = table("Errors")
    assert [re.findall(r"`(\w+)`", row[0]) for row in rows] == [[code] for code in CODES]
    for _, when, cure in rows:
        assert when
        assert cure


def test_spec_document_retry_marks_match_code() -> None:
    marked = {re.findall(r"`(\w+)`", row[0])[0] for row in table("Errors") if "↻" in row[0]}
    raised: set[str] = set()
    for path in [*ROOT.glob("protocol/*.py"), *ROOT.glob("server/**/*.py")]:
        text = path.read_text()
        for node in ast.walk(ast.parse(text)) if "RemoteError(" in text else ():
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "RemoteError":
                retry = [k for k in node.keywords if k.arg == "retry"]
                if retry and getattr(retry[0].value, "value", None) is True:
                    code = node.args[0]
                    assert isinstance(code, ast.Constant)
                    raised.add(str(code.value))
    assert marked == raised


@pytest.mark.parametrize("name", EXAMPLES)
def test_spec_document_example_equals_golden_bytes(name: str) -> None:
    data = b"".join(
        bytes.fromhex(re.match(r"(?:[0-9a-f]{2}(?: |$))+", line)[0])  # type: ignore[index]
        for line in EXAMPLES[name].splitlines()
    )
    assert data.hex() == VECTORS[name]["hex"]


def test_spec_document_has_example_of_each_message() -> None:
    shown = {VECTORS[name]["type"] for name in EXAMPLES}
    assert {*CLIENT_TYPES.values(), *SERVER_TYPES.values()} - shown == {"ERROR", "SETTINGS"}


@pytest.mark.parametrize(("number", "name"), [*CLIENT_TYPES.items(), *SERVER_TYPES.items()])
def test_spec_document_describes_fields_of_each_message(number: int, name: str) -> None:
    text = section(f"{number} {name}")
    struct = getattr(messages, name.capitalize())
    fields = struct.__struct_fields__
    if name in ("HELLO", "WELCOME"):
        described = getattr(messages, f"{name.capitalize()}Fields").__struct_fields__
        rows = [row[0].strip("`") for row in table(f"{number} {name}")]
        assert rows == list(described)
        assert f"`[{number}, {{…}}]`" in text
    elif name == "SETTINGS":
        assert f"`[{number}, {{…}}]`" in text
    else:
        assert f"`[{', '.join([str(number), *fields])}]`" in text
        if cells := table(f"{number} {name}"):
            assert [row[1] for row in cells] == ["type", *fields]
            assert [row[0] for row in cells] == [str(i) for i in range(len(fields) + 1)]


@pytest.mark.parametrize(
    "number",
    [
        framing.HANDSHAKE_MAX_BYTES,
        messages.MAX_SEQ,
        session.MAX_SLOTS,
        spaces.MAX_DISCRETE,
        spaces.MAX_HEADS,
        spec_checks.MAX_NAME,
        spaces.MAX_SIZE,
        errors.MAX_MESSAGE,
    ],
)
def test_spec_document_limits_match_code(number: int) -> None:
    assert re.search(rf"(?<![\d,]){number:,}(?![\d,])", SPEC)


def test_spec_document_dtypes_and_roles_match_code() -> None:
    dtypes = {row[0].strip("`"): int(row[1]) for row in table("Tensors")}
    assert dtypes == {name: dtype.itemsize for name, dtype in DTYPES.items()}
    assert [row[0].strip("`") for row in table("Roles")] == list(messages.ROLES)


def test_spec_document_links_resolve() -> None:
    anchors = {
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.+)$", SPEC, re.M)
    }
    for target in re.findall(r"\]\(([^)]+)\)", SPEC):
        if target.startswith("#"):
            assert target[1:] in anchors, target
        elif not target.startswith("http"):
            assert (ROOT / "protocol" / target).exists(), target

"""What the decoder says of a wrong form, in the words of the specification: bin and not `bytes`,
obs and not `$[3]`. Who writes a client knows those, and not the library."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, get_args

from protocol.messages import ROLES
from protocol.observations import Kind

_KINDS = {
    "bytes": "bin",
    "object": "map",
    "dict": "map",
    "list": "array",
    "null": "nil",
    "None": "nil",
    "NoneType": "nil",
    "bool": "boolean",
    "ext": "extension",
    "Ext": "extension",
}


def in_words(error: Exception, elements: Sequence[str] = ()) -> str:
    """What msgspec's error says. `elements`: what a message's elements behind its type are called.
    What is not known here stays as it is."""
    text, _, path = str(error).rpartition(" - at `")
    if not text:
        return _what(str(error))
    if path.startswith("key` in "):
        return f"a key of {_place(path[8:].strip('`'), elements) or 'the map'}: {_what(text)}"
    known = get_args(Kind) if path.rstrip("`").endswith(".kind") else ROLES
    return f"{_place(path.rstrip('`'), elements)}: {_what(text, known)}"


def kind_of(value: Any) -> str:
    """The form of a decoded value, with its article."""
    name = _kind(type(value).__name__)
    return name if name == "nil" else f"an {name}" if name[0] in "ae" else f"a {name}"


def _kind(name: str) -> str:
    return _KINDS.get(name, name)


def _place(path: str, elements: Sequence[str]) -> str:
    """`$[3]` by its name, and its number for who counts."""
    path = path.removeprefix("$")
    found = re.fullmatch(r"\[(\d+)\](.*)", path)
    if found and 1 <= (number := int(found[1])) <= len(elements):
        return f"{elements[number - 1]}{found[2]} (element {number})"
    return path.removeprefix(".")


def _what(text: str, known: Sequence[str] = ROLES) -> str:
    if text.startswith("Invalid enum value "):
        return f"expected {', '.join(known)}; got {text.removeprefix('Invalid enum value ')}"
    if text.startswith("Invalid value "):
        return f"expected 'discrete' or 'continuous', got {text.removeprefix('Invalid value ')}"
    if found := re.fullmatch(r"Object missing required field `(\w+)`", text):
        return f"expected a map with the key {found[1]!r}, got one without it"
    if found := re.fullmatch(r"Expected `array` of (at least )?length (\d+), got (\d+)", text):
        return f"expected an array of {found[1] or ''}{found[2]} elements, got {found[3]}"
    if found := re.fullmatch(r"Expected `([\w |]+)`(.*?)(?:, got `(\w+)`)?", text):
        # A float is refused where an int is wanted; where a float is, an int will do as well.
        wanted = ["number" if name == "float" else _kind(name) for name in found[1].split(" | ")]
        got = f", got {_kind(found[3])}" if found[3] else ""
        return f"expected {' or '.join(wanted)}{found[2]}{got}"
    return text

"""The fields of the models as one flat list: what help, messages, docs and every source need.

A *key* is a field's dotted name, `server.port`. A table such as `reward.weights` is one field: a
later source replaces it as a whole.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import SecretStr, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from config.docstrings import field_docs
from config.models import NONE, Config, Expected, Live, Section, Unit, Unsaved

HIDDEN = "********"
"""What is shown in place of a secret."""

_SCALARS = {bool: "true or false", int: "a whole number", float: "a number"}


@dataclass(frozen=True, slots=True)
class Setting:
    """One field that can be set."""

    key: str
    """Dotted name, `server.port`."""
    kind: type
    """bool, int, float, str, Path, SecretStr, tuple or dict."""
    default: Any
    description: str
    unit: str
    """What its number counts, or empty."""
    expected: str
    """Which values it takes, for messages: "a whole number from 0 to 65535"."""
    live: bool
    """Whether it can be changed while the run runs."""
    saved: bool = True
    """Whether a run saves it: no secret, and nothing that each start is told anew."""

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return variable_of(self.key)

    @property
    def secret(self) -> bool:
        return self.kind is SecretStr

    def read(self, text: str) -> Any:
        """The value that a text from a shell stands for: a table or list as TOML or JSON.

        Text that stands for none comes back as it is, for the models to refuse.
        """
        if text == NONE:
            return text
        if self.kind in _SCALARS:
            with contextlib.suppress(ValidationError):
                return TypeAdapter(self.kind).validate_strings(text)
        elif self.kind in (tuple, dict):
            with contextlib.suppress(tomllib.TOMLDecodeError):
                table = tomllib.loads(f"value = {text}")
                if list(table) == ["value"]:
                    return table["value"]
            with contextlib.suppress(json.JSONDecodeError):
                return json.loads(text)
        return self.guard(text)

    def guard(self, value: Any) -> Any:
        """The value, wrapped where it is a secret, so that no message or log can show it."""
        secret = self.secret and isinstance(value, str) and value != NONE
        return SecretStr(value) if secret else value

    def plain(self, value: Any) -> Any:
        """A value of the config as TOML and JSON know it; a secret stays hidden."""
        if value is None:
            return NONE
        if self.secret:
            return HIDDEN
        if self.kind is Path:
            return str(value)
        return list(value) if self.kind is tuple else value

    def show(self, value: Any) -> str:
        """A value of the config in words for a person."""
        plain = self.plain(value)
        return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def variable_of(key: str) -> str:
    """The environment variable of a key: server.port -> UNDERSTUDY_SERVER__PORT."""
    return "UNDERSTUDY_" + key.replace(".", "__").upper()


@cache
def all_settings() -> dict[str, Setting]:
    """Every field by its key, in the order of the models."""
    return {setting.key: setting for setting in _leaves(Config(), "", "", live=False)}


@cache
def groups() -> dict[str, str]:
    """Each group of fields with what it is for."""
    return {
        name: _group(field).__doc__ or "" for name, field in type(Config()).model_fields.items()
    }


def flat(config: Config) -> dict[str, Any]:
    """Every value of a config by its key."""
    return {key: _dig(config, key) for key in all_settings()}


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by key as tables within tables."""
    tree: dict[str, Any] = {}
    for key, value in values.items():
        *path, name = key.split(".")
        table = tree
        for part in path:
            table = table.setdefault(part, {})
        table[name] = value
    return tree


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant: one spelt alike, or one with the same last part."""
    words = list(known)
    if found := difflib.get_close_matches(word, words, n=1):
        return found[0]
    last = word.rpartition(".")[2]
    lasts = {w.rpartition(".")[2]: w for w in reversed(words)}
    found = difflib.get_close_matches(last, lasts, n=1)
    return lasts[found[0]] if found else None


def _leaves(values: Section, prefix: str, about: str, *, live: bool) -> Iterator[Setting]:
    docs = field_docs(type(values))
    for name, field in type(values).model_fields.items():
        value, key = getattr(values, name), prefix + name
        words = " ".join(f"{about} {docs.get(name, '')}".split())
        if isinstance(value, Section):
            # A group of Config has its own heading; a schedule's fields need what it is for.
            marked = live or _is_live(field.metadata)
            yield from _leaves(value, key + ".", words if prefix else "", live=marked)
            continue
        inner, metadata, optional = _unwrap(field.annotation, field.metadata)
        yield Setting(
            key=key,
            kind=_kind(inner),
            default=value,
            description=words,
            unit=next((str(m) for m in metadata if isinstance(m, Unit)), ""),
            expected=_expected(inner, metadata) + (f", or {NONE}" if optional else ""),
            live=live or _is_live(metadata),
            saved=_kind(inner) is not SecretStr
            and not any(isinstance(one, Unsaved) for one in metadata),
        )


def _is_live(metadata: Iterable[Any]) -> bool:
    return any(isinstance(one, Live) for one in metadata)


def _dig(config: Config, key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    return value


def _group(field: FieldInfo) -> type[Section]:
    assert isinstance(field.annotation, type)
    assert issubclass(field.annotation, Section)
    return field.annotation


def _kind(inner: Any) -> type:
    origin = get_origin(inner)
    if origin is Literal:
        return str
    kind = origin or inner
    assert isinstance(kind, type)
    return kind


def _unwrap(annotation: Any, metadata: Iterable[Any] = ()) -> tuple[Any, list[Any], bool]:
    """The bare type of an annotation, all metadata on it, and whether it may be None."""
    found, optional = list(metadata), False
    while True:
        origin = get_origin(annotation)
        if origin is Annotated:
            annotation, *more = get_args(annotation)
            for one in more:
                found.extend(one.metadata if isinstance(one, FieldInfo) else [one])
        elif origin in (Union, UnionType):
            (annotation,) = (a for a in get_args(annotation) if a is not NoneType)
            optional = True
        else:
            return annotation, found, optional


def _expected(inner: Any, metadata: Iterable[Any]) -> str:
    """Which values a type takes, in words."""
    metadata = list(metadata)
    for one in metadata:
        if isinstance(one, Expected):
            return str(one)
    origin, args = get_origin(inner), get_args(inner)
    if origin is Literal:
        return " or ".join([", ".join(args[:-1]), args[-1]])
    if origin is tuple:
        return f"a list{_limits(metadata)}, each {_words(args[0])}"
    if origin is dict:
        names = f" of {' and '.join(get_args(args[0]))}" if get_origin(args[0]) is Literal else ""
        what = "" if args[1] is Any else f", each {_words(args[1])}"
        return f"a table{names}{what}"
    if inner not in _SCALARS:
        shortest = max((getattr(one, "min_length", None) or 0 for one in metadata), default=0)
        if shortest > 1:
            return f"text of at least {shortest} characters"
    return (_SCALARS.get(inner) or "text") + _limits(metadata)


def _words(annotation: Any) -> str:
    inner, metadata, _ = _unwrap(annotation)
    return _expected(inner, metadata)


def _limits(metadata: list[Any]) -> str:
    limit = {
        name: getattr(one, name)
        for one in metadata
        for name in ("ge", "gt", "le", "lt", "min_length")
        if getattr(one, name, None) is not None
    }
    if "min_length" in limit:
        return " that is not empty"
    if "ge" in limit and "le" in limit:
        return f" from {limit['ge']} to {limit['le']}"
    words = {"ge": "of at least", "gt": "above", "le": "of at most", "lt": "below"}
    said = " and ".join(f"{words[name]} {limit[name]}" for name in words if name in limit)
    return f" {said}" if said else ""

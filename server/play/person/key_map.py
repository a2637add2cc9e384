"""What keys and gamepads do: a map from inputs to actions, and its file (TOML).

An *input* is the name of a key ("left", "space", "a"), or of a part of a gamepad: "button 0",
"hat left", "axis 0 -" and "axis 0 +" (a stick that is held to one side), "axis 0" (how far).
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from understudy_client.checks import check_action
from understudy_client.spec import Continuous, Discrete, Head, Part

WAIT = "wait"
"""As `idle`: the game stands still while nothing is held."""

COMMANDS = {
    "take_over": ("tab", "button 6"),
    "pause": ("p", "button 7"),
    "end": ("escape",),
    "keep": ("return", "button 0"),
    "discard": ("backspace", "button 1"),
    "mark": ("m", "button 3"),
}
"""What else keys do, with their inputs."""

KEYS = frozenset(
    {
        *"abcdefghijklmnopqrstuvwxyz0123456789-=[];',./\\`",
        *(f"f{n}" for n in range(1, 13)),
        *(f"[{n}]" for n in range(10)),
        "left", "right", "up", "down", "space", "return", "tab", "escape", "backspace", "delete",
        "insert", "home", "end", "page up", "page down", "enter", "left shift", "right shift",
        "left ctrl", "right ctrl", "left alt", "right alt",
    }
)  # fmt: skip
"""Names of keys, as pygame has them."""

_PAD = re.compile(r"button \d+|hat (left|right|up|down)|axis \d+( [-+])?")
_STICK = re.compile(r"axis \d+")
_CHORD = re.compile(r"(?<!\s)\+")  # the + of "axis 0 +" has a blank before it


class KeyMapError(ValueError):
    """A map that cannot be used; the message says where and what to do."""


@dataclass(frozen=True, slots=True)
class Binding:
    """What some inputs that are held together do."""

    inputs: frozenset[str]
    parts: Mapping[int, Part]
    """By the index of the head."""

    @property
    def analog(self) -> str | None:
        """The axis whose value the parts are multiplied by, if it is one."""
        only = next(iter(self.inputs)) if len(self.inputs) == 1 else ""
        return only if _STICK.fullmatch(only) else None


@dataclass(frozen=True, slots=True)
class KeyMap:
    """The inputs of one game."""

    heads: tuple[Head, ...]
    bindings: tuple[Binding, ...]
    idle: tuple[Part, ...] | None
    """What is done while nothing is held; None: the game waits."""
    commands: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: dict(COMMANDS))

    def action(self, held: Sequence[str], axes: Mapping[str, float]) -> list[Part] | None:
        """The action that a person wants, a part for each head; None where nothing is held and the
        game waits.

        held: names of inputs, in the order in which they were pressed. axes: -1 to 1, by name.
        Of bindings that share a head the one with the most inputs counts, then the newest. On
        continuous heads those that are left add up.
        """
        active = self._active(held, axes)
        if not active and self.idle is None:
            return None
        action = list(self.idle) if self.idle is not None else neutral(self.heads)
        moved: set[int] = set()
        for binding, factor in active:
            for head, part in binding.parts.items():
                kind = self.heads[head]
                if isinstance(kind, Discrete):
                    action[head] = part
                else:
                    base = action[head] if head in moved else None
                    action[head] = _moved(kind, base, part, factor)
                    moved.add(head)
        return action

    def touched(self, held: Sequence[str], axes: Mapping[str, float]) -> bool:
        """Whether anything is held that plays."""
        return bool(self._active(held, axes))

    def plays_with(self, name: str) -> bool:
        """Whether this input plays, alone or beside others."""
        return any(name in binding.inputs for binding in self.bindings)

    def _active(
        self, held: Sequence[str], axes: Mapping[str, float]
    ) -> list[tuple[Binding, float]]:
        """Bindings that are held, those that win last, each with what multiplies its parts."""
        down = set(held)
        found = [b for b in self.bindings if b.inputs <= down and not b.analog]
        chords = [b for b in found if not any(b.inputs < other.inputs for other in found)]
        chords.sort(key=lambda b: (len(b.inputs), max(held.index(name) for name in b.inputs)))
        sticks = [(b, axes[b.analog]) for b in self.bindings if b.analog and axes.get(b.analog)]
        return [*sticks, *((b, 1.0) for b in chords)]

    @property
    def unreachable(self) -> list[str]:
        """What no input does, in words: heads that none moves, and choices that none makes."""
        found = []
        rest = neutral(self.heads) if self.idle is None else self.idle
        for i, head in enumerate(self.heads):
            made = [b.parts[i] for b in self.bindings if i in b.parts]
            if self.idle is not None or len(self.heads) > 1:
                made.append(rest[i])  # as it is while something else is held
            if not isinstance(head, Discrete):
                if not any(i in b.parts for b in self.bindings):
                    found.append(head.name)
            elif missing := [str(n) for n in range(head.n) if n not in made]:
                shown = ", ".join(missing[:8]) + (", ..." if len(missing) > 8 else "")
                found.append(f"{head.name} {shown}")
        return found

    def words(self) -> str:
        """The keys in one line: `left: 1, up: 2`, without gamepads and chords."""
        found = []
        for binding in self.bindings:
            if len(binding.inputs) == 1 and (name := next(iter(binding.inputs))) in KEYS:
                found.append(f"{name}: {self._words(binding)}")
        return ", ".join(found)

    def _words(self, binding: Binding) -> str:
        return " ".join(
            str(part) if len(self.heads) == 1 else f"{self.heads[i].name} {part}"
            for i, part in binding.parts.items()
        )


def neutral(heads: Iterable[Head]) -> list[Part]:
    """The first choice of each discrete head; of a continuous one what is nearest to 0."""
    return [
        0 if isinstance(head, Discrete) else _sized(head, min(max(0.0, head.low), head.high))
        for head in heads
    ]


def read(path: Path, heads: Sequence[Head]) -> KeyMap:
    """The map in a file, for a game with these heads. Errors: KeyMapError."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise KeyMapError(f"--keys: cannot read {path}: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise KeyMapError(f"{path}: expected a file in TOML, got {error}") from None
    try:
        return _parsed(content, tuple(heads))
    except KeyMapError as error:
        raise KeyMapError(f"{path}: {error}") from None


def write(path: Path, keys: KeyMap, game: str) -> None:
    """Write a map for a person to edit. Errors: KeyMapError where the file exists; OSError."""
    lines = [
        f"# What keys and gamepads do in {game}: understudy play --env {game} --human --keys FILE",
        '# A key does what stands behind it; keys that are held together: "up+right".',
        '# Of a gamepad: "button 0", "hat left", "axis 0 -", or "axis 0": multiplied by how far.',
        '# idle: what is done while nothing is held; "wait": the game stands still.',
        "# What there is to do:",
        *(f"#   {_described(head)}" for head in keys.heads),
    ]
    content: dict[str, Any] = {
        "idle": WAIT if keys.idle is None else _named(keys.heads, dict(enumerate(keys.idle))),
        "keys": {"+".join(sorted(b.inputs)): _named(keys.heads, b.parts) for b in keys.bindings},
        "commands": {name: list(inputs) for name, inputs in keys.commands.items()},
    }
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n" + _inline(content))
    except FileExistsError:
        raise KeyMapError(f"--write-keys: {path} exists; name a new file") from None


def _inline(content: dict[str, Any]) -> str:
    """As TOML with a line for each key."""

    def value(it: Any) -> str:
        if isinstance(it, dict):
            return "{" + ", ".join(f"{name(k)} = {value(v)}" for k, v in it.items()) + "}"
        return json.dumps(it)  # numbers, texts and lists of them are the same there

    def name(it: str) -> str:
        return it if re.fullmatch(r"[A-Za-z0-9_]+", it) else json.dumps(it)

    lines = [f"\nidle = {value(content['idle'])}"]
    for table in ("keys", "commands"):
        lines.append(f"\n[{table}]")
        lines += [f"{name(key)} = {value(it)}" for key, it in content[table].items()]
    return "\n".join(lines) + "\n"


def _parsed(content: Mapping[str, Any], heads: tuple[Head, ...]) -> KeyMap:
    known = ("idle", "keys", "commands")
    for key in content:
        if key not in known:
            raise KeyMapError(f"expected {', '.join(known)}, got {key!r}{_like(key, known)}")
    idle = content.get("idle", WAIT)
    base: list[Part] | None = None
    if idle != WAIT:
        if not isinstance(idle, dict):
            raise KeyMapError(
                f'idle: expected "{WAIT}" or an action such as {{action = 0}}, got {idle!r}'
            )
        base = neutral(heads)
        for i, part in _parts("idle", idle, heads).items():
            base[i] = part
    table = content.get("keys")
    if not isinstance(table, dict) or not table:
        raise KeyMapError("expected a table [keys] with what each key does, got none")
    commands = dict(COMMANDS)
    own = content.get("commands", {})
    if not isinstance(own, dict):
        raise KeyMapError(f"commands: expected a table, got {own!r}")
    for name, inputs in own.items():
        if name not in COMMANDS:
            raise KeyMapError(
                f"commands: expected {', '.join(COMMANDS)}, got {name!r}{_like(name, COMMANDS)}"
            )
        commands[name] = tuple(_input(i) for i in ([inputs] if isinstance(inputs, str) else inputs))
    bindings = []
    for text, does in table.items():
        if not isinstance(does, dict) or not does:
            raise KeyMapError(f"{text}: expected an action such as {{action = 1}}, got {does!r}")
        inputs = frozenset(_input(part.strip()) for part in _CHORD.split(text))
        bindings.append(Binding(inputs, _parts(text, does, heads)))
    _check_apart(bindings, commands, own)
    return KeyMap(heads, tuple(bindings), None if base is None else tuple(base), commands)


def _check_apart(
    bindings: Iterable[Binding], commands: dict[str, tuple[str, ...]], own: Iterable[str]
) -> None:
    """An input does one thing; but what keeps an episode, at its end, may play. Commands that the
    file does not name (`own`) have the inputs that are left."""
    playing = {name for binding in bindings for name in binding.inputs}
    for command in set(COMMANDS) - {"keep"}:
        left = tuple(name for name in commands[command] if name not in playing)
        if left != commands[command] and (command in own or not KEYS.intersection(left)):
            both = next(name for name in commands[command] if name in playing)
            raise KeyMapError(
                f"commands, {command}: {both!r} plays already; name another key for one of them"
            )
        commands[command] = left


def _input(name: Any) -> str:
    if isinstance(name, str) and (name in KEYS or _PAD.fullmatch(name)):
        return name
    raise KeyMapError(
        f"expected the name of a key (left, space, a, ...) or of a part of a gamepad (button 0, "
        f"hat left, axis 0 -), got {name!r}{_like(str(name), KEYS)}"
    )


def _like(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name.lower(), sorted(known), 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _parts(where: str, does: Mapping[str, Any], heads: Sequence[Head]) -> dict[int, Part]:
    """Parts of an action by the index of their head."""
    names = {head.name: i for i, head in enumerate(heads)}
    found: dict[int, Part] = {}
    for name, part in does.items():
        if name not in names:
            raise KeyMapError(
                f"{where}: expected a head of this game ({', '.join(names)}), got {name!r}"
            )
        head = heads[names[name]]
        whole = part if isinstance(head, Discrete) else _floats(part)
        try:
            check_action(where, [whole], [head])
        except ValueError as error:
            raise KeyMapError(f"{error}; this game has {_described(head)}") from None
        found[names[name]] = whole
    return found


def _floats(part: Any) -> Any:
    if isinstance(part, list):
        return [_floats(each) for each in part]
    return float(part) if isinstance(part, int) and not isinstance(part, bool) else part


def _sized(head: Continuous, value: float) -> Part:
    return value if head.size == 1 else [value] * head.size


def _moved(head: Continuous, before: Part | None, part: Part, factor: float) -> Part:
    """What one more input makes of a continuous head; `before`: what others have made of it."""
    new = part if isinstance(part, list) else [float(part)]
    old = before if isinstance(before, list) else [float(before or 0.0)] * head.size
    values = [min(max(a + factor * b, head.low), head.high) for a, b in zip(old, new, strict=True)]
    return values if head.size > 1 else values[0]


def _described(head: Head) -> str:
    if isinstance(head, Discrete):
        return f"{head.name}: 0 to {head.n - 1}"
    many = "" if head.size == 1 else f", a list of {head.size}"
    return f"{head.name}: {head.low:g} to {head.high:g}{many}"


def _named(heads: Sequence[Head], parts: Mapping[int, Part]) -> dict[str, Part]:
    return {heads[i].name: part for i, part in parts.items()}

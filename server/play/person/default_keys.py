"""The keys of a game for which nobody has written a file: what its environment says of itself, the
usual keys of well-known ones, or arrows, space and letters in the order of the actions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from server.play.person.key_map import COMMANDS, KEYS, Binding, KeyMap, neutral
from understudy_client.spec import Continuous, Discrete, Head, Part

KNOWN: dict[str, tuple[dict[str, int], int | None]] = {
    "Acrobot": ({"left": 0, "right": 2}, 1),
    "Blackjack": ({"space": 0, "return": 1}, None),
    "CartPole": ({"left": 0, "right": 1}, None),
    "CatchPixels": ({"left": 0, "right": 2}, 1),
    "CliffWalking": ({"up": 0, "right": 1, "down": 2, "left": 3}, None),
    "FrozenLake": ({"left": 0, "down": 1, "right": 2, "up": 3}, None),
    "LunarLander": ({"left": 1, "up": 2, "right": 3}, 0),
    "MiniGrid": (
        {"left": 0, "right": 1, "up": 2, "a": 3, "d": 4, "space": 5, "return": 6}, None,
    ),
    "MountainCar": ({"left": 0, "right": 2}, 1),
    "PongRam": ({"up": 1, "down": 2}, 0),
    "Taxi": ({"down": 0, "up": 1, "right": 2, "left": 3, "space": 4, "return": 5}, None),
}  # fmt: skip
"""Keys to choices, and the choice while nothing is held (None: the game waits), by the beginning of
an environment's id: what those games themselves do not tell."""

WORDS = {
    "UP": "up", "DOWN": "down", "LEFT": "left", "RIGHT": "right", "FIRE": "space",
    "u": "up", "d": "down", "l": "left", "r": "right", "f": "space",
}  # fmt: skip
"""What the meanings of actions are made of, in ALE (`UPRIGHTFIRE`) and in MinAtar (`u`)."""

IDLE = ("NOOP", "n")

PAD = {
    "left": ("hat left", "axis 0 -"),
    "right": ("hat right", "axis 0 +"),
    "up": ("hat up", "axis 1 -"),
    "down": ("hat down", "axis 1 +"),
    "space": ("button 0",),
}
"""Parts of a gamepad that do what a key does, where it is held alone."""

ORDER = ("left", "right", "up", "down", "space", *"zxcvbnasdfghjklqwertyuio")
"""Keys of choices that nobody knows the meaning of."""

PAIRS = (("left", "right"), ("down", "up"), ("a", "d"), ("s", "w"), ("j", "l"), ("k", "i"))
"""Keys of numbers: what lowers one, and what raises it."""


def default_keys(env: Any, heads: Sequence[Head]) -> KeyMap:
    """The keys of an environment with these heads."""
    if len(heads) == 1 and isinstance(heads[0], Discrete):
        chords, idle = _choices(env, heads[0].n)
        made = [Binding(frozenset(keys), {0: choice}) for keys, choice in chords]
        base: list[Part] | None = None if idle is None else [idle]
    else:
        made, base = list(_of_heads(heads)), neutral(heads)
    pads = [
        Binding(frozenset([part]), binding.parts)
        for binding in made
        if len(binding.inputs) == 1
        for part in PAD.get(next(iter(binding.inputs)), ())
    ]
    return KeyMap(tuple(heads), (*made, *pads), None if base is None else tuple(base))


_FREE = KEYS - {name for inputs in COMMANDS.values() for name in inputs}

Chords = list[tuple[tuple[str, ...], int]]


def _choices(env: Any, n: int) -> tuple[Chords, int | None]:
    """Keys of a single discrete head, and its choice while none is held."""
    name = "" if env.spec is None else env.spec.id.rpartition(":")[2]
    for known, (keys, idle) in KNOWN.items():
        if name.startswith(known) and all(choice < n for choice in keys.values()):
            return [((key,), choice) for key, choice in keys.items()], idle
    chords, idle = _of_meanings(_meanings(env.unwrapped))
    taken = {keys for keys, _ in chords}
    chords += [each for each in _of_env(env.unwrapped) if each[0] not in taken and each[1] < n]
    if chords:
        return chords, idle
    return [((key,), choice) for choice, key in zip(range(n), ORDER, strict=False)], None


def _meanings(game: Any) -> list[str]:
    """A word for each choice, where the game has them."""
    if callable(meanings := getattr(game, "get_action_meanings", None)):
        return [str(word) for word in meanings()]
    words = getattr(getattr(getattr(game, "game", None), "env", None), "action_map", None)
    if words is not None and hasattr(game, "action_set"):  # MinAtar's
        return [str(words[i]) for i in game.action_set]
    return []


def _of_meanings(words: Sequence[str]) -> tuple[Chords, int | None]:
    chords: Chords = []
    idle = None
    for choice, word in enumerate(words):
        if word in IDLE:
            idle = choice
        elif keys := _keys_of(word):
            chords.append((keys, choice))
    return chords, idle


def _keys_of(word: str) -> tuple[str, ...]:
    """The keys of a meaning; none where it is made of other words, too."""
    keys: list[str] = []
    rest = word
    while rest:
        part = next((w for w in WORDS if rest.startswith(w)), None)
        if part is None:
            return ()
        keys.append(WORDS[part])
        rest = rest.removeprefix(part)
    return tuple(sorted(keys))


def _of_env(game: Any) -> Chords:
    """The keys that Gymnasium's own `play` would use, where the game has some."""
    if not callable(keys := getattr(game, "get_keys_to_action", None)):
        return []
    found: Chords = []
    for held, choice in keys().items():
        chord = held if isinstance(held, tuple | list | str) else (held,)
        names = tuple(sorted(_name(key) for key in chord))
        if names and set(names) <= _FREE and isinstance(choice, int):
            found.append((names, choice))
    return found


def _name(key: int | str) -> str:
    text = chr(key) if isinstance(key, int) and 0 <= key < 128 else str(key)
    return "space" if text == " " else text.lower()


def _of_heads(heads: Iterable[Head]) -> Iterator[Binding]:
    """Several heads, or numbers: a key, or two, for each, as far as there are keys."""
    pairs, single = iter(PAIRS), iter(("space", *"zxcvbn"))
    more = iter("1234567890")
    for i, head in enumerate(heads):
        if isinstance(head, Continuous):
            yield from _of_numbers(i, head, pairs)
        elif head.n == 2:
            yield from _bound(i, {next(single, None): 1})
        elif head.n == 3:
            low, high = next(pairs, (None, None))
            yield from _bound(i, {low: 1, high: 2})
        else:
            yield from _bound(i, {next(more, None): choice for choice in range(1, head.n)})


def _of_numbers(i: int, head: Continuous, pairs: Iterator[tuple[str, str]]) -> Iterator[Binding]:
    rest = min(max(0.0, head.low), head.high)
    for at in range(head.size):
        low, high = next(pairs, (None, None))
        for key, value in ((low, head.low), (high, head.high)):
            if value != rest:
                part = [0.0] * head.size
                part[at] = value
                yield from _bound(i, {key: part if head.size > 1 else value})


def _bound(i: int, parts: Mapping[str | None, Part]) -> Iterator[Binding]:
    for key, part in parts.items():
        if key is not None:
            yield Binding(frozenset([key]), {i: part})

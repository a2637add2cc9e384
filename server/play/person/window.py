"""The window: a game's picture, two lines below it, and what is pressed (pygame)."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from server.play.extras import how_to_install
from server.play.game_errors import GameNotMade
from server.play.person.pictures import Picture

MOST = 640
"""Sides of the picture in the window, in pixels: small ones are drawn larger by a whole number."""
WIDTH = 560
"""Of the window, at least: the lines need it."""
STRIP = 96
"""Height of what is below the picture."""
DEAD_ZONE, HALF = 0.15, 0.5
"""A stick that is moved by less is not; one that is moved by more is like a key."""

_BACK, _INK, _SOFT = (18, 20, 26), (236, 239, 244), (150, 158, 172)
COLOURS = {"you": (61, 176, 120), "network": (74, 144, 226), "script": (230, 150, 40)}
"""Of who plays."""

DISPLAY = (
    "there is no display for a window ({}); start it in a desktop session, or under Xvfb "
    "(xvfb-run understudy play ...)"
)


@dataclass
class Inputs:
    """What is pressed."""

    held: list[str] = field(default_factory=list)
    """Keys and parts of gamepads that are down, in the order in which they went."""
    axes: dict[str, float] = field(default_factory=dict)
    """Sticks that are moved, -1 to 1."""
    pressed: list[str] = field(default_factory=list)
    """What went down since they were asked for last, be it up again."""
    closed: bool = False
    """Somebody has closed the window."""


@dataclass(frozen=True)
class Lines:
    """What stands below the picture."""

    who: str
    """One of COLOURS."""
    title: str
    numbers: str
    keys: str
    note: str = ""
    """What matters just now, in place of `keys`."""


class Window:
    """A window for pictures of any size. Close it."""

    def __init__(self, title: str) -> None:
        """Errors: GameNotMade where there is no display, or no pygame."""
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
        try:
            import pygame
        except ImportError as error:
            raise GameNotMade(
                f"a window needs the package pygame-ce, which cannot be imported ({error}); "
                f"{how_to_install('games')}"
            ) from error
        self._pygame = pygame
        try:
            pygame.display.init()
            if pygame.display.get_driver() in ("dummy", "offscreen", "evdev", "KMSDRM"):
                asked = os.environ.get("SDL_VIDEODRIVER")
                raise GameNotMade(
                    DISPLAY.format(f"SDL_VIDEODRIVER is {asked}" if asked else "DISPLAY is not set")
                )
            pygame.font.init()
            pygame.joystick.init()
        except pygame.error as error:
            raise GameNotMade(DISPLAY.format(error)) from error
        pygame.display.set_caption(title)
        self._screen: Any = None
        """Made for the first picture: a window that grows may leave the desktop."""
        self._large, self._small = pygame.font.Font(None, 34), pygame.font.Font(None, 22)
        self._pads: dict[int, Any] = {}
        self._inputs = Inputs()
        self._read: dict[int, Callable[[Any], None]] = {
            pygame.KEYDOWN: lambda e: self._down(_key(pygame, e.key)),
            pygame.KEYUP: lambda e: self._up(_key(pygame, e.key)),
            pygame.JOYBUTTONDOWN: lambda e: self._down(f"button {e.button}"),
            pygame.JOYBUTTONUP: lambda e: self._up(f"button {e.button}"),
            pygame.JOYHATMOTION: self._hat,
            pygame.JOYAXISMOTION: self._axis,
            pygame.JOYDEVICEADDED: self._added,
            pygame.WINDOWFOCUSLOST: lambda _: self._inputs.held.clear(),
            pygame.QUIT: self._quit,
        }

    def inputs(self) -> Inputs:
        """What is pressed now, and was since this was called last."""
        for event in self._pygame.event.get() if self._screen is not None else ():
            if (reader := self._read.get(event.type)) is not None:
                reader(event)
        now = self._inputs
        found = Inputs(list(now.held), dict(now.axes), list(now.pressed), now.closed)
        now.pressed.clear()
        return found

    def show(self, picture: Picture, lines: Lines) -> None:
        """Draw them."""
        pygame = self._pygame
        height, width = picture.shape[:2]
        scale: float = max(1, MOST // max(height, width))
        if max(height, width) > MOST:
            scale = MOST / max(height, width)
        drawn = int(width * scale), int(height * scale)
        size = max(WIDTH, drawn[0]), drawn[1] + STRIP
        if self._screen is None or self._screen.get_size() != size:
            self._screen = self._made(size)
        self._screen.fill(_BACK)
        image = pygame.image.frombuffer(picture.tobytes(), (width, height), "RGB")
        image = pygame.transform.scale(image, drawn)
        self._screen.blit(image, ((size[0] - drawn[0]) // 2, 0))
        self._below(lines, size[0], drawn[1])
        pygame.display.flip()

    def close(self) -> None:
        self._pygame.display.quit()

    def _made(self, size: tuple[int, int]) -> Any:
        """Errors: GameNotMade."""
        try:
            return self._pygame.display.set_mode(size)
        except self._pygame.error as error:
            raise GameNotMade(DISPLAY.format(error)) from error

    def _below(self, lines: Lines, width: int, top: int) -> None:
        pygame, colour = self._pygame, COLOURS[lines.who]
        name = self._large.render(lines.title, True, _BACK)
        label = pygame.Rect(12, top + 12, name.get_width() + 24, 36)
        pygame.draw.rect(self._screen, colour, label, border_radius=8)
        self._screen.blit(name, name.get_rect(center=label.center))
        numbers = self._small.render(lines.numbers, True, _INK)
        self._screen.blit(numbers, numbers.get_rect(midleft=(label.right + 16, label.centery)))
        text, ink = (lines.note, COLOURS["script"]) if lines.note else (lines.keys, _SOFT)
        for i, line in enumerate(_wrapped(text, lambda t: self._small.size(t)[0], width - 24)):
            self._screen.blit(self._small.render(line, True, ink), (12, top + 54 + 19 * i))

    def _down(self, name: str) -> None:
        if name and name not in self._inputs.held:
            self._inputs.held.append(name)
            self._inputs.pressed.append(name)

    def _up(self, name: str) -> None:
        if name in self._inputs.held:
            self._inputs.held.remove(name)

    def _set(self, name: str, held: bool) -> None:
        (self._down if held else self._up)(name)

    def _hat(self, event: Any) -> None:
        x, y = event.value
        for name, held in (("left", x < 0), ("right", x > 0), ("up", y > 0), ("down", y < 0)):
            self._set(f"hat {name}", held)

    def _axis(self, event: Any) -> None:
        name, value = f"axis {event.axis}", float(event.value)
        if abs(value) >= DEAD_ZONE:
            self._inputs.axes[name] = value
        else:
            self._inputs.axes.pop(name, None)
        self._set(f"{name} -", value <= -HALF)
        self._set(f"{name} +", value >= HALF)

    def _added(self, event: Any) -> None:
        pad = self._pygame.joystick.Joystick(event.device_index)
        self._pads[pad.get_instance_id()] = pad  # what nobody holds says nothing

    def _quit(self, _: Any) -> None:
        self._inputs.closed = True


def _key(pygame: Any, code: int) -> str:
    name: str = pygame.key.name(code)
    return name


def _wrapped(text: str, width_of: Callable[[str], int], most: int) -> list[str]:
    """The words in two lines at most."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if width_of(longer) > most and lines[-1]:
            if len(lines) == 2:
                lines[-1] += " ..."
                break
            lines.append(word)
        else:
            lines[-1] = longer
    return lines

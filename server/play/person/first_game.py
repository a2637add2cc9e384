"""The first of several games, where somebody looks at it: all that `GameView` needs, made."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Protocol

import gymnasium

from server.play.game_errors import GameNotMade
from server.play.person import key_map
from server.play.person.default_keys import default_keys
from server.play.person.key_map import KeyMap, KeyMapError
from server.play.person.pictures import fps_of
from server.play.person.video import VideoFile
from server.play.person.view import GameView
from server.play.person.window import Window
from server.play.show_options import PLAY, ShowOptions
from understudy_client.spec import Head


class ShownGame(Protocol):
    """A game's spec, the client's or the protocol's, as far as this needs it."""

    @property
    def game(self) -> str: ...

    @property
    def actions(self) -> Sequence[Any]: ...


def view_of(
    env: gymnasium.Env[Any, Any],
    spec: ShownGame,
    show: ShowOptions,
    closing: ExitStack,
    **more: Any,
) -> GameView:
    """What is shown of this environment; `closing` closes window and video. `more`: as GameView
    has them. Errors: GameNotMade."""
    keys = keys_of(env, spec.actions, show) if show.human is not None else None
    fps = show.fps or fps_of(env)
    film = window = None
    if show.video is not None:
        film = VideoFile(show.video, fps)
        closing.callback(film.close)
    if show.window:
        window = Window(f"understudy: {spec.game}")
        closing.callback(window.close)
    return GameView(
        window, film, keys, fps, playing=show.human == PLAY, records=show.records, **more
    )


def keys_of(env: gymnasium.Env[Any, Any], heads: Sequence[Head], show: ShowOptions) -> KeyMap:
    """The keys in the file, or those that are derived. Errors: GameNotMade."""
    if show.keys is None:
        return default_keys(env, heads)
    try:
        return key_map.read(show.keys, heads)
    except KeyMapError as error:
        raise GameNotMade(str(error)) from error

"""Pictures of a game as a video: .mp4 (H.264) or .gif, through PyAV."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from server.play.extras import how_to_install
from server.play.game_errors import GameNotMade
from server.play.person.pictures import Picture

SMALLEST = 160
"""Sides below are drawn larger: a field of 10 x 10 pixels is no video."""


class VideoFile:
    """A video that grows by a picture at a time, all as large as the first. Close it."""

    def __init__(self, path: Path, fps: float) -> None:
        """Where there is such a file, from before this game failed and began again, its name gets
        another number. Errors: GameNotMade."""
        try:
            import av
        except ImportError as error:
            raise GameNotMade(
                f"--video needs the package av, which cannot be imported ({error}); "
                f"{how_to_install('video')}"
            ) from error
        self._av = av
        first, number = path, 1
        while path.exists():
            number += 1
            path = first.with_stem(f"{first.stem}-{number}")
        self._path, self._rate = path, Fraction(fps).limit_denominator(1000)
        self._gif = path.suffix == ".gif"
        self._stream: Any = None
        try:
            self._file: Any = av.open(str(path), "w")
        except (OSError, av.error.FFmpegError) as error:
            raise GameNotMade(f"--video: cannot write {path}: {error}") from error

    def add(self, picture: Picture) -> None:
        """Add a picture; one of another size than the first is cut, or gets a black border."""
        if self._stream is None:
            self._begin(picture)
        frame = self._av.VideoFrame.from_ndarray(self._fitted(picture), format="rgb24")
        if self._gif:
            frame = frame.reformat(format="rgb8")
        for packet in self._stream.encode(frame):
            self._file.mux(packet)

    def close(self) -> None:
        """Write what is left. A video without a picture is no file."""
        if self._stream is not None:
            for packet in self._stream.encode():
                self._file.mux(packet)
        self._file.close()
        if self._stream is None:
            self._path.unlink(missing_ok=True)

    def _begin(self, picture: Picture) -> None:
        height, width = picture.shape[:2]
        self._scale = max(1, -(-SMALLEST // min(height, width)))
        # H.264 halves the sides for its colours.
        self._height, self._width = (-(-side * self._scale // 2) * 2 for side in (height, width))
        stream = self._file.add_stream("gif" if self._gif else "libx264", rate=self._rate)
        stream.width, stream.height = self._width, self._height
        stream.pix_fmt = "rgb8" if self._gif else "yuv420p"
        self._stream = stream

    def _fitted(self, picture: Picture) -> Picture:
        large = picture.repeat(self._scale, axis=0).repeat(self._scale, axis=1)
        fitted = np.zeros((self._height, self._width, 3), np.uint8)
        part = large[: self._height, : self._width]
        fitted[: part.shape[0], : part.shape[1]] = part
        return fitted

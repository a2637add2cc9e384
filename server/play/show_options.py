"""What is shown of a game, and to whom."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PLAY, WATCH = "play", "watch"
"""A person begins at the controls, or watches and may take over."""

VIDEO_SUFFIXES = (".mp4", ".gif")


@dataclass(frozen=True)
class ShowOptions:
    """Of the first of several games."""

    human: str | None = None
    """PLAY, WATCH, or None: nobody is at the controls."""
    render: bool = False
    """In a window; with a person at the controls always."""
    video: Path | None = None
    """A new file for a video, .mp4 or .gif."""
    keys: Path | None = None
    """A file with a map of keys; None derives one."""
    fps: float | None = None
    """Frames a second; None takes the environment's own."""
    records: bool = False
    """Episodes are recorded: a person may discard or mark them."""

    @property
    def window(self) -> bool:
        """Whether there is one."""
        return self.render or self.human is not None

    def check(self) -> None:
        """Errors: ValueError."""
        if self.keys is not None and self.human is None:
            raise ValueError("--keys needs --human; leave one out or add the other")
        if self.fps is not None and not self.window and self.video is None:
            raise ValueError("--fps is about a picture: add --human, --render or --video")
        if self.video is None:
            return
        if self.video.suffix not in VIDEO_SUFFIXES:
            raise ValueError(
                f"--video: expected a name that ends in {' or '.join(VIDEO_SUFFIXES)}, got "
                f"{self.video}"
            )
        if self.video.exists():
            raise ValueError(f"--video: {self.video} exists; name a new file")
        if not self.video.absolute().parent.is_dir():
            raise ValueError(
                f"--video: there is no folder {self.video.absolute().parent}; make it first"
            )

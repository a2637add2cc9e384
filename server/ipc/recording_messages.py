"""What the supervisor and the trainer say to each other about a recording."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class WriteRecording:
    """The supervisor to the trainer: finish the recording, and answer with RecordingWritten."""


@dataclass(frozen=True)
class RecordingWritten:
    """The trainer: the recording was written, or why not."""

    error: str | None = None


@dataclass(frozen=True)
class JudgeEpisode:
    """The supervisor to the trainer: what a person said of an episode in play, before its last
    frame is sent. The trainer answers with EpisodeKnown."""

    stream: int
    """That it is played in: session << 16 | slot."""
    word: str
    """One of agent.recorder."""


@dataclass(frozen=True)
class EpisodeKnown:
    """The trainer: the episode will be recorded as was said."""

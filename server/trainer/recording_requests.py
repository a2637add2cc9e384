"""What the supervisor asks of a recording (server.ipc.recording_messages)."""

from __future__ import annotations

from agent.recorder import Recorder
from agent.recording import RecordingError
from server.ipc.recording_messages import (
    EpisodeKnown,
    JudgeEpisode,
    RecordingWritten,
    WriteRecording,
)

Request = JudgeEpisode | WriteRecording


def answered(recorder: Recorder, request: Request) -> EpisodeKnown | RecordingWritten:
    """Do it, and the answer. Best when all that came before is taken in."""
    if isinstance(request, JudgeEpisode):
        recorder.judge(request.stream, request.word)
        return EpisodeKnown()
    try:
        recorder.finish()
    except (OSError, RecordingError) as error:
        return RecordingWritten(str(error))
    return RecordingWritten()

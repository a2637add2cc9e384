"""What a gateway says reaches its supervisor, and it never waits for that."""

from __future__ import annotations

import logging
import multiprocessing
import threading
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

import pytest

from server.ipc import pipe_writer
from server.ipc.pipe_writer import PipeWriter
from server.net.rate_limits import LINES
from server.run.logs import PipeHandler
from tests.support.running import RawClient, Running


@pytest.fixture
def pipes() -> tuple[Pipe, Pipe]:
    return multiprocessing.Pipe()


def test_writer_does_not_wait_for_a_reader_that_does_not_read(pipes: tuple[Pipe, Pipe]) -> None:
    """More than a pipe holds, and messages that are longer than what it takes at once."""
    ours, theirs = pipes
    box = PipeWriter(ours)
    said = [*range(3000), b"x" * 1_000_000, "the last"]
    for message in said:
        box.send(message)
    assert [theirs.recv() for _ in said] == said
    box.close()
    assert not box._thread.is_alive()


def test_message_is_copied_when_it_is_sent(pipes: tuple[Pipe, Pipe]) -> None:
    ours, theirs = pipes
    box, filler, message = PipeWriter(ours), b"x" * 1_000_000, [1]
    box.send(filler)
    box.send(message)
    message[0] = 2
    assert theirs.recv() == filler
    assert theirs.recv() == [1]
    box.close()


def test_close_waits_until_the_last_message_is_written(pipes: tuple[Pipe, Pipe]) -> None:
    ours, theirs = pipes
    box = PipeWriter(ours)
    for number in range(3000):
        box.send(number)
    heard: list[int] = []
    reader = threading.Thread(target=lambda: heard.extend(theirs.recv() for _ in range(3000)))
    reader.start()
    box.close()
    ours.close()
    reader.join(30)
    assert heard == list(range(3000))


def test_closed_reader_is_an_error_without_delay(
    pipes: tuple[Pipe, Pipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipe_writer, "MOST", 10)
    ours, theirs = pipes
    box = PipeWriter(ours)
    box.send(b"x" * 1_000_000)  # waits in the pipe, the others behind it
    threading.Timer(0.2, theirs.close).start()
    with pytest.raises(BrokenPipeError):  # it waits for room first, and is let go
        _say_much(box)
    PipeHandler(box, "gateway").emit(logging.makeLogRecord({"msg": "nobody hears it"}))  # type: ignore[arg-type]
    box.close()


def _say_much(box: PipeWriter) -> None:
    for _ in range(1000):
        box.send(b"")


@pytest.mark.timeout(400)
@pytest.mark.promise("supervisor-busy")
def test_games_play_on_while_the_supervisor_is_blocked(tmp_path: Path) -> None:
    """While it does something else, more connect than its pipe has room for the news of."""
    with Running(tmp_path / "run") as running:
        with RawClient(running.port, 60.0) as first:
            first.welcome()
        go_on, held = threading.Event(), threading.Event()

        def hold() -> None:
            held.set()
            go_on.wait(200)

        holder = threading.Thread(target=lambda: running.do(hold, 240))
        holder.start()
        held.wait(30)
        try:
            for _ in range(300):
                with RawClient(running.port, 60.0) as client:
                    assert client.welcome().frame(0)[0] == 12
                    client.send([5])
        finally:
            go_on.set()
            holder.join(30)
        running.until_row(60.0, clients=0, slots=0, errors=0)
        assert running.log().count("welcome to session") >= LINES
        assert running.do(lambda: running.supervisor.training_games) == []

"""A server of real processes, and the plainest client that can talk to it."""

from __future__ import annotations

import contextlib
import math
import queue
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import numpy as np

from config.load import config_from
from config.models import Config
from protocol.spaces import GameSpec
from server.monitor.game_metrics import is_game_metric
from server.monitor.metric import COUNTER
from server.monitor.metrics import SERIES
from server.supervisor.session import running
from server.trainer.task import Task
from tests.support.dotted import dotted
from tests.support.processes import command_of, living_memory
from tests.support.worlds import SPEC
from understudy_client import Client, ClientError
from understudy_client import spec as client_spec

TINY: dict[str, Any] = {
    "server.port": 0,
    "server.ring_steps": 1024,
    "replay.capacity_steps": 100_000,
    "learner.hidden": [8],
    "learner.batch_size": 16,
    "trainer.device": "cpu",
    "trainer.threads": 1,
    "trainer.min_steps": 20,
    "metrics.every_s": 0.1,
    "run.seed": 0,
}
"""The smallest server that does everything."""


class Running:
    """A supervisor with its processes; a thread of its own polls it.

    Its settings are TINY and those given, or `config` where that is given. `close` stops it and
    fails if anything is left behind: processes, shared memory, steps.
    """

    def __init__(
        self,
        folder: Path,
        *,
        resume: bool = False,
        record: bool = False,
        task: Task | None = None,
        config: Config | None = None,
        **settings: Any,
    ) -> None:
        if config is None:
            config = config_from(TINY | dotted(settings) | {"run.dir": str(folder)})
        self.rows: list[dict[str, float]] = []
        self._stack = contextlib.ExitStack()
        task = task or Task(resume=resume, record=record)
        self.supervisor = self._stack.enter_context(running(config, task))
        self.folder = self.supervisor.folder
        self.supervisor.on_row = self.rows.append
        self._todo: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()
        self._stop = threading.Event()
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._poll, name="poll")
        self._closed = False
        self.pids = {self.pid(child.name) for child in self.supervisor._processes.children}
        self._thread.start()

    @property
    def port(self) -> int:
        return self.supervisor.port

    @property
    def row(self) -> dict[str, float]:
        """The newest metrics."""
        return self.supervisor.row

    def pid(self, name: str) -> int:
        """The process of this name."""
        (child,) = [child for child in self.supervisor._processes.children if child.name == name]
        assert child.pid
        return child.pid

    def do(self, what: Callable[[], Any], timeout_s: float = 30.0) -> Any:
        """Have the polling thread do something with the supervisor; what came of it."""
        future: Future[Any] = Future()
        self._todo.put((what, future))
        return future.result(timeout_s)

    def until(self, condition: Callable[[], Any], what: str, timeout_s: float = 40.0) -> Any:
        """Wait until this is true. A metric that it asks for and that is not there yet is not."""
        deadline = time.monotonic() + timeout_s
        while True:
            with contextlib.suppress(KeyError):
                if result := condition():
                    return result
            assert self.error is None, f"the server has failed: {self.error}"
            assert time.monotonic() < deadline, f"waited in vain until {what}; {self.row}"
            time.sleep(0.01)

    def wait_rows(self, n: int = 2) -> dict[str, float]:
        """Wait for the n-th row of metrics from now: the second one is all of a later time."""
        wanted = len(self.rows) + n
        self.until(lambda: len(self.rows) >= wanted, "there are newer metrics")
        return self.row

    def until_row(self, timeout_s: float = 40.0, **numbers: float) -> None:
        """Wait until the metrics have these numbers, in a row that is younger than this call."""
        self.wait_rows()
        self.until(
            lambda: all(self.row[name] == number for name, number in numbers.items()),
            f"the metrics show {numbers}",
            timeout_s,
        )

    def log(self) -> str:
        """What the run's log says so far."""
        return self.folder.log.read_text()

    def settle(self) -> dict[str, float]:
        """Wait until all games are gone and all they played is stored."""
        self.do(self.supervisor.settle, 60.0)
        return self.row

    def close(self, *, check: bool = True) -> None:
        """Stop; again has no effect."""
        if self._closed:
            return
        self._closed = True
        self._stop.set()
        self._thread.join()
        memory = [ring.name for ring in self.supervisor._processes.rings]
        if self.supervisor._processes.ready is not None:
            memory.append(self.supervisor._processes.ready.weights)
        assert living_memory(memory) == set(memory), "there is less memory than there should be"
        start = time.monotonic()
        self._stack.close()
        self.stop_s = time.monotonic() - start
        left = [pid for pid in self.pids if pid and Path(f"/proc/{pid}").exists()]
        assert not left, f"processes were left behind: {[command_of(pid) for pid in left]}"
        assert not living_memory(memory), "shared memory was left behind"
        if check:
            assert self.error is None, f"the server has failed: {self.error}"
            check_rows(self.rows)
            assert self.row["transitions_dropped"] == self.row["steps_lost"], self.row
            assert self.row["steps_in_flight"] == 0, self.row

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(check=kind is None)

    def _poll(self) -> None:
        try:
            while not self._stop.is_set():
                self.supervisor.poll(0.02)
                with contextlib.suppress(queue.Empty):
                    what, future = self._todo.get_nowait()
                    try:
                        future.set_result(what())
                    except BaseException as error:
                        future.set_exception(error)
        except BaseException as error:
            self.error = error


def check_rows(rows: list[dict[str, float]]) -> None:
    """Rows of one start, in their order, have no number that cannot be: whatever was killed."""
    highest: dict[str, float] = {}
    for row in rows:
        assert row["steps_in_flight"] == row["steps_completed"] - row["steps_stored"] >= 0, row
        for name, value in row.items():
            if is_game_metric(name):
                continue
            metric = SERIES[name].metric
            if metric.kind == COUNTER:
                assert value >= highest.get(name, 0.0), f"{name} fell to {value}"
                highest[name] = value
            elif metric.unit == "fraction":
                assert math.isnan(value) or 0 <= value <= 1, f"{name} is {value}"
            elif name.endswith("_per_s"):
                assert value >= 0, f"{name} is {value}"


def hello_fields(spec: GameSpec = SPEC, **changes: Any) -> dict[str, Any]:
    """The map of a HELLO, written out."""
    heads = [
        ["discrete", head.name, head.n]
        if hasattr(head, "n")
        else ["continuous", head.name, head.low, head.high, head.size]
        for head in spec.actions
    ]
    return {
        "protocol": 1,
        "client": "test/1",
        "game": spec.game,
        "observation": [spec.observations[0].dtype, list(spec.observations[0].shape)],
        "actions": heads,
        "rewards": list(spec.rewards),
        **changes,
    }


def framed(message: Any) -> bytes:
    body = msgspec.msgpack.encode(message)
    return struct.pack(">I", len(body)) + body


def obs_of(value: float = 0.0, count: int = 3) -> bytes:
    return np.full(count, value, "<f4").tobytes()


class RawClient:
    """Bytes in, messages out, written from the wire alone: it may say what is not allowed."""

    def __init__(
        self,
        port: int,
        timeout_s: float = 15.0,
        receive_bytes: int | None = None,
        source: str = "127.0.0.1",
    ) -> None:
        """`source`: the address of loopback that it comes from."""
        self.sock = socket.socket()
        if receive_bytes is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.sock.settimeout(timeout_s)
        try:
            self.sock.bind((source, 0))
            self.sock.connect(("127.0.0.1", port))
        except OSError:
            self.sock.close()
            raise
        self.fields: dict[str, Any] = {}

    def send(self, *messages: Any) -> None:
        self.sock.sendall(b"".join(framed(message) for message in messages))

    def raw(self, data: bytes) -> None:
        self.sock.sendall(data)

    def recv(self) -> Any:
        """The next message; None at the end."""
        head = self._exactly(4)
        if head is None:
            return None
        body = self._exactly(struct.unpack(">I", head)[0])
        return None if body is None else msgspec.msgpack.decode(body)

    def welcome(self, spec: GameSpec = SPEC, **changes: Any) -> RawClient:
        """Say HELLO and wait for WELCOME."""
        self.send([1, hello_fields(spec, **changes)])
        answer = self.recv()
        assert answer is not None
        assert answer[0] == 11, f"expected WELCOME, got {answer}"
        self.fields = answer[1]
        return self

    def frame(
        self,
        seq: int,
        obs: bytes | None = None,
        reward: Any = 0.0,
        status: int = 0,
        expert: Any = None,
        took: Any = None,
        slot: int = 0,
    ) -> Any:
        """Send a frame and wait for its answer."""
        self.send([2, slot, seq, obs_of(seq) if obs is None else obs, reward, status, expert, took])
        return self.recv()

    def rest(self) -> list[Any]:
        """All messages until the server closes."""
        out = []
        while (message := self.recv()) is not None:
            out.append(message)
        return out

    def refusal(self) -> tuple[str, str, bool]:
        """The ERROR that ends the connection: code, message, retry."""
        messages = self.rest()
        assert messages, "closed without a word"
        kind, *error = messages[-1]
        assert kind == 15, f"expected ERROR, got {messages[-1]}"
        return tuple(error[:3])

    def half_close(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Be gone without any order: RST instead of FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _exactly(self, count: int) -> bytes | None:
        data = b""
        while len(data) < count:
            piece = self.sock.recv(count - len(data))
            if not piece:
                return None
            data += piece
        return data


def client_for(port: int, spec: GameSpec = SPEC, **more: Any) -> Client:
    """The project's own client, playing this game."""
    fields = msgspec.json.decode(msgspec.json.encode(spec), type=client_spec.GameSpec).fields()
    return Client.connect("127.0.0.1", port, client="bystander/1", **fields, **more)


class Bystander:
    """A game that plays by the rules all along, and must not notice anything."""

    def __init__(self, port: int, *, pause_s: float = 0.002, **more: Any) -> None:
        self.answers = 0
        self.worst_s = 0.0
        self.failure: ClientError | None = None
        self._stop = threading.Event()
        self._pause_s = pause_s
        self._client = client_for(port, timeout_s=20.0, **more)
        self.session = self._client.session
        self._thread = threading.Thread(target=self._play, name="bystander")
        self._thread.start()

    def _play(self) -> None:
        rng = np.random.default_rng(0)
        try:
            with self._client as client:
                while not self._stop.is_set():
                    status = 0 if self.answers % 50 else int(self.answers > 0)
                    expert = [int(rng.integers(4)), rng.uniform(-1, 1, 2).tolist()]
                    begin = time.perf_counter()
                    obs = rng.standard_normal(3, np.float32)
                    answer = client.act(obs, float(rng.standard_normal()), status, expert)
                    self.worst_s = max(self.worst_s, time.perf_counter() - begin)
                    assert (answer.action is None) == (status != 0)
                    self.answers += 1
                    time.sleep(self._pause_s)
        except ClientError as error:
            self.failure = error

    @contextlib.contextmanager
    def undisturbed(self) -> Iterator[None]:
        """It plays on during and after what happens here, on the same connection."""
        before = self.answers
        yield
        deadline = time.monotonic() + 10.0
        while self.answers < before + 5 and time.monotonic() < deadline and not self.failure:
            time.sleep(0.005)
        assert self.failure is None, f"the other game was disturbed: {self.failure}"
        assert self.answers >= before + 5, "the other game stands still"

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        assert self.failure is None, f"the other game was disturbed: {self.failure}"

"""`understudy doctor`: every step is seen to fail, and names itself and its cure; no step does any
harm."""

from __future__ import annotations

import json
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from config.load import Layer, Overrides, config_from, load
from server.cli import main, parser_for
from server.commands.doctor import command as doctor
from server.commands.doctor import machine as doctor_machine
from server.commands.doctor import server as doctor_server
from server.commands.doctor.connection import Target
from server.commands.doctor.report import (
    FAILED,
    OK,
    SKIPPED,
    WARNING,
    StepResult,
    all_well,
    as_json,
    line,
)
from server.commands.doctor.server import STEPS, examine
from server.net.rate_limits import GUESSES
from tests.support.certificates import make, needs_openssl
from tests.support.dotted import dotted
from tests.support.fake_server import FIELDS, FakeServer, Peer
from tests.support.fake_tls import FakeTls, nothing
from tests.support.folders import begun
from tests.support.running import Bystander, RawClient, Running, obs_of
from tests.support.worlds import PIXELS, SPEC
from understudy_client import tls

ROOT = Path(__file__).parents[2]
TOKEN = "a token for games"

pytestmark = pytest.mark.timeout(300)


def target(port: int, host: str = "127.0.0.1", **more: Any) -> Target:
    values = {"token": TOKEN, "tls": None, "timeout_s": 30.0, **more}
    return Target(host, port, **values)


def check(one: Target) -> dict[str, StepResult]:
    """What was found, by step: every step once, in their order."""
    found = list(examine(one))
    assert sorted(STEPS.index(each.step) for each in found) == list(range(len(STEPS)))
    return {each.step: each for each in found}


def results(found: dict[str, StepResult]) -> list[str]:
    return [found[step].result for step in STEPS]


def fails(one: Target, step: str, text: str, cure: str) -> None:
    """This step fails and no other; those behind it are skipped."""
    found = check(one)
    at = STEPS.index(step)
    assert found[step].result == FAILED, found
    assert text in found[step].text, found[step]
    assert cure in found[step].cure, found[step]
    assert {found[each].result for each in STEPS[at + 1 :]} <= {SKIPPED}
    assert {found[each].result for each in STEPS[:at]} <= {OK, WARNING, SKIPPED}
    assert not all_well(found.values())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("doctor") / "run", server__token=TOKEN) as running:
        running.until(lambda: running.supervisor.status.ready, "the gateways run", 60.0)
        yield running


# A server, and what is not fit to be one.


def test_doctor_does_not_decide_the_game_of_a_server_without_one(server: Running) -> None:
    found = check(target(server.port))
    assert results(found) == [OK] * 5 + [SKIPPED] * 3
    assert "no game has decided it" in found["spec"].text
    server.wait_rows()
    assert server.folder.game() is None


def test_doctor_passes_a_playing_server_and_leaves_no_trace(server: Running) -> None:
    game = Bystander(server.port, token=TOKEN)
    server.until(lambda: server.row.get("updates", 0) > 5, "it learns", 60.0)
    with game.undisturbed():
        before = server.wait_rows()
        for _ in range(3):
            found = check(target(server.port))
            assert results(found) == [OK] * 8, found
        assert "'test'" in found["spec"].text
        assert "understudy/" in found["hello"].text
        assert "20 round trips" in found["latency"].text
        after = server.wait_rows()
    assert after["frames_eval"] == before["frames_eval"] + 3
    assert after["steps_completed"] > before["steps_completed"]
    game.stop()
    server.settle()
    assert server.supervisor._evaluations.found.under_way is False
    assert not server.folder.evaluations.exists(), "one frame is no evaluation"
    assert set(server.supervisor._collector.errors) <= {"protocol_version"}
    assert server.row["transitions_dropped"] == 0


def test_doctor_does_not_change_a_running_evaluation(server: Running) -> None:
    with RawClient(server.port, 60.0) as game:
        game.welcome(token=TOKEN, role="eval")
        game.frame(0)
        assert all_well(check(target(server.port)).values())
        for seq in range(1, 3):
            game.frame(seq, obs_of(seq), 1.0, int(seq == 2))
    server.until(server.folder.evaluations.exists, "it is over", 60.0)
    (kept,) = server.folder.evaluated()
    assert kept.returns == (2.0,)


def test_name_that_does_not_resolve_fails_the_name_step() -> None:
    for host in ("no-such-host.invalid", "a..b", "x" * 300):
        fails(target(7777, host), "name", "cannot resolve", "DNS")


def test_closed_port_fails_the_port_step(free_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    fails(target(free_port), "port", "nothing listens", "start the server")

    def raising(error: OSError) -> None:
        def connect(*_: object) -> socket.socket:
            raise error

        monkeypatch.setattr(socket, "create_connection", connect)

    raising(TimeoutError())
    fails(target(free_port), "port", "within 30 s", "firewall")
    raising(OSError(101, "Network is unreachable"))
    fails(target(free_port), "port", "Network is unreachable", "address")


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
    return port


@needs_openssl
def test_tls_that_does_not_match_fails_the_tls_step(server: Running, tmp_path: Path) -> None:
    pair = make(tmp_path, "mine")
    trusting = tls.context(False, pair.cert)
    fails(target(server.port, tls=trusting), "tls", "does not speak TLS", "leave --tls out")
    with FakeTls(pair, nothing) as port:
        fails(target(port), "tls", "speaks TLS", "give --tls")
        strict = tls.context(True, None)
        fails(target(port, tls=strict), "tls", "not trusted", "--ca")
    elsewhere = make(tmp_path, "elsewhere", of="DNS:elsewhere.example")
    with FakeTls(elsewhere, nothing) as port:
        there = tls.context(False, elsewhere.cert)
        fails(target(port, tls=there), "tls", "mismatch", "name")
    silent = socket.create_server(("127.0.0.1", 0))
    with silent:
        fails(
            target(silent.getsockname()[1], tls=trusting, timeout_s=0.5),
            "tls", "during the TLS handshake", "proxy",
        )  # fmt: skip


@needs_openssl
def test_tls_step_passes_with_a_trusted_certificate(tmp_path: Path) -> None:
    pair, soon = make(tmp_path, days=100), make(tmp_path, "soon", days=3)
    settings = {"server__tls_cert": str(pair.cert), "server__tls_key": str(pair.key)}
    with Running(tmp_path / "run", **settings) as server:
        context = tls.context(False, pair.cert)
        found = check(target(server.port, token=None, tls=context, timeout_s=60.0))
        assert results(found) == [OK] * 5 + [SKIPPED] * 3, found
        assert "TLSv1.3" in found["tls"].text
        fails(target(server.port, token=None, timeout_s=60.0), "tls", "speaks TLS", "--ca")
    with FakeTls(soon, nothing) as port:
        found = check(target(port, tls=tls.context(False, soon.cert)))
    assert found["tls"].result == WARNING
    assert "renew" in found["tls"].cure


def test_wrong_token_fails_the_token_step(server: Running) -> None:
    fails(target(server.port, token=None), "token", "none was given", "--token-file")
    for _ in range(GUESSES):
        fails(target(server.port, token="wrong"), "token", "another token", "--token-file")
    fails(target(server.port, token="wrong"), "token", "too many wrong tokens", "wait")
    assert check(target(server.port, timeout_s=60.0))["token"].result == OK, "the right one gets in"


def answering(*messages: Any) -> Any:
    """A server that answers the first message so."""

    def script(peer: Peer) -> None:
        if peer.recv() is not None:
            peer.send(*messages)

    return script


def saying(data: bytes) -> Any:
    def script(peer: Peer) -> None:
        peer.recv()
        peer.sock.sendall(data)

    return script


@pytest.mark.parametrize(
    ("script", "text", "cure"),
    [
        (saying(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "HTTP", "port"),
        (saying(b"SSH-2.0-OpenSSH\r\n"), "SSH", "port"),
        (saying(b"\x00\x00\x00\x01\xc1"), "expected one msgpack value", "port"),
        (saying(b"\x00\x00\x00\x01\x05"), "expected an array", "port"),
        (saying(b""), "without an answer", "log"),
        (answering([11, FIELDS]), "message of type 11", "no understudy"),
        (answering([15, "server_stopping", "come back", True]), "server_stopping", "message"),
        (answering([15, "protocol_version", "2", False, {"protocol": 2, "server": "x/2"}]),
         "speaks protocol 2", "version"),
    ],
)  # fmt: skip
def test_refused_hello_fails_the_hello_step(script: Any, text: str, cure: str) -> None:
    fake = FakeServer(script, lambda _peer: None)  # nor does it speak TLS
    try:
        fails(target(fake.port, timeout_s=5.0), "hello", text, cure)
    finally:
        fake.close()


def test_silent_server_fails_the_hello_step() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        fails(target(silent.getsockname()[1], timeout_s=0.5), "hello", "within 0.5 s", "--timeout")


def test_server_of_an_older_version_is_not_disturbed() -> None:
    fake = FakeServer(answering([15, "protocol_version", "expected protocol 1, got 0", False]))
    try:
        found = check(target(fake.port))
    finally:
        fake.close()
    assert results(found) == [OK] * 5 + [SKIPPED] * 3
    assert fake.connections == 1


ABOUT = {
    "protocol": 1,
    "server": "fake/1",
    "game": {
        "game": "fake",
        "observation": ["float32", [3]],
        "actions": [["discrete", "fire", 2]],
        "rewards": ["reward"],
    },
}
VERSION = answering([15, "protocol_version", "expected protocol 1", False, ABOUT])


def welcoming(then: Any) -> Any:
    def script(peer: Peer) -> None:
        hello = peer.welcome()
        assert (hello[1]["role"], hello[1]["game"]) == ("eval", "fake")
        then(peer)

    return script


def played(peer: Peer) -> None:
    peer.answer(peer.recv(), (1,))


def pinged(peer: Peer) -> None:
    played(peer)
    peer.send([14, peer.recv()[1] + 1], [11, FIELDS])


@pytest.mark.parametrize(
    ("second", "step", "text", "cure"),
    [
        (answering([15, "spec_mismatch", "another", False]), "spec", "spec_mismatch", "message"),
        (answering([14, 0]), "spec", "expected WELCOME", "port"),
        (saying(b""), "spec", "without an answer", "log"),
        (welcoming(lambda peer: peer.recv() and None), "frame", "without an answer", "log"),
        (welcoming(lambda peer: peer.send([15, "frame_x", "no", False])), "frame", "frame_x",
         "message"),
        (welcoming(lambda peer: peer.send([12, 0, 7, [1], 1, 0, False])), "frame",
         "expected ACTION", "port"),
        (welcoming(lambda peer: peer.send([12, 0, 0, None, 0, 0, False])), "frame",
         "expected ACTION", "port"),
        (welcoming(played), "latency", "without an answer", "log"),
        (welcoming(pinged), "latency", "expected PONG", "port"),
    ],
)  # fmt: skip
def test_spec_frame_and_latency_steps_fail_with_their_cause(
    second: Any, step: str, text: str, cure: str
) -> None:
    fake = FakeServer(VERSION, second)
    try:
        fails(target(fake.port, timeout_s=5.0), step, text, cure)
    finally:
        fake.close()


def test_unreadable_spec_file_is_reported() -> None:
    about = ABOUT | {"game": {"game": 5}}
    fake = FakeServer(answering([15, "protocol_version", "x", False, about]))
    try:
        fails(target(fake.port), "spec", "cannot be read", "version")
    finally:
        fake.close()


def test_slow_server_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def then(peer: Peer) -> None:
        played(peer)
        while (message := peer.recv())[0] == 4:
            peer.send([14, message[1]])

    monkeypatch.setattr(doctor_server, "SLOW_MS", 0.0)
    fake = FakeServer(VERSION, welcoming(then))
    try:
        found = check(target(fake.port))
    finally:
        fake.close()
    assert results(found) == [OK] * 7 + [WARNING]
    assert all_well(found.values()), "a warning is no failure"


# The machine.


def machine(run: Path | None = None, **values: object) -> dict[str, StepResult]:
    settings = Layer("values", {"server.port": 0, "server.http_port": 0} | dotted(values))
    given = Overrides(settings=settings)
    found = doctor_machine.examine_machine(load(given, {}), run)
    return {each.step: each for each in found}


def test_suitable_machine_passes_every_step() -> None:
    found = machine()
    assert {each.result for each in found.values()} <= {OK, WARNING, SKIPPED}, found
    for step in ("python", "packages", "device", "open files", "port", "http port", "settings"):
        assert found[step].result == OK, found[step]
    assert "torch" in found["packages"].text


def found_to_fail(step: str, text: str, cure: str, **values: object) -> None:
    found = machine(**values)  # type: ignore[arg-type]
    assert found[step].result == FAILED, found[step]
    assert text in found[step].text
    assert cure in found[step].cure
    assert "settings" in found, "the other steps are told too"


def test_every_machine_step_can_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found_to_fail("port", "cannot be used", "--connect", server__port=port)
        found_to_fail("tempest port", "cannot be used", "tempest.port", tempest__port=port)
        monkeypatch.setattr(doctor_machine, "any_http_port", lambda _: True)
        assert machine(server__http_port=port)["http port"].result == WARNING
        monkeypatch.setattr(doctor_machine, "any_http_port", lambda _: False)
        found_to_fail("http port", "cannot be used", "server.http_port", server__http_port=port)
    found_to_fail("settings", "server.token", "correct", server__host="0.0.0.0")
    found_to_fail("settings", "cannot read", "correct", server__token_file=str(tmp_path / "none"))
    found_to_fail("device", "cuda", "cpu", trainer__device="cuda:7")
    monkeypatch.setattr(doctor_machine, "NEWEST", (3, 0))
    found_to_fail("python", "3.", "install Python")
    monkeypatch.setattr(doctor_machine, "MODULES", ("no_such_package",))
    found_to_fail("packages", "no_such_package", "scripts/install")
    monkeypatch.setattr(doctor_machine, "LITTLE_DISK", 1 << 60)
    found_to_fail("disk", "MB free", "free some space", run__dir=str(tmp_path / "run"))
    (tmp_path / "file").write_text("no folder")
    found_to_fail("disk", "is not writable", "--run", run__dir=str(tmp_path / "file"))
    monkeypatch.setattr(doctor_machine, "SPARE_SHARED_BYTES", 1 << 60)
    found_to_fail("shared memory", "needed", "shm_size")
    monkeypatch.setattr(doctor_machine, "SHARED", tmp_path / "nowhere")
    found_to_fail("shared memory", "No such file", "tmpfs")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 64))
    found_to_fail("open files", "64 may be open", "ulimit")
    monkeypatch.setattr(doctor_machine.os, "sched_getaffinity", lambda _: {0})
    assert machine()["cores"].result == WARNING
    assert machine(server__gateways=1)["cores"].cure


def test_memory_step_uses_the_game_of_the_run(tmp_path: Path) -> None:
    config = config_from({"run.dir": str(tmp_path / "run")})
    folder = begun(config)
    folder.close()
    needs = []
    for spec in (SPEC, PIXELS):
        folder.keep_game(spec)
        found = machine(tmp_path / "run", server__ring_steps=100_000)["shared memory"]
        assert "this run's" in found.text
        needs.append(int(found.text.split("MB needed")[0].split()[-1]))
    assert needs[0] != needs[1]
    (tmp_path / "run/game.json").write_text("{")
    assert machine(tmp_path / "run")["shared memory"].result == FAILED


# The command.


def test_doctor_command_prints_json_and_sets_the_exit_code(
    free_port: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = tmp_path / "token"
    secret.write_text(TOKEN)
    assert main(["doctor", "--connect", f"127.0.0.1:{free_port}", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["ok"], report["failed"]) == (False, "port")
    assert [each["step"] for each in report["steps"]] == list(STEPS)
    assert set(report["steps"][1]) == {"step", "result", "text", "cure"}
    fake = FakeServer(answering([15, "protocol_version", "x", False]))
    try:
        words = ["--connect", f"127.0.0.1:{fake.port}", "--token-file", str(secret)]
        assert main(["doctor", *words]) == 0
    finally:
        fake.close()
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == f"the server at 127.0.0.1:{fake.port}: no problems found"
    assert TOKEN not in out


@pytest.mark.parametrize(
    "words",
    [
        ["--token", "x"],
        ["--tls"],
        ["--ca", "x.pem"],
        ["--connect", "127.0.0.1:1", "--ca", "/no/such/file"],
        ["--connect", "127.0.0.1:1", "--token-file", "/no/such/file"],
        ["--connect", "127.0.0.1:1", "--token-file", "/dev/null"],
        ["--connect", "127.0.0.1:1", "--token-file", "/dev/null", "--token", "x"],
        ["--server.prt", "1"],
    ],
)
def test_doctor_options_that_are_wrong_are_refused(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", *words]) == 2
    assert capsys.readouterr().err.startswith("understudy doctor: ")


def test_doctor_on_a_game_machine_does_not_import_torch() -> None:
    code = (
        "import sys; from server.cli import main; "
        "print(main(['doctor', '--connect', '127.0.0.1:1'])); assert 'torch' not in sys.modules"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=100,
        check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.splitlines()[-1] == "1"


def test_doctor_results_are_printed_as_lines_and_json() -> None:
    assert line(StepResult("port", OK, "open")) == "ok       port: open"
    assert (
        line(StepResult("port", FAILED, "shut", "open it")).splitlines()[1].strip() == "-> open it"
    )
    assert json.loads(as_json("it", [StepResult("a", OK, "b")]))["failed"] is None
    assert parser_for("doctor").parse_args([]).timeout == doctor.TIMEOUT_S
